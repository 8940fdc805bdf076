"""Pictures: rendered, and their parts read back."""

import io
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from PIL import Image
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

import neuronpath as nph
from neuronpath import plots
from neuronpath.plots.parts import SCALE, SERIES


@pytest.fixture(scope="module")
def paths(demo):
    return nph.find_path(demo[0], demo[1][:3], method="joint")


@pytest.fixture(scope="module")
def both(demo):
    return nph.find_path(demo[0], demo[1][:3])


@pytest.fixture(scope="module")
def threes(demo):
    images = demo[1][demo[2] == 3]
    return images, nph.find_path(demo[0], images, method="joint")


DEVIATION = pd.DataFrame(
    [
        ("joint", "removed", -0.20, -0.25, -0.15),
        ("random", "removed", -0.01, -0.02, 0.01),
        ("joint", "enhanced", 0.10, 0.08, 0.13),
        ("random", "enhanced", 0.00, np.nan, np.nan),
    ],
    columns=["method", "figure", "mean", "low", "high"],
)
PRUNING = pd.DataFrame(
    [("path", 1.0, 0.9, 0.88, 0.92), ("path", 0.5, 0.8, 0.7, 0.85), ("random", 0.5, 0.4, 0.3, 0.5), ("random", 1, 0.9, 0.88, 0.92)],
    columns=["importance", "keep", "accuracy", "low", "high"],
)  # fmt: skip
SIMILARITY = pd.DataFrame(
    [[1, 0.1, 0.8, 0.2], [0.1, 1, 0.3, 0.7], [0.8, 0.3, 1, 0.25], [0.2, 0.7, 0.25, 1]], list("abcd"), list("abcd")
)


def every_figure(demo, paths, both, threes) -> dict[str, Figure]:
    model, images, _ = demo
    images = images[:3]
    return {
        "path": plots.plot_path(paths, images),
        "path of both": plots.plot_path(both, images),
        "path of both alone": plots.plot_path(both),
        "methods of both": plots.plot_methods({"live": both, "again": both}, images),
        "paths": plots.plot_paths(threes[1]),
        "paths of both": plots.plot_paths(both),
        "distribution of both": plots.plot_distribution(both),
        "methods": plots.plot_methods(
            {"joint": paths, "causal": nph.find_path(model, images, method="causal")}, images
        ),
        "places": plots.plot_places(model, images, paths),
        "gallery": plots.plot_gallery(model, images, paths, 2, names=["a" * 60, "b", "c"], maps=True),
        "distribution": plots.plot_distribution(threes[1]),
        "similarity": plots.plot_similarity(SIMILARITY.rename(str.upper).rename(columns=str.upper)),
        "deviation": plots.plot_deviation(DEVIATION),
        "alpha": plots.plot_alpha(model, images, paths, n_points=3),
        "pruning": plots.plot_pruning(PRUNING),
    }


def test_nothing_is_cut_off_and_pyplot_is_left_alone(demo, paths, both, threes):
    before = dict(mpl.rcParams)
    for name, figure in every_figure(demo, paths, both, threes).items():
        figure.draw_without_rendering()
        width, height = figure.canvas.get_width_height()
        box = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
        assert box.x0 >= -0.5, name
        assert box.y0 >= -0.5, name
        assert box.x1 <= width + 0.5, name
        assert box.y1 <= height + 0.5, name
    assert dict(mpl.rcParams) == before
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


def test_the_points_are_the_path(paths, demo):
    figure = nph.plot_path(paths, demo[1][:3], index=2)
    figure.draw_without_rendering()
    image, ax, _ = figure.axes
    assert ax.lines[0].get_ydata().tolist() == paths.neurons[2, :, 0].tolist()
    assert sum(len(points.get_offsets()) for points in ax.collections) == 8
    raising, lowering = ax.collections
    assert len(raising.get_offsets()) == (paths.attribution[2] >= 0).sum()
    for points, sign in ((raising, 1), (lowering, -1)):
        worth = paths.attribution[2, :, 0].numpy() * sign
        here = worth[worth >= 0] if sign > 0 else worth[worth > 0]
        assert np.array_equal(np.argsort(points.get_sizes()), np.argsort(here))
    assert f"class {int(paths.target[2])}" in ax.get_title()
    assert np.asarray(image.images[0].get_array()).shape[:2] == (32, 32)


