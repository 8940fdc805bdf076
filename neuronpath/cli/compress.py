"""The command neuronpath compress."""

import sys
from pathlib import Path
from typing import Annotated

from ..checks import DONE, SOME_LEFT_OUT
from ..options import Equal, Layout
from .options import (
    DETAILS,
    FIRST,
    INPUT,
    METHOD,
    OUTPUT,
    Checkpoint,
    Classes,
    Device,
    Model,
    Pretrained,
    Quiet,
    Version,
    as_share,
)
from .sources import folder_data, model_for_folder
from .terminal import say, wrote


def compress(
    out: Annotated[Path, OUTPUT(help="The comparison's folder; one that was stopped goes on there.")],
    folder: Annotated[
        Path | None, FIRST(help="A folder with one folder of images a class. None: the embedded digits.")
    ] = None,
    classes: Classes = None,
    limit: Annotated[int | None, INPUT(min=4, help="Take only so many images of the folder.")] = None,
    model: Model = None,
    pretrained: Pretrained = True,
    checkpoint: Checkpoint = None,
    methods: Annotated[
        str | None,
        METHOD(
            help="low-rank, recursive, prune, first-blocks, every-other, with commas between; + puts one behind the other. "
            "[default: all, and recursive+low-rank]"
        ),
    ] = None,
    shares: Annotated[str, METHOD(help="How large they are to be, with commas between.")] = "0.5,0.3",
    equal: Annotated[Equal, METHOD(help="What the shares are of: parameters, or multiply-adds.")] = "parameters",
    epochs: Annotated[int, METHOD(min=0, help="Also distil every model for so many epochs.")] = 0,
    unique: Annotated[
        int | None, DETAILS(min=1, help="Shared blocks of recursive. [default: as the share allows]")
    ] = None,
    layout: Annotated[Layout, DETAILS(help="Which blocks share: cycle, sequence, phases.")] = "cycle",
    calibration: Annotated[int, DETAILS(min=1, help="Images that models are fitted on.")] = 400,
    train: Annotated[
        int | None, DETAILS(min=1, help="Images to distil on. [default: all that aren't tested on]")
    ] = None,
    batch: Annotated[int, DETAILS(min=1, help="Images a step of distillation.")] = 32,
    lr: Annotated[float, DETAILS(help="Its highest learning rate.")] = 5e-4,
    seed: Annotated[int, DETAILS(min=0, help="Of the images drawn and of distillation.")] = 0,
    latency_batch: Annotated[int, DETAILS(min=1, help="Images in a batch whose time is taken.")] = 16,
    device: Device = "auto",
    quiet: Quiet = False,
    version: Version = False,
) -> int:
    """Make smaller models by several methods at equal size, distilled or not, and measure what is left: a table, a figure, the models.

    Without a model and a folder: the embedded ViT and its digits.
    """
    from ..jobs.compress import RESULTS, Plan, write_results
    from ..jobs.compress import compress as compare
    from ..jobs.compress.experiment import check_folder
    from ..jobs.compress.plan import METHODS
    from ..models.load import load_model

    name = model_for_folder(model, folder)
    plan = Plan(
        METHODS if methods is None else tuple(methods.split(",")), tuple(as_share(s, "--shares") for s in shares.split(",")),
        equal, unique, layout, epochs, lr, batch, train, calibration, seed, latency_batch,
    )  # fmt: skip
    check_folder(out)
    loaded = load_model(name, pretrained, checkpoint, device)
    data, skipped = folder_data(folder, loaded, classes, limit)
    rows = compare(loaded, data, plan, out, progress=not quiet and sys.stderr.isatty(), tell=say)
    table = write_results(rows, out, len(data.test))
    if not quiet:
        print(table.to_string(index=False, float_format=lambda value: f"{value:.3g}"))
        print("parameters, bytes and multiply-adds as shares of the model's; speed in times the model's")
        wrote(*(out / name for name in RESULTS), out / "models")
    return SOME_LEFT_OUT if skipped else DONE
