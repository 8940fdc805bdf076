"""The whole-path search against brute force, its cost in blocks run, and what mustn't change its answer."""

import copy
import itertools
from collections import Counter
from contextlib import ExitStack

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

import neuronpath as nph
from neuronpath.methods.joint import best_whole_path
from neuronpath.methods.registry import Search
from neuronpath.runs.clean import CleanRun

METHODS = {
    "live": {},
    "joint": {"method": "joint"},
    "thorough": {"method": "joint", "effort": "thorough"},
    "complete": {"method": "joint", "objective": "complete"},
    "causal": {"method": "causal"},
    "progressive": {"preset": "progressive"},
    "paper": {"preset": "paper", "n_steps": 4},
}


def tiny(seed: int, **kwargs) -> tuple[VisionTransformer, torch.Tensor]:
    """A ViT with 3 blocks of 8 neurons, whose 512 paths can all be scored, and 6 images."""
    torch.manual_seed(seed)
    model = VisionTransformer(
        img_size=8, patch_size=4, embed_dim=16, depth=3, num_heads=2, mlp_ratio=0.5, num_classes=4, **kwargs
    ).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=1.5 / parameter[0].numel() ** 0.5)
    return model, torch.randn(6, 3, 8, 8)


def values_of(model, images, neurons, target, objective) -> torch.Tensor:
    """The objective of given paths, integrated more finely than the search does."""
    influence = nph.joint_influence(model, images, neurons, target, n_steps=12)
    return influence.score if objective == "joint" else influence.attribution.sum((1, 2))


@pytest.mark.parametrize("objective", ["joint", "complete"])
@pytest.mark.parametrize("pool", ["token", "avg"])
def test_the_best_of_all_paths_is_found(pool, objective):
    found, total = 0, 0
    for seed in range(6):
        model, images = tiny(seed, global_pool=pool)
        every = torch.tensor([*itertools.product(range(8), repeat=3)])
        paths = nph.find_path(model, images, method="joint", objective=objective, effort="thorough")
        own_values = values_of(model, images, paths.neurons, paths.target, objective)
        for image, target, own in zip(images, paths.target, own_values, strict=True):
            batch = image.expand(len(every), -1, -1, -1)
            values = values_of(model, batch, every[..., None], target.item(), objective)
            assert own <= values.max() * (1 + 1e-5)
            found += (own >= values.max() * (1 - 1e-3)).item()
            total += 1
    print(f"{pool}, {objective}: the best of 512 paths found for {found} of {total} images")
    assert found >= 0.75 * total


def test_whole_path_choice_is_the_best_of_all_products():
    torch.manual_seed(0)
    clean = [torch.randn(20, 1, 5) for _ in range(5)]
    gradients = [torch.randn(20, 1, 5) for _ in range(5)]
    value, slope = (torch.stack(v)[:, :, 0] for v in (clean, gradients))  # (L, B, M)
    every = torch.tensor([*itertools.product(range(5), repeat=5)])
    sums = [torch.stack([v[block][:, every[:, block]] for block in range(5)]).sum(0) for v in (value, slope)]
    best = (sums[0] * sums[1]).max(1).values
    path = best_whole_path(clean, gradients, Search())[..., 0]
    own = [sum(v[block][torch.arange(20), path[:, block]] for block in range(5)) for v in (value, slope)]
    assert torch.allclose(own[0] * own[1], best)


def test_thorough_is_never_below_progressive_and_standard_seldom(demo):
    model, images, _ = demo
    progressive = nph.find_path(model, images, preset="progressive")
    thorough = nph.find_path(model, images, method="joint", effort="thorough")
    standard = nph.find_path(model, images, method="joint")
    close = thorough.score < 1.01 * progressive.score  # the others can't be below, their integrals' error is 0.1 %
    assert close.sum() > 10
    call = {"target": progressive.target[close], "quadrature": "gausslegendre", "n_steps": 33}
    found, floor = (
        nph.joint_influence(model, images[close], paths.neurons[close], **call).score
        for paths in (thorough, progressive)
    )
    assert (found >= floor * (1 - 1e-5)).all()
    assert (
        thorough.score >= standard.score * (1 - 3e-3)
    ).all()  # closer calls are within the error of the search's integral
    assert (standard.score >= progressive.score * (1 - 3e-3)).float().mean() >= 0.9
    assert standard.score.mean() >= 1.05 * progressive.score.mean()
    assert thorough.converged.float().mean() >= 0.99


