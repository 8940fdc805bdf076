"""Blocks that share weights: exact at full rank, the best of their rank below it, tied in truth, and an ordinary model for all else."""

import copy

import pytest
import torch
import torch.nn.functional as F
from small import as_logits, examine, redrawn, small_images, small_timm
from torch import nn
from torchvision.models.vision_transformer import VisionTransformer

import neuronpath as nph

FAMILIES = {
    "plain": ("vision_transformer", "vit_small_patch16_224"),
    "split SwiGLU": ("vision_transformer", "aimv2_1b_patch14_224"),
    "packed SwiGLU, registers": ("vision_transformer", "vit_giant_patch14_reg1_tipsv2"),
    "inner norm": ("vision_transformer", "beit3_base_patch16_224"),
    "post-norm": ("vision_transformer", "vit_base_patch16_rpn_224"),
    "distilled": ("deit", "deit_tiny_distilled_patch16_224"),
    "relative": ("vision_transformer_relpos", "vit_relpos_base_patch16_224"),
    "relative post-norm": ("vision_transformer_relpos", "vit_relpos_base_patch16_rpn_224"),
    "shared relative": ("vision_transformer_relpos", "vit_srelpos_small_patch16_224"),
    "BEiT": ("beit", "beit_base_patch16_224"),
    "EVA": ("eva", "eva_giant_patch14_224"),
    "EVA post-norm": ("eva", "eva02_enormous_patch14_clip_224"),
    "EVA-02": ("eva", "eva02_base_patch14_224"),
    "DINOv3": ("eva", "vit_7b_patch16_dinov3"),
    "naflex": ("naflexvit", "naflexvit_base_patch16_gap"),
}


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def close(found, expected, error=2e-5):
    assert (found - expected).abs().max() <= error * max(1, expected.abs().max()), (found - expected).abs().max()


@pytest.mark.parametrize("name", FAMILIES)
def test_full_rank_is_the_original(name):
    model = small_timm(*FAMILIES[name])
    images, state = small_images(model, 3), copy.deepcopy(model.state_dict())
    expected = as_logits(model, images)
    for choice in ({"init": "average"}, {"images": images}, {"init": "lower", "layout": "sequence"}):
        looped = nph.recursive(model, 1, rank="full", **choice)
        close(as_logits(looped, images), expected)
        assert nph.view(looped).tied == [[0, 1, 2]]
    whole = min(nph.view(model).sites[0].reader.weight.shape)
    thin = nph.low_rank(model, rank=8, images=images)
    assert parameters(thin) < parameters(model)
    assert (as_logits(thin, images) - expected).abs().max() > 1e-3
    assert whole >= 8
    assert torch.equal(as_logits(model, images), expected)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_torchvision_and_transformers():
    model = redrawn(VisionTransformer(32, 8, 4, 2, 48, 96, num_classes=7))
    images = small_images(model, 3)
    looped = nph.recursive(model, 2, rank="full", images=images)
    close(as_logits(looped, images), as_logits(model, images))
    assert looped.encoder.layers[0].self_attention.parametrizations.in_proj_weight.original0 is (
        looped.encoder.layers[2].self_attention.parametrizations.in_proj_weight.original0
    )
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = transformers.ViTConfig(**sizes, image_size=32, patch_size=8, num_labels=5)
    model = redrawn(transformers.ViTForImageClassification(config))
    with torch.no_grad():
        close(nph.recursive(model, 1, rank="full", images=images)(images).logits, model(images).logits)


def test_blocks_that_differ_are_refused_by_name():
    model = small_timm("eva", "vit_base_patch16_sapiens2")
    with pytest.raises(nph.InputTypeError, match=r"blocks 0 and 1 of Eva differ in attn\.k_proj \(\(48, 48\) and \(24"):
        nph.recursive(model, 1, init="average")


