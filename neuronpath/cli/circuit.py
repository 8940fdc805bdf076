"""The command neuronpath circuit."""

from functools import partial
from pathlib import Path
from typing import Annotated

from ..options import CriterionName
from .found import found_by, write_found
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
    Limit,
    Model,
    Pretrained,
    Quiet,
    Reference,
    Token,
    Units,
    Version,
)
from .sources import check_outputs, class_of, inputs, open_reference, open_source
from .terminal import wrote


def circuit(
    images: Images = None,
    limit: Limit = None,
    model: Model = None,
    pretrained: Pretrained = True,
    checkpoint: Checkpoint = None,
    target: Annotated[
        str | None, METHOD(help="The class to keep or break, its number or name. [default: the predicted one]")
    ] = None,
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
    from ..data.labelled import read_class_names
    from ..files import check_spared
    from ..methods import find_circuit
    from ..paths.circuit import Circuit
    from ..paths.columns import check_result_name
    from ..plots import plot_circuit

    check_outputs([out, plot, report], plot, overwrite)
    if out is not None:
        check_result_name(out)
    called = None if class_names is None else read_class_names(class_names)
    source = open_source(images, model, pretrained, checkpoint, device, batch_size, limit)
    check_spared([out, plot, report], inputs(source.files, reference, checkpoint, class_names))
    if out is not None:
        check_result_name(out, map(str, source.files))
    others = open_reference(reference, baseline or (None if images else "mean"), images, source.model)
    look = partial(
        find_circuit, target=class_of(target), criterion=criterion, keep=keep, units=units, token=token, baseline=baseline,
        controls=controls, seed=seed, class_names=called,
    )  # fmt: skip
    parts, shown = found_by(look, source, baseline, others, report is not None, quiet)
    code = source.close(len(parts))
    circuits = Circuit.concat(parts)
    write_found(circuits, shown, source.model, plot_circuit, out, plot, report, reference=others, overwrite=overwrite)
    if not quiet:
        print(circuits.to_text())
        print(f"\n{circuits.summary()}")
        wrote(out, plot, report)
    return code
