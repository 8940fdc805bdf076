"""One self-contained HTML page of a run: no network, no script but its own, readable from disk."""

import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn
from tqdm.auto import tqdm

from ..checks import InputError, check_count, check_number, checked
from ..data.given import Classes, Images, Target, as_images, check_images
from ..files import check_writable, write_whole
from ..models.view import view
from ..models.vit import ViT
from ..paths.circuit import Circuit
from ..paths.graph import PathGraph
from ..paths.made_for import view_for
from ..paths.neuron_paths import NeuronPaths
from ..paths.run import Run
from .measured import Measured, Way, check_graph, measured_on
from .render import page_of
from .scene import scene

Ways = NeuronPaths | Circuit | Mapping[str, NeuronPaths | Circuit]


@checked
def report(
    model: nn.Module | ViT, images: Images | None, paths: Ways | Run, out: str | os.PathLike, *, labels: Target = None,
    graph: PathGraph | bool | None = None, reference: Images | None = None, title: str = "Neuron paths", factor: float = 2.0,
    n_likes: int = 4, batch_size: int = 64, overwrite: bool = False, progress: bool = False,
) -> Path:  # fmt: skip
    """Write one HTML page that shows every image, its path or circuit, and what its units do.

    Pointing at a unit, or going to it with the keyboard, shows where it looks, its attribution and activation, and which of the
    given images it likes best; a click pins it. What is left without the units, and without random ones, is really run. The
    graph draws which unit feeds which. Images can be filtered and sorted.

    Args:
        model: the vision transformer that the paths were made for.
        images: (B, C, H, W), those of the paths; kept on the page as small pictures, once each. None for a Run.
        paths: NeuronPaths or a Circuit, or several ways' as {name: NeuronPaths or Circuit}, which the page switches between; or a
            :class:`~neuronpath.Run`, of which 200 images are shown that are drawn at random, read anew, with the labels that it has.
        out: the file to write; an existing one is kept unless ``overwrite``.
        labels: the true classes, one or (B,); the page then tells right from wrong.
        graph: the graph that :func:`~neuronpath.path_graph` gave of these paths; or True or False. None makes one of live paths and
            circuits of up to 48 units, which takes one to two forwards a unit and image.
        reference: the images that units were ablated to, where their baseline needs any, for the graph.
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
    reference = as_images(reference, model, "reference")
    images, ways, labels, drawn_from = given(paths, images, model, labels)
    vit = view(model)
    truth, found = measure(
        vit, images, ways, labels, graph=graph, reference=reference, factor=factor, n_likes=n_likes, batch_size=batch_size,
        progress=progress,
    )  # fmt: skip
    shown = scene(images, ways, found, model=vit.model, labels=truth, title=title, factor=factor, drawn_from=drawn_from)
    page = page_of(shown)
    return write_whole(out, lambda part: part.write_text(page, encoding="utf-8"), overwrite)


def given(
    paths: Ways | Run, images: Images | None, model: nn.Module | ViT | None, labels: Target
) -> tuple[Tensor, dict[str, Way], Target, int]:
    """What a caller gave, checked: images, ways by name and true classes; of a Run a sample. And how many images they are of."""
    if not isinstance(paths, Run):
        if images is None:
            raise InputError("images is None; expected those of the paths (B, C, H, W), or a Run, which knows its own")
        images = as_images(images, model)
        return images, as_ways(paths, images), labels, len(images)
    if images is not None or model is None:
        said = "model is None" if images is None else "images are given beside a Run"
        raise InputError(f"{said}; expected a model and no images: a Run reads its own")
    some = paths.sample()
    images = paths.images(some.names, model)
    return images, as_ways(some, images), paths.labels(some.names) if labels is None else labels, len(paths)


def as_ways(paths: Ways, images: Tensor) -> dict[str, Way]:
    """What a caller gave, by name; refuses what isn't of these images."""
    check_images(images)
    if isinstance(paths, NeuronPaths | Circuit):
        paths = {paths.settings.method if isinstance(paths, NeuronPaths) else "circuit": paths}
    if not paths:
        raise InputError("paths names no methods; expected at least one")
    for name, way in paths.items():
        if len(way) != len(images):
            raise InputError(f"images holds {len(images)} images for {len(way)} paths of {name!r}; expected as many")
    return dict(paths)


def measure(
    vit: ViT, images: Tensor, ways: dict[str, Way], labels: Target, *, graph: PathGraph | bool | None,
    reference: Tensor | None, factor: float, n_likes: int, batch_size: int, progress: bool,
) -> tuple[Tensor | None, dict[str, Measured]]:  # fmt: skip
    """The true classes, and what the model does on the images, by way; checks everything first."""
    for way in ways.values():
        view_for(way, vit)
    truth = Classes(images, labels, vit.model).all()
    check_number("factor", factor)
    check_count("n_likes", n_likes)
    check_count("batch_size", batch_size)
    check_graph(graph, ways)
    with tqdm(total=len(ways) * len(images), unit="image", disable=not progress) as bar:
        found = {
            name: measured_on(
                vit, images, way, factor=factor, n_likes=n_likes, graph=graph, reference=reference, batch_size=batch_size, bar=bar
            )
            for name, way in ways.items()
        }  # fmt: skip
    return truth, found
