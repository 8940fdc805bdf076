"""Edges against path patching written naively with plain hooks, one run at a time, and on a linear model, where they add up exactly."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

import pytest
import torch
from small import as_logits, redrawn, small_images, small_timm
from torch import nn
from torchvision.models.vision_transformer import VisionTransformer

import neuronpath as nph


class Part(NamedTuple):
    """A half-block by its modules."""

    kind: str
    block: int
    entry: nn.Module  # its first input is the residual stream
    reader: nn.Module  # its input holds the units
    after: Callable  # what the reader's output passes before it is added
    size: int  # channels a unit


def parts_of(blocks, attention, mlp):
    """``attention`` and ``mlp`` give (entry, reader, after, size) of a block; ``attention`` may be None."""
    found = []
    for i, block in enumerate(blocks):
        found += [] if attention is None else [Part("head", i, *attention(block))]
        found.append(Part("neuron", i, *mlp(block)))
    return found


def timm_parts(model, after=("ls1", "ls2")):
    return parts_of(
        model.blocks,
        lambda b: (
            b.norm1,
            b.attn.proj,
            getattr(b, after[0], nn.Identity()),
            b.attn.proj.in_features // b.attn.num_heads,
        ),
        lambda b: (b.norm2, b.mlp.fc2, getattr(b, after[1], nn.Identity()), 1),
    )


class Naive:
    """One image, every edge for itself. ``gone``: a part (N, C), what units are ablated to; ``on``: a part, the units that stay."""

    def __init__(self, model, parts, last, image, target, gone, on=None, tokens=slice(None)):
        self.model, self.parts, self.last, self.image, self.target = model, parts, last, image, target
        self.gone, self.on, self.tokens = gone, on, tokens
        self.clean = self.channels()

    def run(self, changes):
        """F with hooks before some modules: (module, what it makes of its input)."""
        with ExitStack() as stack:
            held = [(p.reader, self.with_only(i, self.on[i])) for i, p in enumerate(self.parts)] if self.on else []
            for module, change in [*held, *changes]:
                hook = lambda _m, args, change=change: (change(args[0]), *args[1:])  # noqa: E731
                stack.callback(module.register_forward_pre_hook(hook).remove)
            with torch.enable_grad():
                answer = self.model(self.image)
        logits = getattr(answer, "logits", answer)[0]
        others = torch.cat([logits[: self.target], logits[self.target + 1 :]])
        return logits[self.target] - others.logsumexp(0)

    def with_only(self, i, units):
        size = self.parts[i].size
        stays = torch.tensor([c // size in units for c in range(self.gone[i].shape[-1])])

        def edit(x):
            x = x.clone()
            x[:, self.tokens] = torch.where(stays, x[:, self.tokens], self.gone[i][self.tokens])
            return x

        return edit

    def without(self, i, unit):
        everything = set(range(self.gone[i].shape[-1] // self.parts[i].size))
        return self.with_only(i, everything - {unit})

    def channels(self, *changes):
        """Every part's channels (1, N, C)."""
        seen = {}
        self.run(
            [*changes, *((p.reader, lambda x, i=i: seen.setdefault(i, x.detach())) for i, p in enumerate(self.parts))]
        )
        return [seen[i] for i in range(len(self.parts))]

    def written(self, i, unit):
        """What the part adds to the residual stream, less what it adds without the unit."""
        part = self.parts[i]
        with torch.no_grad():
            clean, without = part.reader(self.clean[i]), part.reader(self.without(i, unit)(self.clean[i]))
            return part.after(clean) - part.after(without)

    def straight(self, i, unit):
        w = self.written(i, unit)
        return self.run([]) - self.run([(self.last, lambda x: x - w)])

    def total(self, i, unit):
        return self.run([]) - self.run([(self.parts[i].reader, self.without(i, unit))])

    def edge(self, i, unit, j, other):
        """The direct effect, patched for real, and its estimate."""
        w, part = self.written(i, unit), self.parts[j]
        changed = self.channels((part.entry, lambda x: x - w))[j]
        mine = torch.zeros_like(changed, dtype=torch.bool)
        mine[:, self.tokens, other * part.size : (other + 1) * part.size] = True
        probe = torch.zeros_like(changed).requires_grad_()
        value = self.run([(part.reader, lambda x: x + probe)])
        (slope,) = torch.autograd.grad(value, probe)
        real = value - self.run([(part.reader, lambda x: torch.where(mine, changed, x))])
        return real.item(), ((self.clean[j] - changed) * slope)[mine].sum().item()