def test_causal_is_the_derivative_of_a_gate_and_removal_is_real(demo):
    model, images, _ = demo
    model, images = copy.deepcopy(model).double(), images[:4].double()
    paths = nph.find_path(model, images, method="causal")
    gates = [torch.ones(4, 256, dtype=torch.float64, requires_grad=True) for _ in range(8)]

    def probability() -> torch.Tensor:
        def gated(gate):
            return lambda _, args: (torch.cat([args[0][:, :1] * gate[:, None], args[0][:, 1:]], 1),)

        with ExitStack() as stack:
            for block, gate in zip(model.blocks, gates, strict=True):
                handle = block.mlp.fc2.register_forward_pre_hook(gated(gate))
                stack.callback(handle.remove)
            return model(images).softmax(-1).gather(1, paths.target[:, None])[:, 0]

    clean = probability()
    derivatives = torch.autograd.grad(clean.sum(), gates)
    assert torch.equal(paths.neurons[..., 0], torch.stack([d.argmax(1) for d in derivatives], 1))
    gates = [torch.ones(4, 256).double().scatter(1, paths.neurons[:, block], 0.0) for block in range(8)]
    assert torch.allclose(paths.removal.double(), (clean - probability()).detach(), atol=1e-7)


def rows_run(model: torch.nn.Module, images: torch.Tensor, **call) -> tuple[Counter, nph.NeuronPaths]:
    """How many rows every block's attention sees in one find_path."""
    rows: Counter = Counter()
    with ExitStack() as stack:
        for index, block in enumerate(model.blocks):
            handle = block.attn.register_forward_pre_hook(lambda _, args, i=index: rows.update({i: len(args[0])}))
            stack.callback(handle.remove)
        return rows, nph.find_path(model, images, **call)


@pytest.mark.parametrize("n", [1, 3])
def test_blocks_run_as_the_formulas_say(demo, n):
    model, images, _ = demo
    b, blocks = 5, len(model.blocks)
    images = images[:b]
    figures = b * n + 4 * b  # the final figures: n nodes, F(0), removal, enhancement, a random path's removal
    check = 1  # the first image, run block by block to check the view
    clean = b

    rows, paths = rows_run(model, images, method="joint", quadrature="gausslegendre", n_steps=n)
    sweeps = int(paths.sweeps.sum())
    # the figures' gradients are those of the last sweep, already there
    expected = clean + check + b + sweeps * n + 4 * b
    assert [rows[i] for i in range(1, blocks)] == [expected] * (blocks - 1)
    assert rows[0] == 2 * clean

    rows, paths = rows_run(model, images, method="joint", quadrature="gaussradau", n_steps=n + 1)
    assert rows[blocks - 1] == clean + check + b + int(paths.sweeps.sum()) * n + 4 * b

    rows, _ = rows_run(model, images, method="causal", quadrature="gausslegendre", n_steps=n)
    assert [rows[i] for i in range(1, blocks)] == [clean + check + figures] * (blocks - 1)

    # live: the clean gates, two nodes and a forward, a node and up to two trials a sweep, figures with the clean gates as a node
    rows, paths = rows_run(model, images)
    sweeps, fixed = int(paths.sweeps.sum()), clean + check + b + 3 * b + int(paths.n_steps.sum()) - b + 3 * b
    assert fixed + sweeps <= rows[blocks - 1] <= fixed + 3 * sweeps

    for call in ({"preset": "progressive", "quadrature": "gausslegendre"}, {"preset": "paper"}):
        rows, _ = rows_run(model, images, n_steps=n, **call)
        # block i runs live for every earlier block's choice, and once with the path's tangent
        assert [rows[i] for i in range(1, blocks)] == [
            clean + check + b * n * (i + 1) + figures for i in range(1, blocks)
        ]