def test_products_are_the_best_of_their_rank(demo):
    """Against torch's own singular value decomposition, plain and of the weight times the root of the inputs' second moments."""
    model, images, _ = demo
    model = copy.deepcopy(model).double()
    rank = 10
    seen = {}
    handles = [
        block.mlp.fc1.register_forward_pre_hook(lambda _, args, i=i: seen.update({i: args[0].flatten(0, 1)}))
        for i, block in enumerate(model.blocks)
    ]
    as_logits(model, images[:50].double())
    for handle in handles:
        handle.remove()
    plain, weighted = nph.low_rank(model, rank=rank), nph.low_rank(model, rank=rank, images=images[:50].double())
    for i, block in enumerate(model.blocks):
        weight, inputs = block.mlp.fc1.weight.detach(), seen[i]
        for found, root in (
            (plain.blocks[i].mlp.fc1.weight, torch.eye(64, dtype=torch.double)),
            (weighted.blocks[i].mlp.fc1.weight, _root(inputs.T @ inputs / len(inputs))),
        ):
            left = torch.linalg.svdvals(weight @ root)[rank:].square().sum().sqrt()
            assert ((weight - found) @ root).norm().item() == pytest.approx(left.item(), rel=1e-6)
            assert torch.linalg.matrix_rank(found) == rank


def _root(moments):
    ridged = moments + 1e-2 * moments.diagonal().mean() * torch.eye(
        len(moments), dtype=moments.dtype
    )  # as the library does
    values, vectors = torch.linalg.eigh(ridged)
    return vectors * values.sqrt() @ vectors.T


def test_the_residual_s_products_are_torch_s(demo):
    """The paper's: the mean of the blocks that share, and the truncated decomposition of what each has beside it."""
    model, *_ = demo
    looped = nph.recursive(model, 2, init="average", rank=6)
    for k in range(2):
        shared = torch.stack([model.blocks[i].attn.qkv.weight for i in range(k, 8, 2)]).mean(0)
        for i in range(k, 8, 2):
            u, s, v = torch.linalg.svd(model.blocks[i].attn.qkv.weight - shared, full_matrices=False)
            expected = shared + u[:, :6] * s[:6] @ v[:6]
            assert torch.allclose(looped.blocks[i].attn.qkv.weight, expected, atol=1e-5)


def test_a_layer_is_peft_s_of_the_same_parts(demo):
    """W' with LoRA's b a beside it, at a scale of 1."""
    peft = pytest.importorskip("peft")
    looped = nph.recursive(demo[0], 2, init="average", rank=6)
    for layer in (looped.blocks[3].attn.qkv, looped.blocks[5].mlp.fc2):
        shared, b, a = layer.parametrizations["weight"].parameters()
        base = nn.ModuleDict({"layer": nn.Linear(layer.in_features, layer.out_features)})
        wrapped = peft.get_peft_model(base, peft.LoraConfig(r=6, lora_alpha=6, target_modules=["layer"]))
        theirs = wrapped.base_model.model["layer"]
        with torch.no_grad():
            for own, given in zip(
                (
                    theirs.base_layer.weight,
                    theirs.base_layer.bias,
                    theirs.lora_A["default"].weight,
                    theirs.lora_B["default"].weight,
                ),
                (shared, layer.bias, a, b),
                strict=True,
            ):
                own.copy_(given)
            x = torch.randn(5, layer.in_features, generator=torch.Generator().manual_seed(0))
            assert torch.allclose(layer(x), theirs(x), atol=1e-5)