def check(model, images, parts, last, paths, gone=None, inside=False, tokens=slice(None), **options):
    """Everything of a graph against the naive figures; ``gone``: a part (N, C)."""
    real = nph.path_graph(model, images, paths, inside=inside, check=not inside, **options)
    estimate = None if inside else nph.path_graph(model, images, paths, **options)
    at = {(p.block, p.kind): i for i, p in enumerate(parts)}
    compared = 0
    for row, (target, units) in enumerate(zip(paths.target.tolist(), real.units, strict=True)):
        here = [(at[u.block, u.kind], u.index) for u in units]
        on = [{unit for j, unit in here if j == i} for i in range(len(parts))] if inside else None
        image = images[row : row + 1]
        zero = [torch.zeros(1, 1)] * len(parts)
        if gone is None:
            whole = Naive(model, parts, last, image, target, zero).clean
            gone = [torch.zeros_like(x[0]) for x in whole]
        naive = Naive(model, parts, last, image, target, gone, on, tokens)
        assert real.value[row].item() == pytest.approx(naive.run([]).item(), abs=1e-4)
        estimates, reals = [], []
        for a, (i, unit) in enumerate(here):
            assert real.effects[row][a, -1].item() == pytest.approx(naive.straight(i, unit).item(), rel=1e-3, abs=2e-5)
            assert real.total[row][a].item() == pytest.approx(naive.total(i, unit).item(), rel=1e-3, abs=2e-5)
            for b, (j, other) in enumerate(here):
                if j <= i:
                    assert real.effects[row][a, b].isnan()
                    continue
                patched, estimated = naive.edge(i, unit, j, other)
                assert real.effects[row][a, b].item() == pytest.approx(patched, rel=1e-3, abs=2e-5)
                if estimate is not None:
                    assert estimate.effects[row][a, b].item() == pytest.approx(estimated, rel=1e-3, abs=2e-5)
                compared += abs(patched) > 1e-4
                estimates.append(estimated)
                reals.append(patched)
        pearson = torch.corrcoef(torch.tensor([estimates, reals]))[0, 1].item()
        assert real.pearson[row].item() == pytest.approx(pearson, abs=1e-3)
    assert compared >= 5, "the effects are too small to be compared"
    return real


def drawn(model, images, **options):
    """Units at random, of both kinds in every block, on all tokens."""
    return nph.find_path(model, images, **{"method": "random", "units": "both", "token": "all", "n_steps": 2} | options)


def test_zero_and_mean_and_inside(random_vit, random_images):
    model, images, others = random_vit(3, depth=3).double(), random_images(3, 2).double(), random_images(9, 7).double()
    paths = drawn(model, images)
    parts, last = timm_parts(model), model.norm
    check(model, images, parts, last, paths)
    gone = [x.mean(0) for x in Naive(model, parts, last, others, 0, [torch.zeros(1, 1)] * len(parts)).clean]
    check(model, images[:1], parts, last, paths[:1], gone, reference=others)
    check(model, images, parts, last, paths, gone, reference=others, inside=True)


def test_on_the_tokens_that_units_are_read_on(random_vit, random_images):
    model, images = random_vit(4, depth=3).double(), random_images(4, 2).double()
    paths = drawn(model, images, token="cls")
    graph = check(model, images, timm_parts(model), model.norm, paths, tokens=slice(0, 1))
    whole = nph.path_graph(model, images, drawn(model, images))
    assert whole.units == graph.units
    assert (whole.total[0][0] - graph.total[0][0]).abs() > 1e-3


def test_layer_scale_and_registers():
    model = small_timm("vision_transformer", "vit_small_patch14_reg4_dinov2").double()
    images = small_images(model).double()
    check(model, images, timm_parts(model), model.norm, drawn(model, images))


def test_swiglu_with_an_inner_norm():
    model = small_timm("eva", "eva02_base_patch14_224").double()
    images = small_images(model).double()
    assert isinstance(model.blocks[0].mlp.norm, nn.LayerNorm)
    check(model, images, timm_parts(model), model.norm, drawn(model, images))


def test_norms_behind_the_projections():
    model = small_timm("vision_transformer_relpos", "vit_relpos_small_patch16_rpn_224").double()
    images = small_images(model).double()
    parts = parts_of(
        model.blocks,
        lambda b: (b.attn, b.attn.proj, b.norm1, b.attn.head_dim),
        lambda b: (b.mlp, b.mlp.fc2, b.norm2, 1),
    )
    check(model, images, parts, model.norm, drawn(model, images))


