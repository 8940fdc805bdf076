"""The picture of a graph, its lines and points read back."""

import io

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

import neuronpath as nph
from neuronpath.plots.parts import BLUE, VERMILLION
from neuronpath.units import Place


@pytest.fixture(scope="module")
def graph(demo):
    return nph.path_graph(demo[0], demo[1][3:6], nph.find_path(demo[0], demo[1][3:6], method="causal", units="both"))


def lines_of(ax):
    return [c for c in ax.collections if isinstance(c, LineCollection)]


def test_lines_are_the_strongest_edges(graph):
    ax = nph.plots.plot_graph(graph, index=1, edges=30).axes[0]
    edges = sorted(graph.edges_of(1)[:30], key=lambda edge: abs(edge.effect))
    lines = lines_of(ax)
    assert len(lines) == 30
    bar = max(patch.get_x() for patch in ax.patches)
    widths = []
    for edge, line in zip(edges, lines, strict=True):  # the strongest is drawn last
        assert tuple(line.get_colors()[0][:3]) == to_rgb(BLUE if edge.effect >= 0 else VERMILLION)
        dashes = line.get_linestyle()[0][1]
        assert (dashes is None) == (edge.effect >= 0)
        curve = line.get_segments()[0]
        assert (curve[-1, 0] == pytest.approx(bar)) == (edge.receiver is None)
        assert curve[0, 1] * (1 if edge.sender.kind == "head" else -1) > 0
        assert abs(curve[0, 0] - edge.sender.block) < 0.5
        if edge.receiver is not None:
            assert abs(curve[-1, 0] - edge.receiver.block) < 0.5
        widths.append(line.get_linewidth()[0])
    sizes = [abs(edge.effect) for edge in edges]
    assert np.allclose(widths, 0.5 + 6.5 * np.array(sizes) / max(sizes))
    assert "the 30 strongest of 136 edges" in ax.get_title()
    assert f"class {int(graph.target[1])}" in ax.get_title()


def test_points_are_the_units(graph):
    ax = nph.plots.plot_graph(graph, 0).axes[0]
    points = [c for c in ax.collections if isinstance(c, PathCollection)]
    places = np.concatenate([c.get_offsets() for c in points])
    areas = np.concatenate([c.get_sizes() for c in points])
    assert len(places) == 16  # all of a path's, with an edge or without
    heads = places[places[:, 1] > 0]
    assert sorted(heads[:, 0].round().tolist()) == list(range(8))
    assert areas.max() == pytest.approx(220)
    largest = places[areas.argmax()]
    unit = graph.units[0][int(graph.total[0].abs().argmax())]
    assert (round(largest[0]), largest[1] > 0) == (unit.block, unit.kind == "head")
    labels = [text.get_text() for text in ax.texts]
    assert sorted(labels) == sorted(
        ["output", *(f"h{u.index}" if u.kind == "head" else str(u.index) for u in graph.units[0])]
    )


def test_straight_lines_to_the_output_do_not_meet(graph):
    """Each has a height of its own at the output, outside all units."""
    ax = nph.plots.plot_graph(graph, 2, edges=500).axes[0]
    assert "136 edges" in ax.get_title()
    assert "strongest" not in ax.get_title()
    bar = max(patch.get_x() for patch in ax.patches)
    ends = [s[-1] for line in lines_of(ax) for s in line.get_segments() if s[-1, 0] == pytest.approx(bar)]
    heights = sorted(y for _, y in ends)
    assert len(heights) == 16
    assert min(np.diff(heights)) > 0.1
    low, high = ax.get_ylim()
    for line in lines_of(ax):
        assert line.get_segments()[0][:, 1].min() > low
        assert line.get_segments()[0][:, 1].max() < high
        assert line.get_segments()[0][:, 0].max() <= bar + 1e-6


def large(n=4):
    """A graph of 6 blocks, with n heads and 3 n neurons in each."""
    units = [nph.Unit(b, i, kind) for b in range(6) for kind, k in (("head", n), ("neuron", 3 * n)) for i in range(k)]
    site = torch.tensor([2 * u.block + (u.kind == "neuron") for u in units])
    effects = torch.randn(len(units), len(units) + 1, generator=torch.Generator().manual_seed(0))
    effects[:, :-1][site[:, None] >= site] = torch.nan
    return nph.PathGraph(
        units=(tuple(units),), effects=(effects,), total=(torch.randn(len(units)),), value=torch.ones(1), pearson=torch.ones(1),
        target=torch.tensor([-1]), probability=torch.tensor([torch.nan]), names=("a",), settings=nph.Settings(output="energy"),
    )  # fmt: skip


def test_of_a_large_circuit_only_units_with_an_edge():
    graph = large()
    figure = nph.plots.plot_graph(graph, edges=25)
    ends = {unit for edge in graph.edges_of(0)[:25] for unit in edge[:2] if unit}
    title = figure.axes[0].get_title()
    assert f"{len(ends)} of 96 units" in title
    assert "energy" in title
    assert "class" not in title
    drawn = sum(len(c.get_offsets()) for c in figure.axes[0].collections if isinstance(c, PathCollection))
    assert drawn == len(ends)


def test_rendered_alone_and_in_given_axes(graph, demo, tmp_path):
    model, images, _ = demo
    pictures = [nph.plots.plot_graph(graph), nph.plots.plot_graph(large())]
    for units in ("neurons", "heads"):
        paths = nph.find_path(model, images[:1], method="causal", units=units)
        pictures.append(nph.plots.plot_graph(nph.path_graph(model, images[:1], paths)))
    for picture in pictures:
        file = io.BytesIO()
        picture.savefig(file)
        assert np.asarray(Image.open(file).convert("L")).std() > 5
    figure = Figure(figsize=(12, 8))
    axes = figure.subplots(2)
    assert nph.plots.plot_graph(graph, 1, axes[1]) is figure
    assert not axes[0].collections
    assert mpl.get_backend()


def test_of_no_units():
    nothing = nph.PathGraph(
        units=((),), effects=(torch.zeros(0, 1),), total=(torch.zeros(0),), value=torch.ones(1), pearson=torch.ones(1),
        target=torch.tensor([2]), probability=torch.tensor([0.5]), names=("a",),
        settings=nph.Settings(sites=(Place(0, "head", 4),)),
    )  # fmt: skip
    assert "0 edges" in nph.plots.plot_graph(nothing).axes[0].get_title()


def test_bad_input(graph):
    for call, words in (
        ((nph.Settings(),), "graph is a Settings; expected PathGraph"),
        ((graph, 3), "index 3 is out of range; expected 0 to 2"),
        ((graph, -4), "index -4 is out of range"),
    ):
        with pytest.raises(nph.InputError, match=words):
            nph.plots.plot_graph(*call)
    with pytest.raises(nph.InputError, match="edges is 0; expected a whole number of at least 1"):
        nph.plots.plot_graph(graph, edges=0)
