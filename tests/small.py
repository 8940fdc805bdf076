"""Any timm architecture built small, with weights that make every part of it count, and what the library makes of it."""

import timm
import torch
from torch import nn

import neuronpath as nph
from neuronpath.models.hooks import at_rest, inputs_seen
from neuronpath.runs.clean import clean_runs

MODULES = (
    "vision_transformer",
    "deit",
    "vision_transformer_hybrid",
    "vision_transformer_relpos",
    "beit",
    "eva",
    "naflexvit",
)
NAMES = [(module, name) for module in MODULES for name in timm.list_models(module=module)]


def small_timm(module: str, name: str, **changes) -> nn.Module:
    """The architecture with 3 blocks of 48 channels, 32 x 32 pixels and 7 classes."""
    sizes = {"num_classes": 7, "embed_dim": 48, "depth": 3, "num_heads": 2, "patch_size": 8, "img_size": 32}
    if module == "naflexvit":
        del sizes["img_size"]  # takes images of any size
    if module == "vision_transformer_hybrid":
        del sizes["patch_size"]  # its backbone's stride is its own
        sizes["img_size"] = 64
    if "_mci_" in name:
        del sizes["embed_dim"]  # as wide as its stem, which has no projection
    if "sapiens2" in name:
        sizes["num_kv_heads"] = (2, 1, 2)  # block by block
    torch.manual_seed(0)
    return redrawn(timm.create_model(name, pretrained=False, **{**sizes, **changes}))


def redrawn(model: nn.Module, seed: int = 0) -> nn.Module:
    """All weights drawn anew: fresh models have heads and layer scales near 0, beneath which errors would hide."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, values in model.named_parameters():
            noise = torch.randn(values.shape, generator=draw)
            if values.ndim > 1 and "weight" in name:
                values.copy_(1.5 * noise / values[0].numel() ** 0.5)
            elif "norm" in name and name.endswith("weight"):
                values.copy_(1 + 0.1 * noise)
            elif values.ndim == 1 and not name.endswith("bias"):  # layer scales
                values.copy_(0.7 + 0.1 * noise)
            else:
                values.copy_(0.2 * noise)
    return model.eval()


def small_images(model: nn.Module, n: int = 2) -> torch.Tensor:
    size = 64 if "Hybrid" in type(getattr(model, "patch_embed", None)).__name__ else 32
    return torch.randn(n, getattr(model, "in_chans", 3), size, size, generator=torch.Generator().manual_seed(1))


def examine(model: nn.Module, images: torch.Tensor, error: float = 1e-3, **options) -> nph.ViT:
    """Everything that must hold of a model that the library takes; returns its view. ``error``: the largest relative delta."""
    before = as_logits(model, images)
    paths = nph.find_path(model, images, **{"method": "joint", **options})
    after = as_logits(model, images)
    assert torch.equal(before, after), "the model's output has changed"
    vit = nph.view(model, options.get("token"), options.get("units"))
    assert paths.units.shape == (len(images), len(vit.sites), 1)
    assert (paths.units < torch.tensor(vit.widths)[:, None]).all()
    assert paths.output_change.abs().max() > 1e-5, "nothing was measured"
    assert (paths.delta.abs() <= error * paths.output_change.abs() + 1e-6).all(), "delta is too large"
    total = paths.attribution.sum((1, 2))
    assert torch.allclose(total, paths.output_change + paths.delta, rtol=1e-5, atol=1e-6), "delta is no difference"

    with at_rest(model):
        (run,) = clean_runs(vit, images, None, options.get("output", "prob"), internal_batch_size=len(images))
        held = run.replaced(run.rows, run.hidden)
        assert torch.allclose(held, run.value, rtol=1e-4, atol=1e-5), "F(1) is not the clean output"
        last: list[torch.Tensor] = []
        with inputs_seen(vit.blocks[-1], lambda args, _: last.append(args[0])):
            model(images)
        sliced = vit.readout(vit.block(len(vit.blocks) - 1, last[0], run.extras[-1]))
        assert torch.allclose(sliced, run.answer, rtol=1e-3, atol=1e-4), "the sliced last block is not the whole one"
    return vit


def as_logits(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        answer = model(images)
    return answer if isinstance(answer, torch.Tensor) else answer[0]