def test_a_recursive_model_is_a_loop_written_by_hand(demo):
    """In float64, with the parts as they are saved: two shared blocks, four passes through each."""
    model, images, _ = demo
    looped = nph.recursive(model.double(), 2, rank=4, images=images[:40].double())
    model.float()
    images = images[:5].double()
    state = looped.state_dict()

    def matrix(layer, x, i):
        part = f"blocks.{i}.{layer}.parametrizations.weight.original"
        shared = state[f"blocks.{i % 2}.{layer}.parametrizations.weight.original0"]
        assert state[part + "0"].data_ptr() == shared.data_ptr()
        return x @ shared.T + x @ state[part + "2"].T @ state[part + "1"].T + state[f"blocks.{i}.{layer}.bias"]

    def norm(name, x):
        return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], looped.norm.eps)

    with torch.no_grad():
        x = looped._pos_embed(looped.patch_embed(images))
        for i in range(8):
            q, k, v = (
                matrix("attn.qkv", norm(f"blocks.{i}.norm1", x), i).unflatten(-1, (3, 4, 16)).permute(2, 0, 3, 1, 4)
            )
            heads = (q @ k.transpose(2, 3) / 4).softmax(-1) @ v
            x = x + matrix("attn.proj", heads.transpose(1, 2).flatten(2), i)
            x = x + matrix("mlp.fc2", F.gelu(matrix("mlp.fc1", norm(f"blocks.{i}.norm2", x), i)), i)
        expected = norm("norm", x)[:, 0] @ state["head.weight"].T + state["head.bias"]
    assert torch.allclose(as_logits(looped, images), expected, atol=1e-10)


def test_the_tied_weights_are_one(demo):
    """What a model of K blocks and their products has, counted by hand; copies, state_dicts and training keep it."""
    model, images, _ = demo
    looped = nph.recursive(model, 2, rank=8, images=images[:60])
    sizes = [(192, 64), (64, 64), (256, 64), (64, 256)]
    matrices = sum(a * b for a, b in sizes)
    expected = parameters(model) - 6 * matrices + 8 * 8 * sum(a + b for a, b in sizes)
    again = copy.deepcopy(looped)
    assert parameters(looped) == parameters(again) == expected
    assert torch.equal(as_logits(again, images), as_logits(looped, images))
    other = nph.recursive(model, 2, init="lower", rank=8)
    other.load_state_dict(looped.state_dict())
    assert torch.equal(as_logits(other, images), as_logits(looped, images))
    assert parameters(other) == expected

    optimizer = torch.optim.SGD(again.parameters(), 0.1)
    again.train()(images[:8]).square().sum().backward()
    optimizer.step()
    shared = [block.mlp.fc1.parametrizations.weight.original0 for block in again.blocks]
    assert shared[0] is shared[6]
    assert shared[0] is not shared[1]
    assert not torch.equal(shared[0], looped.blocks[0].mlp.fc1.parametrizations.weight.original0)


def test_fitted_is_nearer_than_the_mean(demo):
    model, images, _ = demo
    train = nph.demo.load("train")[1][:100]
    before = as_logits(model, images)

    def moved(**choice):
        return (as_logits(nph.recursive(model, 1, rank=16, **choice), images) - before).square().mean()

    assert moved(images=train) < 0.5 * moved(init="average")
    assert moved(images=train) < 0.5 * moved(init="stepwise")


@pytest.mark.parametrize("layout", ["cycle", "sequence", "phases"])
def test_layouts(demo, layout):
    model, images, _ = demo
    looped = nph.recursive(model, 4, layout=layout, images=images[:20])
    groups = nph.view(looped).tied
    if layout == "cycle":
        assert groups == [[0, 4], [1, 5], [2, 6], [3, 7]]
    elif layout == "sequence":
        assert groups == [[0, 1], [2, 3], [4, 5], [6, 7]]
    else:
        assert all(group == list(range(group[0], group[-1] + 1)) for group in groups)
        whole = sorted(site for group in groups for site in group)
        assert len(whole) + (4 - len(groups)) == 8  # a phase of one block shares with none


