"""The command neuronpath circuit."""

from pathlib import Path
from typing import Annotated

from tqdm import tqdm

from ..options import CriterionName
from .options import (
    DETAILS,
    METHOD,
    OUTPUT,
    Baseline,
    BatchSize,
    Checkpoint,
    ClassNames,
    Device,
    Images,
    Model,
    Pretrained,
    Quiet,
    Reference,
    Token,
    Units,
    Version,
)
from .sources import check_outputs, open_reference, open_source
from .terminal import wrote


def circuit(
    images: Images = None,
    model: Model = None,
    pretrained: Pretrained = True,
    checkpoint: Checkpoint = None,
    target: Annotated[int | None, METHOD(help="The class to keep or break. [default: the predicted one]")] = None,
    criterion: Annotated[
        CriterionName, METHOD(help="keep: the circuit alone decides; break: without it the decision changes; both.")
    ] = "keep",
    keep: Annotated[float, METHOD(help="The share of the probability that counts as kept.")] = 0.9,
    units: Units = None,
    token: Token = None,
    baseline: Baseline = None,
    reference: Reference = None,
    class_names: ClassNames = None,
    controls: Annotated[bool, METHOD(help="Also try random circuits, and the runner-up's.")] = True,
    seed: Annotated[int, DETAILS(help="Of random circuits and of resample.")] = 0,
    batch_size: BatchSize = 64,
    device: Device = "auto",
    out: Annotated[Path | None, OUTPUT(help="Write the circuits here: .json, or .parquet.")] = None,
    plot: Annotated[Path | None, OUTPUT(help="Draw the first image's circuit here (.png, .svg, .pdf).")] = None,
    report: Annotated[Path | None, OUTPUT(help="Write a page of all images and their circuits here (.html).")] = None,
    overwrite: Annotated[
        bool, OUTPUT("--overwrite", help="Let --out, --plot and --report replace existing files.")
    ] = False,
    quiet: Quiet = False,
    version: Version = False,
) -> int:
    """Find the few units that keep an image's decision alone, or break it when they go.

    Without arguments: the embedded model on ten handwritten digits.
    """
    import torch

    from ..data.labelled import read_class_names
    from ..files import check_spared, write_whole
    from ..methods import find_circuit
    from ..paths.circuit import Circuit
    from ..plots import plot_circuit

    check_outputs([out, plot, report], plot, overwrite)
    called = None if class_names is None else read_class_names(class_names)
    source = open_source(images, model, pretrained, checkpoint, device, batch_size)
    check_spared([out, plot, report], [*source.files, checkpoint, class_names])
    others = open_reference(reference, baseline or (None if images else "mean"), images, source.model)
    parts: list[Circuit] = []
    shown: list[torch.Tensor] = []  # of the images what the pictures need
    with tqdm(total=source.total, unit="image", disable=True if quiet else None) as bar:
        for pixels, names in source.batches:
            if report is not None or not shown:
                shown.append(pixels if report is not None else pixels[:1])
            parts.append(
                find_circuit(
                    source.model, pixels, target, criterion=criterion, keep=keep, units=units, token=token, baseline=baseline,
                    reference=others, controls=controls, seed=seed, names=names, class_names=called,
                    progress=bar,
                )
            )  # fmt: skip
    code = source.close(len(parts))
    circuits = Circuit.concat(parts)
    if out is not None:
        circuits.save(out, overwrite)
    if plot is not None:
        write_whole(plot, plot_circuit(circuits[0], shown[0][:1]).savefig, overwrite)
    if report is not None:
        from ..page.report import report as write_report

        write_report(source.model, torch.cat(shown), circuits, report, reference=others, overwrite=overwrite)
    if not quiet:
        print(circuits.to_text())
        print(f"\n{circuits.summary()}")
        wrote(out, plot, report)
    return code