@pytest.mark.parametrize(("units", "top_k"), [("neurons", 5), ("both", 3), ("heads", 4)])
def test_labels_of_several_units_a_site_cover_nothing(demo, units, top_k):
    paths = nph.find_path(demo[0], demo[1][:2], method="causal", units=units, top_k=top_k)
    figure = nph.plot_path(paths, index=1)
    figure.draw_without_rendering()
    ax = figure.axes[0]
    boxes = [text.get_window_extent() for text in ax.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    largest = paths.units[1].gather(1, paths.attribution[1].abs().argmax(1, keepdim=True))[:, 0].tolist()
    labels = {text.get_text().removeprefix("h") for text in ax.texts}
    assert {str(unit) for unit in largest} <= labels  # of every site at least the one that counts most


def test_panels_have_one_scale_of_sizes(demo, paths):
    causal = nph.find_path(demo[0], demo[1][:3], method="causal")
    figure = plots.plot_methods({"joint": paths, "causal": causal}, index=2)
    largest = max(float(each.attribution[2].abs().max()) for each in (paths, causal))
    for ax, each in zip(figure.axes, (paths, causal), strict=True):
        areas = np.sort(np.concatenate([points.get_sizes() for points in ax.collections if len(points.get_offsets())]))
        assert areas == pytest.approx(
            np.sort(25 + 275 * each.attribution[2].abs().flatten().numpy() / largest), rel=1e-4
        )
    labels = [text.get_text() for text in figure.legends[0].get_texts() if "attribution" in text.get_text()]
    assert len(labels) == 2
    values = [float(text.split()[1]) for text in labels]
    assert 0 < values[0] < values[1] <= largest
    sizes = [line.get_markersize() ** 2 for line in figure.legends[0].get_lines()]
    assert sizes == pytest.approx([25 + 275 * value / largest for value in values])


@pytest.mark.parametrize("index", range(3))
def test_labels_of_heads_and_neurons_cover_nothing(both, demo, index):
    figure = nph.plot_path(both, demo[1][:3], index)
    figure.draw_without_rendering()
    ax = figure.axes[1]
    boxes = [text.get_window_extent() for text in ax.texts]
    units = both.units_of(index)
    assert [t.get_text() for t in ax.texts] == [f"{'h' if u.kind == 'head' else ''}{u.index}" for u in units]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    points = ax.transData.transform(np.concatenate([points.get_offsets() for points in ax.collections]))
    assert len(points) == 16
    assert not any(box.contains(*point) for box in boxes for point in points)
    line = ax.transData.transform(ax.lines[0].get_xydata())
    between = np.concatenate([np.linspace(a, b, 200) for a, b in pairwise(line)])
    assert not any(box.contains(*point) for box in boxes for point in between)


def test_what_is_left_is_told_in_bars_or_in_the_title(both, demo):
    told = {"as it is": both.probability, "without the path": both.left, "without a random path": both.random_left}
    figure = nph.plot_path(both, demo[1][:3], index=1)
    bars = figure.axes[2]
    assert [bar.get_width() for bar in bars.patches] == [float(value[1]) for value in told.values()]
    assert [text.get_text() for text in bars.texts] == [f"{name} {value[1]:.3f}" for name, value in told.items()]
    assert figure.axes[1].get_title() == f"class {both.target[1]}, probability {both.probability[1]:.3f}"
    alone = nph.plot_path(both, index=1).axes[0].get_title()
    assert alone.endswith(f"without the path {both.left[1]:.3f}, without a random one {both.random_left[1]:.3f}")
    unknown = replace(both, random_left=both.random_left * torch.nan)
    assert len(nph.plot_path(unknown, demo[1][:3]).axes[2].patches) == 2
    classless = replace(unknown, left=both.left * torch.nan)
    figure = nph.plot_path(classless, demo[1][:3])
    assert len(figure.axes) == 2
    assert figure.axes[1].get_title().endswith(f"removal takes {both.removal[0]:.4g}")


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax, demo, paths: nph.plot_path(paths, ax=ax),
        lambda ax, demo, paths: plots.plot_paths(paths, ax=ax),
        lambda ax, demo, paths: plots.plot_distribution(paths, ax=ax),
        lambda ax, demo, paths: plots.plot_alpha(demo[0], demo[1][:3], paths, n_points=2, ax=ax),
        lambda ax, demo, paths: plots.plot_deviation(DEVIATION, ax=ax),
        lambda ax, demo, paths: plots.plot_pruning(PRUNING, ax=ax),
    ],
)
def test_own_axes(demo, paths, draw):
    figure = Figure()
    ax = figure.subplots()
    assert draw(ax, demo, paths) is figure
    assert figure.axes == [ax]
    assert ax.has_data()


