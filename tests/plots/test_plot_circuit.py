"""The picture of a circuit: its points, names and bars read back."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.collections import PathCollection
from PIL import Image

import neuronpath as nph
from neuronpath.units import Place


@pytest.fixture(scope="module")
def circuit(demo):
    return nph.find_circuit(demo[0], demo[1][3:6], reference=nph.demo.load("train")[1][:40], names=["a", "b", "$c"])


def large(circuit, sizes=(6, 25)):
    """A circuit of 12 blocks with at most so many heads and neurons in each, drawn at random: about 300 units."""
    draw = np.random.default_rng(0)
    places = [Place(b, kind, n) for b in range(12) for kind, n in (("head", 6), ("neuron", 1536))]
    most = dict(zip(("head", "neuron"), sizes, strict=True))
    units = [
        nph.Unit(p.block, int(i), p.kind)
        for p in places
        for i in draw.choice(p.width, min(p.width, most[p.kind] * (1 + (p.block > 8))), replace=False)
    ]
    shuffled = tuple(units[i] for i in draw.permutation(len(units)))
    return replace(circuit[0], units=(shuffled,), settings=replace(circuit.settings, sites=tuple(places)))


def points_of(ax):
    """The points of each kind, (n, 2), and their areas: neurons stand below the heads."""
    found = [(np.asarray(c.get_offsets()), c.get_sizes()) for c in ax.collections if isinstance(c, PathCollection)]
    return sorted(found, key=lambda each: each[0][:, 1].min())


def image_of(figure):
    file = io.BytesIO()
    figure.savefig(file)
    return np.asarray(Image.open(file).convert("L"))


@pytest.mark.parametrize("index", [0, 2])
def test_points_are_the_units(circuit, index):
    ax = nph.plots.plot_circuit(circuit, index=index).axes[0]
    units = circuit.units[index]
    drawn = points_of(ax)
    kinds = [kind for kind in ("neuron", "head") if any(u.kind == kind for u in units)]
    assert len(drawn) == len(kinds)
    for kind, (places, areas) in zip(kinds, drawn, strict=True):
        here = [u for u in units if u.kind == kind]
        assert sorted(places[:, 0].round()) == sorted(u.block for u in here)
        for block in {u.block for u in here}:  # the more important the lower, and the larger
            column = areas[places[:, 0].round() == block][places[places[:, 0].round() == block, 1].argsort()]
            assert (np.diff(column) < 0).all()
    labels = sorted(text.get_text() for text in ax.texts)
    assert labels == sorted(f"h{u.index}" if u.kind == "head" else str(u.index) for u in units)
    ranks = np.concatenate([areas for _, areas in drawn])
    assert len(set(ranks.tolist())) == len(units)  # each rank its own area
    assert f"{len(units)} units of 2,080 that keep the decision" in ax.get_title()


def test_names_stand_at_their_points(circuit):
    ax = nph.plots.plot_circuit(circuit, index=1).axes[0]
    columns = {}
    for u in circuit.units[1]:
        columns.setdefault((u.block, u.kind), []).append(f"h{u.index}" if u.kind == "head" else str(u.index))
    base = {kind: y for y, kind in zip(ax.get_yticks(), [t.get_text()[:-1] for t in ax.get_yticklabels()], strict=True)}
    for text in ax.texts:
        block, kind = round(text.xy[0]), "head" if text.get_text().startswith("h") else "neuron"
        assert columns[block, kind][round(text.xy[1] - base[kind])] == text.get_text()


def test_bars_are_the_figures(circuit, demo):
    for index in range(3):
        one = circuit[index]
        axes = nph.plots.plot_circuit(circuit, demo[1][3:6], index).axes
        bars = axes[2].patches
        names = [label.get_text() for label in axes[2].get_yticklabels()]
        assert names == ["as it is", "circuit alone", "random alone", "without it", "without random"]
        figures = [one.probability, one.kept, one.random_kept, one.left, one.random_left]
        assert [bar.get_width() for bar in bars] == pytest.approx([float(f) for f in figures])
        words = " ".join(text.get_text() for text in axes[2].texts)
        assert words.count("otherwise") == int(one.decision_flipped) + int(~one.decision_kept)
        (goal,) = (line.get_xdata()[0] for line in axes[2].lines)
        assert goal == pytest.approx(0.9 * float(one.probability))
        assert len(axes[0].images) == 1


def test_without_controls_and_of_break(circuit):
    nothing = torch.full((3,), torch.nan)
    other = replace(circuit, criterion="break", random_kept=nothing, random_left=nothing, found=torch.zeros(3) > 1)
    figure = nph.plots.plot_circuit(other)
    assert len(figure.axes[1].patches) == 3
    assert not figure.axes[1].lines
    assert figure.axes[0].get_title().endswith("that break the decision: not found")
    assert image_of(figure).std() > 5
    none = replace(circuit[0], units=((),), target=torch.tensor([5]))
    assert "0 units" in nph.plots.plot_circuit(none).axes[0].get_title()
    assert image_of(nph.plots.plot_circuit(circuit[2])).std() > 5  # a name with a dollar in it


def test_three_hundred_units_are_readable(circuit):
    many = large(circuit)
    assert 300 < len(many.units[0]) < 600
    figure = nph.plots.plot_circuit(many)
    ax = figure.axes[0]
    drawn = points_of(ax)
    assert sum(len(places) for places, _ in drawn) == len(many.units[0])
    image_of(figure)  # lays it out
    corners = np.concatenate([ax.transData.transform(places) for places, _ in drawn])
    radii = np.concatenate([np.sqrt(areas) / 2 for _, areas in drawn]) * figure.dpi / 72
    gaps = np.linalg.norm(corners[:, None] - corners[None], axis=2) - radii[:, None] - radii[None]
    np.fill_diagonal(gaps, np.inf)
    assert gaps.min() > 0  # no point covers another
    boxes = [text.get_window_extent() for text in ax.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    for box in boxes:
        inside = (
            np.abs(corners - [(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2]) < [box.width / 2, box.height / 2]
        ).all(1)
        assert not inside.any()
    counts = [int(text.get_text()) for text in ax.texts if text.get_weight() == "bold"]
    assert sum(counts) == len(many.units[0])
    width, height = figure.get_size_inches()
    assert width < 30
    assert height < 8


def test_bad_input(circuit, demo):
    for call, words in (
        ((nph.Settings(),), "circuit is a Settings; expected Circuit"),
        ((circuit, None, 3), "index 3 is out of range; expected 0 to 2"),
        ((circuit, demo[1][:2]), r"images has shape \(2, 1, .*; expected \(3, C, H, W\)"),
    ):
        with pytest.raises(nph.InputError, match=words):
            nph.plots.plot_circuit(*call)
