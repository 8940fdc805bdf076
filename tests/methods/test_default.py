"""What find_path does where nothing is asked for: a head and a neuron a block, and figures that plain hooks give too."""

import warnings

import pytest
import torch
from others import OwnViT
from small import as_logits, redrawn

import neuronpath as nph


def changed(model, units, factor, images):
    """The logits when every image's units (B, S, 1), heads before neurons, are multiplied on all tokens: plain hooks."""
    found = []
    for image, path in zip(images, units[..., 0].tolist(), strict=True):
        handles = []
        for block, head, neuron in zip(model.blocks, path[::2], path[1::2], strict=True):
            size = block.attn.head_dim

            def scale(_module, args, at):
                x = args[0].clone()
                x[..., at] *= factor
                return (x,)

            for layer, at in ((block.attn.proj, slice(size * head, size * (head + 1))), (block.mlp.fc2, neuron)):
                handles.append(layer.register_forward_pre_hook(lambda m, a, at=at: scale(m, a, at)))
        found.append(as_logits(model, image[None]))
        for handle in handles:
            handle.remove()
    return torch.cat(found)


def test_the_figures_are_those_of_plain_hooks(demo):
    model, images, _ = demo
    paths = nph.find_path(model, images[:6])
    assert (paths.settings.method, paths.settings.units, paths.settings.token) == ("live", "both", "all")
    without, twice = (changed(model, paths.units, factor, images[:6]) for factor in (0.0, 2.0))

    def of_target(logits):
        return logits.softmax(1).gather(1, paths.target[:, None])[:, 0]

    assert torch.allclose(of_target(without), paths.left, atol=1e-6)
    assert torch.allclose(paths.probability - paths.left, paths.removal, atol=1e-6)
    assert torch.allclose(of_target(twice) - paths.probability, paths.enhancement, atol=1e-6)
    assert torch.equal(without.argmax(1), paths.predicted_without)
    assert torch.equal(without.argmax(1) != as_logits(model, images[:6]).argmax(1), paths.decision_flipped)
    control = nph.find_path(model, images[:6], method="random", units="both", token="all", seed=1)
    assert torch.allclose(control.left, paths.random_left, atol=1e-6)


def test_what_is_printed(demo):
    model, images, _ = demo
    paths = nph.find_path(model, images[:6])
    columns = paths.columns()
    assert list(columns) == ["image", "predicted", "path", "without it", "without random", "flips", "relative delta"]
    assert [cell != "no" for cell in columns["flips"]] == paths.decision_flipped.tolist()
    brackets = sum(cell.count("(") for cell in columns["path"])
    assert brackets == int((paths.attribution < 0).sum()) > 0
    taken = 1 - (paths.left / paths.probability).mean()
    assert f"takes {taken:.0%} of" in paths.summary()
    assert f"changes {int(paths.decision_flipped.sum())} of 6 decisions" in paths.summary()
    loose = nph.find_path(model, images[:6], n_steps=2)
    marked = [cell.endswith("!") for cell in loose.columns()["relative delta"]]
    assert marked == (loose.relative_delta > 1e-3).tolist()
    assert any(marked)


def test_a_model_whose_heads_cannot_be_reached_gets_neurons_and_a_line():
    model, images = redrawn(OwnViT()), torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with pytest.warns(
        UserWarning, match="the attention heads of OwnViT can't be reached: .*: the path is of neurons alone"
    ):
        paths = nph.find_path(model, images)
    assert (paths.settings.units, paths.settings.method) == ("neurons", "live")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nph.find_path(model, images, units="neurons")
        nph.find_paths(model, images, ["live", "random"])  # all of neurons: nothing to warn of
    with pytest.raises(nph.InputError, match="heads of OwnViT can't be reached"):
        nph.find_path(model, images, units="both")


def test_several_ways_are_of_as_many_units(demo):
    model, images, _ = demo
    found = nph.find_paths(model, images[:2], ["live", "causal", "random"])
    assert {paths.units.shape for paths in found.values()} == {(2, 16, 1)}
    assert {paths.settings.token for paths in found.values()} == {"all"}
    found = nph.find_paths(model, images[:2], ["joint", "live", "paper"])
    assert {paths.units.shape for paths in found.values()} == {(2, 8, 1)}
    with pytest.raises(nph.InputError, match="'paper' finds paths of neurons; expected units='neurons', not 'both'"):
        nph.find_paths(model, images[:2], ["live", "paper"])
    with pytest.raises(nph.InputError, match="at least one method or preset"):
        nph.find_paths(model, images[:2], [])
    found = nph.find_paths(model, images[:2], ["live", "joint"], reference=images[2:20])
    assert [paths.settings.baseline for paths in found.values()] == ["mean", "zero"]


def test_files_of_version_2_lack_what_was_not_known(demo, tmp_path):
    model, images, _ = demo
    paths = nph.find_path(model, images[:2])
    text = paths.save(tmp_path / "p.json").read_text().replace('"version": 3', '"version": 2')
    for name in ("left", "random_left", "enhancement", "predicted_without"):
        text = text.replace(f'"{name}"', f'"not_{name}"')
    (tmp_path / "old.json").write_text(text)
    old = nph.NeuronPaths.load(tmp_path / "old.json")
    assert torch.equal(old.units, paths.units)
    assert old.left.isnan().all()
    assert (old.predicted_without == -1).all()
    assert not old.decision_flipped.any()
    assert old.columns()["without it"] == ["", ""]
