"""The command neuronpath run."""

import sys
from pathlib import Path
from typing import Annotated, Any

from ..checks import DONE, SOME_LEFT_OUT, InputError
from ..options import CriterionName, Precision, PresetName, TaskName
from .options import (
    DETAILS,
    FIRST,
    MACHINE,
    METHOD,
    OUTPUT,
    Baseline,
    Checkpoint,
    Classes,
    ClassNames,
    Model,
    Pretrained,
    Quiet,
    Reference,
    Token,
    Units,
    Version,
)
from .sources import class_of, model_named, open_reference
from .start import Stopped
from .terminal import counted, say


def run_data_set(
    out: Annotated[Path, OUTPUT(help="The run's folder; one that was stopped goes on there.")],
    images: Annotated[
        list[str] | None,
        FIRST(
            help="Images, folders, lists (.txt, .csv, .jsonl), .parquet, .arrow, .tar, .npy, or addresses such as s3://bucket/photos. "
            "None: the 360 held-out digits."
        ),
    ] = None,
    model: Model = None,
    pretrained: Pretrained = True,
    checkpoint: Checkpoint = None,
    task: Annotated[TaskName, METHOD(help="What to do for each image.")] = "find_path",
    target: Annotated[
        str | None,
        METHOD(
            help="The class to explain: predicted, label, a number or a name. [default: predicted; of evaluate label]"
        ),
    ] = None,
    classes: Classes = None,
    units: Units = None,
    method: Annotated[str | None, METHOD(help="Of find_path: how to locate the path. [default: live]")] = None,
    methods: Annotated[str | None, METHOD(help="Of evaluate, with commas. [default: live,random]")] = None,
    preset: Annotated[PresetName | None, METHOD(help="Of find_path: a choice of its options.")] = None,
    criterion: Annotated[CriterionName | None, METHOD(help="Of find_circuit.")] = None,
    top_k: Annotated[int | None, METHOD(help="Units a site: neurons a block, heads a block.")] = None,
    token: Token = None,
    baseline: Baseline = None,
    reference: Reference = None,
    class_names: ClassNames = None,
    precision: Annotated[Precision | None, DETAILS(help="What the model runs in. [default: its own]")] = None,
    engine: Annotated[str, MACHINE(help="local, this machine; or ray, a cluster.")] = "local",
    gpus: Annotated[int | None, MACHINE(min=0, help="GPUs, each with its own model. [default: all there are]")] = None,
    workers: Annotated[int | None, MACHINE(min=1, help="Processes with a model each, where there are no GPUs.")] = None,
    decoders: Annotated[int, MACHINE(min=1, help="Threads that decode images for each model.")] = 4,
    shard_size: Annotated[
        int | None, MACHINE(min=1, help="Images that become one file. [default: 512; of few images fewer]")
    ] = None,
    batch_size: Annotated[int, MACHINE(min=1, help="Images that the model is given at a time.")] = 64,
    max_errors: Annotated[int | None, MACHINE(min=0, help="Stop when more images can't be read.")] = None,
    device: Annotated[str, MACHINE(help="Of a single process: auto, cpu, cuda, cuda:1, ...")] = "auto",
    quiet: Quiet = False,
    version: Version = False,
) -> int:
    """Find paths, circuits, activations or effects for any number of images, into a folder of Parquet files; goes on where it stopped.

    Without images: the embedded model on 360 handwritten digits.
    """
    from torch.utils.data import TensorDataset

    from .. import demo
    from ..data.labelled import read_class_names, read_classes
    from ..jobs.run import run
    from ..models.load import load_model

    if not images and model not in (None, demo.NAME):
        raise InputError(
            f"no images were named for {model}; expected files, folders or addresses (only the demo brings its own)"
        )
    name = model_named(model, images)
    loaded = load_model(name, pretrained, checkpoint, "cpu" if engine != "local" or (gpus or 0) > 1 else device)
    options: dict[str, Any] = {
        "target": class_of(target),
        "units": units,
        "method": method,
        "methods": None if methods is None else [each.strip() for each in methods.split(",")],
        "preset": preset,
        "criterion": criterion,
        "top_k": top_k,
        "token": token,
        "baseline": baseline,
        "reference": open_reference(reference, baseline, images, loaded),
        "class_names": None if class_names is None else read_class_names(class_names),
        "precision": precision,
    }
    try:
        done = run(
            images or TensorDataset(*demo.load()[1:]),
            loaded,
            out,
            task,
            engine,
            shard_size,
            batch_size=batch_size,
            max_errors=max_errors,
            gpus=gpus,
            workers=workers,
            decoders=decoders,
            device=None if device == "auto" else device,
            classes=None if classes is None else read_classes(classes),
            progress=not quiet and sys.stderr.isatty(),
            **{option: value for option, value in options.items() if value is not None},
        )
    except (KeyboardInterrupt, Stopped):
        if files := len(list((out / "shards").glob("[!.]*.parquet"))):
            say(f"{out} keeps {counted(files, 'file')} of results; the same command goes on there")
        raise
    errors = done.errors
    for reason in errors["reason"][:3]:
        say(f"skipped: {reason}")
    if len(errors) > 3:
        say(f"skipped: {len(errors) - 3} more, all in {out / 'errors'}")
    if not quiet:
        print(
            f"{counted(len(done), 'row')} in {counted(len(done.files), 'file')}, {counted(len(errors), 'image')} skipped; "
            f"nph.open_run({str(out)!r}) reads them"
        )
    return SOME_LEFT_OUT if len(errors) else DONE