def test_a_bundle_counts_what_is_shared(threes):
    paths = threes[1]
    ax = plots.plot_paths(paths).axes[0]
    lines, *points = ax.collections
    edges = {(b, *path[b : b + 2]) for path in map(tuple, paths.neurons[..., 0].tolist()) for b in range(7)}
    drawn = {(int(a[0]), int(a[1]), int(b[1])) for a, b in lines.get_segments()}
    assert drawn == edges
    assert all(np.diff(lines.get_linewidths()) >= 0)
    for block in range(8):
        found, counts = np.unique(paths.neurons[:, block], return_counts=True)
        assert points[block].get_offsets()[:, 1].tolist() == found.tolist()
        assert np.allclose(points[block].get_sizes(), 8 + 220 * counts / len(paths))
        assert str(found[counts.argmax()]) in [text.get_text() for text in ax.texts]


def test_classes_have_a_bundle_each_on_one_scale(demo):
    paths = nph.find_path(demo[0], demo[1][:40], method="activation")
    figure = plots.plot_paths(paths)
    labels = paths.target.unique().tolist()
    panels = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title().split(":")[0] for ax in panels] == [f"class {label}" for label in labels]
    for ax, label in zip(panels, labels, strict=True):
        mine = paths[paths.target == label]
        bundled = [points for points in ax.collections[1:] if points.get_zorder() == 2]
        for block, points in enumerate(bundled):
            found, counts = np.unique(mine.neurons[:, block], return_counts=True)
            assert points.get_offsets()[:, 1].tolist() == found.tolist()
            assert np.allclose(points.get_sizes(), 8 + 220 * counts / len(mine))
    few = [ax for ax in plots.plot_paths(paths, classes=2).axes if ax.get_visible()]
    most = paths.target.bincount().topk(2).values.sum()
    assert sum(int(ax.get_title().split(": ")[1].split()[0]) for ax in few) == most
    assert len(plots.plot_paths(paths, Figure().subplots()).axes) == 1
    with pytest.raises(nph.InputError, match="classes is 0"):
        plots.plot_paths(paths, classes=0)


def test_methods_share_their_bold_neurons(demo, paths):
    causal = nph.find_path(demo[0], demo[1][:3], method="causal")
    figure = plots.plot_methods({"joint": paths, "causal": causal}, index=1)
    assert len(figure.axes) == 2
    for ax, each in zip(figure.axes, (paths, causal), strict=True):
        assert ax.lines[0].get_ydata().tolist() == each.neurons[1, :, 0].tolist()
        bold = [text.get_weight() == "bold" for text in ax.texts]
        assert bold == (paths.neurons[1] == causal.neurons[1])[:, 0].tolist()
    assert figure.axes[0].get_title().startswith("joint: class")


