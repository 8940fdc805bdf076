"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

Images = Annotated[
    list[Path] | None, typer.Argument(help="Images and folders of images. None: one held-out digit of each class.")
]
Model = Annotated[
    str | None,
    typer.Option(help="Of timm, torchvision or transformers, a folder, or 'demo'. [default: demo]"),
]
Pretrained = Annotated[bool, typer.Option(help="Take the model's published weights.")]
Checkpoint = Annotated[
    Path | None, typer.Option(help="Own weights: safetensors, a Lightning .ckpt, or any weights-only torch file.")
]
Classes = Annotated[Path | None, typer.Option(help="JSON that maps folders' names to the model's class numbers.")]
ClassNames = Annotated[
    Path | None,
    typer.Option(help="Names of the classes: .txt with a name a line, or .json. [default: the model's own]"),
]
Units = Annotated[
    str | None,
    typer.Option(help="What paths are made of: neurons, heads, or both. [default: the method's own; of live both]"),
]
Token = Annotated[
    str | None,
    typer.Option(
        help="Where units are read: cls, patch, all; pooled is where the model's head reads. [default: the method's own]"
    ),
]
Baseline = Annotated[
    str | None,
    typer.Option(
        help="What units are ablated to: zero, mean, resample, paired. [default: mean where there is a reference, else zero]"
    ),
]
Reference = Annotated[
    Path | None, typer.Option(help="A folder of other images, for the baseline. [of the digits: 400 training digits]")
]
BatchSize = Annotated[int, typer.Option(min=1, help="Images read at a time.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print no table and no progress.")]
