"""Options that several commands have, and the groups in which ``--help`` shows all of them."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from .. import options as words
from ..checks import InputError
from ..version import __version__

FIRST = partial(typer.Argument, rich_help_panel="Input")
INPUT, METHOD, DETAILS, MACHINE, OUTPUT = (
    partial(typer.Option, rich_help_panel=group)
    for group in ("Input", "Method", "Method, in detail", "Machine", "Output")
)


class Grouped(TyperCommand):
    """A command whose options are shown in their groups, as plain text."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """A section a group, in the order in which they first occur."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for option in self.get_params(ctx):
            if (record := option.get_help_record(ctx)) is not None:
                groups.setdefault(getattr(option, "rich_help_panel", None) or "Help", []).append(record)
        for name, records in groups.items():
            with formatter.section(name):
                formatter.write_dl(records)


def as_share(text: str, option: str) -> float:
    """A number of an option that takes several."""
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{option} has {text!r}; expected numbers such as 0.5 with commas between") from None


def show_version(wanted: bool) -> None:
    """What ``--version`` does."""
    if wanted:
        print(f"neuronpath {__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and leave.")
]

Images = Annotated[
    list[Path] | None, FIRST(help="Images and folders of images. None: one held-out digit of each class.")
]
Limit = Annotated[int | None, INPUT(min=1, help="Take only so many of the folders' images.")]
Model = Annotated[
    str | None,
    INPUT(help="Of timm, torchvision or transformers, a folder, or 'demo'. [default: demo]"),
]
Pretrained = Annotated[bool, INPUT(help="Take the model's published weights.")]
Checkpoint = Annotated[
    Path | None, INPUT(help="Own weights: safetensors, a Lightning .ckpt, or any weights-only torch file.")
]
Classes = Annotated[Path | None, INPUT(help="JSON that maps folders' names to the model's class numbers.")]
ClassNames = Annotated[
    Path | None,
    INPUT(help="Names of the classes: .txt with a name a line, or .json. [default: the model's own]"),
]
Units = Annotated[
    words.Units | None,
    METHOD(help="What paths are made of. [default: the method's own; of live both]"),
]
Token = Annotated[
    words.Token | None,
    DETAILS(
        help="The tokens units are read on; pooled: those that the model's head reads. [default: the method's own]"
    ),
]
Baseline = Annotated[
    words.Baseline | None,
    METHOD(help="What units are ablated to. [default: mean where there is a reference, else zero]"),
]
Reference = Annotated[
    Path | None, INPUT(help="A folder of other images, for the baseline. [of the digits: 400 training digits]")
]
BatchSize = Annotated[int, MACHINE(min=1, help="Images read at a time.")]
Device = Annotated[str, MACHINE(help="auto, cpu, cuda, cuda:1, ...")]
Quiet = Annotated[bool, OUTPUT("--quiet", help="Print no table and no progress.")]
