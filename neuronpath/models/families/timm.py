"""timm's plain ViTs: vision_transformer (also deit, hybrid), eva, beit, vision_transformer_relpos and naflexvit."""

from typing import Any

from timm.models import beit, eva, naflexvit, vision_transformer, vision_transformer_relpos
from timm.models.deit import VisionTransformerDistilled
from torch import Tensor, nn

from ...checks import InputTypeError
from ...options import Token
from ..adapters import is_linear
from ..sites import Site
from ..view import down_projection, flat, register_vit
from ..vit import Halves, ViT


def _gained(gamma: Tensor | None, x: Tensor) -> Tensor:
    return x if gamma is None else gamma * x


_BLOCKS: dict[type[nn.Module], Halves] = {
    vision_transformer.Block: Halves(
        attend=lambda block, x, *args, **kwargs: (
            x + block.drop_path1(block.ls1(block.attn(block.norm1(x), *args, **kwargs)))
        ),
        mlp=lambda block, x: x + block.drop_path2(block.ls2(block.mlp(block.norm2(x)))),
    ),
    vision_transformer.ResPostBlock: Halves(
        attend=lambda block, x, *args, **kwargs: x + block.drop_path1(block.norm1(block.attn(x, *args, **kwargs))),
        mlp=lambda block, x: x + block.drop_path2(block.norm2(block.mlp(x))),
    ),
    eva.EvaBlock: Halves(
        attend=lambda block, x, *args, **kwargs: (
            x + block.drop_path1(_gained(block.gamma_1, block.attn(block.norm1(x), *args, **kwargs)))
        ),
        mlp=lambda block, x: x + block.drop_path2(_gained(block.gamma_2, block.mlp(block.norm2(x)))),
    ),
}
_BLOCKS |= {
    vision_transformer_relpos.RelPosBlock: _BLOCKS[vision_transformer.Block],
    vision_transformer_relpos.ResPostRelPosBlock: _BLOCKS[vision_transformer.ResPostBlock],
    eva.EvaBlockPostNorm: _BLOCKS[vision_transformer.ResPostBlock],
    beit.Block: _BLOCKS[eva.EvaBlock],
}


@register_vit(
    vision_transformer.VisionTransformer,
    eva.Eva,
    beit.Beit,
    vision_transformer_relpos.VisionTransformerRelPos,
    naflexvit.NaFlexVit,
)
def _timm(model: Any) -> ViT:
    blocks = flat(model.blocks, model)
    for block in blocks:
        if type(block) not in _BLOCKS:
            raise InputTypeError(
                f"{type(model).__name__} is built of {type(block).__name__}, which has no attention half followed by an MLP half; "
                "expected blocks such as timm's Block or EvaBlock"
            )
    pools = _pools(model)
    return ViT(
        model=model,
        blocks=blocks,
        halves=[_BLOCKS[type(block)] for block in blocks],
        sites=[site for i, block in enumerate(blocks) for site in _sites(i, block, model)],
        readout=lambda x: model.forward_head(model.norm(x)),
        pools=pools,
        num_prefix_tokens=model.num_prefix_tokens,
        num_cls_tokens=_num_cls_tokens(model),
        pools_registers=pools == "all",
        has_head=_has_head(model),
        no_heads="its attn.proj is neither a linear layer nor one with LoRA or DoRA of peft",
    )


def _sites(index: int, block: Any, model: Any) -> list[Site]:
    """Of heads the input of ``attn.proj``, which is behind an inner norm and a gate where attention has them."""
    sites, proj = [Site(index, "neuron", down_projection(block.mlp, model))], block.attn.proj
    if is_linear(proj):
        sites.append(Site(index, "head", proj, proj.in_features // block.attn.num_heads))
    return sites


def _pools(model: Any) -> Token:
    """timm's ``global_pool`` in our words."""
    if model.global_pool == "token":
        return "cls"
    everything = {
        "": True,
        "map": isinstance(model, eva.Eva),
        "prr": True,
    }  # Eva's attention pooling sees the prefix too
    if everything.get(model.global_pool, False) or getattr(model, "pool_include_prefix", False):
        return "all"
    return "patch"


def _num_cls_tokens(model: Any) -> int:
    if isinstance(model, VisionTransformerDistilled):
        return 2
    embeds = model.embeds if isinstance(model, naflexvit.NaFlexVit) else model
    return int(embeds.cls_token is not None)


def _has_head(model: Any) -> bool:
    """Whether there is a classifier now, whatever number of classes the model was made with."""
    head = model.get_classifier()
    return not isinstance(head[0] if isinstance(head, tuple) else head, nn.Identity)
