"""The live path: near the best that there is, by brute force; the same in any batch; what it promises of the digits."""

import itertools

import pytest
import torch

import neuronpath as nph


def taken(model, images, path, target):
    """What removing units (S, 1) on all tokens takes from the target's probability, (B,)."""
    with torch.no_grad(), nph.remove(model, path, units="both", tokens="all"):
        after = model(images).softmax(1).gather(1, target[:, None])[:, 0]
    with torch.no_grad():
        return model(images).softmax(1).gather(1, target[:, None])[:, 0] - after


def test_near_the_best_of_all_paths(random_vit, random_images):
    model = random_vit(5, depth=2, embed_dim=8, num_heads=2, mlp_ratio=1)
    images = random_images(5, 12)
    paths = nph.find_path(model, images, method="live", effort="thorough")
    all_paths = itertools.product(range(2), range(8), range(2), range(8))
    every = torch.stack([taken(model, images, torch.tensor(p)[:, None], paths.target) for p in all_paths])  # (256, B)
    assert (paths.removal <= every.amax(0) + 1e-6).all(), "no path takes more than the best"
    found = torch.stack([(every[:, i] < paths.removal[i] - 1e-6).float().mean() for i in range(12)])
    assert found.mean() > 0.97, "of all paths nearly all take less"
    assert (paths.removal >= 0.8 * every.amax(0)).float().mean() >= 0.75


def test_batches_and_pieces_change_nothing(demo):
    model, images, _ = demo
    together = nph.find_path(model, images[:6], method="live")
    pieces = nph.find_path(model, images[:6], method="live", internal_batch_size=1)
    alone = nph.concat([nph.find_path(model, images[i : i + 1], method="live") for i in range(6)])
    for other in (pieces, alone):
        assert torch.equal(other.units, together.units)
        assert torch.allclose(other.removal, together.removal, atol=1e-5)
        assert torch.allclose(other.attribution, together.attribution, atol=1e-4)


@pytest.mark.parametrize(("units", "sites"), [(None, 16), ("neurons", 8), ("heads", 8)])
def test_what_it_takes_of_the_digits(demo, units, sites):
    model, images, _ = demo
    paths = nph.find_path(model, images[:24], method="live", units=units)
    assert paths.units.shape == (24, sites, 1)
    assert paths.settings.token == "all"
    control = nph.find_path(model, images[:24], method="random", units=units or "both", token="all")
    assert paths.removal.mean() > {16: 0.75, 8: 0.03}[sites] * paths.probability.mean()
    assert paths.removal.mean() > 4 * control.removal.mean()
    assert (paths.attribution < 0).float().mean() < 0.12
    assert -paths.attribution.clamp(max=0).sum() < 0.03 * paths.attribution.sum()  # and these are small
    assert paths.score.isnan().all()


def test_more_units_and_effort(demo, tmp_path):
    model, images, _ = demo
    one = nph.find_path(model, images[:4], method="live", units="neurons")
    three = nph.find_path(model, images[:4], method="live", units="neurons", top_k=3)
    assert three.units.shape == (4, 8, 3)
    assert (three.removal > one.removal).all()
    thorough = nph.find_path(model, images[:4], method="live", units="neurons", effort="thorough")
    assert (thorough.removal >= one.removal - 1e-6).all()
    assert nph.NeuronPaths.load(one.save(tmp_path / "p.json")) == one
    assert "score" not in one.columns()
    with pytest.raises(nph.InputError, match="effort 'thorough' is none of method 'random'"):
        nph.find_path(model, images[:4], method="random", effort="thorough")
