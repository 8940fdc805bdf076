"""The commands: find-path and neuronpath. Parse, call, print; no computing here."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from tqdm import tqdm

from . import demo
from .data import batches, find_images, transform_of
from .errors import InputError
from .experiment import IMPORTANCES, Plan, digits, image_folder, predictions, run_experiment
from .experiment_tables import write_results
from .files import check_distinct, check_writable, write_whole
from .locators import find_path as find
from .models import DEMO, load_model
from .paths import NeuronPaths, concat
from .plots import check_picture, plot_path

Images = Annotated[
    list[Path] | None, typer.Argument(help="Images and folders of images. None: one held-out digit of each class.")
]
DONE, SOME_LEFT_OUT, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


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
    precision: Annotated[str | None, typer.Option(help="fp32 or bf16. [default: the model's own]")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images read at a time.")] = 64,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    out: Annotated[Path | None, typer.Option(help="Write the paths here, as JSON.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the first image's path here (.png, .svg, .pdf).")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Let --out and --plot replace existing files.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print no table and no progress.")] = False,
) -> int:
    """Show which neuron of every block carries a vision transformer's decision, for every image.

    Without arguments: the embedded model on ten handwritten digits.
    """
    check_distinct([out, plot])
    for path in (out, plot):
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
    first = None
    total = len(named) + len(found) if images else 10
    with tqdm(total=total, unit="image", disable=True if quiet else None) as bar:  # None: no bar in a pipe
        for pixels, names in source:
            first = pixels[:1] if first is None else first
            paths = find(
                vit, pixels, target, method=method, objective=objective, effort=effort, locate=locate, preset=preset,
                top_k=top_k, token=token, output=output, quadrature=quadrature, n_steps=n_steps, precision=precision, names=names,
                progress=bar,
            )  # fmt: skip
            parts.append(paths)
    for reason in skipped:
        print(f"skipped: {reason}", file=sys.stderr)
    if not parts:
        raise InputError(f"none of the {len(skipped)} images could be read; expected at least one")
    paths = concat(parts)
    if not quiet:
        print(table(paths))
        if skipped:
            print(f"{len(paths)} images, {len(skipped)} skipped")
    if out is not None:
        paths.save(out, overwrite)
    if plot is not None:
        write_whole(plot, plot_path(paths[0], first).savefig, overwrite)
    return SOME_LEFT_OUT if skipped else DONE


def prune_experiment(
    out: Annotated[Path, typer.Option(help="The experiment's folder; one that was stopped goes on there.")],
    images: Annotated[
        Path | None, typer.Option(help="One folder of images a class. [default: the embedded digits]")
    ] = None,
    model: Annotated[str, typer.Option(help="A timm model, or 'demo' for the embedded one.")] = DEMO,
    pretrained: Annotated[bool, typer.Option(help="Fetch timm's weights for the model.")] = True,
    checkpoint: Annotated[Path | None, typer.Option(help="Own weights, as in find-path.")] = None,
    protocol: Annotated[
        str, typer.Option(help="prune, or paper: keep a class's neurons, mask others at the pooled tokens.")
    ] = "prune",
    importances: Annotated[str, typer.Option(help="Which, with commas between.")] = ",".join(IMPORTANCES),
    keeps: Annotated[str, typer.Option(help="Shares of neurons kept, with commas between.")] = "0.5,0.25,0.125,0.0625",
    scopes: Annotated[str, typer.Option(help="block, global, or both.")] = "block,global",
    seeds: Annotated[int, typer.Option(help="Draws of calibration images.")] = 3,
    calibration: Annotated[int, typer.Option(help="Calibration images a draw.")] = 256,
    method: Annotated[str, typer.Option(help="How to locate the paths behind 'path'.")] = "joint",
    top_k: Annotated[int, typer.Option(help="Their neurons a block.")] = 1,
    compensate: Annotated[bool, typer.Option("--compensate", help="Leave removed neurons' mean in a bias.")] = False,
    recover_epochs: Annotated[int, typer.Option(help="Also recover every model for so many epochs.")] = 0,
    latency_batch: Annotated[int, typer.Option(help="Images in a batch whose time is taken.")] = 16,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", help="Print no table and no progress.")] = False,
) -> int:
    """Prune a vision transformer by several importances and measure what is left: accuracy, size, speed.

    Without a model and images: the embedded ViT and its digits.
    """
    if images is None and model != DEMO:
        raise InputError(f"no images were named for {model}; expected --images, a folder with a folder a class")
    plan = Plan(
        tuple(importances.split(",")), tuple(map(as_share, keeps.split(","))), tuple(scopes.split(",")), seeds, calibration,
        method, top_k, compensate, recover_epochs, latency_batch=latency_batch, protocol=protocol,
    )  # fmt: skip
    vit = load_model(model, pretrained, checkpoint, device)
    data = digits() if images is None else image_folder(images, vit)
    rows = run_experiment(vit, data, plan, out, progress=not quiet and sys.stderr.isatty())
    dense = (predictions(vit, data.test) == data.test_labels).float().mean().item()
    results = write_results(rows, out, len(data.test), dense)
    if not quiet:
        print(results.to_string(index=False, float_format=lambda value: f"{value:.4g}", na_rep=""))
        parameters = sum(p.numel() for p in vit.parameters())
        print(f"not pruned: accuracy {dense:.4g}, {parameters} parameters; {torch.get_num_threads()} threads")
    return DONE


def as_share(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"--keeps has {text!r}; expected numbers such as 0.5 with commas between") from None


def one_digit_of_each_class() -> tuple[torch.Tensor, list[str]]:
    """The first held-out digit of every class, (10, 1, 32, 32), and their names."""
    _, images, labels = demo.load()
    first = [int((labels == digit).nonzero()[0]) for digit in range(10)]
    return images[first], [f"digit {digit} (held out, no. {index})" for digit, index in enumerate(first)]


def table(paths: NeuronPaths) -> str:
    """One line an image, as text."""
    frame = {
        "image": without_common_folder(paths.names),
        "predicted": [
            f"{paths.name_of(c)} {p:.3f}"
            for c, p in zip(paths.predicted.tolist(), paths.predicted_probability.tolist(), strict=True)
        ],
        "target": [paths.name_of(c) for c in paths.target.tolist()],
        "path": [" ".join("+".join(map(str, block)) for block in path) for path in paths.neurons.tolist()],
        "score": [f"{score:.4g}" for score in paths.score.tolist()],
        "attribution": [f"{a:.4g}" for a in paths.attribution.sum((1, 2)).tolist()],
        "relative delta": [f"{d:.0e}" for d in paths.relative_delta.tolist()],
    }
    columns = [[title, *cells] for title, cells in frame.items()]
    widths = [max(map(len, column)) for column in columns]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in zip(*columns, strict=True)
    )


def without_common_folder(names: Sequence[str]) -> list[str]:
    """File names less the folders that they all share."""
    shared = os.path.commonpath(map(os.path.dirname, names)) if all(map(os.path.isabs, names)) else ""
    return [os.path.relpath(name, shared) if shared else name for name in names]


def command(function: Callable[..., int]) -> typer.Typer:
    """A Typer application of this one function."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(function)
    return app


def main() -> None:
    """neuronpath: its commands."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command("find-path")(find_path)
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
