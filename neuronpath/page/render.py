"""A scene as an HTML page: one file that needs no network, its template, style and script the files beside this one."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import matplotlib as mpl
from matplotlib.colors import to_hex

from ..checks import printable
from ..plots.parts import SCALE
from .scene import Plain

PAGE = Path(__file__).parent


def page_of(scene: Plain) -> str:
    """The page that shows a scene."""
    names = dict.fromkeys(name for way in scene["ways"] for name in way["settings"])
    settings = [{**dict.fromkeys(names, ""), **way["settings"]} for way in scene["ways"]]
    ways = [{**way, "settings": each} for way, each in zip(scene["ways"], settings, strict=True)]
    return html("report.html", **{**scene, "ways": ways}, setting_names=list(names), data=_data(scene))


def html(template: str, **values: Any) -> str:
    """A template filled in; everything that it shows is escaped, in its embedded JSON too."""
    return _environment().get_template(template).render(palette=palette(), **values)


@cache
def palette() -> list[str]:
    """The scale of maps, from the lowest value to the highest: as even to the eye in grey as in colour."""
    return [to_hex(mpl.colormaps[SCALE](step / 15)) for step in range(16)]


def _data(scene: Plain) -> Plain:
    """What the page's script shows: the maps, what units like, and the colours."""
    ways = [
        {
            "grid": way["grid"],
            "likes": way["likes"],
            "maps": [image["views"][at]["maps"] for image in scene["images"]],
            "peaks": [image["views"][at]["peaks"] for image in scene["images"]],
        }
        for at, way in enumerate(scene["ways"])
    ]
    return {"ways": ways, "palette": palette(), "units": scene["units"], "faces": scene["faces"]}


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGE), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined, finalize=lambda value: printable(value) if type(value) is str else value,
    )  # fmt: skip
    environment.filters["number"] = lambda value: f"{value:.4g}"
    environment.filters["probability"] = lambda value: f"{value:.3f}" if value >= 0.01 else f"{value:.2g}"
    environment.filters["signed"] = lambda value: f"{value:+.3f}" if abs(value) >= 0.01 else f"{value:+.1g}"
    environment.policies["json.dumps_function"] = json.dumps
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return environment
