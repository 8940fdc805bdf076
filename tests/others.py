"""Models that aren't timm's: those of transformers, and one of our own whose blocks are called with a mask."""

from torch import nn

import neuronpath as nph


def transformers_models():
    """(class name, what its configuration changes, the tokens that its head pools)."""
    beit = {"use_relative_position_bias": True}
    return [
        ("ViTForImageClassification", {}, "cls"),
        ("DeiTForImageClassification", {}, "cls"),
        ("DeiTForImageClassificationWithTeacher", {}, "cls"),
        ("BeitForImageClassification", beit, "patch"),
        ("BeitForImageClassification", {"use_mean_pooling": False, "use_shared_relative_position_bias": True}, "cls"),
        ("Dinov2ForImageClassification", {"mlp_ratio": 2}, "all"),
        ("Dinov2ForImageClassification", {"mlp_ratio": 2, "use_swiglu_ffn": True}, "all"),
        ("Dinov2WithRegistersForImageClassification", {"mlp_ratio": 2, "num_register_tokens": 4}, "pooled"),
        ("ViTModel", {}, "cls"),
        ("BeitModel", beit, "patch"),
        ("Dinov2Model", {"mlp_ratio": 2}, "cls"),
        ("Dinov2WithRegistersModel", {"mlp_ratio": 2, "num_register_tokens": 4}, "cls"),
        ("DINOv3ViTModel", {"num_register_tokens": 4, "use_gated_mlp": True}, "cls"),
    ]  # fmt: skip


class OwnBlock(nn.Module):
    """Attention and a gated MLP, called with a mask."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.attention = nn.Linear(dim, dim)
        self.up, self.gate, self.down = nn.Linear(dim, hidden), nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def attend(self, x, mask):
        return x + (mask[:, 0] @ self.attention(x))

    def mlp(self, x):
        return x + self.down(self.up(x).tanh() * self.gate(x).sigmoid())

    def forward(self, x, mask):
        return self.mlp(self.attend(x, mask))


class OwnViT(nn.Module):
    """Every image has a mask of its own, made of its pixels, that all blocks are called with."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3 * 64, 24)
        self.layers = nn.ModuleList(OwnBlock(24, 40) for _ in range(4))
        self.head = nn.Linear(24, 6)

    def forward(self, images):
        patches = images.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
        mask = (patches @ patches.mT / 50).softmax(-1)[:, None]
        x = self.embed(patches)
        for layer in self.layers:
            x = layer(x, mask)
        return self.head(x.mean(1))


@nph.register_vit(OwnViT)
def view_own(model: OwnViT) -> nph.ViT:
    return nph.ViT(
        model=model,
        blocks=model.layers,
        halves=[nph.Halves(OwnBlock.attend, OwnBlock.mlp)] * len(model.layers),
        sites=[nph.Site(i, "neuron", layer.down) for i, layer in enumerate(model.layers)],
        readout=lambda x: model.head(x.mean(1)),
        pools="patch",
        num_prefix_tokens=0,
        num_cls_tokens=0,
    )
