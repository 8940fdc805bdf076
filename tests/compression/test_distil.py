"""A smaller model learns to answer as its original does; a training that was killed ends as one that wasn't."""

import copy
import signal
import subprocess
import sys

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from small import as_logits, redrawn, small_images
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import neuronpath as nph

KILLED = """
import os, signal, sys
import torch
from torch.utils.data import DataLoader, TensorDataset
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
import neuronpath as nph

torch.set_num_threads(1)
file, out, stop = sys.argv[1], sys.argv[2], int(sys.argv[3])
torch.manual_seed(0)
sizes = dict(img_size=16, patch_size=8, in_chans=1, embed_dim=16, depth=4, num_heads=2, mlp_ratio=1, num_classes=3)
teacher = VisionTransformer(**sizes, proj_drop_rate=0.2)
student = nph.recursive(teacher, 2, init="average", rank=2)
images = torch.randn(40, 1, 16, 16)

class Stops(DataLoader):
    seen = 0
    def __iter__(self):
        for batch in super().__iter__():
            Stops.seen += 1
            if Stops.seen == stop:
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch

generator = torch.Generator().manual_seed(5) if len(sys.argv) > 4 else None
loader = Stops(TensorDataset(images), batch_size=8, shuffle=True, generator=generator)  # 5 batches an epoch
nph.distil(student, teacher, loader, 3, 1e-2, checkpoint=file, every=1 if generator is None else 2)
save_file({k: v.clone() for k, v in student.state_dict().items()}, out)
"""


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, arguments)], capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(("stop", "own"), [(8, ["generator"]), (6, [])], ids=["in an epoch", "between two"])
def test_killed_and_run_again_is_a_run_that_never_stopped(tmp_path, stop, own):
    whole, file, out = tmp_path / "whole", tmp_path / "c", tmp_path / "out"
    done = run(tmp_path / "a", whole, 0, *own)
    assert done.returncode == 0, done.stderr
    assert run(file, out, stop, *own).returncode == -signal.SIGKILL
    assert file.exists()
    assert not out.exists()
    again = run(file, out, 0, *own)
    assert again.returncode == 0, again.stderr
    found = load_file(out)
    assert all(torch.equal(found[name], value) for name, value in load_file(whole).items())


@pytest.fixture(scope="module")
def looped(demo):
    return nph.recursive(demo[0], 2, rank=0, init="lower")


def agreement(model, teacher, images):
    return (as_logits(model, images).argmax(1) == as_logits(teacher, images).argmax(1)).float().mean().item()


def test_distilling_helps_keeps_ties_and_is_seeded(demo, looped, tmp_path):
    model, images, _ = demo
    train = nph.demo.load("train")[1][:320]
    state = copy.deepcopy(model.state_dict())

    def distilled(hidden, **more):
        student = copy.deepcopy(looped)
        assert nph.distil(student, model, train.split(32), 2, 1e-3, hidden=hidden, **more) is student
        return student

    student = distilled(True, checkpoint=tmp_path / "c")
    assert agreement(student, model, images) > agreement(looped, model, images) + 0.1
    assert nph.view(student).tied == nph.view(looped).tied
    assert not student.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    again = distilled(True)
    assert torch.equal(as_logits(again, images[:8]), as_logits(student, images[:8]))
    assert not torch.equal(as_logits(distilled(False), images[:8]), as_logits(student, images[:8]))
    with safe_open(tmp_path / "c", "pt") as file:  # the shared weights once
        held = [name for name in file.keys() if name.startswith("student.")]  # noqa: SIM118
    assert len(held) == len(list(looped.parameters()))
    finished = copy.deepcopy(looped)
    nph.distil(finished, model, train.split(32), 2, 1e-3, checkpoint=tmp_path / "c")  # is done: nothing is trained
    assert torch.equal(as_logits(finished, images[:8]), as_logits(student, images[:8]))


def test_hidden_states_are_compared_where_loops_end(demo, looped):
    model = demo[0]
    assert nph.view(looped).passes == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1)]
    assert nph.view(looped).loop_ends == [1, 3, 5, 7]
    assert nph.view(model).passes == []
    assert nph.view(model).loop_ends == [1, 3, 5, 7]  # quarters
    runs = nph.view(nph.recursive(model, 3, layout="sequence", init="average"))
    assert runs.passes == [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1), (0, 2), (1, 2)]
    assert runs.loop_ends == [2, 5, 7]
    one = nph.view(nph.recursive(model, 1, init="average"))
    assert one.passes == [(i, 0) for i in range(8)]
    assert one.loop_ends == list(range(8))


def test_the_loss_by_hand(demo, looped):
    """One step of plain gradient descent's direction: AdamW's first step is the sign of the gradient of the loss written out here."""
    model, images, _ = demo
    student, lr = copy.deepcopy(looped), 1e-4
    by_hand = copy.deepcopy(looped).train()
    kept = {}
    for which, net in (("own", by_hand), ("theirs", model)):
        for i in (1, 3, 5, 7):
            net.blocks[i].register_forward_hook(lambda _, __, out, key=(which, i): kept.update({key: out}))
    with torch.no_grad():
        wanted = model(images[:16])
    found = by_hand(images[:16])
    loss = (wanted.softmax(-1) * (wanted.log_softmax(-1) - found.log_softmax(-1))).sum(-1).mean()
    for i in (1, 3, 5, 7):
        own, theirs = kept["own", i], kept["theirs", i].detach()
        loss = loss + (own - theirs).square().mean() / theirs.square().mean() / 4
    loss.backward()
    for net in (by_hand, model):
        for block in net.blocks:
            block._forward_hooks.clear()
    nph.distil(student, model, [images[:16]], 1, lr)
    before, after = looped.blocks[1].mlp.fc2.weight, student.blocks[1].mlp.fc2.weight
    slope = by_hand.blocks[1].mlp.fc2.weight.grad
    sure = slope.abs() > 0.1 * slope.abs().mean()
    assert torch.equal((after - before).sign()[sure], -slope.sign()[sure])


