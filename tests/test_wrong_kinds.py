"""Every public function with every wrong kind of thing for every argument: it works, or one line says what was expected."""

import copy
import inspect
import itertools
import tempfile
import warnings
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from timm.models.vision_transformer import VisionTransformer
from torch import nn

import neuronpath as nph
from neuronpath.evaluation.evaluate import effects
from neuronpath.evaluation.interventions import edited

METHODS = {
    nph.NeuronPaths: ("load", "save", "renamed", "units_of", "name_of"),
    nph.Circuit: ("load", "save", "concat", "units_of"),
    nph.PathGraph: ("load", "save"),
    nph.Faithfulness: ("concat",),
    nph.Server: ("answers", "block_times"),
    nph.Run: ("to_frame", "paths", "sample", "labels", "images", "similarity", "most_active"),
}


def functions():
    """All public functions by name, those of ``plots`` and ``demo`` and some methods among them."""
    found = {name: getattr(nph, name) for name in nph.__all__ if inspect.isfunction(getattr(nph, name))}
    found |= {name: getattr(nph.plots, name) for name in nph.plots.__all__}
    demo = inspect.getmembers(nph.demo, inspect.isfunction)
    found |= {f"demo.{name}": f for name, f in demo if f.__module__ == nph.demo.__name__}
    found |= {"effects": effects, "edited": edited}
    return found | {f"{kind.__name__}.{name}": getattr(kind, name) for kind, names in METHODS.items() for name in names}


FUNCTIONS = functions()


def arguments(function):
    return [
        p for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD and p.name != "self"
    ]


class Joint(nn.Linear):
    """A joint image-text model that knows nothing."""

    def __init__(self):
        super().__init__(1, 1)

    def encode_image(self, images):
        return images.mean((1, 2, 3))[:, None]

    def encode_text(self, words):
        return torch.ones(len(words), 1)


@cache
def things():
    """A tiny model and what was made of it."""
    torch.manual_seed(0)
    model = VisionTransformer(
        img_size=16, patch_size=8, in_chans=1, embed_dim=16, depth=2, num_heads=2, mlp_ratio=1, num_classes=3
    ).eval()
    images = torch.randn(4, 1, 16, 16)
    paths = nph.find_path(model, images, [0, 0, 1, 1], method="causal", units="neurons")
    units = nph.importance(model, by="magnitude", units="both")
    return SimpleNamespace(
        model=model,
        student=copy.deepcopy(model),
        early=nph.with_exits(model, [0]),
        server=nph.Server(nph.with_exits(model, [0]), slots=2),
        looped=nph.recursive(model, 1, init="lower", rank=2),
        looped_digits=nph.recursive(nph.demo.create_model(), 1, init="lower", rank=2),
        digits=nph.demo.create_model(),
        images=images,
        joint=Joint(),
        paths=paths,
        frozen=nph.find_path(model, images, method="activation", units="neurons"),
        run=nph.run(images, model, Path(tempfile.mkdtemp()) / "run", method="causal", units="neurons"),
        circuit=nph.find_circuit(model, images[:2], controls=False),
        graph=nph.path_graph(model, images, paths),
        neurons=nph.importance(model, by="magnitude"),
        units=units,
        curves=nph.faithfulness(model, images, units, k=[1]),
        similarity=nph.similarity(paths, [0, 0, 1, 1]),
        deviation=pd.DataFrame({"method": ["a"], "figure": ["removal"], "mean": [1.0], "low": [0.5], "high": [1.5]}),
        pruning=pd.DataFrame({"importance": ["a"], "keep": [0.5], "accuracy": [1.0], "low": [0.5], "high": [1.5]}),
    )


numbers = itertools.count()