def test_phases_are_cut_where_the_blocks_change():
    """A model of two kinds of blocks: the first adds one thing over and over, the second another."""
    model = small_timm("vision_transformer", "vit_small_patch16_224", depth=7)
    with torch.no_grad():
        for i, block in enumerate(model.blocks):
            for layer in (block.attn.proj, block.mlp.fc2):
                layer.weight.mul_(0.01)
                layer.bias.zero_()
            block.mlp.fc2.bias[5 if i < 3 else 9] = 3.0
    assert nph.view(nph.recursive(model, 2, layout="phases", images=small_images(model, 4))).tied == [
        [0, 1, 2],
        [3, 4, 5, 6],
    ]


def test_merged_for_speed_and_back(demo):
    model, images, _ = demo
    looped = nph.recursive(model, 2, rank=8, images=images[:40])
    expected, state = as_logits(looped, images), copy.deepcopy(looped.state_dict())
    assert nph.merge_(looped) is looped
    close(as_logits(looped, images), expected, 1e-5)
    assert list(looped.state_dict()) == list(state)  # the parts are what is saved
    close(as_logits(copy.deepcopy(looped), images), expected, 1e-5)
    looped.train()(images[:4]).sum().backward()
    assert looped.blocks[3].mlp.fc2.parametrizations.weight.original1.grad.abs().max() > 0  # training sees the parts
    looped.eval()
    other = nph.recursive(model, 2, init="lower", rank=8)
    looped.load_state_dict(other.state_dict())  # what was merged is of other parts, and is forgotten
    assert torch.equal(as_logits(looped, images), as_logits(other, images))
    looped.load_state_dict(state)
    nph.merge_(looped)
    assert nph.unmerge_(looped) is looped
    assert torch.equal(as_logits(looped, images), expected)


def test_export_and_compile():
    model = small_timm("vision_transformer", "vit_small_patch16_224", depth=2)
    images = small_images(model, 4)
    for small in (nph.recursive(model, 1, rank=4, images=images), nph.low_rank(model, rank=4, images=images)):
        expected = as_logits(small, images[:3])
        batch = torch.export.Dim("batch", min=2, max=64)
        program = torch.export.export(small, (images[:4],), dynamic_shapes=({0: batch},))
        close(as_logits(program.module(), images[:3]), expected, 1e-5)
        close(as_logits(torch.compile(small, backend="aot_eager"), images[:3]), expected, 1e-5)
        torch._dynamo.reset()


def test_recursive_low_rank_and_pruned_in_any_order(demo):
    model, images, labels = demo
    train = nph.demo.load("train")[1][:100]

    def prune(m):
        return nph.prune(m, nph.importance(m, train, by="taylor"), 0.5)

    steps = {
        "r": lambda m: nph.recursive(m, 2, rank=8, images=train),
        "l": lambda m: nph.low_rank(m, rank=24, images=train),
        "p": prune,
    }
    for order in ("rlp", "rpl", "lrp", "lpr", "prl", "plr"):
        small, sizes = model, [parameters(model)]
        for step in order:
            small = steps[step](small)
            sizes.append(parameters(small))
        assert sizes[-1] < 0.33 * sizes[0]
        assert nph.view(small).widths == [128] * 8
        assert nph.view(small).tied == [[0, 2, 4, 6], [1, 3, 5, 7]]
        assert (as_logits(small, images).argmax(1) == labels).float().mean() > 0.9, order


def test_a_pruned_recursive_model_is_the_masked_one(demo):
    model, images, _ = demo
    looped = nph.recursive(model, 2, rank=8, images=images[:40])
    for units, keep in (("neurons", 0.4), ("heads", 0.5)):
        for scope in ("block", "global"):
            values = nph.importance(looped, images[:40], by="causal", units=units)
            small = nph.prune(looped, values, keep, units=units, scope=scope)
            with nph.mask(looped, values, keep, units=units, scope=scope):
                masked = as_logits(looped, images)
            close(as_logits(small, images), masked, 1e-5)
            assert len(nph.view(small, units=units).tied) == 2
            assert parameters(small) < parameters(looped)


