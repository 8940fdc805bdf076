"""The command neuronpath circuit."""

from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from .options import BatchSize, Checkpoint, Device, Images, Model, Pretrained, Quiet, Token, Units
from .sources import open_source


def circuit(
    images: Images = None,
    model: Model = None,
    pretrained: Pretrained = True,
    checkpoint: Checkpoint = None,
    target: Annotated[int | None, typer.Option(help="The class to keep or break. [default: the predicted one]")] = None,
    criterion: Annotated[
        str, typer.Option(help="keep: the circuit alone decides; break: without it the decision changes; both.")
    ] = "keep",
    keep: Annotated[float, typer.Option(help="The share of the probability that counts as kept.")] = 0.9,
    units: Units = None,
    token: Token = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            help="What units are ablated to: zero, mean, resample. [default: mean where there is a reference]"
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="A folder of other images, for the baseline. [of the digits: 400 training digits]"),
    ] = None,
    controls: Annotated[bool, typer.Option(help="Also try random circuits, and the runner-up's.")] = True,
    seed: Annotated[int, typer.Option(help="Of random circuits and of resample.")] = 0,
    batch_size: BatchSize = 64,
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option(help="Write the circuits here, as JSON.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Let --out replace an existing file.")] = False,
    quiet: Quiet = False,
) -> int:
    """Find the few units that keep an image's decision alone, or break it when they go.

    Without arguments: the embedded model on ten handwritten digits.
    """
    from .. import demo
    from ..data.files import load_images
    from ..files import check_writable
    from ..methods import find_circuit
    from ..paths.circuit import Circuit

    if out is not None:
        check_writable(out, overwrite)
    source = open_source(images, model, pretrained, checkpoint, device, batch_size)
    others = None if reference is None else load_images(reference, source.model)[0]
    if others is None and not images and baseline != "zero":
        others = demo.load("train")[1][:400]
    parts: list[Circuit] = []
    with tqdm(total=source.total, unit="image", disable=True if quiet else None) as bar:
        for pixels, names in source.batches:
            parts.append(
                find_circuit(
                    source.model, pixels, target, criterion=criterion, keep=keep, units=units, token=token, baseline=baseline,
                    reference=others, controls=controls, seed=seed, names=names, progress=bar,
                )
            )  # fmt: skip
    code = source.close(len(parts))
    circuits = Circuit.concat(parts)
    if out is not None:
        circuits.save(out, overwrite)
    if not quiet:
        print(circuits.to_text())
    return code