@pytest.mark.parametrize("call", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("pool", ["token", "avg"])
def test_neither_batch_nor_piece_changes_the_answer(pool, call):
    model, images = tiny(11, global_pool=pool)
    whole = nph.find_path(model, images, **call)
    others = [nph.find_path(model, images, internal_batch_size=size, **call) for size in (1, 3, 7)]
    others.append(nph.concat([nph.find_path(model, image[None], **call) for image in images]))
    for other in others:
        assert torch.equal(other.neurons, whole.neurons)
        assert torch.allclose(other.score, whole.score, rtol=1e-5, equal_nan=True)
        assert torch.allclose(other.removal, whole.removal, rtol=1e-4, atol=1e-6)


def test_running_out_of_memory_halves_the_piece(monkeypatch, demo):
    model, images, _ = demo
    expected = nph.find_path(model, images[:9], method="joint")
    real, seen = CleanRun.replaced, []

    def small_device(self, rows, hidden):
        seen.append(len(rows))
        if len(rows) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, rows, hidden)

    monkeypatch.setattr(CleanRun, "replaced", small_device)
    found = nph.find_path(model, images[:9], method="joint")
    assert torch.equal(found.neurons, expected.neurons)
    assert max(seen) == 9
    monkeypatch.setattr(
        CleanRun, "replaced", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("no memory at all"))
    )
    with pytest.raises(torch.OutOfMemoryError):
        nph.find_path(model, images[:1], method="joint")


def test_compiled_and_wrapped_models_are_run(demo):
    model, images, _ = demo
    expected = nph.find_path(model, images[:3], method="joint")
    for wrapped in (torch.compile(model), torch.nn.DataParallel(model), torch.compile(torch.nn.DataParallel(model))):
        assert nph.find_path(wrapped, images[:3], method="joint") == expected
    in_place = copy.deepcopy(model)
    in_place.compile()
    for block in in_place.blocks:
        block.compile()
    assert nph.find_path(in_place, images[:3], method="joint") == expected
    blocks = copy.deepcopy(model)
    for index, block in enumerate(blocks.blocks):
        blocks.blocks[index] = torch.compile(block)
    assert nph.find_path(blocks, images[:3], method="joint") == expected


@pytest.mark.parametrize("method", ["joint", "causal"])
def test_low_precision(demo, method):
    model, images, _ = demo
    images = images[:6]
    exact = nph.find_path(model, images, method=method)
    for low, kwargs in (
        (copy.deepcopy(model), {"precision": "bf16"}),
        (copy.deepcopy(model).bfloat16(), {}),
        (copy.deepcopy(model).half(), {}),
    ):
        found = nph.find_path(low, images, exact.target, method=method, **kwargs)
        assert found.score.dtype == torch.float32
        agreement = (found.neurons == exact.neurons).float().mean().item()
        print(f"{method}, {next(low.parameters()).dtype}, {kwargs}: {agreement:.3f} of the neurons as in float32")
        assert agreement > 0.8
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_choices_that_do_not_go_together(demo):
    model, images, _ = demo
    for call, words in (
        ({"method": "causal", "preset": "paper"}, "preset 'paper' has method 'joint'"),
        ({"preset": "paper", "objective": "complete"}, "preset 'paper' has objective 'joint'"),
        ({"effort": "heroic"}, "effort 'heroic' is unknown; expected one of 'standard', 'thorough'"),
        ({"method": "joint", "objective": "x"}, "objective 'x'"),
        ({"method": "causal", "objective": "complete"}, "objective is a choice of method 'joint'"),
        ({"objective": "complete"}, "objective is a choice of method 'joint'; expected none with 'live'"),
        ({"method": "joint", "units": "both", "objective": "joint"}, "differ in scale; expected 'complete'"),
        (
            {"units": "heads", "preset": "paper"},
            "'paper' finds paths of neurons; expected units='neurons', not 'heads'",
        ),
        ({"units": "tails"}, "units 'tails' is unknown; expected one of 'neurons', 'heads', 'both'"),
        ({"units": "both", "top_k": 5}, "top_k is 5; expected a whole number from 1 to 4, the heads of a block"),
        ({"precision": "fp8"}, "precision 'fp8'"),
    ):
        with pytest.raises(nph.InputError, match=words):
            nph.find_path(model, images[:1], **call)