def test_torchvision():
    model = redrawn(VisionTransformer(32, 8, 3, 2, 48, 96, num_classes=7)).double()
    images = small_images(model).double()
    parts = parts_of(model.encoder.layers, None, lambda b: (b.ln_2, b.mlp[3], nn.Identity(), 1))
    check(model, images, parts, model.encoder.ln, drawn(model, images, units="neurons", top_k=2))


def test_transformers():
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64, image_size=32, patch_size=8, num_labels=7
    )  # fmt: skip
    model = redrawn(transformers.ViTForImageClassification(config)).double()
    images = small_images(model).double()
    vit = nph.view(model, "all", "both")
    sites = {(site.block, site.kind): site.reader for site in vit.sites}
    parts = []
    for i, layer in enumerate(vit.blocks):
        parts.append(Part("head", i, layer.layernorm_before, sites[i, "head"], nn.Identity(), 8))
        parts.append(Part("neuron", i, layer.layernorm_after, sites[i, "neuron"], nn.Identity(), 1))
    check(model, images, parts, model.vit.layernorm, drawn(model, images))


class LinearBlock(nn.Module):
    """4 heads that mix tokens by fixed weights, and 4 neurons; no norm, no activation."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Parameter(torch.empty(4, 16, 16))
        self.values, self.proj = nn.Linear(12, 8), nn.Linear(8, 12)
        self.up, self.down = nn.Linear(12, 4), nn.Linear(4, 12)

    def attend(self, x):
        heads = torch.einsum("hnm,bmhc->bnhc", self.mix, self.values(x).unflatten(-1, (4, 2)))
        return x + self.proj(heads.flatten(2))

    def mlp(self, x):
        return x + self.down(self.up(x))

    def forward(self, x):
        return self.mlp(self.attend(x))


class LinearViT(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Conv2d(3, 12, 8, 8), nn.Linear(12, 5)
        self.layers = nn.ModuleList(LinearBlock() for _ in range(3))

    def forward(self, images):
        x = self.embed(images).flatten(2).mT
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(1))


@nph.register_vit(LinearViT)
def _view_linear(model):
    blocks = list(model.layers)
    return nph.ViT(
        model=model,
        blocks=blocks,
        halves=[nph.Halves(LinearBlock.attend, LinearBlock.mlp)] * 3,
        sites=[
            s for i, b in enumerate(blocks) for s in (nph.Site(i, "head", b.proj, 2), nph.Site(i, "neuron", b.down))
        ],
        readout=lambda x: model.head(x.mean(1)),
        pools="patch",
        num_prefix_tokens=0,
        num_cls_tokens=0,
    )


@pytest.mark.parametrize("mean", [False, True])
def test_a_linear_model_adds_up(mean):
    """Between all units of a linear model: estimates are exact, and a unit's direct effects sum to what its ablation takes."""
    model, images = redrawn(LinearViT()).double(), small_images(LinearViT(), 3).double()
    reference = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(5)).double() if mean else None
    everything = nph.find_path(model, images, method="random", units="both", token="all", top_k=4, n_steps=2)
    estimate = nph.path_graph(model, images, everything, output="logit", reference=reference)
    real = nph.path_graph(model, images, everything, output="logit", reference=reference, check=True)
    for i in range(3):
        assert real.effects[i].shape == (24, 25)
        assert (~real.effects[i].isnan()).sum() == 24 + 16 * 15  # to the output, and between any two of six sites
        assert torch.allclose(estimate.effects[i], real.effects[i], rtol=1e-4, atol=1e-6, equal_nan=True)
        assert torch.allclose(real.effects[i].nansum(1), real.total[i], rtol=1e-4, atol=1e-6)
        assert real.total[i].abs().min() > 1e-4
        assert real.effects[i][:, :-1].nansum(1).abs().max() > 0.1 * real.total[i].abs().max()
        with nph.remove(model, list(real.units[i][:1]), tokens="all", reference=reference):
            without = as_logits(model, images[i : i + 1])
        taken = (as_logits(model, images[i : i + 1]) - without)[0, real.target[i]]
        assert real.total[i][0].item() == pytest.approx(taken.item(), rel=1e-4)
    assert (real.pearson > 0.9999).all()
