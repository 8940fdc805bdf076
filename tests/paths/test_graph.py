"""PathGraph: its figures by hand, its file, its tables, as a networkx graph."""

import json
import math
import sys

import pytest
import torch

import neuronpath as nph
from neuronpath.paths.graph import Edge, PathGraph

HEAD, NEURON, LAST = nph.Unit(0, 2, "head"), nph.Unit(0, 7), nph.Unit(1, 5)


def made(**changes) -> PathGraph:
    """Of two images: one of three units, one of none."""
    effects = torch.tensor([[math.nan, 0.5, -2.0, 1.0], [math.nan, math.nan, 0.25, 0.25], [math.nan] * 3 + [3.0]])
    whole = {
        "units": ((HEAD, NEURON, LAST), ()),
        "effects": (effects, torch.zeros(0, 1)),
        "total": (torch.tensor([-0.5, 0.5, 3.0]), torch.zeros(0)),
        "value": torch.tensor([4.0, 1.0]),
        "pearson": torch.tensor([0.9, math.nan]),
        "target": torch.tensor([3, -1]),
        "probability": torch.tensor([0.75, math.nan]),
        "names": ("a.png", "b.png"),
        "patched": True,
        "settings": nph.Settings(method="live", baseline="mean", output="log-odds"),
        "class_names": {3: "boat"},
    }
    return PathGraph(**{**whole, **changes})


def test_edges_strongest_first():
    graph = made()
    assert graph.edges_of(0) == [
        Edge(LAST, None, 3.0),
        Edge(HEAD, LAST, -2.0),
        Edge(HEAD, None, 1.0),
        Edge(HEAD, NEURON, 0.5),
        Edge(NEURON, LAST, 0.25),
        Edge(NEURON, None, 0.25),
    ]
    assert graph.edges_of(1) == []
    assert [str(edge) for edge in graph.edges_of(0)[:2]] == ["1.5 > output +3", "0h2 > 1.5 -2"]
    assert graph.straight[0].item() == pytest.approx(4.25 / 7)
    assert graph.straight[1].isnan()


def test_images():
    graph = made()
    assert len(graph) == 2
    assert [each.names for each in graph] == [("a.png",), ("b.png",)]
    assert graph[-1].units == ((),)
    assert graph[0].value.tolist() == [4.0]
    assert torch.equal(graph[0].effects[0].nan_to_num(9), graph.effects[0].nan_to_num(9))
    with pytest.raises(IndexError):
        graph[2]
    assert repr(graph) == "PathGraph(2 images, 3 units, effects patched)"
    assert (
        repr(made(inside=True, patched=False))
        == "PathGraph(2 images, 3 units, effects estimated, all other units ablated)"
    )


def test_equality():
    assert made() == made()
    assert made() != made(inside=True)
    assert made() != made(total=(torch.tensor([-0.5, 0.5, 3.5]), torch.zeros(0)))
    assert made() != 3


def test_file(tmp_path):
    path = made().save(tmp_path / "graph.json")
    again = PathGraph.load(path)
    assert again == made()
    assert again.effects[1].shape == (0, 1)
    assert again.units[0][0] == HEAD
    assert again.settings.output == "log-odds"
    with pytest.raises(nph.InputError, match="exists"):
        made().save(path)
    made(inside=True).save(path, overwrite=True)
    assert PathGraph.load(path).inside


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda d: d.update(format="neuronpath.paths"), "holds no neuronpath.graph"),
        (lambda d: d.update(version=9), "is of version 9; this neuronpath reads 1"),
        (lambda d: d["graphs"][0]["effects"].pop(), "damaged"),
        (lambda d: d["graphs"][0]["effects"][0].pop(), "damaged"),
        (lambda d: d["graphs"][0]["total"].pop(), "damaged"),
        (lambda d: d["graphs"][1]["total"].append(1.0), "damaged"),
        (lambda d: d["graphs"][0]["units"].append([0, 1, "cell"]), "damaged|unknown"),
        (
            lambda d: d["settings"].update(sites=[[0, "head", 2], [0, "neuron", 9], [1, "neuron", 9]]),
            "head 2 of block 0",
        ),
        (lambda d: d["graphs"][0].pop("pearson"), "damaged"),
        (lambda d: d.pop("settings"), "damaged"),
    ],
)
def test_damaged_files(tmp_path, harm, words):
    path = made().save(tmp_path / "graph.json")
    document = json.loads(path.read_text())
    harm(document)
    path.write_text(json.dumps(document))
    with pytest.raises(nph.InputError, match=words) as refusal:
        PathGraph.load(path)
    assert "\n" not in str(refusal.value)


def test_tables():
    graph = made()
    columns = graph.columns()
    assert {title: cells[0] for title, cells in columns.items()} == {
        "image": "a.png",
        "target": "boat",
        "units": "3",
        "edges": "3",
        "straight to the output": "61%",
        "strongest": "0h2 > 1.5 -2, 0h2 > 0.7 +0.5, 0.7 > 1.5 +0.25",
        "pearson": "0.900",
    }
    assert "pearson" not in made(patched=False).columns()
    assert graph.to_text().splitlines()[1].startswith("a.png  boat")
    assert "<table>" in graph._repr_html_()
    frame = graph.to_frame()
    assert list(frame) == [
        "image", "name", "sender_block", "sender_kind", "sender_unit", "receiver_block", "receiver_kind", "receiver_unit", "effect",
    ]  # fmt: skip
    assert frame.iloc[1].tolist() == [0, "a.png", 0, "head", 2, 1, "neuron", 5, -2.0]
    straight = frame[frame["receiver_kind"] == "output"]
    assert straight["receiver_unit"].isna().all()
    assert straight["effect"].tolist() == [3.0, 1.0, 0.25]


def test_networkx():
    networkx = pytest.importorskip("networkx")
    graph = made().to_networkx(0)
    assert isinstance(graph, networkx.DiGraph)
    assert set(graph) == {HEAD, NEURON, LAST, "output"}
    assert graph.nodes[HEAD] == {"block": 0, "kind": "head", "unit": 2, "total": -0.5}
    assert graph.edges[HEAD, LAST] == {"effect": -2.0, "weight": 2.0}
    assert networkx.is_directed_acyclic_graph(graph)
    assert graph.out_degree(HEAD, weight="weight") == 3.5
    assert list(made().to_networkx(1)) == ["output"]


def test_without_networkx(monkeypatch):
    monkeypatch.setitem(sys.modules, "networkx", None)
    with pytest.raises(nph.InputError, match="networkx isn't installed"):
        made().to_networkx(0)
