"""The commands: find-path and neuronpath. Parse, call, print; no computing here."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import torch
import typer
from tqdm import tqdm

from .. import demo
from ..checks import BAD_INPUT, DONE, INTERRUPTED, SOME_LEFT_OUT, InputError
from ..data.files import batches, find_images, labelled_batches, read_classes, transform_of
from ..evaluation.claims import WAYS as PAPER_WAYS
from ..evaluation.claims import as_report
from ..evaluation.evaluate import as_text, summary
from ..files import check_distinct, check_writable, write_whole
from ..jobs.evaluate import compare, save, way
from ..methods import find_path as find
from ..models.load import DEMO, load_model
from ..models.vit import view
from ..page.report import report as write_report
from ..paths.neuron_paths import NeuronPaths, check_made_for, concat
from ..paths.tables import table
from ..plots import check_picture, plot_path
from .prune_experiment import prune_experiment

Images = Annotated[
    list[Path] | None, typer.Argument(help="Images and folders of images. None: one held-out digit of each class.")
]


def find_path(
    images: Images = None,
    model: Annotated[str, typer.Option(help="A timm model, or 'demo' for the embedded one.")] = DEMO,
    pretrained: Annotated[bool, typer.Option(help="Fetch timm's weights for the model.")] = True,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Own weights: safetensors, or a weights-only torch file.")
    ] = None,
    target: Annotated[int | None, typer.Option(help="The class to explain. [default: the predicted one]")] = None,
    method: Annotated[str, typer.Option(help="How to locate the path.")] = "joint",
    objective: Annotated[str, typer.Option(help="What joint maximises: the joint score, or complete.")] = "joint",
    effort: Annotated[str, typer.Option(help="standard or thorough.")] = "standard",
    locate: Annotated[str | None, typer.Option(help="'progressive': block by block, not refined.")] = None,
    preset: Annotated[str | None, typer.Option(help="'paper': the published algorithm to the letter.")] = None,
    top_k: Annotated[int, typer.Option(help="Neurons a block.")] = 1,
    token: Annotated[
        str, typer.Option(help="Where neurons are read: cls, patch, all; auto is where the head reads.")
    ] = "auto",
    output: Annotated[str, typer.Option(help="What is explained: prob, logit or sigmoid.")] = "prob",
    quadrature: Annotated[
        str | None, typer.Option(help="gausslegendre, riemann_left, ... [default: the method's own]")
    ] = None,
    n_steps: Annotated[int | None, typer.Option(help="Quadrature nodes. [default: as many as needed]")] = None,
    seed: Annotated[int, typer.Option(help="Of method random.")] = 0,
    precision: Annotated[str | None, typer.Option(help="fp32 or bf16. [default: the model's own]")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images read at a time.")] = 64,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    out: Annotated[Path | None, typer.Option(help="Write the paths here, as JSON.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the first image's path here (.png, .svg, .pdf).")] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write a page of all images and their paths here (.html).")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Let --out, --plot and --report replace existing files.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print no table and no progress.")] = False,
) -> int:
    """Show which neuron of every block carries a vision transformer's decision, for every image.

    Without arguments: the embedded model on ten handwritten digits.
    """
    check_distinct([out, plot, report])
    for path in (out, plot, report):
        if path is not None:
            check_writable(path, overwrite)
    if plot is not None:
        check_picture(plot)
    named, found = find_images(images or [])
    vit = load_model(model, pretrained, checkpoint, device)
    skipped: list[str] = []
    if images:
        source = batches(named, found, transform_of(vit), batch_size, skipped.append)
    elif model == DEMO:
        source = iter([one_digit_of_each_class()])
    else:
        raise InputError(f"no images were named for {model}; expected files or folders (only the demo brings its own)")
    parts: list[NeuronPaths] = []
    shown: list[torch.Tensor] = []  # of the images what the pictures need
    total = len(named) + len(found) if images else 10
    with tqdm(total=total, unit="image", disable=True if quiet else None) as bar:  # None: no bar in a pipe
        for pixels, names in source:
            if report is not None or not shown:
                shown.append(pixels if report is not None else pixels[:1])
            paths = find(
                vit, pixels, target, method=method, objective=objective, effort=effort, locate=locate, preset=preset,
                top_k=top_k, token=token, output=output, quadrature=quadrature, n_steps=n_steps, precision=precision, seed=seed,
                names=names,
                progress=bar,
            )  # fmt: skip
            parts.append(paths)
    for reason in skipped:
        print(f"skipped: {reason}", file=sys.stderr)
    if not parts:
        raise InputError(f"none of the {len(skipped)} images could be read; expected at least one")
    paths = concat(parts)
    if out is not None:
        paths.save(out, overwrite)
    if plot is not None:
        write_whole(plot, plot_path(paths[0], shown[0][:1]).savefig, overwrite)
    if report is not None:
        write_report(vit, torch.cat(shown), paths, report, overwrite=overwrite)
    if not quiet:
        print(table(paths))
        if skipped:
            print(f"{len(paths)} images, {len(skipped)} skipped")
    return SOME_LEFT_OUT if skipped else DONE


def evaluate(
    folder: Annotated[
        Path | None, typer.Argument(help="A folder with one folder of images a class. None: the 360 held-out digits.")
    ] = None,
    model: Annotated[str, typer.Option(help="A timm model, or 'demo' for the embedded one.")] = DEMO,
    pretrained: Annotated[bool, typer.Option(help="Fetch timm's weights for the model.")] = True,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Own weights: safetensors, or a weights-only torch file.")
    ] = None,
    methods: Annotated[
        str,
        typer.Option(help="Methods, with commas; also joint-thorough, complete, progressive, paper, causal-thorough."),
    ] = "joint,causal,activation,knowledge,influence_pattern,conductance,random",
    paths: Annotated[
        list[Path] | None, typer.Option(help="A file of find-path's for the same images, to be evaluated too.")
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="JSON that maps folders' names to the model's class numbers.")
    ] = None,
    target: Annotated[str, typer.Option(help="The class to explain: label or predicted.")] = "label",
    limit: Annotated[int | None, typer.Option(min=1, help="Take only so many images.")] = None,
    top_k: Annotated[int, typer.Option(help="Neurons a block.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of random neurons and of the bootstrap.")] = 0,
    paper: Annotated[
        bool, typer.Option("--paper", help="The paper's tables and claims, on this model and these images.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Images read at a time.")] = 64,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    csv: Annotated[Path | None, typer.Option(help="Write the table here.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write the table and its settings here.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Let --csv and --json replace existing files.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print no table and no progress.")] = False,
) -> int:
    """Compare methods on the same images: scores, and what removing and enhancing their paths really does.

    Without arguments: the embedded model on 360 handwritten digits.
    """
    check_distinct([csv, json])
    for file in (csv, json):
        if file is not None:
            check_writable(file, overwrite)
    if target not in ("label", "predicted"):
        raise InputError(f"target {target!r} is unknown; expected 'label' or 'predicted'")
    ways = list(PAPER_WAYS) if paper else [name.strip() for name in methods.split(",") if name.strip()]
    for name in ways:
        way(name)
    called = [*ways, *(path.stem for path in paths or [])]
    if twice := [name for name in called if called.count(name) > 1]:
        raise InputError(
            f"{twice[0]!r} names two rows of the table (a file's row has its name); expected different names"
        )
    saved = {path.stem: NeuronPaths.load(path) for path in paths or []}
    vit = load_model(model, pretrained, checkpoint, device)
    for known in saved.values():
        check_made_for(known, view(vit))
    skipped: list[str] = []
    if folder is not None:
        mapping = None if classes is None else read_classes(classes)
        source, total = labelled_batches(vit, folder, mapping, target == "label", limit, batch_size, skipped.append)
    elif model == DEMO:
        source, total = digits(limit, batch_size)
    else:
        raise InputError(f"no folder was named for {model}; expected one with a folder of images for each class")
    with tqdm(total=total * len(ways), unit="path", disable=True if quiet else None) as bar:
        measured, found = compare(vit, source, ways, explain=target, saved=saved, progress=bar, top_k=top_k, seed=seed)
    for reason in skipped:
        print(f"skipped: {reason}", file=sys.stderr)
    table = summary(measured, seed)
    save(table, csv, json, overwrite)
    if not quiet and paper:
        first = measured[measured["method"] == ways[0]]
        print(as_report(table, found[ways[0]], first["label"].tolist() if first["right"].notna().all() else None))
    elif not quiet:
        for images, title in (("all", "all images"), ("wrong", "those that the model gets wrong")):
            if len(here := table[table["images"] == images]):
                print(f"{title}: {here['n'].iloc[0]}\n\n{as_text(table, images)}\n")
    return SOME_LEFT_OUT if skipped else DONE


def digits(limit: int | None, size: int) -> tuple[Iterator[tuple[torch.Tensor, list[str], list[int] | None]], int]:
    """The held-out digits in batches with names and labels, and how many there are."""
    _, images, labels = demo.load()
    images, labels = images[:limit], labels[:limit]
    starts = range(0, len(images), size)
    names = [f"held-out digit {i}" for i in range(len(images))]
    return ((images[i : i + size], names[i : i + size], labels[i : i + size].tolist()) for i in starts), len(images)


def one_digit_of_each_class() -> tuple[torch.Tensor, list[str]]:
    """The first held-out digit of every class, (10, 1, 32, 32), and their names."""
    _, images, labels = demo.load()
    first = [int((labels == digit).nonzero()[0]) for digit in range(10)]
    return images[first], [f"digit {digit} (held out, no. {index})" for digit, index in enumerate(first)]


def command(function: Callable[..., int]) -> typer.Typer:
    """A Typer application of this one function."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(function)
    return app


