"""Attention heads, in every kind of attention: they are what is removed, measured and searched, and nothing else is touched."""

import copy

import pytest
import torch
from others import transformers_models
from small import MODULES, as_logits, examine, redrawn, small_images, small_timm
from torchvision.models.vision_transformer import VisionTransformer

import neuronpath as nph

RELPOS, RELPOS_CLS = "vit_relpos_base_patch16_224", "vit_relpos_base_patch16_cls_224"
NAFLEX = "naflexvit_base_patch16_gap"
TIMM = {
    "plain": ("vision_transformer", "vit_small_patch16_224", {}),
    "norm of queries and keys": ("vision_transformer", "vit_small_patch16_224", {"qk_norm": True}),
    "norm over heads": ("vision_transformer", "beit3_base_patch16_224", {}),
    "differential": ("vision_transformer", "vit_dlittle_patch16_reg1_gap_256", {}),
    "post-norm": ("vision_transformer", "vit_base_patch16_rpn_224", {}),
    "distilled": ("deit", "deit_tiny_distilled_patch16_224", {}),
    "hybrid": ("vision_transformer_hybrid", "vit_tiny_r_s16_p8_224", {}),
    "relative, MLP": ("vision_transformer_relpos", RELPOS, {}),
    "relative, MLP as Swin's": ("vision_transformer_relpos", RELPOS, {"rel_pos_type": "mlp-swin"}),
    "relative, table": ("vision_transformer_relpos", RELPOS, {"rel_pos_type": "bias", "qk_norm": True}),
    "relative, table, class token": ("vision_transformer_relpos", RELPOS_CLS, {"rel_pos_type": "bias"}),
    "relative, shared": ("vision_transformer_relpos", "vit_srelpos_small_patch16_224", {}),
    "relative, post-norm": ("vision_transformer_relpos", "vit_relpos_base_patch16_rpn_224", {}),
    "BEiT": ("beit", "beit_base_patch16_224", {}),
    "BEiT, shared": ("beit", "beit_base_patch16_224", {"use_rel_pos_bias": False, "use_shared_rel_pos_bias": True}),
    "EVA": ("eva", "eva_giant_patch14_224", {}),
    "EVA, post-norm": ("eva", "eva02_enormous_patch14_clip_224", {}),
    "EVA, split": ("eva", "eva02_base_patch14_224", {}),
    "EVA, split, norm over heads": ("eva", "eva02_base_patch16_clip_224", {}),
    "EVA, packed": ("eva", "eva02_small_patch14_224", {}),
    "DINOv3": ("eva", "vit_base_patch16_dinov3_qkvb", {}),
    "rotary": ("eva", "vit_base_patch16_rope_224", {}),
    "rotary, mixed": ("eva", "vit_base_patch16_rope_mixed_ape_224", {}),
    "grouped queries": ("eva", "vit_base_patch16_sapiens2", {}),
    "naflex": ("naflexvit", NAFLEX, {}),
    "naflex, differential": ("naflexvit", NAFLEX, {"attn_layer": "diff"}),
    "naflex, gated": ("naflexvit", NAFLEX, {"attn_type": "eva", "attn_gated": True}),
    "naflex, rotary, gated": ("naflexvit", NAFLEX, {"rope_type": "axial", "attn_gated": True}),
}
assert {module for module, *_ in TIMM.values()} == set(MODULES)
HEADS = ((0, 1), (1, 0), (2, 1))  # of the small models' 3 blocks of 2 heads


def of_transformers(name, changes, attention="sdpa"):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
    config = getattr(transformers, name.split("For")[0].removesuffix("Model") + "Config")(
        **sizes, image_size=32, patch_size=8, num_labels=5, attn_implementation=attention, **changes
    )
    return redrawn(getattr(transformers, name)(config))


def of_torchvision(**changes):
    return redrawn(VisionTransformer(32, 8, 3, 2, 48, 96, num_classes=7, **changes))


def small(kind):
    if kind == "torchvision":
        return of_torchvision()
    if kind == "transformers":
        return of_transformers("ViTForImageClassification", {})
    module, name, changes = TIMM[kind]
    return small_timm(module, name, **changes)


def projections(model):
    """The layers that write the heads into the residual stream, block by block, by their names."""
    names = ("blocks.", "attn.proj"), ("layer", "o_proj"), ("encoder.layers.", "self_attention.out_proj")
    return [m for name, m in model.named_modules() if any(a in name and name.endswith(b) for a, b in names)]


def without(model, block, head):
    """A copy whose weights of one of the block's two heads are 0."""
    cut = copy.deepcopy(model)
    weight = projections(cut)[block].weight
    size = weight.shape[1] // 2
    with torch.no_grad():
        weight[:, head * size : (head + 1) * size] = 0
    return cut


