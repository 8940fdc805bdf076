"""What a run does with a batch of images, and the table that it becomes: one function a task."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import pyarrow as pa
import torch
from torch import Tensor, nn

from ..checks import InputError, check_one_of
from ..evaluation.faithfulness import faithfulness
from ..features.values import means_by_site, named_units
from ..methods import find_circuit, find_path, rank_units
from ..models.hooks import at_rest
from ..models.view import view
from ..models.vit import ViT
from ..options import Baseline, Explained, Ranking, Token, Units
from ..paths.columns import circuits_table, noted, paths_table
from ..paths.faithfulness import FIGURES
from ..units import kinds_named, place_of
from .evaluate import compare

Labels = Sequence[int | None]
Model = nn.Module | ViT


@dataclass(frozen=True)
class Task:
    """What is done with a batch of images, (model, pixels, ids, labels, options), and what options it knows, with their defaults."""

    measure: Callable[..., pa.Table]
    options: Mapping[str, Any]
    needs_labels: Callable[[Mapping[str, Any]], bool]


def _target(target: Any, labels: Labels) -> Any:
    """The class to explain: the label where that is asked for."""
    return list(labels) if target == "label" else None if target == "predicted" else target


def _read_where(vit: ViT) -> dict[str, Any]:
    """Of what model, and where, units are read: for the record."""
    return {"sites": [list(place) for place in vit.places], "token": vit.token, "fingerprint": vit.fingerprint}


def _find_path(
    model: Model, images: Tensor, ids: list[str], labels: Labels, *, target: Any, **options: Any
) -> pa.Table:
    return paths_table(find_path(model, images, _target(target, labels), names=ids, **options))


def _find_circuit(
    model: Model, images: Tensor, ids: list[str], labels: Labels, *, target: Any, **options: Any
) -> pa.Table:
    return circuits_table(find_circuit(model, images, _target(target, labels), names=ids, **options))


def _activations(
    model: Model,
    images: Tensor,
    ids: list[str],
    _labels: Labels,
    *,
    units: Any = None,
    token: Token | None = None,
) -> pa.Table:
    """Every unit's activation, the mean over the tokens; ``units`` is "neurons" (None), "heads", "both", or a list of units."""
    kinds: Any = units if isinstance(units, str) else None
    some = None if units is None or isinstance(units, str) else named_units(units)
    vit = view(model, token, kinds if some is None else kinds_named(some))
    with at_rest(vit.model):
        values = [site.cpu() for site in means_by_site(vit, images)]
    if some is not None:
        values = [torch.stack([values[place_of(unit, vit.places)][:, unit.index] for unit in some], 1)]
    lists = pa.array(list(torch.cat(values, 1).numpy()), pa.list_(pa.float32()))
    about = {
        "format": "neuronpath.activations",
        "settings": _read_where(vit),
        "units": None if some is None else [list(unit) for unit in some],
    }
    return noted(pa.table({"id": pa.array(ids, pa.string()), "activations": lists}), about)


_METHODS = ("live", "random")
_WHOLE, _TEXT = ("label", "predicted", "target"), ("method", "id")


def _evaluate(
    model: Model,
    images: Tensor,
    ids: list[str],
    labels: Labels,
    *,
    methods: Sequence[str] = _METHODS,
    target: Any = "label",
    baseline: Baseline | None = None,
    reference: Tensor | None = None,
    units: Units | None = None,
    token: Token | None = None,
    top_k: int = 1,
    seed: int = 0,
) -> pa.Table:
    """A row for every method and image: what removing and enhancing the method's path does."""
    known = [label for label in labels if label is not None]
    told = known if len(known) == len(ids) else None
    table, _, _ = compare(
        model, [(images, ids, told)], list(methods), explain=target, baseline=baseline, reference=reference,
        units=units, token=token, top_k=top_k, seed=seed,
    )  # fmt: skip
    frame = table.rename(columns={"image": "id"})
    kinds = dict.fromkeys(_WHOLE, pa.int32()) | dict.fromkeys(_TEXT, pa.string()) | {"right": pa.bool_()}
    names = ["id", *(name for name in frame.columns if name != "id")]
    schema = pa.schema([(name, kinds.get(name, pa.float32())) for name in names])
    return noted(
        pa.Table.from_pandas(frame[names], schema, preserve_index=False),
        {"format": "neuronpath.effects", "settings": table.attrs["settings"]},
    )


_BY: tuple[Ranking, ...] = ("growth",)


def _faithfulness(
    model: Model,
    images: Tensor,
    ids: list[str],
    labels: Labels,
    *,
    by: Sequence[Ranking] = _BY,
    target: Any = "predicted",
    units: Units | None = None,
    token: Token | None = None,
    baseline: Baseline | None = None,
    reference: Tensor | None = None,
    seed: int = 0,
) -> pa.Table:
    """A row for every ranking of :func:`~neuronpath.rank_units` and image: how faithful it is."""
    vit = view(model, token or "all", units or "both")
    asked: dict[str, Any] = {"baseline": baseline, "reference": reference, "seed": seed}
    wanted = _target(target, labels)
    tables = []
    for name in by:
        curves = faithfulness(vit, images, rank_units(vit, images, wanted, by=name, **asked), wanted, **asked)
        figures = {figure: pa.array(getattr(curves, figure).double().tolist(), pa.float64()) for figure in FIGURES}
        own = {"id": pa.array(ids, pa.string()), "ranking": pa.array([name] * len(ids), pa.string())}
        tables.append(pa.table({**own, "label": pa.array(labels, pa.int32()), **figures}))
    return noted(pa.concat_tables(tables), {"format": "neuronpath.faithfulness", "settings": _read_where(vit)})


def _options(function: Callable, without: tuple[str, ...], **more: Any) -> dict[str, Any]:
    known = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in known if p.kind is p.KEYWORD_ONLY and p.name not in without} | more


_OWN = ("names", "progress")
TASKS = {
    "find_path": Task(_find_path, _options(find_path, _OWN, target="predicted"), lambda o: o["target"] == "label"),
    "find_circuit": Task(
        _find_circuit, _options(find_circuit, _OWN, target="predicted"), lambda o: o["target"] == "label"
    ),
    "activations": Task(_activations, _options(_activations, ()), lambda _: False),
    "faithfulness": Task(_faithfulness, _options(_faithfulness, ()), lambda o: o["target"] == "label"),
    "evaluate": Task(_evaluate, _options(_evaluate, ()), lambda o: o["target"] == "label"),
}


def task_named(name: str) -> Task:
    """A task by its name."""
    check_one_of("task", name, tuple(TASKS))
    return TASKS[name]


def options_of(task: Task, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a task, those that weren't given as they are by default; refuses what it doesn't know."""
    if unknown := sorted(given.keys() - task.options.keys()):
        raise InputError(f"{unknown[0]!r} is no option of {name}; expected some of {', '.join(task.options)}")
    options = {**task.options, **given}
    if options.get("baseline") == "paired":
        raise InputError("baseline is 'paired', and a run's images have no order to pair them by; expected another")
    if name == "evaluate":
        check_one_of("target", options.get("target"), get_args(Explained))
    return options
