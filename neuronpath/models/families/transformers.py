"""Hugging Face transformers' ViTs: ViT, DeiT, BEiT, DINOv2 (with registers) and DINOv3, found by their structure.

The names of a layer's parts differ from model to model and have changed between releases. Attention is therefore run as the layer
itself runs it, its MLP emptied; only the short MLP half is spelled out. Whether that is the model's own computation is checked on
every call, as for every model: at alpha = 1 the view's output must be the model's.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ...checks import InputTypeError
from ...options import Token
from ..adapters import is_linear
from ..hooks import input_replaced, output_from
from ..sites import Site
from ..view import down_projection, flat, register_vit
from ..vit import Halves, ViT

EXPECTED = (
    "expected ViT, DeiT, BEiT, DINOv2 or DINOv3 of transformers, which have one list of layers and a norm behind it"
)
ONE_TOKEN = "expected one, as ViT, DeiT, BEiT, DINOv2 and DINOv3 of transformers have it"


def _part(module: nn.Module, names: Sequence[str]) -> Any:
    """The first of these parts that the module has."""
    for name in names:
        if getattr(module, name, None) is not None:
            return getattr(module, name)
    raise InputTypeError(f"{type(module).__name__} has no {' or '.join(names)}; {EXPECTED}")


def _attend(layer: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """The layer with an MLP that adds nothing: it sees no token, and zeros stand for what it gives."""
    with ExitStack() as stack:
        stack.enter_context(input_replaced(layer.mlp, lambda values: values[:, :0]))
        stack.enter_context(output_from(layer.mlp, lambda *_: torch.zeros_like(x)))
        return layer(x, *args, **kwargs)


def _mlp(layer: Any, x: Tensor) -> Tensor:
    added = layer.mlp(_part(layer, ("layernorm_after", "norm2"))(x))
    if hasattr(layer, "layer_scale2"):
        added = layer.layer_scale2(added)
    return x + added * getattr(layer, "lambda_2", 1.0)


@register_vit(PreTrainedModel)
def _transformers(model: Any) -> ViT:
    body = model.base_model if hasattr(model.base_model, "embeddings") else model
    lists = [m for m in body.modules() if isinstance(m, nn.ModuleList) and len(m) and all(hasattr(b, "mlp") for b in m)]
    if len(lists) != 1:
        raise InputTypeError(f"{type(model).__name__} has {len(lists)} lists of layers with an mlp; {EXPECTED}")
    layers = flat(lists[0], model)
    readout, pools = _head(model, body)
    embeddings = getattr(body, "embeddings", None)
    token = getattr(embeddings, "cls_token", None)
    if token is None or token.shape[-2] != 1:
        raise InputTypeError(
            f"{type(model).__name__} has {0 if token is None else token.shape[-2]} class tokens; {ONE_TOKEN}"
        )
    distilled = getattr(embeddings, "distillation_token", None) is not None
    registers = getattr(model.config, "num_register_tokens", 0) or 0
    cls = 2 if distilled else 1
    return ViT(
        model=model,
        blocks=layers,
        halves=[Halves(_attend, _mlp)] * len(layers),
        sites=[site for i, layer in enumerate(layers) for site in _sites(i, layer, model)],
        no_heads="its attention has no o_proj whose input is num_attention_heads x head_dim channels",
        readout=readout,
        pools=pools,
        num_prefix_tokens=cls + registers,
        num_cls_tokens=cls,
        has_head=model is not body,
    )


def _sites(index: int, layer: Any, model: Any) -> list[Site]:
    """A layer's heads, where its attention says what they are, and its neurons."""
    sites = [Site(index, "neuron", down_projection(layer.mlp, model))]
    for attention in layer.modules():
        project, head_dim = getattr(attention, "o_proj", None), getattr(attention, "head_dim", None)
        if is_linear(project) and head_dim and project.in_features % head_dim == 0:
            sites.append(Site(index, "head", project, head_dim))
    return sites


def _head(model: Any, body: Any) -> tuple[Callable[[Tensor], Tensor], Token]:
    """What makes the output of the last layer's, and which tokens it reads.

    A model without a head gives its class token (its pooler's output, where it has one).
    """
    norm = _part(body, ("layernorm", "norm"))
    prefix = 1 + (getattr(model.config, "num_register_tokens", 0) or 0)
    if hasattr(model, "distillation_classifier"):
        heads = model.cls_classifier, model.distillation_classifier
        return lambda x: sum(head(norm(x)[:, i]) for i, head in enumerate(heads)) / 2, "cls"
    pooler = getattr(body, "pooler", None)
    classify = _part(model, ("classifier",)) if model is not body else nn.Identity()
    if pooler is not None:
        averages = bool(getattr(model.config, "use_mean_pooling", False))
        return lambda x: classify(pooler(norm(x))), "patch" if averages else "cls"
    if (
        getattr(classify, "in_features", None) == 2 * model.config.hidden_size
    ):  # DINOv2: the class token beside the patches' mean
        return lambda x: classify(torch.cat([norm(x)[:, 0], norm(x)[:, prefix:].mean(1)], 1)), "all"
    return lambda x: classify(norm(x)[:, 0]), "cls"
