"""A pruned model computes what the masked model computes, for every kind of MLP, and counts what is counted by hand."""

import copy
import os
import subprocess
import sys

import pytest
import timm
import torch
from others import OwnViT, transformers_models
from safetensors.torch import save_file
from small import as_logits, redrawn, small_images, small_timm
from timm.models.vitamin import GeGluMlp
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.vision_transformer import VisionTransformer

import neuronpath as nph
from neuronpath.compression.prune import select

SIZES = {"round_to": 4, "min_keep": 4}
TIMM = {
    "plain": ("vision_transformer", "vit_small_patch16_224"),
    "split SwiGLU": ("vision_transformer", "aimv2_1b_patch14_224"),
    "packed SwiGLU, registers": ("vision_transformer", "vit_giant_patch14_reg1_tipsv2"),
    "inner norm": ("vision_transformer", "beit3_base_patch16_224"),
    "attention pooling": ("vision_transformer", "vit_base_patch16_siglip_224"),
    "post-norm": ("vision_transformer", "vit_base_patch16_rpn_224"),
    "distilled": ("deit", "deit_tiny_distilled_patch16_224"),
    "hybrid": ("vision_transformer_hybrid", "vit_tiny_r_s16_p8_224"),
    "relative": ("vision_transformer_relpos", "vit_relpos_base_patch16_224"),
    "relative post-norm": ("vision_transformer_relpos", "vit_relpos_base_patch16_rpn_224"),
    "BEiT": ("beit", "beit_base_patch16_224"),
    "EVA": ("eva", "eva_giant_patch14_224"),
    "EVA post-norm": ("eva", "eva02_enormous_patch14_clip_224"),
    "EVA-02, SwiGLU with inner norm": ("eva", "eva02_base_patch14_224"),
    "EVA-02, packed SwiGLU": ("eva", "eva02_small_patch14_224"),
    "naflex": ("naflexvit", "naflexvit_base_patch16_gap"),
}


def random_importance(model, seed=0):
    return nph.importance(model, by="random", seed=seed)


def check_mask_equals_slice(model, **options):
    """For both ways of filling the gap: the masked model's logits, the pruned model's, and the model unharmed."""
    images, importance = small_images(model, 3), random_importance(model)
    plain, state = as_logits(model, images), copy.deepcopy(model.state_dict())
    for extra in ({}, {"compensate": True, "images": images}):
        choice = {"keep": 0.4, **SIZES, **options, **extra}
        small = nph.prune(model, importance, **choice)
        with nph.mask(model, importance, **choice):
            masked = as_logits(model, images)
        found = as_logits(small, images)
        assert torch.allclose(found, masked, rtol=1e-5, atol=1e-5 * max(1, masked.abs().max().item()))
        assert (found - plain).abs().max() > 1e-3
    assert torch.equal(as_logits(model, images), plain)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    return small


@pytest.mark.parametrize("name", TIMM)
@pytest.mark.parametrize("scope", ["block", "global"])
def test_mask_equals_slice(name, scope):
    model = small_timm(*TIMM[name])
    small = check_mask_equals_slice(model, scope=scope)
    vit, view = nph.view(model), nph.view(small)
    assert sum(view.widths) < 0.5 * sum(vit.widths)
    for module in small.modules():
        if isinstance(module, nn.Linear):
            assert (module.out_features, module.in_features) == tuple(module.weight.shape)
        if isinstance(module, nn.LayerNorm):
            assert module.weight is None or module.normalized_shape == tuple(module.weight.shape)
    assert [s.reader.out_features for s in view.sites] == [s.reader.out_features for s in vit.sites]


def test_geglu_whose_norm_stands_before_its_neurons():
    model = timm.models.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=2, num_classes=5, mlp_ratio=1, mlp_layer=GeGluMlp
    )
    small = check_mask_equals_slice(redrawn(model))
    assert small.blocks[0].mlp.norm.normalized_shape == (48,)


def test_torchvision():
    check_mask_equals_slice(redrawn(VisionTransformer(32, 8, 3, 2, 48, 96, num_classes=7)))


@pytest.mark.parametrize(
    ("name", "changes"), [case[:2] for case in transformers_models() if "For" in case[0] or "v3" in case[0]], ids=str
)
def test_transformers(name, changes):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = getattr(transformers, name.split("For")[0].removesuffix("Model") + "Config")(
        **sizes, image_size=32, patch_size=8, num_labels=5, **changes
    )
    check_mask_equals_slice(redrawn(getattr(transformers, name)(config)))