def test_places_show_the_activations_of_the_patches(demo, paths):
    model, images, _ = demo
    figure = plots.plot_places(model, images[:3], paths, index=-1)
    seen = {}
    handles = [
        model.blocks[b].mlp.fc2.register_forward_pre_hook(lambda _, args, b=b: seen.update({b: args[0]}))
        for b in range(8)
    ]
    with torch.no_grad():
        model(images[2:3])
    for handle in handles:
        handle.remove()
    maps = nph.activation_maps(model, images[:3], paths)
    assert maps.shape == (3, 8, 1, 8, 8)
    for block, ax in enumerate(figure.axes[1:9]):
        neuron = int(paths.neurons[2, block, 0])
        values = seen[block][0, 1:, neuron].reshape(8, 8)
        assert torch.allclose(maps[2, block, 0], values, atol=1e-6)
        shown = ax.images[1]
        assert np.allclose(shown.get_array(), values, atol=1e-6)
        assert shown.get_clim() == pytest.approx((min(float(values.min()), 0), max(float(values.max()), 0)), abs=1e-6)
        (bar,) = ax.child_axes
        assert bar.get_xlim() == shown.get_clim()
        assert float(bar.get_xticklabels()[-1].get_text()) == pytest.approx(float(values.max()), rel=0.06)
        assert ax.get_title() == f"block {block}, neuron {neuron}"


def test_places_on_images_that_are_no_squares():
    model = nph.demo.create_model().__class__(
        img_size=(32, 64), patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=3
    )
    images = torch.randn(2, 3, 32, 64, generator=torch.Generator().manual_seed(0))
    paths = nph.find_path(model.eval(), images, method="joint", top_k=2)
    assert nph.activation_maps(model, images, paths).shape == (2, 2, 2, 4, 8)
    figure = plots.plot_places(model, images, paths)
    assert sum(len(ax.images) == 2 for ax in figure.axes) == 4
    with pytest.raises(nph.InputError, match="7 patch tokens form no grid on images of 32 x 32"):
        nph.features.activations.grid_of(7, 32, 32)


def test_a_gallery_holds_the_most_active(demo):
    model, images, _ = demo
    neurons = [(0, 5), (3, 17), (7, 200)]
    seen = {}
    handles = [
        model.blocks[b].mlp.fc2.register_forward_pre_hook(lambda _, args, b=b: seen.update({b: args[0][:, 0]})) for b, _ in neurons
    ]  # fmt: skip
    with torch.no_grad():
        model(images[:100])
    for handle in handles:
        handle.remove()
    best, numbers, pictures = nph.most_active(model, [(batch, "label") for batch in images[:100].split(30)], neurons, 4)
    figure = plots.plot_gallery(model, images[:100], neurons, 4)
    axes = np.reshape(figure.axes, (3, 4))
    for row, (block, neuron) in enumerate(neurons):
        top = seen[block][:, neuron].topk(4)
        assert torch.allclose(best[row], top.values, atol=1e-5)
        assert numbers[row].tolist() == top.indices.tolist()
        for ax, number in zip(axes[row], top.indices.tolist(), strict=True):
            assert f"no. {number}\n" in ax.get_xlabel()
            shown = np.asarray(ax.images[0].get_array()).astype(float)
            assert np.corrcoef(shown.ravel(), images[number].numpy().ravel())[0, 1] > 0.999
            assert torch.equal(pictures[number], images[number])


