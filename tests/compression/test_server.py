"""Every schedule gives every image the answer that it has by itself; a stream that breaks loses nothing; paper counts as clocks do."""

import itertools

import pytest
import torch
from small import as_logits, small_images, small_timm
from torch.utils.data import DataLoader, TensorDataset

import neuronpath as nph

SCHEDULES = ("queues", "mixed", "compact", "sync", "auto")
SERVED = [(schedule, "auto") for schedule in SCHEDULES] + [("mixed", "gather"), ("mixed", "group"), ("auto", "group")]


def alone(model, images, threshold, **options):
    """Each image by itself: depths and logits."""
    found = [nph.predict(model, image[None], threshold, **options) for image in images]
    return [one.depth.item() for one in found], torch.cat([one.logits for one in found])


RULES = {"confidence": 0.8, "entropy": 0.7, "patience": 1.0}


@pytest.fixture(scope="module")
def one_by_one(demo, early):
    return {by: alone(early, demo[1][:70], threshold, by=by) for by, threshold in RULES.items()}


@pytest.mark.parametrize(("schedule", "mix"), SERVED)
def test_the_answers_are_those_of_each_image_alone(demo, early, one_by_one, schedule, mix):
    images = demo[1][:70]
    for by, threshold in RULES.items():
        depths, logits = one_by_one[by]
        assert len(set(depths)) > 1
        server = nph.Server(early, threshold, slots=8, schedule=schedule, mix=mix, by=by)
        found = list(server.answers(images))
        assert [answer.number for answer in found] == list(range(70))
        assert [answer.depth for answer in found] == depths
        assert torch.allclose(torch.stack([answer.logits for answer in found]), logits, atol=1e-4)
        assert [answer.predicted for answer in found] == logits.argmax(1).tolist()
        assert all(answer.seconds > 0 for answer in found)
        ready = list(server.answers(images, ordered=False))
        assert sorted(answer.number for answer in ready) == list(range(70))
        assert {answer.number: answer.depth for answer in ready} == dict(enumerate(depths))


def keep_all(answers, seen):
    for answer in answers:
        seen.append(answer)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("ordered", [True, False])
def test_a_stream_that_raises_loses_nothing(demo, early, one_by_one, schedule, ordered):
    def broken():
        yield from demo[1][:45]
        raise ConnectionError("the camera is gone")

    streams = [
        (broken(), ConnectionError, "the camera is gone"),
        (
            [*demo[1][:45], demo[1][0] / 0],
            nph.InputError,
            "image 45 of the stream holds NaN or infinity; expected finite",
        ),
        (
            [*demo[1][:45], demo[1][0, :, :-4]],
            nph.InputError,
            r"image 45 of the stream has shape \(1, 28, 32\); expected",
        ),
        ([*demo[1][:45], None], nph.InputTypeError, "image 45 of the stream is a NoneType; expected floating point"),
        (
            [demo[1][:45], demo[1][0, 0]],
            nph.InputError,
            r"image 45 of the stream has shape \(32, 32\); expected \(C, H, W\)",
        ),
    ]
    depths = one_by_one["confidence"][0][:45]
    for stream, kind, message in streams[: None if schedule == "mixed" else 2]:
        seen = []
        server = nph.Server(early, 0.8, slots=8, schedule=schedule)
        with pytest.raises(kind, match=message):
            keep_all(server.answers(stream, ordered), seen)
        assert sorted(answer.number for answer in seen) == list(range(45))
        assert [answer.depth for answer in sorted(seen, key=lambda answer: answer.number)] == depths


@pytest.mark.parametrize(("schedule", "on_their_way"), [("queues", 8 * 4), ("mixed", 8), ("compact", 8), ("sync", 8)])
def test_images_are_taken_as_there_is_room(demo, early, schedule, on_their_way):
    taken = itertools.count()
    stream = (image for image in itertools.cycle(demo[1]) if next(taken) >= 0)  # has no end
    most = 0
    answers = nph.Server(early, 0.8, slots=8, schedule=schedule).answers(stream, ordered=False)
    for answered in range(1, 200):
        next(answers)
        most = max(most, int(repr(taken)[6:-1]) - answered)
    assert 4 <= most <= on_their_way


