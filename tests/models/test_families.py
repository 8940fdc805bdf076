"""Every architecture of timm's plain-ViT modules, of torchvision and transformers: it works exactly, or it is refused."""

import dataclasses

import pytest
import textbook
import timm
import torch
from make_models_table import TABLE, row_of
from others import OwnViT, transformers_models, view_own
from PIL import Image
from small import NAMES, examine, redrawn, small_images, small_timm
from torch import nn
from torchvision.models.vision_transformer import VisionTransformer

import neuronpath as nph
from neuronpath.models.hooks import at_rest
from neuronpath.runs.clean import clean_runs

LISTED = {
    line.split(" | ")[0].removeprefix("| "): line for line in TABLE.read_text().splitlines() if line.startswith("| ")
}


@pytest.mark.parametrize(("module", "name"), NAMES, ids=[name for _, name in NAMES])
def test_timm(module, name):
    row = row_of(module, name)
    if f"timm {timm.__version__}:" in TABLE.read_text():
        assert row == LISTED[name], "docs/models.md is out of date; run tests/make_models_table.py"
    if "refused" in row:
        assert "Parallel" in row
    assert sum("refused" in line for line in LISTED.values()) <= 7


PATHS = {
    "distilled": ("deit", "deit_tiny_distilled_patch16_224", {}),
    "registers": ("vision_transformer", "vit_small_patch14_reg4_dinov2", {}),
    "rotary, SwiGLU": ("eva", "eva02_tiny_patch14_224", {}),
    "rotary, mixed, registers": ("eva", "vit_small_patch16_rope_mixed_ape_224", {}),
    "packed SwiGLU": ("vision_transformer", "vit_giant_patch14_dinov2", {}),
    "attention pooling": ("vision_transformer", "vit_base_patch16_siglip_224", {}),
    "maximum": ("vision_transformer", "vit_small_patch16_224", {"global_pool": "max", "class_token": False}),
    "relative positions": ("beit", "beit_base_patch16_224", {}),
}


@pytest.mark.parametrize("case", PATHS)
def test_path_equals_the_textbook_in_float64(case):
    module, name, changes = PATHS[case]
    model = small_timm(module, name, **changes).double()
    images = small_images(model).double()
    paths = nph.find_path(model, images, preset="paper", n_steps=4)
    expected = textbook.paper_path(model, images, paths.target, n_steps=4)
    assert torch.equal(paths.neurons, expected)
    alphas, weights = [0.0, 0.25, 0.5, 0.75], [0.25] * 4
    score, attribution, _ = textbook.joint_score(model, images, paths.target, expected, alphas, weights)
    assert torch.allclose(paths.score.double(), score, rtol=1e-5)
    assert torch.allclose(paths.attribution.double(), attribution, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("global_pool", ["token", "avg", "avgmax", "max", "map", ""])
@pytest.mark.parametrize("reg_tokens", [0, 2])
@pytest.mark.parametrize("include", [False, True])
def test_pooling_and_tokens(global_pool, reg_tokens, include):
    sizes = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 3, "num_heads": 2, "num_classes": 5}
    model = timm.models.VisionTransformer(
        **sizes, global_pool=global_pool, reg_tokens=reg_tokens, pool_include_prefix=include
    )
    model, images = redrawn(model), torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    output = "prob" if global_pool else (lambda sequence, target: sequence.mean(1).softmax(-1)[:, 0])
    auto = nph.view(model).token
    assert auto == ("cls" if global_pool == "token" else "all" if include or not global_pool else "patch")
    for token in ("auto", "cls", "patch", "all"):
        if {auto, token} == {"cls", "patch"}:
            with pytest.raises(nph.InputError, match="is exactly 0; expected 'auto'"):
                nph.find_path(model, images, token=token, output=output)
            continue
        kinks = "max" in global_pool  # which quadrature meets slowly
        vit = examine(model, images, token=token, output=output, error=0.05 if kinks else 1e-3)
        sequence = torch.arange(1 + reg_tokens + 16)[None, :, None].expand(2, -1, 3)
        chosen, others = vit.split(sequence)
        assert torch.equal(vit.join(chosen, others), sequence)
        read = set(chosen[0, :, 0].tolist())
        registers = set(range(1, 1 + reg_tokens))
        assert (registers <= read) if token == "all" or (token, auto) == ("auto", "all") else not registers & read


