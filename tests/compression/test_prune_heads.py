"""Heads taken out for good: the pruned model computes what the masked model does, and what Torch-Pruning makes of the same heads."""

import copy

import pytest
import timm
import torch
from small import as_logits, redrawn, small_images, small_timm
from timm.layers import Attention, LayerNorm
from torch import nn
from torchvision.models.vision_transformer import VisionTransformer

import neuronpath as nph
from neuronpath.compression.prune import select

SIZES = {"embed_dim": 48, "depth": 3, "num_heads": 4, "patch_size": 8, "img_size": 32}
units = pytest.mark.parametrize("units", ["heads", "both"])
scopes = pytest.mark.parametrize("scope", ["block", "global"])


def random_importance(model, units, seed=0):
    return nph.importance(model, by="random", units=units, seed=seed)


def check_mask_equals_slice(model, images, units, **options):
    importance = random_importance(model, units)
    plain, state = as_logits(model, images), copy.deepcopy(model.state_dict())
    for extra in ({}, {"compensate": True, "images": images}):
        choice = {"keep": 0.4, "units": units, **options, **extra}
        small = nph.prune(model, importance, **choice)
        with nph.mask(model, importance, **choice):
            masked = as_logits(model, images)
        assert torch.allclose(as_logits(small, images), masked, rtol=1e-5, atol=1e-5 * max(1, masked.abs().max()))
        assert (masked - plain).abs().max() > 1e-3
    assert torch.equal(as_logits(model, images), plain)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    return small


@units
@scopes
def test_the_demo(demo, units, scope):
    model, images, _ = demo
    small = check_mask_equals_slice(model, images[:20], units, scope=scope)
    widths = nph.view(small, units="heads").widths
    assert min(widths) >= 1
    assert sum(widths) == (16 if scope == "block" else 13)  # 8 blocks of ceil(1.6), or ceil(12.8) of all 32
    neurons = nph.view(small).widths
    assert sum(neurons) == (8 * 256 if units == "heads" else 8 * 104 if scope == "block" else 824)  # multiples of 8
    paths = nph.find_path(small, images[:3], units="both")
    assert (paths.units < torch.tensor(nph.view(small, units="both").widths)[:, None]).all()
    assert (paths.delta.abs() <= 1e-3 * paths.output_change.abs() + 1e-6).all()


@units
def test_vit_small(units):
    torch.manual_seed(0)
    model = timm.create_model("vit_small_patch16_224", num_classes=10).eval()
    small = check_mask_equals_slice(model, torch.randn(1, 3, 224, 224), units)
    assert nph.view(small, units="heads").widths == [3] * 12  # 0.4 of 6 is 2.4
    assert nph.view(small).widths == [616 if units == "both" else 1536] * 12  # 0.4 of 1536 is 614.4


def with_attention(**changes):
    model = timm.create_model("vit_small_patch16_224", num_classes=7, **SIZES)
    for block in model.blocks:
        block.attn = Attention(48, 4, qkv_bias=True, norm_layer=LayerNorm, **changes)
    return redrawn(model)


@units
@scopes
@pytest.mark.parametrize(
    "changes",
    [{"gated": True}, {"qk_norm": True}, {"attn_head_dim": 20}, {"qk_norm": True, "gated": True, "proj_bias": False}],
    ids=str,
)
def test_gates_norms_and_wide_heads(changes, units, scope):
    model = with_attention(**changes)
    small = check_mask_equals_slice(model, small_images(model, 3), units, scope=scope, round_to=4, min_keep=4)
    for block, width in zip(small.blocks, nph.view(small, units="heads").widths, strict=True):
        assert block.attn.num_heads == width
        assert block.attn.proj.in_features == width * model.blocks[0].attn.head_dim
        for fused in (True, False):
            block.attn.fused_attn = fused
    assert torch.isfinite(as_logits(small, small_images(model))).all()


