"""One self-contained HTML page of a run: no network, no script but its own, readable from disk.

The page's template, style and script are the files in ``page/``.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import jinja2
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..checks import InputError, check_count, check_number, checked, printable
from ..data.given import check_images
from ..files import check_writable, write_whole
from ..models.view import view
from ..models.vit import ViT
from ..paths.neuron_paths import NeuronPaths, view_for
from .measured import measured_on
from .scene import scene

PAGE = Path(__file__).parent


@checked
def report(
    model: nn.Module | ViT, images: Tensor, paths: NeuronPaths | Mapping[str, NeuronPaths], out: str | os.PathLike, *,
    title: str = "Neuron paths", factor: float = 2.0, n_likes: int = 4, batch_size: int = 64, overwrite: bool = False,
    progress: bool = False,
) -> Path:  # fmt: skip
    """Write one HTML page that shows every image, its path, and what the path's units do.

    Pointing at a unit, or going to it with the keyboard, shows where it looks, its attribution and activation, and which of the
    given images it likes best. Removing and enhancing each path are really run.

    Args:
        model: the vision transformer that the paths were made for.
        images: (B, C, H, W), those of the paths; kept on the page as small pictures, once each.
        paths: NeuronPaths, or several methods' as {name: NeuronPaths}, which the page switches between.
        out: the file to write; an existing one is kept unless ``overwrite``.
        title: the page's heading.
        factor: what enhancing multiplies the path's units by.
        n_likes: images named as a unit's favourites.
        batch_size: images run at a time.
        progress: show a bar.

    Returns:
        The file's path.

    Raises:
        InputError: in one line, for anything that can't be used, before any work is begun.
    """
    out = check_writable(out, overwrite)
    ways = {paths.settings.method: paths} if isinstance(paths, NeuronPaths) else paths
    vit = view(model)
    check_images(images)
    _check_ways(ways, images, vit)
    check_count("n_likes", n_likes)
    check_number("factor", factor)
    check_count("batch_size", batch_size)
    with tqdm(total=len(ways) * len(images), unit="image", disable=not progress) as bar:
        measured = {
            name: measured_on(vit, images, each, factor, n_likes, batch_size, bar) for name, each in ways.items()
        }
    shown = scene(vit.model, images, ways, measured)
    page = _environment().get_template("report.html").render(title=title, factor=factor, **shown)
    return write_whole(out, lambda part: part.write_text(page, encoding="utf-8"), overwrite)


def _check_ways(ways: Mapping[str, NeuronPaths], images: Tensor, vit: ViT) -> None:
    if not ways:
        raise InputError("paths names no methods; expected at least one")
    for name, paths in ways.items():
        view_for(paths, vit)
        if len(paths) != len(images):
            raise InputError(f"images holds {len(images)} images for {len(paths)} paths of {name!r}; expected as many")


def _environment() -> jinja2.Environment:
    """Everything that the template shows is escaped, in its embedded JSON too."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGE), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined, finalize=lambda value: printable(value) if type(value) is str else value,
    )  # fmt: skip
    environment.filters["number"] = lambda value: f"{value:.4g}"
    environment.filters["signed"] = lambda value: f"{value:+.4g}"
    environment.policies["json.dumps_function"] = json.dumps
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return environment