def test_a_token_that_the_model_lacks(random_vit, random_images):
    model = random_vit(0, "avg", class_token=False)
    with pytest.raises(nph.InputError, match="token is 'cls', but VisionTransformer has no class token"):
        nph.find_path(model, random_images(0, 1), token="cls")
    with pytest.raises(nph.InputError, match="token 'patches' is unknown; expected one of 'auto'"):
        nph.find_path(model, random_images(0, 1), token="patches")


@pytest.mark.parametrize(
    "options", [{}, {"preset": "progressive"}, {"preset": "paper", "n_steps": 3}, {"method": "causal"}], ids=str
)
def test_every_method_on_torchvision(options):
    model = redrawn(VisionTransformer(32, 8, 3, 2, 48, 96, num_classes=7))
    images = small_images(model)
    fast = torch.backends.mha.get_fastpath_enabled()
    assert examine(model, images, **{**options, "preset": None, "n_steps": None}).token == "cls"
    nph.find_path(model, images, **options)
    assert torch.backends.mha.get_fastpath_enabled() == fast


@pytest.mark.parametrize("name", ["vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32", "vit_h_14"])
def test_torchvision(name):
    """The five differ in their sizes; two blocks of each at full width."""
    made = {}

    class Shallow(VisionTransformer):
        def __init__(self, **sizes):
            made.update(sizes)
            super().__init__(**{**sizes, "num_layers": 2, "image_size": 2 * sizes["patch_size"], "num_classes": 7})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torchvision.models.vision_transformer.VisionTransformer", Shallow)
        import torchvision

        model = redrawn(getattr(torchvision.models, name)())
    images = torch.randn(
        2, 3, 2 * made["patch_size"], 2 * made["patch_size"], generator=torch.Generator().manual_seed(1)
    )
    assert nph.view(model).widths == [made["mlp_dim"]] * 2
    examine(model, images)


@pytest.mark.parametrize(("name", "changes", "token"), transformers_models(), ids=str)
def test_transformers(name, changes, token):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
    config = getattr(transformers, name.split("For")[0].removesuffix("Model") + "Config")(
        **sizes, image_size=32, patch_size=8, num_labels=5, **changes
    )
    model = redrawn(getattr(transformers, name)(config))
    headless = name.endswith("Model")
    options = {"output": lambda features, _: features[:, 3]} if headless else {}
    vit = examine(model, small_images(model), **options)
    assert vit.token == token
    assert vit.num_prefix_tokens - vit.num_cls_tokens == changes.get("num_register_tokens", 0)
    if headless:
        with pytest.raises(nph.InputTypeError, match="has no classes"):
            nph.find_path(model, small_images(model))


def small_of_transformers(name):
    transformers = pytest.importorskip("transformers")
    if not hasattr(transformers, name):
        pytest.skip("a later release's")
    config = getattr(transformers, name.split("For")[0].removesuffix("Model") + "Config")(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, image_size=32, patch_size=8
    )
    return getattr(transformers, name)(config).eval()


@pytest.mark.parametrize(("name", "count"), [("IJepaForImageClassification", 0), ("IJepaModel", 0), ("PixioModel", 8)])
def test_transformers_without_one_class_token_are_refused(name, count):
    with pytest.raises(nph.InputTypeError, match=f"^{name} has {count} class tokens; expected one"):
        nph.view(small_of_transformers(name))


def test_a_head_of_transformers_that_gives_no_classes():
    """The ViT within is seen; of what the whole returns a line says that it is no tensor."""
    model = small_of_transformers("ViTForMaskedImageModeling")
    with pytest.warns(UserWarning, match=r"units are those of its 'vit' \(ViTModel\)"):
        assert nph.view(model).num_prefix_tokens == 1
    with pytest.raises(nph.InputTypeError, match="returns a MaskedImageModelingOutput; expected a tensor"):
        nph.find_path(model, torch.zeros(1, 3, 32, 32), output=lambda answer, _: answer.mean((1, 2, 3)))