def test_a_removed_neuron_s_weights_are_gone_and_no_other():
    """Against weights cut out by hand."""
    model = small_timm("vision_transformer", "vit_giant_patch14_dinov2")
    importance = random_importance(model)
    small = nph.prune(model, importance, keep=0.25, **SIZES)
    for old, new, values in zip(model.blocks, small.blocks, importance, strict=True):
        width = len(values)
        kept = values.topk(len(new.mlp.fc2.weight[0])).indices.sort().values
        gate, value = old.mlp.fc1.weight[:width], old.mlp.fc1.weight[width:]
        assert torch.equal(new.mlp.fc1.weight, torch.cat([gate[kept], value[kept]]))
        assert torch.equal(new.mlp.fc2.weight, old.mlp.fc2.weight[:, kept])
        assert torch.equal(new.mlp.fc2.bias, old.mlp.fc2.bias)


@pytest.mark.parametrize("name", ["plain", "packed SwiGLU, registers", "inner norm", "EVA-02, SwiGLU with inner norm"])
def test_parameters_and_multiply_adds_by_hand(name):
    """A neuron of a plain MLP costs a row, a bias and a column, 2 D multiply-adds a token; of a gated one 3 D."""
    model, images = small_timm(*TIMM[name]), small_images(small_timm(*TIMM[name]), 1)
    small = nph.prune(model, random_importance(model), keep=0.5, **SIZES)
    removed = sum(nph.view(model).widths) - sum(nph.view(small).widths)
    dim, tokens = 48, model.pos_embed.shape[1] if name != "packed SwiGLU, registers" else 18
    ups = 2 if "SwiGLU" in name else 1
    a_neuron = ups * (dim + 1) + dim + 2 * ("inner norm" in name)
    assert parameters(model) - parameters(small) == removed * a_neuron
    assert multiply_adds(model, images) - multiply_adds(small, images) == removed * (ups + 1) * dim * tokens


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def multiply_adds(model, images):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(images)
    return counter.get_total_flops() // 2


def test_pruned_twice_is_pruned_once(demo):
    model, images, _ = demo
    importance = nph.importance(model, by="magnitude")
    once = nph.prune(model, importance, keep=0.25)
    half = nph.prune(model, importance, keep=0.5)
    twice = nph.prune(half, nph.importance(half, by="magnitude"), keep=0.5)
    assert nph.view(twice).widths == [64] * 8
    assert torch.equal(as_logits(once, images[:20]), as_logits(twice, images[:20]))
    assert nph.find_path(twice, images[:2], method="joint").neurons.max() < 64


def test_which_neurons_stay():
    importance = [torch.tensor([0.0, 3, 2, 9, 1, 4]), torch.tensor([30.0, 20, 10, 5, 6, 0])]
    assert [kept.tolist() for kept in select(importance, 0.5, round_to=1, min_keep=1)] == [[1, 3, 5], [0, 1, 2]]
    assert [kept.tolist() for kept in select(importance, 0.5, round_to=4, min_keep=1)] == [[1, 2, 3, 5], [0, 1, 2, 4]]
    assert [len(kept) for kept in select(importance, 0.01, round_to=1, min_keep=5)] == [5, 5]
    assert [len(kept) for kept in select(importance, 1, round_to=4)] == [6, 6]
    everywhere = select(importance, 0.5, scope="global", round_to=1, min_keep=1)
    assert [kept.tolist() for kept in everywhere] == [[3], [0, 1, 2, 3, 4]]
    assert select([torch.zeros(9)], 0.3, round_to=1, min_keep=1)[0].tolist() == [0, 1, 2]  # 0.3 * 9 is 2.7
    assert len(select([torch.rand(10)], 0.3, round_to=1, min_keep=1)[0]) == 3  # 0.3 * 10 is a little above 3


def test_global_keeps_the_asked_for_share():
    importance = [torch.rand(256, generator=torch.Generator().manual_seed(block)) ** (block + 1) for block in range(6)]
    kept = select(importance, 0.25, scope="global")
    assert sum(map(len, kept)) == 384
    assert all(len(index) % 8 == 0 and len(index) >= 8 for index in kept)
    assert len(kept[0]) > len(kept[5])


# ---- importances


