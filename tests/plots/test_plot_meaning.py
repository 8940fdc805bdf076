"""The faces of units, read back from the axes."""

import numpy as np
import pytest

import neuronpath as nph


def test_a_row_a_unit(demo):
    model, images, _ = demo
    units = [(4, 163), ("head", 7, 1)]
    figure = nph.plots.plot_meaning(model, images[:40], units, 2, names=["five", "$x"], steps=4)
    axes = np.array(figure.axes).reshape(2, 5)
    best, numbers, _ = nph.most_active(model, images[:40], units, 2)
    made = nph.visualise(model, units, steps=4)
    driven = nph.pixel_attribution(model, images[numbers[0]], units[:1]).attribution[:, 0, 0].numpy()
    for row in range(2):
        said = [ax.get_xlabel() for ax in axes[row]]
        assert [float(said[at]) for at in (0, 1, 3)] == pytest.approx(
            [float(made.values[row]), *best[row].tolist()], rel=0.01
        )
    assert np.allclose(axes[0, 2].images[0].get_array(), driven[0], atol=1e-4)
    assert np.allclose(axes[0, 4].images[0].get_array(), driven[1], atol=1e-4)
    low, high = axes[0, 2].images[0].get_clim()
    assert low == -high
    assert axes[0, 0].get_ylabel() == "block 4\nneuron 163\nfive"
    figure.canvas.draw()  # "$x" is no formula


def test_names_that_are_not_as_many(demo):
    with pytest.raises(nph.InputError, match="names holds 1 names for 2 units; expected one a unit"):
        nph.plots.plot_meaning(demo[0], demo[1][:4], [(4, 3), (4, 4)], 1, names=["a"], steps=1)
