"""The questions that the page asks about an image: what the model says, its path or circuit, and what it says with units changed."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor
from tqdm.auto import tqdm

from ...checks import InputError
from ...data.pixels import short_name
from ...evaluation.path_graph import path_graph
from ...methods.circuit import find_circuit
from ...methods.find import find_path
from ...paths.graph_layout import FEW
from ..drawing import graph_drawing, key_of
from ..faces import in_words
from ..measured import Measured, Way, measured_on
from ..render import html, page_of
from ..scene import scene
from .changes import WAYS, as_changes, changed, code_of, control_of
from .explorer import Ask, Plain, clean, run

SHOWN = 5  # classes, of what the model says as it is and of what it says with units changed
KINDS = ("path", "circuit")


def predict(ask: Ask) -> Plain:
    """What the model says of an image."""
    image, found = ask.image, clean(ask)
    truth = None if image.label is None else {"label": image.label, "name": ask.model.name_of(image.label)}
    return {
        **_about(ask),
        "truth": truth,
        "classes": _classes(ask, found, found, None),
        "seconds": _seconds(ask),
    }


def _about(ask: Ask) -> Plain:
    image = ask.image
    return {
        "id": image.id,
        "name": short_name(image.name, 40),
        "width": image.width,
        "height": image.height,
        "small": image.kind == "png",
    }


def _seconds(ask: Ask) -> Plain:
    """About how long things take, for those who wait."""
    forward = max(ask.model.seconds, 1e-3)
    return {
        "forward": forward,
        "path": 45 * forward,
        "circuit": 60 * forward,
        "graph": 25 * forward,
        "pixels": 60 * forward,
        "made": 300 * forward,
    }


def found_for(ask: Ask, kind: str) -> Way:
    """The image's path or circuit."""

    def find() -> Way:
        model, image = ask.model, ask.image
        method: Callable[..., Way] = find_path if kind == "path" else find_circuit
        return method(model.apart, image.pixels[ask.number][None], names=[image.name], class_names=model.class_names)

    return ask.once(kind, find, slow=True)


def measured(ask: Ask, way: Way, graph: Any = False) -> Measured:
    """What is shown of it beside."""
    pixels = ask.image.pixels[ask.number][None]
    with tqdm(disable=True) as bar:
        found = measured_on(
            ask.model.apart, pixels, way, factor=2.0, n_likes=1, graph=graph, reference=None, batch_size=1, bar=bar
        )
    return replace(found, likes={})  # of one image there are no favourites; those of the images given are the survey's


def scene_of(
    ask: Ask, ways: dict[str, Way], found: dict[str, Measured], title: str, picture: str | None, **more: Any
) -> Plain:
    """The scene of the image and its ways."""
    model, image = ask.model, ask.image
    label = None if image.label is None else Tensor([image.label]).long()
    return scene(
        image.pixels[ask.number][None], ways, found, model=model.model, labels=label, title=title,
        pictures=None if picture is None else [picture], **more,
    )  # fmt: skip


def explain(ask: Ask) -> Plain:
    """The path or circuit of an image: the scene, and its drawing as HTML."""
    kind = ask.text("kind", KINDS)
    way = found_for(ask, kind)

    def draw() -> Plain:
        shown = scene_of(ask, {kind: way}, {kind: measured(ask, way)}, "Neuron paths", f"/picture/{ask.image.id}")
        fragment = html("explorer/way.html", way=shown["ways"][0], view=shown["images"][0]["views"][0], factor=2.0)
        return {"scene": shown, "html": fragment}

    return ask.once(("scene", kind), draw, slow=True)


def graph(ask: Ask) -> Plain:
    """Which unit feeds which, as HTML."""
    kind = ask.text("kind", KINDS)
    way = found_for(ask, kind)
    if not 0 < len(way.units_of(0)) <= FEW:
        raise InputError(f"a graph of {len(way.units_of(0))} units isn't drawn; expected 1 to {FEW}")

    found = ask.once(
        ("graph", kind), lambda: path_graph(ask.model.apart, ask.image.pixels[ask.number][None], way), slow=True
    )
    return {"html": html("explorer/graph.html", view=graph_drawing(found))}