def good(name):
    """Arguments with which the function works; files that are written have new names in the present folder.

    They are written down anew for every case: what takes time to make belongs into ``things``.
    """
    t, labels = things(), [0, 0, 1, 1]
    seen = {"model": t.model, "images": t.images}
    chosen = {"model": t.model, "path": [[3], [5]], "units": "neurons"}
    new = f"new{next(numbers)}"
    return {
        "activation_maps": {**seen, "path": t.paths},
        "check_picture": {"path": "a.png"},
        "calibrate_exits": {"model": t.early, "images": t.images, "labels": labels},
        "class_circuit": {**seen, "labels": t.frozen.predicted, "halves": False},
        "class_path": {**seen, "labels": labels},
        "cluster": {"similarities": t.similarity},
        "concat": {"parts": [t.paths]},
        "consensus": {"paths": t.paths},
        "distil": {"student": t.student, "teacher": t.model, "loader": [t.images]},
        "edited": {**chosen, "edit": lambda site, channels, chosen: channels},
        "effects": {**seen, "labels": labels, "paths": {"a": t.paths}},
        "enhance": chosen,
        "evaluate": {**seen, "labels": labels, "paths": {"a": t.paths}},
        "faithfulness": {**seen, "ranking": t.units},
        "find_circuit": {**seen, "controls": False},
        "find_path": {**seen, "method": "causal", "units": "neurons"},
        "find_paths": {**seen, "ways": ["causal"]},
        "frequency": {"paths": t.paths},
        "image_text_pair": {"model": t.joint, "text": t.joint.encode_text, "mean": [0.5], "std": [0.5]},
        "importance": {"source": t.model, "images": t.images},
        "joint_influence": {**seen, "path": [[3], [5]], "units": "neurons"},
        "keep": chosen,
        "list_engines": {},
        "list_importances": {},
        "list_methods": {},
        "list_presets": {},
        "load_images": {"paths": "a.png", "model": t.model},
        "load_model": {"name": "demo"},
        "load_compressed": {"path": "small.safetensors"},
        "load_pruned": {"path": "small.safetensors"},
        "low_rank": {"model": t.model, "rank": 2},
        "mask": {"model": t.model, "importance": t.neurons, "keep": 0.5},
        "mean_activations": seen,
        "merge_": {"model": t.looped},
        "most_active": {**seen, "units": [(0, 1)]},
        "open_run": {"folder": t.run.folder},
        "name_units": {**seen, "units": [(0, 1)], "labels": labels, "controls": 2},
        "path_graph": {**seen, "paths": t.paths},
        "pixel_attribution": {**seen, "units": [(0, 1)], "n_steps": 2},
        "plot_alpha": {**seen, "paths": t.frozen, "n_points": 3},
        "plot_circuit": {"circuit": t.circuit},
        "plot_curves": {"curves": t.curves},
        "plot_deviation": {"frame": t.deviation},
        "plot_distribution": {"paths": t.paths},
        "plot_gallery": {**seen, "units": [(0, 1)], "n": 2},
        "plot_graph": {"graph": t.graph},
        "plot_meaning": {
            "model": t.digits,
            "images": t.images.repeat(1, 1, 2, 2),
            "units": [(0, 1)],
            "n": 1,
            "steps": 1,
        },
        "plot_methods": {"paths": {"a": t.paths}},
        "plot_path": {"paths": t.paths},
        "plot_paths": {"paths": t.paths},
        "plot_places": {**seen, "paths": t.paths},
        "plot_pruning": {"frame": t.pruning},
        "plot_similarity": {"frame": t.similarity},
        "predict": {"model": t.early, "images": t.images},
        "prune": {"model": t.model, "importance": t.neurons, "keep": 0.5},
        "rank_units": {**seen, "by": "integrated"},
        "recursive": {"model": t.model, "unique": 1, "init": "lower", "rank": 2},
        "recover": {"student": t.student, "teacher": t.model, "loader": [t.images]},
        "register_engine": {"name": "new"},
        "register_importance": {"name": "new", "source": "weights"},
        "register_method": {"name": "new"},
        "register_vit": {},
        "remove": chosen,
        "run": {"source": t.images, "model": t.model, "out": new, "method": "causal", "units": "neurons"},
        "report": {**seen, "paths": t.paths, "out": f"{new}.html"},
        "show": {**seen, "paths": t.paths},
        "site": {**seen, "paths": t.paths, "out": new},
        "save_compressed": {"model": t.looped_digits, "path": f"{new}.safetensors"},
        "save_pruned": {"model": t.digits, "path": f"{new}.safetensors"},
        "set_to": {**chosen, "value": 0.5},
        "simulate": {"exit_depths": [1, 2, 1], "block_times": nph.BlockTimes([1, 4], [1, 2], [1, 2], [[1, 2], [1, 2]])},
        "similarity": {"paths": t.paths, "labels": labels},
        "stability": {"paths": t.paths, "labels": labels},
        "unmerge_": {"model": t.looped},
        "view": {"model": t.model},
        "visualise": {"model": t.digits, "units": [(0, 1)], "steps": 1},
        "with_exits": {"model": t.model, "at": [0]},
        "demo.create_model": {},
        "demo.labelled_batches": {"limit": 10, "size": 5},
        "demo.load": {},
        "demo.load_pixels": {},
        "demo.one_of_each_class": {},
        "demo.to_images": {"pixels": np.zeros((2, 8, 8), np.uint8)},
        "NeuronPaths.load": {"path": "paths.json"},
        "NeuronPaths.save": {"self": t.paths, "path": f"{new}.json"},
        "NeuronPaths.renamed": {"self": t.paths, "names": ["a", "b", "c", "d"]},
        "NeuronPaths.units_of": {"self": t.paths, "index": 0},
        "NeuronPaths.name_of": {"self": t.paths, "label": 0},
        "Circuit.load": {"path": "circuit.json"},
        "Circuit.save": {"self": t.circuit, "path": f"{new}.json"},
        "Circuit.units_of": {"self": t.circuit, "index": 0},
        "Circuit.concat": {"parts": [t.circuit]},
        "PathGraph.load": {"path": "graph.json"},
        "PathGraph.save": {"self": t.graph, "path": f"{new}.json"},
        "Faithfulness.concat": {"parts": [t.curves]},
        "Server.answers": {"self": t.server, "images": t.images},
        "Server.block_times": {"self": t.server, "image": t.images[0]},
        "Run.images": {"self": nph.open_run("photos"), "ids": ["a.png"], "model": t.model},
        "Run.labels": {"self": t.run, "ids": ["000000001"]},
        "Run.most_active": {"self": t.run, "unit": (0, 1)},
        "Run.paths": {"self": t.run, "ids": ["000000001"]},
        "Run.sample": {"self": t.run, "n": 2},
        "Run.similarity": {"self": t.run},
        "Run.to_frame": {"self": t.run},
    }[name]