def test_of_paths_by_hand(demo):
    model, images, _ = demo
    paths = nph.find_path(model, images[:12], method="joint", top_k=3)
    for target in (None, int(paths.target[0])):
        rows = [i for i in range(12) if target in (None, int(paths.target[i]))]
        carried, often = torch.zeros(8, 256), torch.zeros(8, 256)
        for image in rows:
            for block in range(8):
                for rank in range(3):
                    neuron = paths.neurons[image, block, rank]
                    carried[block, neuron] += paths.attribution[image, block, rank].abs() / len(rows)
                    often[block, neuron] += 1 / len(rows)
        assert torch.allclose(torch.stack(nph.importance(paths, target=target)), carried, atol=1e-7)
        assert torch.allclose(torch.stack(nph.importance(paths, by="frequency", target=target)), often, atol=1e-7)


@pytest.mark.parametrize("tokens", ["all", "pooled"])
@pytest.mark.parametrize("output", ["prob", "logit"])
def test_causal_is_the_derivative_of_a_gate(demo, tokens, output):
    """Against central differences of gates of 1 ± h, in float64."""
    model, images, labels = demo
    model = copy.deepcopy(model).double()
    found = nph.importance(model, images[:1].double(), by="causal", target=labels[:1], tokens=tokens, output=output)
    label = int(labels[0])

    def value(block, neuron, factor):
        def gate(_module, args):
            x = args[0].clone()
            x[:, slice(0, 1) if tokens == "pooled" else slice(None), neuron] *= factor
            return (x,)

        handle = model.blocks[block].mlp.fc2.register_forward_pre_hook(gate)
        logits = as_logits(model, images[:1].double())[0]
        handle.remove()
        return (logits if output == "logit" else logits.softmax(0))[label].item()

    for block, neuron in ((0, 5), (3, 100), (7, 255)):
        slope = (value(block, neuron, 1 + 1e-4) - value(block, neuron, 1 - 1e-4)) / 2e-4
        assert found[block][neuron].item() == pytest.approx(abs(slope), rel=1e-4, abs=1e-9)


def test_complete_by_hand(demo):
    """Against held runs by hooks, every neuron on every token at alpha times its value, with the same two nodes."""
    model, images, labels = demo
    found = nph.importance(model, images[:3], by="complete", target=labels[:3])
    with pytest.warns(FutureWarning, match="by='complete'"):
        assert all(map(torch.equal, nph.importance(model, images[:3], by="joint", target=labels[:3]), found))
    clean, expected = [], [torch.zeros(3, 256) for _ in range(8)]
    handles = [
        b.mlp.fc2.register_forward_pre_hook(lambda _, args: clean.append(args[0].detach())) for b in model.blocks
    ]
    as_logits(model, images[:3])
    for handle in handles:
        handle.remove()
    for alpha in (0.5 - 3**-0.5 / 2, 0.5 + 3**-0.5 / 2):  # Gauss-Legendre's two nodes, of weight a half
        held = [(alpha * values).requires_grad_() for values in clean]
        hold = zip(model.blocks, held, strict=True)
        handles = [b.mlp.fc2.register_forward_pre_hook(lambda _, args, v=v: (v,)) for b, v in hold]
        value = model(images[:3]).softmax(1).gather(1, labels[:3, None]).sum()
        for total, values, gradient in zip(expected, clean, torch.autograd.grad(value, held), strict=True):
            total += (values * gradient).sum(1) / 2
        for handle in handles:
            handle.remove()
    for mine, total in zip(found, expected, strict=True):
        assert torch.allclose(mine, total.abs().mean(0), rtol=1e-3, atol=1e-8)


def test_taylor_and_activation_by_hand(demo):
    model, images, labels = demo
    activations, values = nph.importance(model, images[:6], by="activation"), []
    taylor = nph.importance(model, images[:6], target=labels[:6], batch_size=4)
    expected = torch.zeros(256)
    handle = model.blocks[2].mlp.fc2.register_forward_pre_hook(lambda _, args: values.append(args[0]))
    for image, label in zip(images[:6], labels[:6], strict=True):
        loss = nn.functional.cross_entropy(model(image[None]), label[None])
        (gradient,) = torch.autograd.grad(loss, values[-1])
        expected += (values[-1] * gradient).sum((0, 1)).detach() ** 2 / 6
    handle.remove()
    assert torch.allclose(taylor[2], expected, rtol=1e-3, atol=1e-12)
    assert torch.allclose(activations[2], torch.cat(values).detach().abs().mean((0, 1)), atol=1e-6)