def test_a_gallery_with_maps_has_a_scale_a_row(demo):
    model, images, _ = demo
    units = [(4, 163), ("head", 1, 3)]
    figure = plots.plot_gallery(model, images[:40], units, 3, maps=True)
    panels, bars = np.reshape(figure.axes[:6], (2, 3)), figure.axes[6:]
    for row, bar, unit in zip(panels, bars, units, strict=True):
        limits = {ax.images[1].get_clim() for ax in row}
        assert limits == {bar.get_ylim()}
        values = np.concatenate([ax.images[1].get_array().ravel() for ax in row])
        assert max(limits)[1] == pytest.approx(values.max())
        assert str(unit[-1]) in row[0].get_ylabel()


def test_a_gallery_of_the_mean_over_all_tokens(demo, both):
    model, images, _ = demo
    seen = []
    handle = model.blocks[4].mlp.fc2.register_forward_pre_hook(lambda _, args: seen.append(args[0][..., 163]))
    with torch.no_grad():
        model(images[:50])
    handle.remove()
    top = seen[0].mean(1).topk(3)
    figure = plots.plot_gallery(model, images[:50], [(4, 163)], 3, token="all")
    told = [f"no. {number}\n{value:#.3g}" for value, number in zip(*map(torch.Tensor.tolist, top), strict=True)]
    assert [ax.get_xlabel() for ax in figure.axes] == told
    of_a_path = plots.plot_gallery(model, images[:50], both, 3, index=1)  # read on all tokens
    same = plots.plot_gallery(model, images[:50], both.units_of(1), 3, token="all")
    assert [ax.get_xlabel() for ax in of_a_path.axes] == [ax.get_xlabel() for ax in same.axes]


@pytest.mark.parametrize("top_k", [1, 3])
def test_strips_are_the_frequencies(demo, top_k):
    paths = nph.find_path(demo[0], demo[1][:30], method="activation", units="both", top_k=top_k)
    ax, scale = plots.plot_distribution(paths).axes
    for site, shares in enumerate(nph.frequency(paths)):
        at = site // 2 + (-0.22 if site % 2 == 0 else 0.22)
        mine = [bar for bar in ax.patches if bar.get_x() + bar.get_width() / 2 == pytest.approx(at)]
        heights = [bar.get_height() for bar in mine]
        assert heights == pytest.approx((shares[shares > 0].sort(descending=True).values / top_k).tolist())
        grey = [rgb_to_grey(bar.get_facecolor()) for bar in mine]
        assert all(a >= b for a, b in pairwise(grey))  # the commoner, the brighter, in print too
    bold = [text.get_text() for text in ax.texts if text.get_weight() == "bold"]
    ties = [shares.max() for shares in nph.frequency(paths)]
    assert [text.split("\n")[1] for text in bold] == [f"{share:.0%}" for share in ties if share / top_k > 0.075]
    assert scale.get_ylabel() == "images whose path holds the unit"


def rgb_to_grey(colour):
    return float(np.dot(colour[:3], (0.299, 0.587, 0.114)))


def test_the_scale_of_maps_is_even_in_grey():
    grey = [rgb_to_grey(mpl.colormaps[SCALE](share)) for share in np.linspace(0, 1, 60)]
    steps = np.diff(grey)
    assert (steps > 0).all()
    assert steps.max() < 4 * steps.mean()


def test_the_heat_map_is_in_scipys_order():
    distance = 1 - SIMILARITY.to_numpy()
    order = leaves_list(linkage(squareform(distance), "average", optimal_ordering=True))
    top, ax = plots.plot_similarity(SIMILARITY).axes[:2]
    assert [t.get_text() for t in ax.get_yticklabels()] == [SIMILARITY.index[i] for i in order]
    assert np.array_equal(ax.images[0].get_array(), SIMILARITY.to_numpy()[np.ix_(order, order)])
    joints = top.collections[0].get_segments()
    assert sorted(j[1, 1] for j in joints) == pytest.approx([0.2, 0.3, 1 - (0.1 + 0.2 + 0.3 + 0.25) / 4])
    assert ax.images[0].get_clim() == (0.1, 0.8)


