"""The command neuronpath benchmark."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

from ..checks import DONE, InputError
from ..options import Explained, Suite
from .options import FIRST, INPUT, METHOD, OUTPUT, Checkpoint, Device, Model, Pretrained, Quiet, Version
from .sources import model_named
from .terminal import wrote


def benchmark(
    out: Annotated[Path, OUTPUT(help="The benchmark's folder; one that was stopped goes on there.")],
    images: Annotated[
        list[str] | None,
        FIRST(
            help="A folder with a folder of images a class, or any source of neuronpath run. None: the held-out digits."
        ),
    ] = None,
    model: Model = None,
    pretrained: Pretrained = True,
    checkpoint: Checkpoint = None,
    suite: Annotated[
        Suite, METHOD(help="faithfulness: paths, circuits, rankings; cost: in forward + backward passes.")
    ] = "faithfulness",
    limit: Annotated[int, INPUT(min=1, help="Images to measure on, drawn at random.")] = 200,
    reference: Annotated[
        int,
        INPUT(
            min=0,
            help="Other images, drawn from what is left: units are ablated to their mean. 0: to zero.",
        ),
    ] = 200,
    methods: Annotated[
        str | None, METHOD(help="Of paths, with commas. [default: live,knowledge,joint,causal,random; of cost three]")
    ] = None,
    target: Annotated[Explained, METHOD(help="The class to explain.")] = "label",
    seed: Annotated[int, METHOD(min=0, help="Of the images drawn.")] = 0,
    device: Device = "auto",
    quiet: Quiet = False,
    version: Version = False,
) -> int:
    """Measure a model on labelled images, with controls and intervals: a table, its data and a figure; goes on where it stopped.

    Without images: the embedded model on handwritten digits.
    """
    from torch.utils.data import TensorDataset

    from .. import demo
    from ..data.source import Source
    from ..jobs.benchmark import benchmark as measure
    from ..jobs.benchmark.table import as_markdown
    from ..models.load import load_model

    if not images and model not in (None, demo.NAME):
        raise InputError(f"no images were named for {model}; expected a folder (only the demo brings its own)")
    loaded = load_model(model_named(model, images), pretrained, checkpoint, device)
    digits = [] if images else [Source(TensorDataset(*demo.load(split)[1:])) for split in ("test", "train")]
    source, others = digits or (Source(images), None)
    tables, about, files = measure(
        source,
        others,
        loaded,
        out,
        suite,
        limit=limit,
        n_others=reference,
        methods=None if methods is None else [name.strip() for name in methods.split(",") if name.strip()],
        target=target,
        seed=seed,
        command=shlex.join(["neuronpath", *sys.argv[1:]]),
        progress=not quiet and sys.stderr.isatty(),
    )
    if not quiet:
        print(as_markdown(tables, about))
        wrote(*files)
    return DONE
