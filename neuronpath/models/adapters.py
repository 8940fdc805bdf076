"""Adapters of peft: linear layers with a low-rank one beside them (LoRA, DoRA), models wrapped to hold them, and both without them.

peft itself is never imported: its layers are known by their parts. An adapted layer counts as one linear layer. Its input is that of
the layer inside, and is read and held as a whole; its weights are those of the layer inside with the adapter's added.
"""

import copy
from collections.abc import Iterator
from typing import Any, TypeGuard

import torch
from torch import nn

from ..checks import InputTypeError
from .factored import PARTS

LORA = ("base_layer", "lora_A", "lora_B", "lora_variant", "merge")  # parts that every low-rank adapter has
VARIANTS = ("DoraLinearVariant",)  # of them those that are one linear layer all the same
OWN = ("base_layer.", "original_module.")  # under these names the model's own weights are in a wrapped layer
UNLOAD = "unload_and_optionally_merge_module"  # what peft's other wrappers of layers have


def is_linear(module: object) -> TypeGuard[nn.Linear]:
    """Whether a module is a linear layer, plain or with a low-rank adapter beside it, which has a linear layer's attributes too."""
    return isinstance(module, nn.Linear) or is_low_rank(module)


def is_low_rank(module: object) -> bool:
    """Whether a module is a linear layer with a low-rank adapter."""
    if not all(hasattr(module, part) for part in LORA):
        return False
    layer: Any = module
    variants = {type(variant).__name__ for variant in layer.lora_variant.values()}
    return isinstance(layer.base_layer, nn.Linear) and variants <= set(VARIANTS)


def is_adapter(module: nn.Module) -> bool:
    """Whether a module is peft's, around a layer of the model's own."""
    return any(cls.__module__.startswith("peft.") for cls in type(module).__mro__)


def layers_of(module: nn.Module) -> list[nn.Module]:
    """All modules within a module, itself first; what has an adapter around it is one of them, and nothing within it, nor the parts
    of a weight."""
    return list(dict.fromkeys(_layers(module)))


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    yield module
    if not is_adapter(module):
        for name, child in module.named_children():
            if name != PARTS:
                yield from _layers(child)


def name_of(module: nn.Module) -> str:
    """The class of a layer, with its kind of adapter where it has one."""
    variants = [type(variant).__name__ for variant in getattr(module, "lora_variant", {}).values()]
    where = f"{type(module).__module__}." if is_adapter(module) else ""
    return " ".join([f"{where}{type(module).__name__}", *variants])


def inside(model: nn.Module) -> nn.Module:
    """The model that a ``PeftModel`` wraps; any other is itself."""
    while is_adapter(model):
        wrapped = [child for name, child in model.named_children() if name in ("base_model", "model")]
        if not wrapped:
            break
        model = wrapped[0]
    return model


def merged(model: nn.Module) -> nn.Module:
    """A copy of the model without any adapters or wrapper, each merged into the layer that it stands beside.

    Raises InputTypeError for an adapter that can't be merged.
    """
    plain = inside(copy.deepcopy(model))
    for parent in list(plain.modules()):
        for name, child in list(parent.named_children()):
            if is_adapter(child):
                setattr(parent, name, _merged(child))
    return plain


def weight_of(layer: nn.Module) -> torch.Tensor:
    """The weights (out, in) of a linear layer, those of its adapter added; float64, outside any graph."""
    plain = layer if isinstance(layer, nn.Linear) else _merged(copy.deepcopy(layer))
    assert isinstance(plain, nn.Linear)
    return plain.weight.detach().double()


def _merged(layer: Any) -> nn.Module:
    """The layer inside, which the adapters have become part of; both are changed."""
    while is_adapter(layer):
        try:
            if hasattr(layer, UNLOAD):
                layer = getattr(layer, UNLOAD)(merge=True, safe_merge=False, adapter_names=None)
                continue
            if layer.disable_adapters and layer.merged:
                layer.unmerge()
            if not layer.disable_adapters and not layer.merged:
                layer.merge()
            layer = layer.base_layer
        except (NotImplementedError, AttributeError, RuntimeError) as error:
            raise InputTypeError(f"{name_of(layer)} can't be merged into its layer ({type(error).__name__})") from None
    return layer


def plain_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """The model's weights by the names that they have without adapters and wrappers; those of the adapters are left out."""
    within = inside(model)
    around = [f"{name}." for name, module in within.named_modules() if is_adapter(module)]
    found = {}
    for name, value in within.state_dict().items():
        for prefix in around:  # an outer one comes before those within it
            rest = name.removeprefix(prefix)
            if rest != name:
                name = next((prefix + rest.removeprefix(own) for own in OWN if rest.startswith(own)), "")
        if name:
            found[name] = value
    return found
