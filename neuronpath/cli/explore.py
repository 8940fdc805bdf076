"""The command neuronpath explore."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from ..checks import DONE, InputError
from .options import INPUT, MACHINE, Checkpoint, ClassNames, Device, Model, Pretrained, Version
from .sources import model_named
from .start import Stopped, leave_at_once
from .terminal import say

if TYPE_CHECKING:
    from ..page.explorer.explorer import Explored


def explore(
    model: Model = None,
    model_b: Annotated[str | None, INPUT(help="Another model, or a file of save_compressed, to compare with.")] = None,
    images: Annotated[
        Path | None,
        INPUT(help="A folder of images, or of a folder for each class. [default: of demo the held-out digits]"),
    ] = None,
    reference: Annotated[
        Path | None, INPUT(help="A folder of other images, over which means are taken. [default: those of --images]")
    ] = None,
    pretrained: Pretrained = True,
    checkpoint: Checkpoint = None,
    class_names: ClassNames = None,
    limit: Annotated[int, INPUT(min=1, help="Images read for favourites, means and names.")] = 500,
    device: Device = "auto",
    host: Annotated[
        str, MACHINE(help="The address that is served at; anyone who reaches it can use the explorer.")
    ] = "127.0.0.1",
    port: Annotated[int, MACHINE(min=0, max=65535, help="The port; 0 is any that is free.")] = 7860,
    version: Version = False,
) -> int:
    """Open an explorer in the browser: click units, switch them off, and see the decision move.

    Without arguments: the embedded model and its held-out digits. Ctrl-C ends it.
    """
    from .. import demo
    from ..compression.files import load_compressed
    from ..data.labelled import read_class_names
    from ..models.load import find_device, load_model
    from ..page.explorer.explorer import Explored, Explorer
    from ..page.explorer.gallery import Given, digits, folder, no_images
    from ..page.explorer.server import Server

    called = None if class_names is None else read_class_names(class_names)
    names = [model_named(model, [images] if images else None), *([model_b] if model_b else [])]
    explored = []
    for name in names:
        if name is model_b and os.path.isfile(name):
            smaller = load_compressed(name).to(find_device(device))
            explored.append(Explored(os.path.basename(name), smaller, f"nph.load_compressed({name!r})", called))
            continue
        own = checkpoint if name is not model_b else None
        extra = "" if pretrained else ", pretrained=False"
        extra += f", checkpoint={str(own)!r}" if own else ""
        explored.append(
            Explored(name, load_model(name, pretrained, own, device), f"nph.load_model({name!r}{extra})", called)
        )

    def found_in(place: Path) -> Given:
        return folder(place, explored[0].model, lambda reason: say(f"skipped: {reason}"))

    if images is not None:
        given = found_in(images)
    elif names[0] == demo.NAME:
        given = digits()
        for each in explored:
            _check_takes_digits(each)
    else:
        given = no_images()
    explorer = Explorer(explored, given, limit, None if reference is None else found_in(reference))
    server = Server(explorer, host, port)
    explorer.begin()
    say(f"neuronpath: Ctrl-C ends the explorer, which is at {server.url}")
    try:
        server.serve_forever()
    except Stopped:
        server.server_close()
        leave_at_once("neuronpath")
    finally:
        server.server_close()
    return DONE


def _check_takes_digits(explored: "Explored") -> None:
    """Refuse a model that refuses the digits, which are no files that its transform makes fit."""
    from .. import demo
    from ..models.outputs import logits_of

    try:
        logits_of(explored.model, demo.load()[1][:1])
    except InputError as error:
        raise InputError(f"{explored.name} can't have the digits, {error}; expected --images FOLDER") from None
