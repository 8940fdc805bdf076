"""What find-path and circuit share: the batches, one after the other, and what is written of what was found."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tqdm import tqdm

from .sources import Source, paired

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..options import Baseline
    from ..paths.circuit import Circuit
    from ..paths.neuron_paths import NeuronPaths

T = TypeVar("T")


def found_by(
    look: Callable[..., T], source: Source, baseline: "Baseline | None", reference: "Tensor | None", all_shown: bool,
    quiet: bool,
) -> tuple[list[T], list["Tensor"]]:  # fmt: skip
    """What ``look`` finds in every batch, and the pixels that pictures need: those of all images, or of the first."""
    from ..runs.baselines import reference_of

    parts: list[T] = []
    shown: list[Tensor] = []
    done = 0
    batches = paired(source.batches, source.total, source.skipped, baseline, reference)
    with tqdm(total=source.total, unit="image", disable=True if quiet else None) as bar:  # None: no bar in a pipe
        for pixels, names in batches:
            if all_shown or not shown:
                shown.append(pixels if all_shown else pixels[:1])
            others = reference_of(baseline, reference, slice(done, done + len(names)))
            parts.append(look(source.model, pixels, reference=others, names=names, progress=bar))
            done += len(names)
    return parts, shown


def write_found(
    found: "NeuronPaths | Circuit", shown: Sequence["Tensor"], model: "nn.Module", draw: Callable[..., Any], out: Path | None,
    plot: Path | None, report: Path | None, *, reference: "Tensor | None", overwrite: bool,
) -> None:  # fmt: skip
    """The results, the first image's picture, and the page, as far as they are asked for."""
    import torch

    from ..files import write_whole

    if out is not None:
        found.save(out, overwrite)
    if plot is not None:
        write_whole(plot, draw(found[0], shown[0][:1]).savefig, overwrite)
    if report is not None:
        from ..page.report import report as write_report

        write_report(model, torch.cat(list(shown)), found, report, reference=reference, overwrite=overwrite)