def test_streams_of_all_kinds(demo, early):
    _, images, labels = demo
    expected, _ = alone(early, images[:20], 0.8)
    server = nph.Server(early, 0.8, slots=6, schedule="queues")
    data = TensorDataset(images[:20], labels[:20])
    for stream in (images[:20], list(images[:20]), data, DataLoader(data, 7), images[:20].split(6), iter(images[:20])):
        assert [answer.depth for answer in server.answers(stream)] == expected
    assert list(server.answers([])) == []


def test_the_model_is_left_as_it_was(demo, early):
    images = demo[1][:30]
    before = as_logits(early, images)
    early.train()
    server = nph.Server(early, 0.8, slots=8, schedule="mixed", mix="group")
    expected, _ = alone(early, images, 0.8)
    answers = server.answers(images)
    next(answers)
    assert early.training
    assert torch.is_grad_enabled()
    assert all(parameter.requires_grad for parameter in early.parameters())
    with torch.no_grad():
        for parameter in early.parameters():
            parameter.add_(1)  # the server has its own
    assert [2 if i < 0 else answer.depth for i, answer in enumerate(answers)] == expected[1:]
    with torch.no_grad():
        for parameter in early.parameters():
            parameter.sub_(1)
    early.eval()
    assert torch.allclose(as_logits(early, images), before, atol=1e-3)


@pytest.mark.parametrize(
    ("module", "name", "changes"),
    [
        ("vision_transformer", "vit_small_patch14_reg4_dinov2", {"init_values": 1.0}),
        ("vision_transformer", "vit_base_patch16_siglip_224", {}),
        ("eva", "eva02_base_patch14_224", {}),
        ("eva", "vit_small_patch16_rope_mixed_ape_224", {}),
        ("beit", "beit_base_patch16_224", {}),
    ],
)
def test_depths_mix_in_one_batch(module, name, changes):
    """By the shared weight and each depth's own: norms, biases, scales, products; or one line says that they can't."""
    model = small_timm(module, name, depth=4, **changes)
    images = small_images(model, 12)
    for rank in (0, 4):
        looped = nph.with_exits(nph.recursive(model, 2, init="average", rank=rank))
        p = nph.predict(looped, images, 1.0).logits.softmax(1).amax(1)
        threshold = p.median().item()
        depths, logits = alone(looped, images, threshold)
        for mix in ("gather", "group"):
            server = nph.Server(looped, threshold, slots=4, schedule="mixed", mix=mix)
            if "rope_mixed" in name:  # every block has rotations of its own
                with pytest.raises(
                    nph.InputTypeError, match="can't run at several depths in one batch; expected mix='own'"
                ):
                    list(server.answers(images))
                continue
            found = list(server.answers(images))
            assert [answer.depth for answer in found] == depths
            assert torch.allclose(torch.stack([answer.logits for answer in found]), logits, atol=1e-3)


def test_low_rank_and_recursive_together(demo, early):
    images = demo[1][:40]
    thin = nph.low_rank(early, rank=20, images=demo[1][:60])
    depths, _ = alone(thin, images, 0.5)
    for mix in ("gather", "group"):
        answers = nph.Server(thin, 0.5, slots=8, schedule="mixed", mix=mix).answers(images)
        assert [answer.depth for answer in answers] == depths


def test_auto_takes_what_is_best_on_paper(demo, early):
    server = nph.Server(early, 0.8, slots=4)
    assert len(list(server.answers(demo[1][:60]))) == 60
    assert server.schedule in {"queues", "mixed", "compact"}
    latest = nph.Server(early, 0.8, slots=4, objective="latency", mix="own")
    list(latest.answers(demo[1][:40]))
    assert latest.schedule in {"mixed", "compact"}  # in a queue images wait


def times(mixed=None):
    """A second an image and step, two to enter, ten a step whatever the batch."""
    return nph.BlockTimes([1, 4], [2, 4, 6], [2, 2], [[11, 14]] * 3, mixed)


