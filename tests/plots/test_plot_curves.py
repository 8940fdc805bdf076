"""The curves drawn: what the lines and bands say is what was measured."""

import numpy as np
import pytest
import torch
from matplotlib.collections import PolyCollection

import neuronpath as nph
from neuronpath import plots


def made_up(seed: int, n_images: int) -> nph.Faithfulness:
    draw = np.random.default_rng(seed)
    alone = torch.from_numpy(np.sort(draw.normal(size=(n_images, 5)), 1)).float()
    return nph.Faithfulness(
        k=torch.tensor([0, 1, 3, 10, 40]),
        alone=alone,
        without=-alone,
        probability_alone=alone.sigmoid(),
        decided_without=torch.from_numpy(draw.random((n_images, 5)) < 0.5),
    )


def test_lines_and_bands(tmp_path):
    curves = {"ours": made_up(0, 200), "$theirs$": made_up(1, 80)}
    figure = plots.plot_curves(curves)
    kept, stands = figure.axes
    assert (kept.get_xscale(), stands.get_xscale()) == ("log", "log")
    for ax, values in (
        (kept, {name: (c.alone - c.alone[:, :1]) / (c.alone[:, -1:] - c.alone[:, :1]) for name, c in curves.items()}),
        (stands, {name: c.decided_without.double() for name, c in curves.items()}),
    ):
        lines = [line for line in ax.lines if len(line.get_xdata()) == 4]
        bands = [part for part in ax.collections if isinstance(part, PolyCollection)]
        assert (len(lines), len(bands)) == (2, 2)
        for line, band, each in zip(lines, bands, values.values(), strict=True):
            assert line.get_xdata().tolist() == [1, 3, 10, 40]
            assert np.allclose(line.get_ydata(), each.mean(0)[1:], atol=1e-6)
            corners = band.get_paths()[0].vertices
            spread = float(each[:, 1].std()) / len(each) ** 0.5  # of the mean at k = 1
            height = np.ptp(corners[np.isclose(corners[:, 0], 1), 1])
            assert height == pytest.approx(2 * 1.96 * spread, rel=0.2)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[0].startswith(f"ours: CPR {curves['ours'].cpr.mean():.2f}, log-CPR ")
    assert labels[1].startswith(r"\$theirs\$: ")
    figure.savefig(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_one_and_none():
    figure = plots.plot_curves(made_up(0, 3))
    assert figure.legends[0].get_texts()[0].get_text().startswith("CPR ")
    with pytest.raises(nph.InputError, match="curves holds none"):
        plots.plot_curves({})
    with pytest.raises(nph.InputError, match="curves is"):
        plots.plot_curves([1])
