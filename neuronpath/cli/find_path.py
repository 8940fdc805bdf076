"""The command find-path."""

from functools import partial
from pathlib import Path
from typing import Annotated

from ..options import Effort, Objective, OutputName, Precision, PresetName, Rule
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
from .terminal import width, wrote


def find_path(
    images: Images = None,
    limit: Limit = None,
    model: Model = None,
    pretrained: Pretrained = True,
    checkpoint: Checkpoint = None,
    target: Annotated[
        str | None, METHOD(help="The class to explain, its number or name. [default: the predicted one]")
    ] = None,
    units: Units = None,
    method: Annotated[str | None, METHOD(help="How to locate the path. [default: live]")] = None,
    objective: Annotated[
        Objective | None, DETAILS(help="What method joint maximises: joint is its score. [default: joint]")
    ] = None,
    effort: Annotated[Effort | None, DETAILS(help="How long to seek. [default: standard]")] = None,
    preset: Annotated[
        PresetName | None,
        METHOD(help="'paper': the published algorithm; 'progressive': block by block, not refined; ..."),
    ] = None,
    top_k: Annotated[int, METHOD(help="Units a site: neurons a block, heads a block.")] = 1,
    class_names: ClassNames = None,
    token: Token = None,
    baseline: Baseline = None,
    reference: Reference = None,
    output: Annotated[OutputName, METHOD(help="What is explained.")] = "prob",
    quadrature: Annotated[
        Rule | None,
        DETAILS(metavar="RULE", help="Of the integral: gausslegendre, riemann_left, ... [default: the method's own]"),
    ] = None,
    n_steps: Annotated[int | None, DETAILS(help="Quadrature nodes. [default: as many as needed]")] = None,
    seed: Annotated[int, DETAILS(help="Of method random, of the random control, and of resample.")] = 0,
    precision: Annotated[Precision | None, DETAILS(help="What the model runs in. [default: its own]")] = None,
    batch_size: BatchSize = 64,
    device: Device = "auto",
    out: Annotated[Path | None, OUTPUT(help="Write the paths here: .json, or .parquet.")] = None,
    plot: Annotated[Path | None, OUTPUT(help="Draw the first image's path here (.png, .svg, .pdf).")] = None,
    report: Annotated[Path | None, OUTPUT(help="Write a page of all images and their paths here (.html).")] = None,
    overwrite: Annotated[
        bool, OUTPUT("--overwrite", help="Let --out, --plot and --report replace existing files.")
    ] = False,
    quiet: Quiet = False,
    version: Version = False,
) -> int:
    """Show on which head and neuron of every block an image's decision hangs, and what is left without them.

    Without arguments: the embedded model on ten handwritten digits.
    """
    from ..data.labelled import read_class_names
    from ..files import check_spared
    from ..methods import find_path as find
    from ..paths.columns import check_result_name
    from ..paths.concat import concat
    from ..plots import plot_path

    check_outputs([out, plot, report], plot, overwrite)
    if out is not None:
        check_result_name(out)
    called = None if class_names is None else read_class_names(class_names)
    source = open_source(images, model, pretrained, checkpoint, device, batch_size, limit)
    check_spared([out, plot, report], inputs(source.files, reference, checkpoint, class_names))
    if out is not None:
        check_result_name(out, map(str, source.files))
    others = open_reference(reference, baseline, images, source.model)
    look = partial(
        find, target=class_of(target), units=units, method=method, objective=objective, effort=effort, preset=preset, top_k=top_k,
        token=token, baseline=baseline, output=output, quadrature=quadrature, n_steps=n_steps, precision=precision, seed=seed,
        class_names=called,
    )  # fmt: skip
    parts, shown = found_by(look, source, baseline, others, report is not None, quiet)
    code = source.close(len(parts))
    paths = concat(parts)
    write_found(paths, shown, source.model, plot_path, out, plot, report, reference=others, overwrite=overwrite)
    if not quiet:
        print(paths.to_text(width()))
        print(f"\n{paths.summary()}")
        if paths.settings.units == "both":
            print(
                "h2+224: head 2 and neuron 224 of a block, block 0 first; in brackets: a unit of negative attribution"
            )
        settings, undone = paths.settings, int((~paths.converged).sum())
        if settings.influence == "live" and settings.baseline == "zero" and images:
            print("--reference FOLDER ablates units to their mean over its images, which is milder than to 0")
        if settings.method == "live" and settings.effort == "standard" and undone:
            print(
                f"--effort thorough goes on with the {undone} of {len(paths)} searches that ended before they were done"
            )
        if source.skipped:
            print(f"{len(paths)} images, {len(source.skipped)} skipped")
        wrote(out, plot, report)
    return code