def test_schedules_on_paper_by_hand():
    depths = [2, 6, 4, 2, 2, 6]
    found = nph.simulate(depths, times(), "sync", slots=4)
    assert found.seconds == pytest.approx((2 + 3 * 14) + (2 + 3 * 12))
    assert found.latency == pytest.approx((16 + 44 + 30 + 16 + 14 + 38) / 6)
    assert found.rate == pytest.approx(6 / found.seconds)
    assert nph.simulate(depths, times(), "compact", 4).seconds == pytest.approx((2 + 14 + 12 + 11) + (2 + 12 + 11 + 11))
    # 0 1 2 3 at depth 0; then 1 2 at depth 1 with 4 5 at depth 0; then 1 at 2 and 5 at 1; then 5 at 2
    own = (2 + 14) + (2 + 12 + 12) + (11 + 11) + 11
    assert nph.simulate(depths, times(), "mixed", 4).seconds == pytest.approx(own)
    together = (2 + 14) + (2 + 9) + (5 + 4 / 3) + 11
    assert nph.simulate(depths, times([5, 9]), "mixed", 4).seconds == pytest.approx(together)
    # 0 to 3 enter, 1 2 wait; 4 5 enter, 1 2 5 wait; 1 2 5 run; 1 5 run
    assert nph.simulate(depths, times(), "queues", 4).seconds == pytest.approx((2 + 14) + (2 + 12) + 13 + 12)


def test_paper_runs_what_the_server_runs(demo, early):
    """The same batches: with as many seconds as a batch has images, paper counts the rows that really ran."""
    images = demo[1][:90]
    depth = nph.predict(early, images, 0.8).depth
    for schedule in ("queues", "mixed", "compact", "sync"):
        server = nph.Server(early, 0.8, slots=8, schedule=schedule)
        rows = []
        norms = [block.norm1 for block in server.steps.vit.blocks]
        handles = [norm.register_forward_hook(lambda _, args, __: rows.append(len(args[0]))) for norm in norms]
        list(server.answers(images))
        for handle in handles:
            handle.remove()
        paper = nph.simulate(depth, nph.BlockTimes([1], [2, 4, 6, 8], [0], [[2.0]] * 4), schedule, 8)
        assert paper.seconds == sum(rows)


def test_refusals(demo, early):
    model = demo[0]
    sequence = nph.with_exits(nph.recursive(model, 2, layout="sequence", init="lower"), [1, 3])
    measured = times()
    for call, match in (
        (lambda: nph.Server(model), "VisionTransformer has no exits; expected what with_exits gave"),
        (lambda: nph.Server(early, 1.1), "confidence is 1.1; expected a finite number above 0 and at most 1"),
        (lambda: nph.Server(early, slots=0), "slots is 0; expected a whole number of at least 1"),
        (lambda: nph.Server(early, schedule="fast"), "schedule 'fast' is unknown; expected one of 'auto', 'queues'"),
        (lambda: nph.Server(early, objective="all"), "objective 'all' is unknown; expected one of 'throughput'"),
        (lambda: nph.Server(early, mix="well"), "mix 'well' is unknown; expected one of 'auto'"),
        (lambda: nph.Server(nph.with_exits(model), mix="gather"), "aren't other passes through those before the next"),
        (
            lambda: nph.Server(sequence, mix="group"),
            r"expected recursive\(layout='cycle'\) with exits behind its loops",
        ),
        (lambda: nph.simulate([2, 3], measured), "exit_depths has 3; expected some of 2, 4, 6"),
        (lambda: nph.simulate([], measured), "exit_depths is empty"),
        (lambda: nph.simulate([2], measured, "auto"), "schedule 'auto' is unknown; expected one of 'queues'"),
        (lambda: nph.BlockTimes([1, 2], [2], [1, 1], [[1]]), "block_times has 2 numbers of images"),
    ):
        with pytest.raises(nph.InputError, match=match) as refusal:
            call()
        assert "\n" not in str(refusal.value)
