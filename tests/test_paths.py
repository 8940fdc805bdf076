"""NeuronPaths: what goes out comes back, and what is damaged doesn't."""

import dataclasses
import json

import numpy as np
import pytest
import torch

import neuronpath as nph


@pytest.fixture(scope="module")
def paths(demo):
    return nph.find_path(demo[0], demo[1][:5], top_k=2, names=list("abcde"))


def test_round_trip(paths, tmp_path):
    file = paths.save(tmp_path / "p.json")
    loaded = nph.NeuronPaths.load(file)
    assert loaded == paths
    for field in dataclasses.fields(paths):
        mine, theirs = getattr(paths, field.name), getattr(loaded, field.name)
        if isinstance(mine, torch.Tensor):
            assert torch.equal(mine, theirs)
            assert mine.dtype == theirs.dtype
        else:
            assert mine == theirs


def test_never_over_an_existing_file(paths, tmp_path):
    file = tmp_path / "p.json"
    file.write_text("precious")
    with pytest.raises(nph.InputError, match=r"p\.json exists already"):
        paths.save(file)
    assert file.read_text() == "precious"
    paths.save(file, overwrite=True)
    assert nph.NeuronPaths.load(file) == paths


def test_a_failing_save_leaves_nothing(paths, tmp_path, monkeypatch):
    broken = dataclasses.replace(paths, settings={"nan": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        broken.save(tmp_path / "p.json")
    assert not list(tmp_path.iterdir())


def damage(document: dict, how: str) -> str:
    if how == "version":
        document["version"] = 2
    elif how == "format":
        document["format"] = "something.else"
    elif how == "column":
        del document["paths"][1]["score"]
    elif how == "shape":
        document["paths"][1]["neurons"].pop()
    elif how == "kind":
        document["paths"][1]["target"] = "seven"
    elif how == "list":
        return "[]"
    text = json.dumps(document)
    return text[: len(text) // 2] if how == "cut" else text


@pytest.mark.parametrize("how", ["version", "format", "column", "shape", "kind", "list", "cut"])
def test_damaged_files_are_refused_in_one_line(paths, tmp_path, how):
    file = paths.save(tmp_path / "p.json")
    file.write_text(damage(json.loads(file.read_text()), how))
    with pytest.raises(nph.InputError, match=r"p\.json") as refusal:
        nph.NeuronPaths.load(file)
    assert "\n" not in str(refusal.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(nph.InputError, match="can't be read"):
        nph.NeuronPaths.load(tmp_path / "none.json")


def test_frozen(paths):
    with pytest.raises(dataclasses.FrozenInstanceError):
        paths.score = None


def test_indexing_like_numpy(paths):
    order = np.arange(5)
    for index in (0, -1, slice(1, 4), [3, 0], np.array([True, False, True, False, True]), torch.tensor([2, 2])):
        expected = np.atleast_1d(order[np.asarray(index) if not isinstance(index, int | slice) else index])
        part = paths[index]
        assert torch.equal(part.neurons, paths.neurons[expected])
        assert part.names == tuple("abcde"[i] for i in expected)
    with pytest.raises(IndexError, match="5 paths"):
        paths[5]
    assert [p.names[0] for p in paths] == list("abcde")


def test_concat_is_the_inverse_of_indexing(paths):
    assert nph.concat([paths[:2], paths[2:]]) == paths
    with pytest.raises(nph.InputError, match="no paths"):
        nph.concat([])
    other = dataclasses.replace(paths, settings={**paths.settings, "output": "logit"})
    with pytest.raises(nph.InputError, match="output"):
        nph.concat([paths, other])
    with pytest.raises(TypeError, match="expected NeuronPaths"):
        nph.concat([paths, 3])


def test_frame_holds_every_neuron(paths):
    frame = paths.to_frame()
    assert len(frame) == paths.neurons.numel()
    row = frame[(frame["image"] == 3) & (frame["block"] == 6) & (frame["rank"] == 1)].iloc[0]
    assert row["neuron"] == paths.neurons[3, 6, 1]
    assert row["attribution"] == pytest.approx(paths.attribution[3, 6, 1].item())
    assert row["name"] == "d"
    total = frame.groupby("image")["attribution"].sum().to_numpy()
    assert np.allclose(total, (paths.output_change + paths.delta).numpy(), atol=1e-6)
