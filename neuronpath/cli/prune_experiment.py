"""The command prune-experiment."""

import sys
from pathlib import Path
from typing import Annotated

from ..checks import DONE, SOME_LEFT_OUT
from ..options import Protocol
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
from .terminal import wrote


def prune_experiment(
    out: Annotated[Path, OUTPUT(help="The experiment's folder; one that was stopped goes on there.")],
    folder: Annotated[
        Path | None, FIRST(help="A folder with one folder of images a class. None: the embedded digits.")
    ] = None,
    classes: Classes = None,
    limit: Annotated[int | None, INPUT(min=4, help="Take only so many images of the folder.")] = None,
    model: Model = None,
    pretrained: Pretrained = True,
    checkpoint: Checkpoint = None,
    protocol: Annotated[
        Protocol, METHOD(help="paper: keep a class's neurons, mask others at the pooled tokens.")
    ] = "prune",
    importances: Annotated[str | None, METHOD(help="Which, with commas between. [default: all]")] = None,
    keeps: Annotated[str, METHOD(help="Shares of neurons kept, with commas between.")] = "0.5,0.25,0.125,0.0625",
    scopes: Annotated[str, METHOD(help="block, global, or both.")] = "block,global",
    seeds: Annotated[int, DETAILS(help="Draws of calibration images.")] = 3,
    calibration: Annotated[int, DETAILS(help="Calibration images a draw.")] = 256,
    method: Annotated[str, METHOD(help="How to locate the paths behind 'path'.")] = "causal",
    top_k: Annotated[int | None, METHOD(help="Their neurons a block. [default: a quarter of them]")] = None,
    compensate: Annotated[bool, METHOD("--compensate", help="Leave removed neurons' mean in a bias.")] = False,
    recover_epochs: Annotated[int, METHOD(help="Also recover every model for so many epochs.")] = 0,
    latency_batch: Annotated[int, DETAILS(help="Images in a batch whose time is taken.")] = 16,
    device: Device = "auto",
    quiet: Quiet = False,
    version: Version = False,
) -> int:
    """Prune a vision transformer by several importances and measure what is left: accuracy, size, speed.

    Without a model and a folder: the embedded ViT and its digits.
    """
    import torch

    from ..jobs.pruning.experiment import predictions, run_experiment
    from ..jobs.pruning.files import check_folder
    from ..jobs.pruning.plan import IMPORTANCES, Plan
    from ..jobs.pruning.tables import RESULTS, write_results
    from ..models.load import load_model

    name = model_for_folder(model, folder)
    ranked_by = tuple(importances.split(",")) if importances else IMPORTANCES
    plan = Plan(
        ranked_by, tuple(as_share(s, "--keeps") for s in keeps.split(",")), tuple(scopes.split(",")), seeds, calibration,
        method, top_k, compensate, recover_epochs, latency_batch=latency_batch, protocol=protocol,
    )  # fmt: skip
    check_folder(out)
    loaded = load_model(name, pretrained, checkpoint, device)
    data, skipped = folder_data(folder, loaded, classes, limit)
    rows = run_experiment(loaded, data, plan, out, progress=not quiet and sys.stderr.isatty())
    dense = (predictions(loaded, data.test) == data.test_labels).float().mean().item()
    results = write_results(rows, out, len(data.test), dense)
    if not quiet:
        print(results.to_string(index=False, float_format=lambda value: f"{value:.4g}", na_rep=""))
        parameters = sum(p.numel() for p in loaded.parameters())
        print(f"not pruned: accuracy {dense:.4g}, {parameters} parameters; {torch.get_num_threads()} threads")
        wrote(*(out / name for name in RESULTS))
    return SOME_LEFT_OUT if skipped else DONE