@cache
def wrong():
    """Things of all kinds by their names; few functions can use any of them, none all."""
    images = things().images
    return {
        **{
            repr(v): v
            for v in (None, True, 5, -1, 0, 1.5, float("nan"), float("inf"), "x", "", b"x", [], {}, (), [None], ["x"])
        },
        "{'x': None}": {"x": None},
        "object": object(),
        "set": {1, 2},
        "function": lambda *_, **__: None,
        "class": object,
        "another model": nn.Linear(2, 2),
        "vector": torch.zeros(3),
        "whole numbers": torch.zeros(2, 3, dtype=torch.long),
        "a tensor of no dimension": torch.tensor(1),
        "complex": torch.zeros(2, 1, 16, 16, dtype=torch.complex64),
        "two channels": images.repeat(1, 2, 1, 1),
        "no pixels": images[..., :0, :0],
        "sparse": images.to_sparse(),
        "nested": torch.nested.as_nested_tensor(list(images)),
        "meta": images.to("meta"),
        "whole numbers on meta": torch.zeros(4, dtype=torch.long, device="meta"),
        "float8": images.to(torch.float8_e4m3fn),
        "quantized": torch.quantize_per_tensor(images, 0.1, 0, torch.quint8),
        "array": np.zeros(3),
        "array of objects": np.array([None, "x"], dtype=object),
        "frame": pd.DataFrame({"x": [1]}),
    }


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("L", (16, 16)).save("a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of functions that can use what they were given
        nph.save_pruned(things().digits, "small.safetensors")
        things().paths.save("paths.json")
        things().circuit.save("circuit.json")
        nph.run("a.png", things().model, "photos", method="causal", units="neurons")
        things().graph.save("graph.json")
        wrong()
        yield


def call(function, name, parameter=None, value=None):
    given = good(name)
    if parameter is None:
        pass
    elif parameter.kind is parameter.VAR_POSITIONAL:
        return function(value, **given)
    else:
        given[parameter.name] = value
    found = function(**given)
    if hasattr(found, "__enter__"):  # an intervention: the model runs inside it
        with found, torch.no_grad():
            things().model(things().images)
    return found


def state():
    """What of the model a function may not change."""
    model = things().model
    hooks = sum(len(module._forward_pre_hooks) + len(module._forward_hooks) for module in model.modules())
    flags = [parameter.requires_grad for parameter in model.parameters()]
    weights = b"".join(values.numpy().tobytes() for values in model.state_dict().values())
    return hooks, flags, [module.training for module in model.modules()], weights


@pytest.mark.parametrize("name", FUNCTIONS)
def test_wrong_kinds(name):
    function = FUNCTIONS[name]
    call(function, name)  # with good arguments it works
    before = state()
    failed = []
    for parameter in arguments(function):
        for label, value in wrong().items():
            try:
                call(function, name, parameter, value)
            except nph.InputError as error:
                if "\n" in str(error) or not str(error):
                    failed.append(f"{parameter.name}={label}: not one line: {error}")
            except Exception as error:
                failed.append(f"{parameter.name}={label}: {type(error).__name__}: {error}")
    assert failed == []
    assert state() == before


def test_there_are_many_cases():
    cases = sum(len(arguments(function)) for function in FUNCTIONS.values()) * len(wrong())
    assert cases > 8000