@pytest.mark.parametrize(
    "name", [("deit", "deit_tiny_distilled_patch16_224"), ("vision_transformer_hybrid", "vit_tiny_r_s16_p8_224"),
             ("naflexvit", "naflexvit_base_patch16_gap"), ("vision_transformer", "vit_base_patch16_rpn_224")], ids=str
)  # fmt: skip
def test_other_models_of_the_same_attention(name):
    model = small_timm(*name)
    check_mask_equals_slice(model, small_images(model), "both", round_to=4, min_keep=4)


def test_a_removed_head_s_weights_are_gone_and_no_other():
    """Against weights cut out by hand, and parameters counted by hand."""
    model = with_attention(gated=True)
    importance = random_importance(model, "heads")
    small = nph.prune(model, importance, keep=0.5, units="heads")
    for old, new, values in zip(model.blocks, small.blocks, importance, strict=True):
        kept = values.topk(2).indices.sort().values.tolist()
        q, k, v = old.attn.qkv.weight.view(3, 4, 12, 48)
        assert torch.equal(new.attn.qkv.weight, torch.cat([part[h] for part in (q, k, v) for h in kept]))
        bias = old.attn.qkv.bias.view(3, 4, 12)
        assert torch.equal(new.attn.qkv.bias, torch.cat([bias[part, h] for part in range(3) for h in kept]))
        assert torch.equal(new.attn.gate.weight, torch.cat([old.attn.gate.weight.view(4, 12, 48)[h] for h in kept]))
        assert torch.equal(
            new.attn.proj.weight, torch.cat([old.attn.proj.weight[:, 12 * h : 12 * h + 12] for h in kept], 1)
        )
        assert torch.equal(new.attn.proj.bias, old.attn.proj.bias)
        assert torch.equal(new.mlp.fc1.weight, old.mlp.fc1.weight)
    removed = 3 * 2 * 12  # channels: blocks, heads a block, head_dim
    count = [sum(p.numel() for p in m.parameters()) for m in (model, small)]
    assert count[0] - count[1] == removed * (4 * (48 + 1) + 48)