def test_paths_through_it(demo):
    """Everything that must hold of any model's paths; the full-rank model's are the original's."""
    model, images, _ = demo
    looped = nph.recursive(model, 2, rank=8, images=images[:40])
    examine(looped, images[:3])
    examine(looped, images[:3], units="both")
    assert nph.find_circuit(looped, images[:1], controls=False).kept.any()
    exact = nph.recursive(model, 2, rank="full", init="average")
    for method in ("joint", "live"):
        options = {"method": method, "units": "neurons"}
        found = nph.find_path(exact, images[:6], **options).units
        assert torch.equal(found, nph.find_path(model, images[:6], **options).units)


def test_low_rank_by_share(demo):
    model, images, _ = demo
    matrices = 8 * (64 * 192 + 64 * 64 + 2 * 64 * 256)
    for keep in (0.15, 0.4, 0.7):
        for choice in ({}, {"images": images[:60]}):
            small = nph.low_rank(model, keep=keep, **choice)
            assert parameters(model) - parameters(small) == pytest.approx((1 - keep) * matrices, rel=0.02)
    assert parameters(nph.low_rank(model, keep=1.0)) <= parameters(model)
    assert nph.low_rank(model, rank=64).blocks[0].mlp.fc1.weight.is_leaf  # no smaller as a product: as it was


def test_refusals(demo):
    model, images, _ = demo
    for call, match in (
        (
            lambda: nph.recursive(model, 3, images=images),
            r"unique is 3, .* expected one of 1, 2, 4, 8, or layout='sequence'",
        ),
        (lambda: nph.recursive(model, 9, init="lower"), "unique is 9, more than the 8 blocks"),
        (lambda: nph.recursive(model, 0, init="lower"), "unique is 0; expected a whole number of at least 1"),
        (lambda: nph.recursive(model, 2), "init='fitted' is measured on images, and images is None"),
        (lambda: nph.recursive(model, 2, init="lower", layout="phases"), "layout='phases' looks at images"),
        (lambda: nph.recursive(model, 2, init="first"), "init 'first' is unknown; expected one of 'fitted'"),
        (
            lambda: nph.recursive(model, 2, init="lower", rank=65),
            r"rank is 65, and attn.qkv of block 0 is \(192, 64\); expected at",
        ),
        (
            lambda: nph.recursive(model, 2, init="lower", rank="all"),
            "rank is 'all'; expected a whole number, or 'full'",
        ),
        (lambda: nph.recursive(model, 2, init="lower", rank=-1), "rank is -1"),
        (lambda: nph.low_rank(model), "rank is None and keep is None; expected one of them"),
        (lambda: nph.low_rank(model, 3, 0.5), "rank is 3 and keep is 0.5; expected one of them"),
        (lambda: nph.low_rank(model, keep=1.5), "keep is 1.5; expected a finite number above 0 and at most 1"),
        (lambda: nph.low_rank(model, 65), "rank is 65, and attn.qkv of block 0"),
    ):
        with pytest.raises(nph.InputError, match=match) as refusal:
            call()
        assert "\n" not in str(refusal.value)
    narrow = nph.prune(model, nph.importance(model, images[:40]), 0.3, scope="global")
    with pytest.raises(nph.InputTypeError, match=r"blocks 0 and \d of VisionTransformer differ in mlp\.fc1"):
        nph.recursive(narrow, 2, init="average")
    other = copy.deepcopy(model)
    nn.utils.parametrizations.weight_norm(other.blocks[1].mlp.fc1)
    with pytest.raises(nph.InputTypeError, match=r"mlp\.fc1 of block 1 .* a parametrisation of another kind"):
        nph.recursive(other, 2, init="average")
    again = nph.recursive(nph.recursive(model, 2, init="lower", rank=4), 4, rank=8, images=images[:20])  # works again
    assert nph.view(again).tied == [[0, 4], [1, 5], [2, 6], [3, 7]]