def test_bars_and_intervals_are_the_tables():
    ax = plots.plot_deviation(DEVIATION).axes[0]
    bars = ax.patches
    assert [bar.get_height() for bar in bars] == [-0.20, 0.10, -0.01, 0.00]
    assert [to_rgb(bar.get_facecolor()) for bar in bars[::2]] == [to_rgb(c) for c in SERIES[:2]]
    intervals = [container for container in ax.containers if isinstance(container, ErrorbarContainer)]
    ends = [line for interval in intervals for line in interval.lines[2][0].get_segments()]
    assert [sorted(end[:, 1]) for end in ends[:3]] == [
        pytest.approx(e) for e in ([-0.25, -0.15], [0.08, 0.13], [-0.02, 0.01])
    ]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["removed", "enhanced"]


def test_evaluate_s_table_has_an_axis_for_each_unit():
    values = {
        "removed": ("points", -0.2),
        "enhanced": ("points", 0.1),
        "flips": ("share", 0.5),
        "nothing": ("none", np.nan),
    }
    table = pd.DataFrame(
        [
            (method, images, figure, unit, by * mean, by * mean, by * mean)
            for method in ("joint", "random")
            for images, by in (("all", 1), ("wrong", 2))
            for figure, (unit, mean) in values.items()
        ],
        columns=["method", "images", "figure", "unit", "mean", "low", "high"],
    )
    for images, by in (("all", 1), ("wrong", 2)):
        panels = plots.plot_deviation(table, images=images).axes
        assert [ax.get_ylabel() for ax in panels] == ["points", "share"]
        heights = [[bar.get_height() for bar in ax.patches] for ax in panels]
        assert heights == [[by * h for h in (-0.2, 0.1, -0.2, 0.1)], [by * 0.5, by * 0.5]]
    one = plots.plot_deviation(table[table["figure"] == "flips"], ax=Figure().subplots())
    assert one.axes[0].get_ylabel() == "share"
    with pytest.raises(nph.InputError, match=r"several units \(points, share"):
        plots.plot_deviation(table, ax=Figure().subplots())
    with pytest.raises(nph.InputError, match="images 'some' is unknown; expected one of 'all', 'wrong'"):
        plots.plot_deviation(table, images="some")
    with pytest.raises(nph.InputError, match="no mean that is a number"):
        plots.plot_deviation(table[table["figure"] == "nothing"])


def test_curves_of_pruning_are_the_tables():
    ax = plots.plot_pruning(PRUNING).axes[0]
    assert [line.get_xydata().tolist() for line in ax.lines] == [[[0.5, 0.8], [1, 0.9]], [[0.5, 0.4], [1, 0.9]]]
    ends = np.concatenate(ax.collections[0].get_segments())
    assert ends == pytest.approx(np.array([(0.5, 0.7), (0.5, 0.85), (1.0, 0.88), (1.0, 0.92)]))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["path", "random"]


def test_curves_of_recovered_models_are_dashed():
    both = pd.concat(
        [PRUNING.assign(recovered=False), PRUNING.assign(recovered=True, low=0.0, accuracy=0.95, high=1.0)]
    )
    ax = plots.plot_pruning(both).axes[0]
    kinds = {curve.get_label(): curve.lines[0].get_linestyle() for curve in ax.containers}
    assert kinds == {"path": "-", "random": "-", "path, recovered": "--", "random, recovered": "--"}


def test_shares_that_halve_stand_at_equal_distances():
    halving = pd.DataFrame(
        {"importance": "path", "keep": [0.25, 0.125, 0.5], "accuracy": 0.9, "low": 0.8, "high": 0.95}
    )
    ax = plots.plot_pruning(halving, log=True).axes[0]
    at = ax.transData.transform([(share, 0.9) for share in (0.125, 0.25, 0.5)])[:, 0]
    assert at[1] - at[0] == pytest.approx(at[2] - at[1])
    assert [text.get_text() for text in ax.get_xticklabels()] == ["12.5%", "25%", "50%"]
    assert not ax.xaxis.get_minorticklocs().size