def main() -> None:
    """neuronpath: its commands."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command("find-path")(find_path)
    app.command("evaluate")(evaluate)
    app.command("prune-experiment")(prune_experiment)

    @app.callback()
    def _about() -> None:
        """Which neurons, block by block, carry a vision transformer's decision."""

    if len(sys.argv) == 1:
        sys.argv.append("--help")
    run(app, "neuronpath")


def find_path_main() -> None:
    """find-path."""
    run(command(find_path), "find-path")


def prune_experiment_main() -> None:
    """prune-experiment."""
    run(command(prune_experiment), "prune-experiment")


def run(app: typer.Typer, name: str) -> None:
    """Run a command to its exit code; what the caller can mend is one line on stderr and code 2."""
    try:
        code = app(prog_name=name, standalone_mode=False)
    except InputError as error:
        fail(name, str(error), BAD_INPUT)
    except Exception as error:
        if not hasattr(error, "format_message"):  # typer's usage errors have it, whichever click they come from
            raise
        fail(name, error.format_message(), BAD_INPUT)
    if code == INTERRUPTED:  # typer's answer to Ctrl-C
        fail(name, "interrupted; no file was left half-written", INTERRUPTED)
    sys.exit(code if isinstance(code, int) else DONE)


def fail(name: str, message: str, code: int) -> None:
    print(f"{name}: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
