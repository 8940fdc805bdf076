"""How large the unit's weights are; no images."""

from torch import Tensor

from ...models.adapters import weight_of
from ...models.vit import ViT
from ..cut import part_of
from .registry import register_importance


@register_importance("magnitude", "weights")
def magnitude(vit: ViT, _seed: int) -> list[Tensor]:
    """The norm of its outgoing weights times the norm of its incoming ones, biases aside: of a head its value rows."""
    found = []
    for site in range(len(vit.sites)):
        part = part_of(vit, site)
        outgoing = weight_of(part.down).unflatten(1, (-1, part.size))
        found.append((part.incoming().norm(dim=1) * outgoing.norm(dim=(0, 2))).float().cpu())
    return found