def test_the_slope_is_the_curves_own_and_integrates_to_the_change(demo, paths):
    model, images, _ = demo
    curve = plots.plot_alpha(model, images[:3], paths, 1).axes[0].lines
    slope = plots.plot_alpha(model, images[:3], paths, 1, gradient=True).axes[0].lines[0]
    alpha, value = curve[0].get_data()
    assert value[-1] == pytest.approx(float(paths.probability[1]), abs=1e-5)
    assert value[-1] - value[0] == pytest.approx(float(paths.output_change[1]), abs=1e-5)
    assert np.trapezoid(slope.get_ydata(), alpha) == pytest.approx(float(paths.output_change[1]), rel=2e-3)
    between = np.diff(value) / np.diff(alpha)
    assert np.allclose(
        between, (slope.get_ydata()[1:] + slope.get_ydata()[:-1]) / 2, atol=1e-3 * np.abs(between).max() + 1e-4
    )
    assert len(curve[1].get_xdata()) == paths.n_steps[1]


@pytest.mark.parametrize("baseline", ["zero", "mean", "paired"])
def test_along_a_live_path(demo, baseline):
    model, images, _ = demo
    reference = {"zero": None, "mean": images[100:120], "paired": images[100:103]}[baseline]
    paths = nph.find_path(model, images[3:6], baseline=baseline, reference=reference)
    value = plots.plot_alpha(model, images[3:6], paths, 1, reference=reference, n_points=5).axes[0].lines[0].get_ydata()
    with nph.remove(model, paths, baseline=baseline, reference=reference), torch.no_grad():
        left = model(images[3:6]).softmax(1)[1, paths.target[1]]
    assert value[0] == pytest.approx(float(left), abs=1e-5)
    assert value[-1] == pytest.approx(float(paths.probability[1]), abs=1e-5)
    figure = plots.plot_alpha(model, images[3:6], paths, 1, reference=reference, gradient=True, n_points=101)
    alpha, slope = figure.axes[0].lines[0].get_data()
    assert np.trapezoid(slope, alpha) == pytest.approx(float(paths.removal[1]), rel=2e-3)


def test_along_a_path_of_an_output_of_ones_own(demo):
    model, images, _ = demo

    def margin(logits, target):
        return logits[:, 3] - logits[:, 5]

    paths = nph.find_path(model, images[:2], method="joint", output=margin)
    with pytest.raises(nph.InputError, match="a function of your own; expected it again"):
        plots.plot_alpha(model, images[:2], paths)
    line = plots.plot_alpha(model, images[:2], paths, output=margin, n_points=5).axes[0].lines[0]
    assert line.get_ydata()[-1] - line.get_ydata()[0] == pytest.approx(float(paths.output_change[0]), abs=1e-4)


def test_another_output_along_a_path_is_named_and_measured(demo, paths):
    """Frozen as in the clean run at alpha = 1: there F is the model's own logit."""
    model, images, _ = demo
    ax = plots.plot_alpha(model, images[:3], paths, 1, output="logit", n_points=3).axes[0]
    value = ax.lines[0].get_ydata()
    with torch.no_grad():
        assert value[-1] == pytest.approx(float(model(images[:3])[1, paths.target[1]]), abs=1e-4)
    assert ax.get_ylabel().startswith("logit of class")
    assert ax.get_title() == f"F(1) - F(0) = {value[-1] - value[0]:.4g}"
    own = plots.plot_alpha(model, images[:3], paths, 1, output="prob", n_points=3).axes[0]
    assert own.get_ylabel().startswith("probability of class")
    assert own.get_title().startswith(f"F(1) - F(0) = {float(paths.output_change[1]):.4g}, delta ")


