"""Sites: values and channels are two views of one thing, and each pass of a model that loops has units of its own."""

import copy

import pytest
import torch
import torchvision
from small import as_logits, redrawn
from timm.models.vision_transformer import VisionTransformer
from torch import nn

import neuronpath as nph
from neuronpath.models.sites import visited
from neuronpath.units import KINDS

units = pytest.mark.parametrize("units", ["neurons", "heads", "both"])
cycles = pytest.mark.parametrize("unique", [1, 2])
TENSORS = ("units", "activations", "attribution", "score", "output_change", "delta", "removal")


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# ---- values and channels


@pytest.fixture(params=[torch.float32, torch.float64], ids=str)
def dtype(request):
    return request.param


def sites_of(dtype):
    """A site of 6 neurons, and one of 3 heads of 4 channels."""
    return nph.Site(0, "neuron", nn.Linear(6, 2, dtype=dtype)), nph.Site(0, "head", nn.Linear(12, 2, dtype=dtype), 4)


def test_a_site_s_numbers():
    neurons, heads = sites_of(torch.float32)
    assert (neurons.width, tuple(neurons.place)) == (6, (0, "neuron", 6))
    assert (heads.width, tuple(heads.place)) == (3, (0, "head", 3))


def test_writing_what_is_read_changes_no_bit(dtype):
    for site in sites_of(dtype):
        x = draw(2, 5, site.reader.in_features, dtype=dtype)
        assert torch.equal(site.write(site.read(x), x), x)