def test_magnitude_by_hand():
    plain, gated = small_timm(*TIMM["plain"]), small_timm(*TIMM["packed SwiGLU, registers"])
    fc1, fc2 = plain.blocks[1].mlp.fc1.weight, plain.blocks[1].mlp.fc2.weight
    found = nph.importance(plain, by="magnitude")
    assert torch.allclose(found[1], fc1.norm(dim=1) * fc2.norm(dim=0), rtol=1e-5)
    fc1, fc2 = gated.blocks[1].mlp.fc1.weight, gated.blocks[1].mlp.fc2.weight
    width = fc2.shape[1]
    both = (fc1[:width].square().sum(1) + fc1[width:].square().sum(1)).sqrt()
    assert torch.allclose(nph.importance(gated, by="magnitude")[1], both * fc2.norm(dim=0), rtol=1e-5)


def test_random_is_seeded(demo):
    first, again, other = (torch.stack(random_importance(demo[0], seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("by", ["complete", "causal", "taylor", "activation"])
def test_batches_and_modes_change_nothing(demo, by):
    model, images, _ = demo
    together = nph.importance(model, images[:5], by=by)
    model.train()
    apart = nph.importance(model, images[:5], by=by, batch_size=2)
    assert model.training
    model.eval()
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-9) for a, b in zip(together, apart, strict=True))


# ---- against Torch-Pruning


@pytest.mark.filterwarnings("ignore:Unwrapped parameters")
def test_torch_pruning_agrees(demo):
    """Given the same neurons it gives the same logits, and its first-order importance is ours."""
    tp = pytest.importorskip("torch_pruning")
    model, images, labels = demo
    ours = nph.importance(model, images[:1], target=labels[:1])
    theirs = copy.deepcopy(model)
    nn.functional.cross_entropy(theirs(images[:1]), labels[:1]).backward()
    graph = tp.DependencyGraph().build_dependency(theirs, example_inputs=images[:1])
    # of a group they score the rows of fc1 as well; the columns of fc2 are the neurons' own
    score = tp.importance.GroupTaylorImportance(multivariable=True, normalizer=None, group_reduction="first")
    small = nph.prune(model, ours, keep=0.25)
    for block, index in enumerate(select(ours, 0.25)):
        layer = theirs.blocks[block].mlp.fc1
        group = graph.get_pruning_group(layer, tp.prune_linear_out_channels, list(range(256)))
        columns = [item for item in group if item.dep.target.module is theirs.blocks[block].mlp.fc2]
        assert torch.allclose(score(columns).square(), ours[block], rtol=1e-3, atol=1e-12)
        gone = sorted(set(range(256)) - set(index.tolist()))
        graph.get_pruning_group(layer, tp.prune_linear_out_channels, gone).prune()
    assert torch.allclose(as_logits(theirs, images[:50]), as_logits(small, images[:50]), atol=1e-5)


# ---- an ordinary module


def test_export_compile_and_training(demo):
    model, images, labels = demo
    small = nph.prune(model, random_importance(model), keep=0.25, scope="global")
    expected = as_logits(small, images[:2])
    exported = torch.export.export(small, (images[:2],)).module()
    assert torch.allclose(as_logits(exported, images[:2]), expected, atol=1e-5)
    compiled = torch.compile(small, backend="aot_eager", fullgraph=True)
    assert torch.allclose(as_logits(compiled, images[:2]), expected, atol=1e-5)
    nn.functional.cross_entropy(small(images[:4]), labels[:4]).backward()
    assert all(p.requires_grad and p.grad is not None for p in small.parameters())
    again = nph.prune(torch.compile(model, backend="eager"), random_importance(model), keep=0.25, scope="global")
    assert torch.equal(as_logits(again, images[:2]), expected)


def test_dtype_and_frozen_weights_stay():
    model = small_timm(*TIMM["EVA-02, SwiGLU with inner norm"]).bfloat16().requires_grad_(False)
    images = small_images(model).bfloat16()
    small = nph.prune(model, random_importance(model), keep=0.5, compensate=True, images=images)
    assert {p.dtype for p in small.parameters()} == {torch.bfloat16}
    assert not any(p.requires_grad for p in small.parameters())


# ---- bad input


@pytest.mark.parametrize("keep", [0, -0.1, 1.01, float("nan"), True, "half"])
def test_keep_outside_its_range(demo, keep):
    with pytest.raises(nph.InputError, match=r"keep is .*; expected a (share above 0 and at most 1|number)"):
        nph.prune(demo[0], random_importance(demo[0]), keep=keep)


def test_bad_input(demo):
    model, images, _ = demo
    importance = random_importance(model)

    def refused(match, call):
        with pytest.raises(nph.InputError, match=match) as refusal:
            call()
        assert "\n" not in str(refusal.value)

    refused("importance has 7 blocks, VisionTransformer has 8", lambda: nph.prune(model, importance[:7], 0.5))
    short = [*importance[:3], importance[3][:-1], *importance[4:]]
    refused("importance has 255 neurons in block 3, VisionTransformer has 256", lambda: nph.prune(model, short, 0.5))
    broken = [*importance[:3], importance[3] * torch.nan, *importance[4:]]
    refused("importance of block 3 holds NaN", lambda: nph.prune(model, broken, 0.5))
    nothing = [torch.zeros(256) for _ in range(8)]
    refused("the importance of every unit is 0; expected numbers that tell one", lambda: nph.prune(model, nothing, 0.5))
    refused("the importance of every unit is 0", lambda: nph.mask(model, nothing, 0.5).__enter__())
    for size in (0, -1):
        for by in ("taylor", "activation", "complete"):
            refused(f"batch_size is {size}; expected a whole number of at least 1",
                    lambda: nph.importance(model, images[:2], by=by, batch_size=size))  # fmt: skip
    refused("compensate needs calibration images", lambda: nph.prune(model, importance, 0.5, compensate=True))
    refused(
        "compensate needs calibration images", lambda: nph.mask(model, importance, 0.5, compensate=True).__enter__()
    )
    refused("scope 'layer' is unknown", lambda: nph.prune(model, importance, 0.5, scope="layer"))
    refused("round_to is 0", lambda: nph.prune(model, importance, 0.5, round_to=0))
    refused("min_keep is 2.5", lambda: nph.prune(model, importance, 0.5, min_keep=2.5))
    refused(
        "importance is a list; expected a sequence of ordinary tensors",
        lambda: nph.prune(model, [[1.0] * 256] * 8, 0.5),
    )
    refused("importance by 'taylor' is measured on images", lambda: nph.importance(model))
    refused("importance by 'path' is none of a model", lambda: nph.importance(model, images, by="path"))
    refused("importance by 'taylor' is none of neuron paths",
            lambda: nph.importance(nph.find_path(model, images[:1], method="joint"), by="taylor"))  # fmt: skip
    refused("importance by '' is none of a model; expected one of", lambda: nph.importance(model, images, by=""))
    refused("tokens 'path' is unknown", lambda: nph.importance(model, images, tokens="path"))
    refused("target 10 is out of range", lambda: nph.importance(model, images[:2], target=10))
    refused(
        "no path explains class 77", lambda: nph.importance(nph.find_path(model, images[:1], method="joint"), target=77)
    )
    refused("no vision transformer", lambda: nph.prune(nn.Linear(3, 3), importance, 0.5))


def test_mlps_that_cannot_be_cut_are_refused_by_name():
    own = OwnViT()
    with pytest.raises(nph.InputTypeError, match="block 0 of OwnViT has its down-projection in no module of its own"):
        nph.prune(own, random_importance(own), 0.5)
    model = small_timm(*TIMM["plain"])
    nn.utils.parametrizations.weight_norm(model.blocks[1].mlp.fc1)
    with pytest.raises(nph.InputTypeError, match=r"block 1 of .* with ParametrizedLinear; expected plain"):
        nph.prune(model, random_importance(model), 0.5)
    model = small_timm(*TIMM["plain"])
    model.blocks[2].mlp.act = nn.Softmax(-1)  # mixes the neurons
    with pytest.raises(nph.InputTypeError, match=r"block 2 of .* computes something else without a neuron"):
        nph.prune(model, random_importance(model), 0.5)
    model = small_timm(*TIMM["plain"])
    model.blocks[2].mlp.fc1.weight = model.blocks[
        0
    ].mlp.fc1.weight  # the rows that make neurons, not the columns they go out by
    with pytest.raises(nph.InputTypeError, match="two layers share a weight and would keep other units of it"):
        nph.prune(model, random_importance(model), 0.5)
    model = small_timm(*TIMM["plain"])
    model.blocks[0].mlp.norm = nn.Linear(192, 192)
    with pytest.raises(nph.InputTypeError, match=r"block 0 of .* has an MLP .* can't be (cut|pruned)"):
        nph.prune(model, random_importance(model), 0.5)


def test_weights_that_layers_share_stay_shared():
    model = small_timm(*TIMM["plain"])
    for layer in ("fc1", "fc2"):
        getattr(model.blocks[2].mlp, layer).weight = getattr(model.blocks[0].mlp, layer).weight
    assert nph.view(model).tied == [[0, 2]]
    small = check_mask_equals_slice(model)
    for layer in ("fc1", "fc2"):
        first, _, last = (getattr(block.mlp, layer) for block in small.blocks)
        assert first.weight is last.weight
        assert first.bias is not last.bias
    worth = nph.importance(model, small_images(model), by="causal")
    expected = model.blocks[0].mlp.fc2.weight[:, worth[0].topk(80).indices.sort().values]  # 0.4 of 192 in fours
    assert torch.equal(nph.prune(model, worth, 0.4, **SIZES).blocks[2].mlp.fc2.weight, expected)


# ---- files

LOAD = """
import sys, torch, neuronpath as nph
torch.set_num_threads(1)
model = nph.load_pruned(sys.argv[1])
torch.save(model(torch.load(sys.argv[2])).detach(), sys.argv[3])
"""


@pytest.mark.parametrize("name", ["the demo", "EVA-02, SwiGLU with inner norm", "bfloat16"])
def test_a_file_read_in_a_new_process_gives_the_same_logits(demo, tmp_path, name):
    sizes = {"embed_dim": 48, "depth": 3, "num_heads": 2, "patch_size": 8, "img_size": 32}
    if name == "the demo":
        model, images, arguments = demo[0], demo[1][:5], {}
    else:
        model, arguments = redrawn(timm.create_model("eva02_base_patch14_224", num_classes=7, **sizes)), sizes
        model = model.bfloat16() if name == "bfloat16" else model
        images = small_images(model, 5).to(next(model.parameters()))
    small = nph.prune(model, random_importance(model), 0.25, scope="global", compensate=True, images=images)
    nph.save_pruned(small, tmp_path / "small.safetensors", arguments)
    torch.save(images, tmp_path / "images.pt")
    words = [sys.executable, "-c", LOAD, *(str(tmp_path / n) for n in ("small.safetensors", "images.pt", "logits.pt"))]
    subprocess.run(words, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert torch.equal(torch.load(tmp_path / "logits.pt"), as_logits(small, images))
    assert (tmp_path / "small.safetensors").stat().st_size < 1.2 * sum(
        p.numel() * p.element_size() for p in small.parameters()
    ) + 20_000


def test_a_bias_that_compensation_left_is_in_the_file(tmp_path):
    sizes = {"embed_dim": 48, "depth": 2, "num_heads": 2, "patch_size": 8, "img_size": 32, "proj_bias": False}
    model = redrawn(timm.create_model("vit_small_patch16_224", num_classes=7, **sizes))
    model.blocks[0].mlp.fc2.bias = model.blocks[1].mlp.fc2.bias = None
    images = small_images(model, 3)
    small = nph.prune(model, random_importance(model), 0.25, compensate=True, images=images)
    assert small.blocks[0].mlp.fc2.bias is not None
    nph.save_pruned(small, tmp_path / "s.safetensors", sizes)
    assert torch.equal(as_logits(nph.load_pruned(tmp_path / "s.safetensors"), images), as_logits(small, images))


def test_files_that_cannot_be_used_are_refused(demo, tmp_path):
    small = nph.prune(demo[0], random_importance(demo[0]), 0.25)
    path = nph.save_pruned(small, tmp_path / "s.safetensors")
    whole = path.read_bytes()

    def refused(match, content):
        path.write_bytes(content)
        with pytest.raises(nph.InputError, match=match) as refusal:
            nph.load_pruned(path)
        assert "\n" not in str(refusal.value)

    refused("is damaged or no safetensors", whole[: len(whole) // 2])
    refused("is damaged or no safetensors", b"")
    refused("is damaged or no safetensors", b"not at all")
    refused(
        "is of version '4'; this neuronpath reads versions 1 to 3", whole.replace(b'"version":"3"', b'"version":"4"')
    )
    refused("have changed since they were written", whole[:-8] + bytes(8))
    refused("have changed since they were written", whole.replace(b"[64, 64, 64", b"[64, 64, 32"))
    save_file({"x": torch.zeros(2)}, path)
    refused("holds no model", path.read_bytes())
    with pytest.raises(nph.InputError, match=r"s.safetensors exists already"):
        nph.save_pruned(small, path)
    with pytest.raises(
        nph.InputError, match=r"none.safetensors doesn't exist; expected a file that save_compressed wrote"
    ):
        nph.load_pruned(tmp_path / "none.safetensors")


def test_models_that_could_not_be_built_again_are_not_saved(tmp_path):
    path = tmp_path / "s.safetensors"
    sizes = {"embed_dim": 48, "depth": 2, "num_heads": 2, "patch_size": 8, "img_size": 32}
    model = redrawn(timm.create_model("vit_small_patch16_224", act_layer="silu", num_classes=7, **sizes))
    with pytest.raises(nph.InputError, match="pos_embed has shape"):
        nph.save_pruned(model, path, {key: value for key, value in sizes.items() if key != "patch_size"})
    with pytest.raises(nph.InputError, match="built again gives other logits than the model; expected arguments="):
        nph.save_pruned(model, path, sizes)
    with pytest.raises(nph.InputError, match="can't be written as JSON"):
        nph.save_pruned(model, path, {**sizes, "act_layer": nn.SiLU})
    with pytest.raises(nph.InputError, match=r"names the arguments \['checkpoint_path'\]"):
        nph.save_pruned(model, path, {**sizes, "checkpoint_path": "x.pth"})
    with pytest.raises(nph.InputError, match="carries no name that timm knows"):
        nph.save_pruned(redrawn(VisionTransformer(32, 8, 2, 2, 48, 96, num_classes=7)), path)
    assert not list(tmp_path.iterdir())
    nph.save_pruned(model, path, {**sizes, "act_layer": "silu"})


# ---- recovery


def test_recovery_helps_and_is_seeded(demo):
    model, images, labels = demo
    train = nph.demo.load("train")[1][:256]
    importance = nph.importance(model, train[:64])
    state = copy.deepcopy(model.state_dict())

    def recovered(seed):
        small = nph.prune(model, importance, 0.03)
        before = (as_logits(small, images).argmax(1) == labels).float().mean().item()
        again = nph.recover(small, model, train.split(32), epochs=2, lr=1e-3, seed=seed)
        assert again is small
        assert not any(module.training for module in small.modules())
        return before, (as_logits(small, images).argmax(1) == labels).float().mean().item(), small

    before, after, small = recovered(0)
    assert after > before + 0.05
    assert torch.equal(as_logits(recovered(0)[2], images[:4]), as_logits(small, images[:4]))
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_recovery_refuses(demo):
    model, images, _ = demo
    small = nph.prune(model, random_importance(model), 0.5)
    for call, match in (
        ({"loader": []}, "the loader gave no batches"),
        ({"loader": iter([images[:2]])}, "loader is a list_iterator without a length"),
        ({"loader": [images[:2]], "epochs": 0}, "epochs is 0"),
        ({"loader": [images[:2]], "lr": -1.0}, "lr is -1.0"),
        ({"loader": [images[:2]], "weight_decay": -1.0}, "weight_decay is -1.0; expected a finite number above 0"),
        ({"loader": [images[:2] * torch.nan]}, "image 0 of the batch holds NaN or infinity"),
        ({"loader": [(["a"], 3)]}, r"a batch of the loader is a list; expected a tensor of shape \(B, C, H, W\)"),
        ({"loader": [images[:2]] * 4, "lr": 1e30}, "the loss became nan; expected a lower lr than 1e[+]30"),
    ):
        with pytest.raises(nph.InputError, match=match) as refusal:
            nph.recover(copy.deepcopy(small), model, **call)
        assert "\n" not in str(refusal.value)
    other = copy.deepcopy(small)
    other.head = nn.Linear(64, 7)
    with pytest.raises(
        nph.InputError, match=r"student gives \(7,\) numbers an image where teacher gives \(10,\); expected as many"
    ):
        nph.recover(other, model, [images[:2]])
    with pytest.raises(nph.InputError, match=r"no weight that requires a gradient; expected student\.requires_grad_"):
        nph.recover(small.requires_grad_(False), model, [images[:2]])
    assert not small.training