def test_names_are_shown_letter_by_letter(demo):
    name = "a $x^{$ of 5_a"
    paths = nph.find_path(demo[0], demo[1][:1], names=["/folder/" + name])
    figures = [
        plots.plot_path(paths, demo[1][:1]),
        plots.plot_methods({name: paths}),
        plots.plot_gallery(demo[0], demo[1][:1], [(0, 0)], names=[name]),
        plots.plot_deviation(DEVIATION.replace("joint", name)),
        plots.plot_similarity(SIMILARITY.rename({"a": name}).rename(columns={"a": name})),
    ]
    for figure in figures:
        figure.draw_without_rendering()  # matplotlib refuses mathematics that it can't read
    title = figures[0].axes[0].title
    assert title._preprocess_math(title.get_text()) == (name, False)


def test_a_model_without_classes_has_none_in_its_titles(demo):
    body = demo[0].__class__(img_size=16, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=0).eval()
    images = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    paths = nph.find_path(body, images, method="joint", output=lambda features, target: features[:, 0])
    assert plots.plot_path(paths).axes[0].get_title().startswith("joint attribution score")
    assert plots.plot_places(body, images, paths).axes[0].get_xlabel() == ""


def test_bad_arguments(paths, demo):
    model, images, _ = demo
    refused = [
        ("index 3 is out of range", lambda: nph.plot_path(paths, index=3)),
        ("2 images for 3 paths", lambda: nph.plot_path(paths, images[:2])),
        ("paths is [1, 2]; expected NeuronPaths", lambda: plots.plot_paths([1, 2])),
        ("names no methods", lambda: plots.plot_methods({})),
        ("2 images for 3 paths", lambda: plots.plot_places(model, images[:2], paths)),
        ("neuron 256 of block 0", lambda: plots.plot_gallery(model, images[:3], [(0, 256)])),
        ("block 8 is out of range", lambda: plots.plot_gallery(model, images[:3], [(8, 0)])),
        ("n is 0", lambda: plots.plot_gallery(model, images[:3], [(0, 0)], 0)),
        ("names holds 1 names", lambda: plots.plot_gallery(model, images[:3], [(0, 0)], names=["a"])),
        ("n_points is 1", lambda: plots.plot_alpha(model, images[:3], paths, n_points=1)),
        ("lacks the column 'low'", lambda: plots.plot_deviation(DEVIATION.drop(columns="low"))),
        ("lies outside low to high", lambda: plots.plot_pruning(PRUNING.assign(low=0.95))),
        ("two rows for {'method': 'joint'", lambda: plots.plot_deviation(pd.concat([DEVIATION, DEVIATION]))),
        ("4 rows and 3 columns", lambda: plots.plot_similarity(SIMILARITY.drop(columns="b"))),
        ("a and b differ", lambda: plots.plot_similarity(SIMILARITY.replace({"b": {0.1: 0.4}}))),
    ]  # fmt: skip
    for words, call in refused:
        with pytest.raises(nph.InputError) as error:
            call()
        assert words in str(error.value)
        assert "\n" not in str(error.value)


def test_a_notebook_shows_a_figure(paths):
    figure = nph.plot_path(paths)
    with Image.open(io.BytesIO(figure._repr_png_())) as picture:
        assert picture.size == figure.canvas.get_width_height()


def test_a_script_shows_a_figure(paths, capsys, monkeypatch):
    figure = nph.plot_path(paths)
    figure.show()
    file = Path(capsys.readouterr().out.strip())
    try:
        with Image.open(file) as picture:
            assert picture.size == figure.canvas.get_width_height()
    finally:
        file.unlink()
    assert not sys.modules["matplotlib.pyplot"].get_fignums()
    seen = []
    display = pytest.importorskip("IPython.display")
    monkeypatch.setattr(display, "display", seen.append)
    monkeypatch.setattr("IPython.get_ipython", lambda: SimpleNamespace(kernel=None))
    figure.show()
    assert seen == [figure]
