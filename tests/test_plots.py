"""Pictures: rendered, and their parts read back."""

import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

import neuronpath as nph


@pytest.fixture(scope="module")
def paths(demo):
    return nph.find_path(demo[0], demo[1][:3])


def test_the_points_are_the_path(paths, demo):
    figure = nph.plot_path(paths, demo[1][:3], index=2)
    figure.canvas.draw()
    image, ax = figure.axes
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


def test_own_axes_and_no_pyplot_state(paths):
    before = dict(mpl.rcParams)
    figure = Figure()
    ax = figure.subplots()
    assert nph.plot_path(paths, ax=ax) is figure
    assert dict(mpl.rcParams) == before
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


def test_nothing_is_cut_off(paths, demo):
    figure = nph.plot_path(paths, demo[1][:3])
    figure.canvas.draw()
    width, height = figure.canvas.get_width_height()
    box = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= width
    assert box.y1 <= height


def test_bad_arguments(paths, demo):
    with pytest.raises(nph.InputError, match="index 3"):
        nph.plot_path(paths, index=3)
    with pytest.raises(nph.InputError, match="2 images for 3 paths"):
        nph.plot_path(paths, demo[1][:2])
