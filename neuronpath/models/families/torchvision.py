"""torchvision's ViTs: vit_b_16, vit_b_32, vit_l_16, vit_l_32 and vit_h_14."""

from typing import Any

from torch import Tensor
from torchvision.models import VisionTransformer

from ..vit import Halves, ViT, down_projection, flat, register_vit


def _attend(block: Any, x: Tensor) -> Tensor:
    normed = block.ln_1(x)
    return block.dropout(block.self_attention(normed, normed, normed, need_weights=False)[0]) + x


_HALVES = Halves(attend=_attend, mlp=lambda block, x: x + block.mlp(block.ln_2(x)))


@register_vit(VisionTransformer)
def _torchvision(model: VisionTransformer) -> ViT:
    blocks = flat(model.encoder.layers, model)
    return ViT(
        model=model,
        blocks=blocks,
        halves=[_HALVES] * len(blocks),
        neurons=[down_projection(block.mlp, model) for block in blocks],
        readout=lambda x: model.heads(model.encoder.ln(x)[:, 0]),
        pools="cls",
    )