def untouched(model):
    return not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


class DeliberateError(Exception):
    pass


def fail(*_args):
    raise DeliberateError


def check_removal(model, images):
    before = as_logits(model, images)
    assert len(projections(model)) == 3
    assert nph.view(model, units="heads").widths == [2] * 3
    for block, head in HEADS:
        with nph.remove(model, [("head", block, head)], tokens="all"):
            found = as_logits(model, images)
        expected = as_logits(without(model, block, head), images)
        assert (found - expected).abs().max() <= 1e-6 * expected.abs().max()
        assert (found - before).abs().max() > 1e-3 * before.abs().max()
        assert untouched(model)
    assert torch.equal(as_logits(model, images), before)
    handle = projections(model)[1].register_forward_hook(fail)
    with pytest.raises(DeliberateError), nph.remove(model, [("head", 0, 0), ("head", 2, 1)]):
        model(images)
    handle.remove()
    assert untouched(model)
    assert torch.equal(as_logits(model, images), before)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("kind", TIMM)
def test_removed_in_timm(kind, fused):
    model = small(kind)
    for block in model.blocks:
        assert block.attn.fused_attn
        block.attn.fused_attn = fused
    check_removal(model, small_images(model))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(("name", "changes"), [case[:2] for case in transformers_models()], ids=str)
def test_removed_in_transformers(name, changes, attention):
    model = of_transformers(name, changes, attention)
    check_removal(model, small_images(model))


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("grad", [False, True])
def test_removed_in_torchvision(train, grad):
    model = of_torchvision().train(train)
    images = small_images(model)
    check_removal(model, images)
    with torch.set_grad_enabled(grad):
        before = model(images)
        with nph.remove(model, [("head", 1, 0)], tokens="all"):
            found = model(images)
        expected = without(model, 1, 0)(images)
        assert found.requires_grad == grad
        assert torch.allclose(found, expected, rtol=1e-6, atol=1e-6 * expected.abs().max().item())
        assert torch.equal(model(images), before)
    if grad:  # the same gradients too
        with nph.remove(model, [("head", 1, 0)], tokens="all"):
            (mine,) = torch.autograd.grad(model(images).square().sum(), model.encoder.layers[0].mlp[0].weight)
        cut = without(model, 1, 0)
        (theirs,) = torch.autograd.grad(cut(images).square().sum(), cut.encoder.layers[0].mlp[0].weight)
        assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-5)


# ---- paths


@pytest.mark.parametrize("units", ["heads", "both"])
@pytest.mark.parametrize("kind", [*TIMM, "transformers", "torchvision"])
def test_paths_add_up_and_are_what_is_removed(kind, units):
    model = small(kind)
    images = small_images(model, 3)
    for method in ("joint", "causal"):
        vit = examine(model, images, units=units, method=method)
        assert [p.kind for p in vit.places] == (["head"] if units == "heads" else ["head", "neuron"]) * 3
        paths = nph.find_path(model, images, units=units, method=method)
        with nph.remove(model, paths):
            left = as_logits(model, images).softmax(1).gather(1, paths.target[:, None])[:, 0]
        full = as_logits(model, images).softmax(1).gather(1, paths.target[:, None])[:, 0]
        assert torch.allclose(paths.removal, full - left, rtol=1e-4, atol=2e-6)
        assert torch.allclose(paths.probability, full, atol=1e-5)


@pytest.mark.parametrize("units", ["heads", "both"])
@pytest.mark.parametrize("method", nph.list_methods())
def test_every_method(random_vit, random_images, method, units):
    model, images = random_vit(3, "avg"), random_images(4, 3)
    together = nph.find_path(model, images, units=units, method=method, top_k=2)
    widths = torch.tensor({"heads": [4], "both": [4, 64]}[units] * 4)
    assert together.units.shape == (3, len(widths), 2)
    assert (together.units >= 0).all()
    assert (together.units < widths[:, None]).all()
    assert (together.units[..., 0] != together.units[..., 1]).all()
    alone = nph.concat([nph.find_path(model, i[None], units=units, method=method, top_k=2) for i in images])
    pieces = nph.find_path(model, images, units=units, method=method, top_k=2, internal_batch_size=1)
    for other in (alone, pieces):
        assert torch.equal(other.units, together.units)
        for name in ("score", "attribution", "removal", "activations"):
            mine, theirs = (getattr(p, name).nan_to_num() for p in (together, other))  # live paths have no score
            assert torch.allclose(mine, theirs, rtol=1e-3, atol=1e-6 * mine.abs().max().item()), name