def of_one_class():
    return redrawn(timm.create_model("vit_tiny_patch16_224", num_classes=1, img_size=32, patch_size=8, depth=2))


def test_one_class_is_yes_or_no():
    """AdamW's first step against the slope of torch's own binary cross-entropy; a softmax of one class has none."""
    model = of_one_class()
    images = small_images(model, 8)
    student = nph.prune(model, nph.importance(model, by="magnitude"), 0.25)
    by_hand = copy.deepcopy(student)
    wanted = as_logits(model, images).sigmoid()
    nn.functional.binary_cross_entropy_with_logits(by_hand(images), wanted).backward()
    trained = nph.recover(copy.deepcopy(student), model, [images], 1, 1e-4)
    slope = by_hand.blocks[0].mlp.fc2.weight.grad
    sure = slope.abs() > 0.1 * slope.abs().mean()
    step = trained.blocks[0].mlp.fc2.weight - student.blocks[0].mlp.fc2.weight
    assert torch.equal(step.sign()[sure], -slope.sign()[sure])
    trained = nph.recover(copy.deepcopy(student), model, [images] * 20, 1, 1e-3)
    before, after = ((as_logits(each, images).sigmoid() - wanted).abs().mean() for each in (student, trained))
    assert after < 0.5 * before


def test_one_class_is_refused_where_it_says_nothing():
    model = of_one_class()
    images = small_images(model, 2)
    for call, words in (
        (lambda: nph.with_exits(model, [0]), "has one class, of which every exit is sure; expected two at least"),
        (lambda: nph.importance(model, images), "one class, whose cross-entropy is always 0; expected by='causal'"),
        (lambda: nph.importance(model, images, by="causal"), "always 1; expected output='sigmoid' or 'logit'"),
        (lambda: nph.find_path(model, images), "always 1; expected output='sigmoid' or 'logit'"),
    ):
        with pytest.raises(nph.InputError, match=words) as refusal:
            call()
        assert "\n" not in str(refusal.value)
    for output in ("sigmoid", "logit"):
        assert all((u > 0).any() for u in nph.importance(model, images, by="causal", output=output))


def test_the_student_is_tried_once(demo, looped):
    model, images, _ = demo
    student, sizes = copy.deepcopy(looped), []
    student.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    nph.distil(student, model, images[:16].split(4), 2, hidden=False)
    assert sizes == [1] + [4] * 8


def test_teacher_and_student_may_differ_in_precision(demo, looped):
    model, images, _ = demo
    student, seen = copy.deepcopy(looped).bfloat16(), []
    handle = model.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    nph.distil(student, model, images[:64].split(32), 4, 1e-3)
    handle.remove()
    assert torch.equal(torch.cat(seen[:2]), images[:64])  # nothing of the pixels is lost
    assert {value.dtype for value in student.parameters()} == {torch.bfloat16}
    before, after = (agreement(each.float(), model, images[:64]) for each in (copy.deepcopy(looped), student))
    assert after > before


def test_refusals(demo, looped, tmp_path):
    model, images, _ = demo
    batches = [images[:4]]
    student = copy.deepcopy(looped)
    nph.distil(student, model, batches, checkpoint=tmp_path / "c")
    (tmp_path / "text").write_text("no checkpoint")
    wider = nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), 10))
    for call, match in (
        ({"checkpoint": tmp_path / "c", "epochs": 2}, r"c is of another training \(other settings"),
        ({"checkpoint": tmp_path / "text"}, "text is damaged or no checkpoint; expected a file that distil wrote"),
        ({"checkpoint": tmp_path}, "is a folder"),
        ({"every": 0}, "every is 0; expected a whole number of at least 1"),
        ({"teacher": wider}, "hidden states can't be compared: Sequential is no vision transformer.*; or hidden=False"),
        ({"teacher": nph.load_model("test_vit", pretrained=False)}, "the model refuses images of shape"),
    ):
        with pytest.raises(nph.InputError, match=match) as refusal:
            nph.distil(**{"student": student, "teacher": model, "loader": batches, **call})
        assert "\n" not in str(refusal.value)
    nph.distil(student, wider, batches, hidden=False)
    data = (tmp_path / "c").read_bytes()
    (tmp_path / "short").write_bytes(data[: len(data) // 2])
    with pytest.raises(nph.InputError, match="short is damaged or no checkpoint"):
        nph.distil(student, model, batches, checkpoint=tmp_path / "short")


def test_a_loader_that_shuffles(demo, looped):
    model, images, _ = demo
    loader = DataLoader(TensorDataset(images[:24]), batch_size=8, shuffle=True)
    found = []
    for _ in range(2):
        student = copy.deepcopy(looped)
        found.append(as_logits(nph.distil(student, model, loader, 2), images[:4]))
    assert torch.equal(*found)


def test_a_seed_beyond_those_that_torch_takes(demo, looped):
    model, images, _ = demo
    one, two = (
        as_logits(nph.distil(copy.deepcopy(looped), model, [images[:8]], seed=seed), images[:2]) for seed in (2**64, 0)
    )
    assert torch.equal(one, two)