def test_class_names_of_transformers(tmp_path):
    picture = tmp_path / "x.png"
    Image.new("L", (8, 8)).save(picture)
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8,
        id2label={0: "cat", 1: "dog"},
    )  # fmt: skip
    model = redrawn(transformers.ViTForImageClassification(config))
    assert nph.find_path(model, small_images(model), target=1).name_of(1) == "dog"
    with pytest.raises(nph.InputTypeError, match="doesn't say how its images are transformed"):
        nph.load_images(picture, model)


REFUSED = {
    "cait_xxs24_224": "class token joins late",
    "xcit_nano_12_p16_224": "class token joins late",
    "swin_tiny_patch4_window7_224": "its blocks stand in 4 stages",
    "mvitv2_tiny": "stages, where one flat list",
    "resnet18": "it is a convolutional network",
    "convnext_atto": "it is a convolutional network",
    "mixer_s32_224": "a list of blocks with attention was looked for",
    "samvit_base_patch16": "its 12 blocks of class Block are of no family",
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_the_reason(name):
    with torch.device("meta"):
        model = timm.create_model(name)
    with pytest.raises(nph.InputTypeError, match=REFUSED[name]) as refusal:
        nph.find_path(model, torch.zeros(1, 3, 224, 224))
    assert "\n" not in str(refusal.value)
    assert "register_vit" in str(refusal.value)


def test_own_model_whose_blocks_get_a_mask_an_image():
    model = redrawn(OwnViT())
    images = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    examine(model, images)
    together = nph.find_path(model, images, preset="progressive")
    for index in range(5):
        alone = nph.find_path(model, images[index : index + 1], preset="progressive")
        assert torch.equal(alone.neurons, together[index].neurons)
        assert torch.allclose(alone.score, together[index].score, rtol=1e-4)
    pieces = nph.find_path(model, images, preset="progressive", internal_batch_size=2)
    assert torch.equal(pieces.neurons, together.neurons)


def test_a_view_that_forgets_a_part_is_refused():
    class Scaled(OwnViT):
        def forward(self, images):
            return 2 * super().forward(images)

    with pytest.raises(nph.InputTypeError, match="Scaled does more than its family's blocks do"):
        nph.find_path(redrawn(Scaled()), torch.randn(1, 3, 32, 32), method="joint")


def test_one_block_whose_others_the_head_reads():
    """With one block, what the head reads of the tokens without neurons passes that block's MLP."""
    model = small_timm("eva", "eva02_tiny_patch14_224", depth=1, global_pool="")
    (run,) = clean_under_rest(model, "cls")
    assert torch.allclose(run.replaced(run.rows, run.hidden), run.value, atol=1e-5)


def clean_under_rest(model, token):
    images = small_images(model)
    with at_rest(model):
        return list(clean_runs(nph.view(model, token), images, 0, lambda sequence, _: sequence.sum((1, 2))))


def test_views_with_wrong_sites_are_refused():
    class Odd(OwnViT):
        def sites(self):
            neurons = [nph.Site(i, "neuron", layer.down) for i, layer in enumerate(self.layers)]
            return [*neurons, *(nph.Site(i, "head", layer.attention, 8) for i, layer in enumerate(self.layers[:3]))]

    @nph.register_vit(Odd)
    def view_odd(model: Odd) -> nph.ViT:
        return dataclasses.replace(view_own(model), sites=model.sites())

    model, images = redrawn(Odd()), torch.randn(1, 3, 32, 32)
    assert nph.find_path(model, images, method="joint").units.shape == (1, 4, 1)
    for units in ("heads", "both"):
        with pytest.raises(nph.InputTypeError, match="the view on Odd names no heads in block 3"):
            nph.find_path(model, images, units=units)
    with pytest.raises(nph.InputTypeError, match="heads of OwnViT can't be reached: its family tells of none"):
        nph.find_path(redrawn(OwnViT()), images, units="both")
    Odd.sites = lambda self: [nph.Site(i, "neuron", nn.Linear(40, 24)) for i in range(4)]
    with pytest.raises(nph.InputTypeError, match="block 0 of Odd never calls the layer whose input is its neurons"):
        nph.find_path(model, images, method="joint")
    with pytest.raises(nph.InputError, match="size is 7; expected a divisor of the 40 channels"):
        nph.Site(0, "head", nn.Linear(40, 24), 7)
    with pytest.raises(nph.InputError, match="kind 'heads' is unknown; expected one of 'head', 'neuron'"):
        nph.Site(0, "heads", nn.Linear(40, 24), 8)
