"""A folder of pages: the report, and a page a unit, whose address stays the same whatever else is shown."""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from ..checks import check_count, checked
from ..data.given import Images, Target, as_images
from ..data.pixels import packed, to_pixels
from ..features.activations import unit_maps
from ..files import check_folder_writable, write_folder_whole
from ..models.view import view
from ..models.vit import ViT
from ..paths.graph import PathGraph
from ..paths.run import Run
from ..units import Unit
from .drawing import key_of
from .faces import as_picture, faces_of
from .measured import Measured
from .render import html, page_of, palette
from .report import Ways, given, measure
from .scene import Plain, scene

MARK = '<meta name="generator" content="neuronpath site">'
WHAT = "a site of neuronpath's"
LISTED = 40  # images on a unit's page whose path holds it, at most


@checked
def site(
    paths: Ways | Run, images: Images | None, model: nn.Module | ViT, out: str | os.PathLike, *, labels: Target = None,
    graph: PathGraph | bool | None = None, reference: Images | None = None, title: str = "Neuron paths", factor: float = 2.0,
    n_likes: int = 12, faces: int = 0, batch_size: int = 64, overwrite: bool = False, progress: bool = False,
) -> Path:  # fmt: skip
    """Write a folder of pages that opens from disk: ``index.html``, which is the report, and a page a unit.

    The page of head 2 of block 4 is ``units/block-4-head-2.html``, whatever images are shown: the images on which it is most active
    with its maps, and those on whose path it counts most. Pictures are files of their own and load when they come into view.

    Args:
        paths: NeuronPaths or a Circuit, or several ways' as {name: NeuronPaths or Circuit}; or a Run, as of
            :func:`~neuronpath.report`.
        images: (B, C, H, W), those of the paths. None for a Run.
        model: the vision transformer that the paths were made for.
        out: the folder to write; one that is there is kept unless it is empty, or a site and ``overwrite``.
        labels: and ``graph``, ``reference``, ``title``, ``factor``, ``batch_size``, ``progress`` as of :func:`~neuronpath.report`.
        n_likes: images on a unit's page on which it is most active.
        faces: of how many units, those that are most often on paths, the page also shows what they stand for: a name by the ``labels``,
            with its controls (see :func:`~neuronpath.name_units`), an image made to excite it (:func:`~neuronpath.visualise`), and the
            pixels that drive it (:func:`~neuronpath.pixel_attribution`). On a CPU a minute or two each for a ViT-S.
        overwrite: replace a site that is there.

    Returns:
        The folder's path.

    Raises:
        InputError: in one line, for anything that can't be used, before any work is begun.
    """
    check_folder_writable(out, _is_site, WHAT, overwrite)
    check_count("faces", faces, 0)
    reference = as_images(reference, model, "reference")
    images, ways, labels, drawn_from = given(paths, images, model, labels)
    vit = view(model)
    truth, found = measure(
        vit, images, ways, labels, graph=graph, reference=reference, factor=factor, n_likes=n_likes, batch_size=batch_size,
        progress=progress,
    )  # fmt: skip
    pictures = [packed(to_pixels(images[i], vit.model)) for i in range(len(images))]
    names = [f"images/{i:05}.{kind}" for i, (kind, _) in enumerate(pictures)]
    shown = scene(
        images, ways, found, model=vit.model, labels=truth, title=title, factor=factor, pictures=names, units="units/",
        drawn_from=drawn_from, faces=faces_of(vit, images, ways, found, truth, faces, batch_size),
    )  # fmt: skip
    maps = _maps(vit, images, found, batch_size)

    def write(folder: Path) -> None:
        for part in ("images", "units"):
            (folder / part).mkdir()
        for name, (_, content) in zip(names, pictures, strict=True):
            (folder / name).write_bytes(content)
        _write(folder / "index.html", page_of(shown).replace("<head>", f"<head>\n{MARK}", 1))
        _write(folder / "style.css", html("report.css") + html("unit.css"))
        _write_units(folder / "units", shown, maps)

    return write_folder_whole(out, write, _is_site, WHAT, overwrite)


def _is_site(folder: Path) -> bool:
    index = folder / "index.html"
    return index.is_file() and MARK in index.read_text(encoding="utf-8", errors="replace")[:400]


def _write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8", errors="replace")


def _maps(
    vit: ViT, images: Tensor, found: Mapping[str, Measured], batch_size: int
) -> dict[tuple[str, int], np.ndarray]:
    """Each unit's maps on the images that it likes, by its key and the image's number."""
    wanted: list[dict[Unit, None]] = [{} for _ in range(len(images))]
    for measured in found.values():
        for unit, likes in (measured.likes or {}).items():
            for number, _ in likes:
                wanted[number][unit] = None
    maps = unit_maps(vit, images, [list(units) for units in wanted], batch_size=batch_size)
    return {
        (key_of(unit), number): values
        for number, units in enumerate(wanted)
        for unit, values in zip(units, maps[number].numpy(), strict=True)
    }


def _write_units(folder: Path, shown: Plain, maps: Mapping[tuple[str, int], np.ndarray]) -> None:
    """A page for each unit that occurs in a scene."""
    found: dict[str, list[Plain]] = {}
    for number, image in enumerate(shown["images"]):
        for way, view_ in zip(shown["ways"], image["views"], strict=True):
            points = view_["drawing"]["points"]
            target = view_["target"]["name"] if view_["target"] else ""
            for point in points:
                one = {
                    "number": number,
                    "image": image,
                    "point": point,
                    "way": way["name"],
                    "target": target,
                    "size": len(points),
                }
                found.setdefault(point["key"], []).append(one)
    first = sorted((some[0]["point"] for some in found.values()), key=lambda p: (p["block"], p["kind"], p["index"]))
    for at, point in enumerate(first):
        page = html(
            "unit.html", unit=_unit(point["key"], found[point["key"]], shown, maps), title=shown["title"], model=shown["model"],
            n_images=len(shown["images"]), before=first[at - 1] if at else None, after=first[at + 1] if at + 1 < len(first) else None,
        )  # fmt: skip
        _write(folder / f"{point['key']}.html", page)


def _unit(key: str, found: list[Plain], shown: Plain, maps: Mapping[tuple[str, int], np.ndarray]) -> Plain:
    """What a unit's page shows, of where it occurs in a scene."""
    point, face = found[0]["point"], shown["faces"].get(key, {})
    likes = next(way["likes"][key] for way in shown["ways"] if key in way["likes"])
    mine = [maps[key, number] for number, _ in likes]
    low, high = min(0.0, *(float(each.min()) for each in mine)), max(0.0, *(float(each.max()) for each in mine))
    order = sorted(found, key=lambda one: (one["point"]["rank"] or 0, -abs(one["point"]["attribution"] or 0)))
    ways = []
    for way in shown["ways"]:
        if members := [one["target"] for one in found if one["way"] == way["name"]]:
            classes = Counter(members).most_common() if any(members) else []
            ways.append({"name": way["name"], "kind": way["kind"], "times": len(members), "classes": classes})
    return {
        "title": point["title"],
        "face": face,
        "kind": point["kind"],
        "ways": ways,
        "ends": [low, high],
        "likes": [
            {
                "number": number,
                "image": shown["images"][number],
                "value": value,
                "map": as_picture(each, low, high, palette()),
                "pixels": face.get("pixels", {}).get(number),
            }
            for (number, value), each in zip(likes, mine, strict=True)
        ],
        "found": order[:LISTED],
        "more": len(order[LISTED:]),
    }