def test_reading_by_hand(dtype):
    neurons, heads = sites_of(dtype)
    x = draw(2, 5, 12, dtype=dtype)
    by_hand = torch.stack([x[..., 4 * h : 4 * h + 4].square().sum(-1).sqrt() for h in range(3)], -1)
    assert torch.allclose(heads.read(x), by_hand)
    assert torch.equal(neurons.read(x[..., :6]), x[..., :6])
    assert torch.equal(heads.spread(by_hand), torch.stack([by_hand[..., c // 4] for c in range(12)], -1))
    assert torch.equal(neurons.spread(x[..., :6]), x[..., :6])


def test_what_is_written_is_read(dtype):
    """A head keeps its direction and gets the norm; written with a factor it is its channels times the factor."""
    _, heads = sites_of(dtype)
    x, values = draw(2, 5, 12, dtype=dtype), draw(2, 5, 3, seed=1, dtype=dtype).abs()
    new = heads.write(values, x)
    assert torch.allclose(heads.read(new), values)
    assert torch.allclose(nn.functional.cosine_similarity(new.view(-1, 4), x.view(-1, 4)), torch.ones(30, dtype=dtype))
    for factor in (0.0, 0.5, -2.0):
        assert torch.allclose(heads.write(heads.read(x) * factor, x), factor * x)


def test_the_slope_is_autograd_s(dtype):
    for site in sites_of(dtype):
        x = draw(2, 5, site.reader.in_features, dtype=dtype).requires_grad_()
        (gradient,) = torch.autograd.grad(site.reader(x).tanh().prod(-1).sum(), x)
        slope = site.slope(gradient, x.detach())
        values = site.read(x.detach()).requires_grad_()
        (expected,) = torch.autograd.grad(site.reader(site.write(values, x.detach())).tanh().prod(-1).sum(), values)
        assert torch.allclose(slope, expected, rtol=1e-4, atol=1e-6)
        inner = (gradient * x.detach()).unflatten(-1, (site.width, -1)).sum(-1)
        assert torch.allclose(values.detach() * slope, inner, rtol=1e-5, atol=1e-6)


def test_a_head_that_is_0_stays_so_and_has_gradients(dtype):
    _, heads = sites_of(dtype)
    x = draw(2, 5, 12, dtype=dtype)
    x[..., 4:8] = 0
    x.requires_grad_()
    new = heads.write(heads.read(x) * 3, x)
    assert torch.equal(new[..., 4:8], torch.zeros(2, 5, 4, dtype=dtype))
    assert torch.equal(heads.write(torch.ones(2, 5, 3, dtype=dtype), x)[..., 4:8], torch.zeros(2, 5, 4, dtype=dtype))
    (gradient,) = torch.autograd.grad(heads.reader(new).sum(), x)
    assert torch.isfinite(gradient).all()
    values = heads.read(x.detach()).requires_grad_()
    (slope,) = torch.autograd.grad(heads.reader(heads.write(values, x.detach())).sum(), values)
    assert torch.equal(slope[..., 1], torch.zeros(2, 5, dtype=dtype))
    assert torch.equal(
        heads.slope(torch.ones(2, 5, 12, dtype=dtype), x.detach())[..., 1], torch.zeros(2, 5, dtype=dtype)
    )


@pytest.mark.parametrize("method", nph.list_methods())
def test_a_model_with_a_head_that_is_always_0(random_vit, random_images, method):
    model, images = random_vit(2), random_images(3, 2)
    with torch.no_grad():
        for part in (model.blocks[1].attn.qkv.weight, model.blocks[1].attn.qkv.bias):
            part[64 + 8 : 64 + 16] = 0  # the values of head 1
    paths = nph.find_path(model, images, units="heads", method=method)
    has = [name for name in TENSORS if name != "score" or method != "live"]
    assert all(torch.isfinite(getattr(paths, name)).all() for name in has)
    influence = nph.joint_influence(model, images, [0, 1, 2, 3], units="heads")
    assert influence.attribution[:, 1].abs().max() == 0
    assert (influence.attribution[:, [0, 2, 3]] != 0).all()


# ---- views


def test_a_view_of_a_view(random_vit):
    model = random_vit(0, "avg")
    for kinds in KINDS:
        vit = nph.view(model, "all", kinds)
        assert nph.view(vit) is vit
        assert nph.view(vit, "all", kinds) is vit
        for other in KINDS:
            changed = nph.view(vit, units=other)
            assert {place.kind for place in changed.places} == set(KINDS[other])
            assert (changed.token, changed.pools, changed.model) == ("all", "patch", model)
            assert changed.blocks == vit.blocks
        fewer = nph.view(vit, "patch")
        assert (fewer.token, fewer.places) == ("patch", vit.places)
    both = nph.view(model, None, "both")
    assert [(p.block, p.kind) for p in both.places] == [(b, k) for b in range(4) for k in ("head", "neuron")]
    assert both.widths == [4, 64] * 4
    assert both.tied == []


# ---- models that loop


def looped(unique, pool="token"):
    """Four passes through one block, or twice through two, and the same as four blocks of their own."""
    sizes = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "num_heads": 4, "mlp_ratio": 2, "num_classes": 5}
    pooling = {"fc_norm": True} if pool == "avg" else {}
    model = redrawn(VisionTransformer(**sizes, depth=unique, global_pool=pool, **pooling))
    model.blocks = nn.Sequential(*[model.blocks[i % unique] for i in range(4)])
    unrolled = copy.deepcopy(model)
    unrolled.blocks = nn.Sequential(*map(copy.deepcopy, unrolled.blocks))
    assert len({id(block) for block in model.blocks}) == unique
    assert len({id(block) for block in unrolled.blocks}) == 4
    return model, unrolled


@cycles
@units
@pytest.mark.parametrize("method", ["joint", "causal", "knowledge", "influence_pattern", "activation"])
def test_paths_are_those_of_the_unrolled_model(method, units, unique):
    for pool in ("token", "avg"):
        model, unrolled = looped(unique, pool)
        images = draw(3, 3, 16, 16)
        assert torch.equal(as_logits(model, images), as_logits(unrolled, images))
        paths = nph.find_path(model, images, units=units, method=method)
        expected = nph.find_path(unrolled, images, units=units, method=method)
        assert torch.equal(paths.units, expected.units)
        for name in TENSORS:
            assert torch.allclose(getattr(paths, name), getattr(expected, name), rtol=1e-5, atol=1e-7), name
        assert paths.places == expected.places


@cycles
@pytest.mark.parametrize("preset", ["progressive", "paper"])
def test_block_by_block_too(preset, unique):
    model, unrolled = looped(unique)
    images = draw(3, 3, 16, 16)
    paths, expected = (nph.find_path(m, images, preset=preset) for m in (model, unrolled))
    assert torch.equal(paths.units, expected.units)
    assert torch.allclose(paths.score, expected.score, rtol=1e-5)


@cycles
def test_a_unit_is_removed_in_one_pass_alone(unique):
    model, unrolled = looped(unique)
    images, seen = draw(2, 3, 16, 16), set()
    for block in range(4):
        for unit in ((block, 5), ("head", block, 2)):
            with nph.remove(model, [unit], tokens="all"):
                found = as_logits(model, images)
                assert torch.equal(as_logits(model, images), found)  # the counters start anew with every run
            cut = copy.deepcopy(unrolled)
            with torch.no_grad():
                if len(unit) == 2:
                    cut.blocks[block].mlp.fc2.weight[:, 5] = 0
                else:
                    cut.blocks[block].attn.proj.weight[:, 16:24] = 0
            assert torch.allclose(found, as_logits(cut, images), rtol=1e-5, atol=1e-5)
            seen.add(found.sum().item())
    assert len(seen) == 8  # each pass's unit does something else


@cycles
def test_every_pass_is_seen_in_its_turn(unique):
    model, unrolled = looped(unique)
    images, orders = draw(2, 3, 16, 16), []
    vit, other = nph.view(model, units="both"), nph.view(unrolled, units="both")
    seen: dict[int, torch.Tensor] = {}
    with torch.no_grad(), visited(model, vit.sites, lambda s, x: orders.append(s) or seen.update({s: x})):
        model(images)
        model(images[:1])
    assert orders == [*range(8), *range(8)]
    with torch.no_grad(), visited(unrolled, other.sites, lambda s, x: torch.testing.assert_close(x[:1], seen[s])):
        unrolled(images)


@cycles
def test_a_run_that_fails_leaves_the_order_as_it_was(unique):
    model, _ = looped(unique)
    images, calls = draw(2, 3, 16, 16), []
    with nph.remove(model, [("head", 2, 1), (2, 7)], tokens="all"):
        expected = as_logits(model, images)

        def fail(*_args):
            calls.append(0)
            if len(calls) == 2:
                raise RuntimeError("deliberate")

        handle = model.blocks[0].mlp.act.register_forward_hook(fail)
        with pytest.raises(RuntimeError, match="deliberate"):
            model(images)
        handle.remove()
        assert torch.equal(as_logits(model, images), expected)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@cycles
def test_sites_that_share_weights_are_named(unique):
    model, unrolled = looped(unique)
    passes = [[block for block in range(4) if block % unique == first] for first in range(unique)]
    assert nph.view(model).tied == nph.view(model, units="heads").tied == passes
    both = [[2 * block + kind for block in group] for group in passes for kind in (0, 1)]
    assert sorted(nph.view(model, units="both").tied) == sorted(both)
    assert nph.view(unrolled, units="both").tied == []
    layers = copy.deepcopy(unrolled)  # weights shared between layers of their own
    layers.blocks[3].mlp.fc2.weight = layers.blocks[0].mlp.fc2.weight
    assert nph.view(layers, units="both").tied == [[1, 7]]


@cycles
@units
@pytest.mark.parametrize("by", ["taylor", "causal", "complete", "activation", "magnitude"])
def test_importances_add_up_over_the_passes(by, units, unique):
    model, unrolled = looped(unique)
    given = () if by == "magnitude" else (draw(4, 3, 16, 16),)
    found, apart = (nph.importance(m, *given, by=by, units=units) for m in (model, unrolled))
    kinds = 2 if units == "both" else 1
    for site, values in enumerate(found):
        together = [other for s, other in enumerate(apart) if s % (kinds * unique) == site % (kinds * unique)]
        assert torch.allclose(values, torch.stack(together).sum(0), rtol=1e-4, atol=1e-7)
        assert len(together) == 4 // unique


@cycles
def test_pruned_once_for_all_passes(unique):
    """A looped model stays one: its shared layers are cut once, and it computes what the masked model computes."""
    model, _ = looped(unique)
    images = draw(2, 3, 16, 16)
    importance = nph.importance(model, images, units="both")
    choice = {"keep": 0.5, "units": "both", "round_to": 4}
    small = nph.prune(model, importance, **choice)
    assert nph.view(small, units="both").widths == [2, 32] * 4
    assert len({id(block) for block in small.blocks}) == unique
    with nph.mask(model, importance, **choice):
        masked = as_logits(model, images)
    assert torch.allclose(as_logits(small, images), masked, rtol=1e-5, atol=1e-5)


# ---- a layer that the model itself never calls


def test_torchvision_s_heads_are_those_of_timm_with_the_same_weights():
    model = redrawn(torchvision.models.VisionTransformer(16, 4, 3, 4, 32, 64, num_classes=5))
    sizes = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "num_heads": 4, "mlp_ratio": 2, "num_classes": 5}
    same = VisionTransformer(**sizes, depth=3).eval()
    words = {"class_token": "cls_token", "conv_proj": "patch_embed.proj", "encoder.pos_embedding": "pos_embed",
             "heads.head": "head", "encoder.ln.": "norm.", "encoder.layers.encoder_layer_": "blocks.", ".ln_": ".norm",
             "self_attention.in_proj_": "attn.qkv.", "self_attention.out_proj": "attn.proj",
             "mlp.0": "mlp.fc1", "mlp.3": "mlp.fc2"}  # fmt: skip
    state = {}
    for name, value in model.state_dict().items():
        for theirs, ours in words.items():
            name = name.replace(theirs, ours)
        state[name] = value
    same.load_state_dict(state)
    images = draw(3, 3, 16, 16)
    assert torch.allclose(as_logits(model, images), as_logits(same, images), rtol=1e-4, atol=1e-5)
    for method in nph.list_methods():
        for kinds in ("heads", "both"):
            mine, theirs = (nph.find_path(m, images, units=kinds, method=method) for m in (model, same))
            assert torch.equal(mine.units, theirs.units), (method, kinds)
            assert torch.allclose(mine.attribution, theirs.attribution, rtol=1e-3, atol=1e-6)
            assert torch.allclose(mine.removal, theirs.removal, rtol=1e-3, atol=1e-6)
