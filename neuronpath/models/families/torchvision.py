"""torchvision's ViTs: vit_b_16, vit_b_32, vit_l_16, vit_l_32 and vit_h_14."""

from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from ..hooks import output_from
from ..sites import Site
from ..view import down_projection, flat, register_vit
from ..vit import Halves, ViT


def _attend(block: Any, x: Tensor) -> Tensor:
    normed = block.ln_1(x)
    return block.dropout(block.self_attention(normed, normed, normed, need_weights=False)[0]) + x


_HALVES = Halves(attend=_attend, mlp=lambda block, x: x + block.mlp(block.ln_2(x)))


def _calls_its_projection(attention: nn.MultiheadAttention) -> AbstractContextManager:
    """Inside it ``out_proj`` is called. ``nn.MultiheadAttention`` hands its weights to a function instead, so that no hook sees it:
    what it returned is computed again, up to the heads' output, and put through ``out_proj``."""

    def again(args: tuple, _output: Any) -> tuple[Tensor, None]:
        qkv = F.linear(args[0], attention.in_proj_weight, attention.in_proj_bias)
        q, k, v = qkv.unflatten(-1, (3, attention.num_heads, attention.head_dim)).permute(2, 0, 3, 1, 4)
        dropout = attention.dropout if attention.training else 0.0
        heads = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        return attention.out_proj(heads.transpose(1, 2).flatten(2)), None

    return output_from(attention, again)


def _sites(index: int, block: Any, model: nn.Module) -> list[Site]:
    """Heads only of plain attention: ``nn.MultiheadAttention`` passes adapters of its parts by, and one around it all hides them."""
    attention = block.self_attention
    sites = [Site(index, "neuron", down_projection(block.mlp, model))]
    if isinstance(attention, nn.MultiheadAttention) and isinstance(attention.out_proj, nn.Linear):
        called = partial(_calls_its_projection, attention)
        sites.append(Site(index, "head", attention.out_proj, attention.head_dim, called))
    return sites


@register_vit(VisionTransformer)
def _torchvision(model: VisionTransformer) -> ViT:
    blocks = flat(model.encoder.layers, model)
    return ViT(
        model=model,
        blocks=blocks,
        halves=[_HALVES] * len(blocks),
        sites=[site for i, block in enumerate(blocks) for site in _sites(i, block, model)],
        readout=lambda x: model.heads(model.encoder.ln(x)[:, 0]),
        pools="cls",
        no_heads="its attention is no plain torch.nn.MultiheadAttention",
    )