def report(ask: Ask) -> str:
    """The page of what has been found of the image so far, its changed units among it: one file that needs no server."""
    kind = ask.text("kind", KINDS)
    found_for(ask, kind)
    ways: dict[str, Way] = {each: way for each in KINDS if (way := ask.known(each)) is not None}

    def write() -> str:
        beside = {each: measured(ask, way, ask.known(("graph", each)) or False) for each, way in ways.items()}
        return page_of(scene_of(ask, ways, beside, ask.image.name, None, faces=_faces(ask, ways), changes=by_hand))

    changes = as_changes(ask.body.get("changes"), ask.model.vit)
    by_hand = None
    if changes:
        said = change(ask)
        by_hand = {
            "units": [[str(unit), WAYS[way]] for unit, way in changes.items()],
            "says": said["says"]["name"],
            **{name: said[name] for name in ("flips", "classes")},
            "code": said["code"].splitlines(),
        }
    with ask.explorer.slow.turn(ask.gone):
        return write()


def _faces(ask: Ask, ways: dict[str, Way]) -> Plain:
    """Of the units that were looked at their names, and the images made for them."""
    found = {}
    for unit in {unit for way in ways.values() for unit in way.units_of(0)}:
        name, made = ask.known(("name", unit), image=False), ask.known(("made", unit), image=False)
        if name or made:
            found[key_of(unit)] = {"name": name and in_words(name), "made": made and made["picture"]}
    return found


def change(ask: Ask) -> Plain:
    """What the model says with units changed, and with random units changed alike."""
    model = ask.model
    changes = as_changes(ask.body.get("changes"), model.vit)
    before = clean(ask)
    means = ask.explorer.references[ask.number].means() if "mean" in changes.values() else None

    def measure() -> tuple[Tensor, Tensor]:
        found = []
        for each in (changes, control_of(changes, model.vit)):
            with changed(model.vit, each, means):
                found.append(run(ask))
        return found[0], found[1]

    now, random = ask.once(("change", tuple(changes.items())), measure) if changes else (before, None)
    label = int(now.argmax())
    return {
        "classes": _classes(ask, before, now, random),
        "says": {"label": label, "name": model.name_of(label), "probability": float(now[label])},
        "flips": label != int(before.argmax()),
        "code": python_of(ask, changes),
        "seconds": model.seconds,
    }


def python_of(ask: Ask, changes: dict) -> str:
    """The same in Python, to be copied."""
    model, others = ask.model, ask.explorer.reference or ask.explorer.given
    kinds = "both" if "head" in {place.kind for place in model.vit.places} else "neurons"
    code = code_of(changes, kinds, others.all_code)
    few = f"# the means here are over {ask.explorer.limit} of them" * (len(others.names) > ask.explorer.limit)
    find = "circuit = nph.find_circuit" if ask.body.get("kind") == "circuit" else "paths = nph.find_path"
    lines = [
        "import neuronpath as nph", "", f"model = {model.code}", ask.image.code, f"{find}(model, images)",
        few * ("means" in code), code,
    ]  # fmt: skip
    return "\n".join(line for at, line in enumerate(lines) if line or at == 1) + "\n"


def _classes(ask: Ask, before: Tensor, now: Tensor, random: Tensor | None) -> list[Plain]:
    """The classes that are shown, the most probable first, with what the model says in each case."""
    count = min(SHOWN, len(before))
    labels = list(dict.fromkeys([*before.topk(count).indices.tolist(), *now.topk(count).indices.tolist()]))
    labels = labels[:count] + [label for label in labels[count:] if float(now[label]) > 0.01]
    return [
        {
            "label": label,
            "name": ask.model.name_of(label),
            "clean": float(before[label]),
            "now": float(now[label]),
            "random": None if random is None else float(random[label]),
        }
        for label in labels
    ]


def gallery(explorer: Any, start: int, count: int = 60) -> Plain:
    """Some of the images given."""
    given = explorer.given
    if start < 0:
        raise InputError(f"from is {start}; expected 0 or more")
    numbers = range(start, min(start + count, len(given.names)))
    name_of = explorer.models[0].name_of
    problems = [
        f"{explorer.models[survey.model].name} can't read the images: {survey.problem}"
        for survey in explorer.read
        if survey.problem
    ]
    going = [(survey.done, len(survey.numbers)) for survey in explorer.read if not survey.problem]
    read, reading = min(going, key=lambda two: two[0] - two[1], default=(0, 0))
    return {
        "images": [
            {
                "id": str(i),
                "name": short_name(given.names[i], 40),
                "truth": None if given.labels is None else name_of(given.labels[i]),
            }
            for i in numbers
        ],
        "of": len(given.names),
        "read": read,
        "reading": reading,
        "problems": list(dict.fromkeys(problems)),
    }