def test_shares_of_both_kinds():
    """ceil(0.3 * 4) heads, and 0.3 * 192 = 57.6 neurons in eights; at least one head however little is kept."""
    model = redrawn(timm.create_model("vit_small_patch16_224", num_classes=7, **SIZES))
    importance = random_importance(model, "both")
    small = nph.prune(model, importance, 0.3, units="both")
    assert nph.view(small, units="both").widths == [2, 64] * 3
    for site, values in enumerate(importance):
        block = model.blocks[site // 2]
        kept = values.topk(64 if site % 2 else 2).indices.sort().values
        if site % 2:
            assert torch.equal(small.blocks[site // 2].mlp.fc1.weight, block.mlp.fc1.weight[kept])
        else:
            rows = block.attn.qkv.weight.view(3, 4, 12, 48)[:, kept]
            assert torch.equal(small.blocks[site // 2].attn.qkv.weight, rows.flatten(0, 2))
    for scope in ("block", "global"):
        least = nph.prune(model, importance, 0.001, units="both", scope=scope)
        assert nph.view(least, units="both").widths == [1, 8] * 3
        assert torch.isfinite(as_logits(least, small_images(model))).all()
    whole = nph.prune(model, importance, 1, units="both")
    assert torch.equal(as_logits(whole, small_images(model)), as_logits(model, small_images(model)))


def test_global_takes_the_least_of_all_blocks():
    model = redrawn(timm.create_model("vit_small_patch16_224", num_classes=7, **SIZES))
    importance = [torch.tensor(v) for v in ([9.0, 8, 7, 6], [1.0, 0, 2, 3], [5.0, 4, 0, 0])]
    small = nph.prune(model, importance, 0.5, units="heads", scope="global")
    assert nph.view(small, units="heads").widths == [4, 1, 1]  # of block 1 the one that it keeps in any case
    rows = model.blocks[1].attn.qkv.weight.view(3, 4, 12, 48)[:, 3]
    assert torch.equal(small.blocks[1].attn.qkv.weight, rows.flatten(0, 1))


def test_pruned_twice_is_pruned_once(demo):
    model, images, _ = demo
    once = nph.prune(model, nph.importance(model, by="magnitude", units="both"), 0.25, units="both")
    half = nph.prune(model, nph.importance(model, by="magnitude", units="both"), 0.5, units="both")
    twice = nph.prune(half, nph.importance(half, by="magnitude", units="heads"), 0.5, units="heads")
    assert nph.view(twice, units="both").widths == [1, 128] * 8
    twice = nph.prune(twice, nph.importance(half, by="magnitude"), 0.5)
    assert torch.equal(as_logits(once, images[:20]), as_logits(twice, images[:20]))


@pytest.mark.filterwarnings("ignore:Unwrapped parameters")
@pytest.mark.parametrize("which", ["the demo", "gated", "wide heads"])
def test_torch_pruning_agrees(demo, which):
    """Given the channels of the same heads at ``proj``, it finds their rows by itself, and gives the same logits."""
    tp = pytest.importorskip("torch_pruning")
    if which == "the demo":
        model, images, _ = demo
    else:
        model = with_attention(**({"gated": True} if which == "gated" else {"attn_head_dim": 20}))
        images = small_images(model, 5)
    importance = nph.importance(model, images[:8], units="heads")
    small = nph.prune(model, importance, keep=0.5, units="heads")
    theirs = copy.deepcopy(model)
    graph = tp.DependencyGraph().build_dependency(theirs, example_inputs=images[:1])
    for block, kept in zip(theirs.blocks, select(importance, 0.5, round_to=1, min_keep=1), strict=True):
        attention = block.attn
        gone = [
            head * attention.head_dim + channel
            for head in set(range(attention.num_heads)) - set(kept.tolist())
            for channel in range(attention.head_dim)
        ]
        graph.get_pruning_group(attention.proj, tp.prune_linear_in_channels, gone).prune()
        attention.num_heads = len(kept)
        attention.attn_dim = len(kept) * attention.head_dim
    assert torch.allclose(as_logits(theirs, images[:50]), as_logits(small, images[:50]), rtol=1e-5, atol=1e-5)
    assert (as_logits(small, images[:50]) - as_logits(model, images[:50])).abs().max() > 1e-3


@pytest.mark.parametrize("which", ["the demo", "compensated, no bias", "bfloat16"])
def test_a_file_gives_the_same_logits(demo, tmp_path, which):
    arguments = {} if which == "the demo" else {**SIZES, "proj_bias": which == "bfloat16", "qk_norm": True}
    if which == "the demo":
        model, images = demo[0], demo[1][:5]
    else:
        model = redrawn(timm.create_model("vit_small_patch16_224", num_classes=7, **arguments))
        model = model.bfloat16() if which == "bfloat16" else model
        images = small_images(model, 5).to(next(model.parameters()))
    small = nph.prune(
        model, random_importance(model, "both"), 0.4, units="both", scope="global", compensate=True, images=images
    )
    path = nph.save_pruned(small, tmp_path / "small.safetensors", arguments)
    again = nph.load_pruned(path)
    assert nph.view(again, units="both").widths == nph.view(small, units="both").widths
    assert len(set(nph.view(again, units="heads").widths)) > 1  # blocks differ
    assert torch.equal(as_logits(again, images), as_logits(small, images))
    assert nph.find_path(again.float(), images.float(), units="heads").units.shape == (5, len(small.blocks), 1)


def test_an_ordinary_module(demo):
    model, images, labels = demo
    small = nph.prune(model, random_importance(model, "both"), 0.4, units="both", scope="global")
    expected = as_logits(small, images[:2])
    exported = torch.export.export(small, (images[:2],)).module()
    assert torch.allclose(as_logits(exported, images[:2]), expected, atol=1e-5)
    nn.functional.cross_entropy(small(images[:4]), labels[:4]).backward()
    assert all(p.requires_grad and p.grad is not None for p in small.parameters())


REFUSED = {
    "eva.EvaAttention, whose heads can't be taken out": ("eva", "eva02_base_patch14_224"),
    "attention.AttentionRope, whose heads can't be taken out": ("eva", "vit_base_patch16_rope_224"),
    "vision_transformer_relpos.RelPosAttention, whose": ("vision_transformer_relpos", "vit_relpos_base_patch16_224"),
    "diff_attention.DiffAttention, whose heads": ("vision_transformer", "vit_dlittle_patch16_reg1_gap_256"),
    "beit.Attention, whose heads can't be taken out one by one; expected timm.layers.Attention": ("beit", "beit_base_patch16_224"),
    "Attention with a norm over all of its heads": ("vision_transformer", "beit3_base_patch16_224"),
    "ViTAttention, whose heads can't": ("transformers", "ViTForImageClassification"),
    "MultiheadAttention, whose heads can't": ("torchvision", ""),
    "with ParametrizedLinear; expected plain torch.nn.Linear": ("parametrized", ""),
}  # fmt: skip


def refused_model(library, name):
    if library == "torchvision":
        return VisionTransformer(32, 8, 2, 2, 48, 96, num_classes=7)
    if library == "transformers":
        transformers = pytest.importorskip("transformers")
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        return getattr(transformers, name)(transformers.ViTConfig(**sizes, image_size=32, patch_size=8, num_labels=5))
    if library == "parametrized":
        model = timm.create_model("vit_small_patch16_224", num_classes=7, **SIZES)
        nn.utils.parametrizations.weight_norm(model.blocks[0].attn.qkv)
        return model
    return small_timm(library, name)


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_cut_is_refused_by_name(reason):
    model = refused_model(*REFUSED[reason]).eval()
    images = small_images(model)
    before = as_logits(model, images)
    for units in ("heads", "both"):
        importance = random_importance(model, units)
        for use in (nph.prune, lambda *given, **choice: nph.mask(*given, **choice).__enter__()):
            with pytest.raises(nph.InputTypeError) as refusal:
                use(model, importance, 0.5, units=units, round_to=4, min_keep=4)
            assert reason in str(refusal.value)
            assert str(refusal.value).startswith("block 0 of ")
            assert "\n" not in str(refusal.value)
    assert torch.equal(as_logits(model, images), before)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    nph.prune(model, random_importance(model, "neurons"), 0.5, round_to=4, min_keep=4)  # its neurons can be


def test_attention_that_mixes_heads_is_refused():
    """Looks like timm's Attention, and gives something else once a head is gone."""
    model = with_attention()
    model.blocks[1].attn.attn_drop = Mixing()
    for block in model.blocks:
        block.attn.fused_attn = False
    with pytest.raises(nph.InputTypeError, match=r"block 1 of .* computes something else without a head"):
        nph.prune(model, random_importance(model, "heads"), 0.5, units="heads")


class Mixing(nn.Module):
    def forward(self, attention):
        return attention - attention.mean(1, keepdim=True)


def test_bad_input(demo):
    model = demo[0]
    heads = random_importance(model, "heads")

    def refused(match, *arguments, **options):
        with pytest.raises(nph.InputError, match=match) as refusal:
            nph.prune(model, *arguments, **options)
        assert "\n" not in str(refusal.value)

    refused("importance has 4 neurons in block 0, VisionTransformer has 256", heads, 0.5)
    refused("importance has 8 sites .*, VisionTransformer has 16", heads, 0.5, units="both")
    refused("importance has 16 blocks, VisionTransformer has 8", random_importance(model, "both"), 0.5, units="heads")
    refused("units 'head' is unknown", heads, 0.5, units="head")
    refused("compensate needs calibration images", heads, 0.5, units="heads", compensate=True)
    refused("keep is 0; expected a share", heads, 0, units="heads")
    refused("holds NaN", [v * torch.nan for v in heads], 0.5, units="heads")
