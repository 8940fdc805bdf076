"""The importances by name, what each is made of, and what it is given."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from ...checks import InputError, check_one_of, checked
from ...data.given import Target
from ...models.hooks import at_rest
from ...models.outputs import Output
from ...models.vit import ViT
from ...options import ImportanceSource
from ...runs.clean import CleanRun, clean_runs

SOURCES = {"paths": "neuron paths", "images": "a model", "weights": "a model"}


@dataclass(frozen=True)
class Importance:
    """A name, its source ("paths", "images" or "weights"), and the function that makes it.

    ``of`` gives a tensor (U,) for every site. It is called with NeuronPaths; with a view and :class:`Calibration`; or with a view and
    a seed, by source.
    """

    name: str
    source: ImportanceSource
    of: Callable[..., list[Tensor]]


@dataclass(frozen=True, eq=False)
class Calibration:
    """The images (B, C, H, W) that importances are measured on, their classes (B,), None, or "label", and how."""

    images: Tensor
    labels: Target
    output: Output
    batch_size: int
    progress: bool

    def mean(
        self, vit: ViT, effect: Callable[[CleanRun], list[Tensor]], output: Output | None = None, live: bool = False
    ) -> list[Tensor]:
        """The mean over the images of what ``effect`` gives for a clean run of some of them, a site (b, U).

        ``output`` is F, in place of the caller's; ``live`` has the run keep F's gradients.
        """
        sums = [torch.zeros(width, dtype=torch.float64) for width in vit.widths]
        with at_rest(vit.model), tqdm(total=len(self.images), unit="image", disable=not self.progress) as bar:
            for run in clean_runs(vit, self.images, self.labels, output or self.output, self.batch_size, live=live):
                for total, values in zip(sums, effect(run), strict=True):
                    total += values.double().sum(0).cpu()
                bar.update(len(run.rows))
        return [(total / len(self.images)).float() for total in sums]


_IMPORTANCES: dict[str, Importance] = {}


@checked
def register_importance(name: str, source: ImportanceSource) -> Callable[[Callable], Callable]:
    """Decorate a function that measures an importance, to be found under this name; see :class:`Importance`."""
    check_one_of("source", source, tuple(SOURCES))

    def register(of: Callable[..., list[Tensor]]) -> Callable[..., list[Tensor]]:
        _IMPORTANCES[name] = Importance(name, source, of)
        return of

    return register


@checked
def list_importances(*sources: ImportanceSource) -> list[str]:
    """The names that ``importance(by=...)`` takes; with ``sources`` ("paths", "images", "weights") those made of them."""
    for source in sources:
        check_one_of("source", source, tuple(SOURCES))
    return sorted(name for name, found in _IMPORTANCES.items() if not sources or found.source in sources)


def importance_named(name: str, *sources: ImportanceSource) -> Importance:
    """The importance; refuses one that isn't made of any of these sources."""
    known = list_importances(*sources)
    if name not in known:
        raise InputError(f"importance by {name!r} is none of {SOURCES[sources[0]]}; expected one of {', '.join(known)}")
    return _IMPORTANCES[name]
