"""NeuronPaths: what goes out comes back, and what is damaged doesn't."""

import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import neuronpath as nph
from neuronpath.paths.tables import names_apart

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def paths(demo):
    return nph.find_path(demo[0], demo[1][:5], method="joint", top_k=2, names=list("abcde"))


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
    broken = dataclasses.replace(paths, settings=dataclasses.replace(paths.settings, versions={"nan": float("nan")}))
    with pytest.raises(ValueError, match="JSON"):
        broken.save(tmp_path / "p.json")
    assert not list(tmp_path.iterdir())


def damage(document: dict, how: str) -> str:
    if how == "version":
        document["version"] = 4
    elif how == "format":
        document["format"] = "something.else"
    elif how == "column":
        del document["paths"][1]["score"]
    elif how == "shape":
        document["paths"][1]["units"].pop()
    elif how == "kind":
        document["paths"][1]["target"] = "seven"
    elif how == "sites":
        document["settings"]["sites"].pop()
    elif how == "setting":
        document["settings"]["made_by"] = "nobody"
    elif how == "list":
        return "[]"
    text = json.dumps(document)
    return text[: len(text) // 2] if how == "cut" else text


@pytest.mark.parametrize("how", ["version", "format", "column", "shape", "kind", "sites", "setting", "list", "cut"])
def test_damaged_files_are_refused_in_one_line(paths, tmp_path, how):
    file = paths.save(tmp_path / "p.json")
    file.write_text(damage(json.loads(file.read_text()), how))
    with pytest.raises(nph.InputError, match=r"p\.json") as refusal:
        nph.NeuronPaths.load(file)
    assert "\n" not in str(refusal.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(nph.InputError, match=r"doesn.t exist"):
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


def test_concat_keeps_names_apart(paths):
    numbered = paths.renamed(["0", "1", "2", "3", "4"])
    assert nph.concat([numbered, numbered[:2]]).names == ("0", "1", "2", "3", "4", "5", "6")
    assert nph.concat([numbered[:2], numbered[2:]]).names == numbered.names
    assert nph.concat([paths[:2], paths[1:3], paths[:1]]).names == ("a", "b", "b (2)", "c", "a (2)")
    odd = paths[:2].renamed(["a", "a (2)"])
    assert nph.concat([odd, paths[:1], paths[:1]]).names == ("a", "a (2)", "a (3)", "a (4)")


def test_concat_keeps_apart_names_that_look_as_if_it_had(paths):
    odd = paths[:2].renamed(["a", "a (2)"])
    assert nph.concat([paths[:1], odd]).names == ("a", "a (3)", "a (2)")
    assert nph.concat([odd, paths[:1], odd]).names == ("a", "a (2)", "a (3)", "a (4)", "a (2) (2)")
    assert nph.concat([paths[:1], paths[:2].renamed(["a", "a"])]).names == ("a", "a (2)", "a (2)")


@pytest.mark.parametrize("alike", [False, True])
def test_names_of_many_parts_take_time_in_proportion(alike):
    def seconds(count):
        parts = [["a" if alike else f"f{i}"] for i in range(count)]
        start = time.process_time()
        names = names_apart(parts)
        assert len(set(names)) == count
        return time.process_time() - start

    assert seconds(16_000) < 32 * max(seconds(2_000), 0.005)  # eight times the work, which took 64 times as long


def test_concat_is_the_inverse_of_indexing(paths):
    assert nph.concat([paths[:2], paths[2:]]) == paths
    with pytest.raises(nph.InputError, match="no paths"):
        nph.concat([])
    other = dataclasses.replace(paths, settings=dataclasses.replace(paths.settings, output="logit"))
    with pytest.raises(nph.InputError, match="output"):
        nph.concat([paths, other])
    with pytest.raises(TypeError, match="expected NeuronPaths"):
        nph.concat([paths, 3])


def test_frame_holds_every_unit(paths):
    frame = paths.to_frame()
    assert len(frame) == paths.neurons.numel()
    row = frame[(frame["image"] == 3) & (frame["block"] == 6) & (frame["rank"] == 1)].iloc[0]
    assert (row["kind"], row["unit"]) == ("neuron", paths.neurons[3, 6, 1])
    assert row["attribution"] == pytest.approx(paths.attribution[3, 6, 1].item())
    assert row["name"] == "d"
    total = frame.groupby("image")["attribution"].sum().to_numpy()
    assert np.allclose(total, (paths.output_change + paths.delta).numpy(), atol=1e-6)


def test_files_of_version_1_load(demo, tmp_path):
    model, images, _ = demo
    loaded = nph.NeuronPaths.load(DATA / "paths_version_1.json")
    document = json.loads((DATA / "paths_version_1.json").read_text())
    assert loaded.neurons.tolist() == [path["neurons"] for path in document["paths"]]
    assert loaded.heads.shape == (2, 0, 2)
    assert loaded.settings.method == document["settings"]["method"]
    assert [place.width for place in loaded.settings.sites] == document["settings"]["widths"]
    found = nph.find_path(model, images[:2], method="joint", top_k=2, names=["a", "b"])
    assert torch.equal(found.neurons, loaded.neurons)
    assert torch.allclose(found.attribution, loaded.attribution, rtol=1e-3, atol=1e-6)
    with nph.remove(model, loaded), torch.no_grad():
        removed = model(images[:2]).softmax(1).gather(1, loaded.target[:, None])[:, 0]
    assert torch.allclose(loaded.probability - removed, loaded.removal, atol=1e-5)
    assert nph.NeuronPaths.load(loaded.save(tmp_path / "again.json")) == loaded
    assert nph.NeuronPaths.load(DATA / "paths_version_1_progressive.json").settings.preset == "progressive"


@pytest.fixture(scope="module")
def mixed(demo):
    return nph.find_path(demo[0], demo[1][:3], units="both", method="causal")


def test_heads_and_neurons_have_their_names(mixed, tmp_path):
    assert nph.NeuronPaths.load(mixed.save(tmp_path / "p.json")) == mixed
    assert torch.equal(mixed.heads, mixed.units[:, ::2])
    assert torch.equal(mixed.neurons, mixed.units[:, 1::2])
    named = mixed.units_of(1)
    assert named[8] == nph.Unit(4, int(mixed.heads[1, 4, 0]), "head")
    assert str(named[9]) == f"block 4, neuron {int(mixed.neurons[1, 4, 0])}"
    frame = mixed.to_frame()
    assert frame["kind"].tolist()[:4] == ["head", "neuron"] * 2
    assert frame["block"].tolist()[:4] == [0, 0, 1, 1]
    expected = [
        f"h{h}+{n}" for h, n in zip(mixed.heads[2, :, 0].tolist(), mixed.neurons[2, :, 0].tolist(), strict=True)
    ]
    assert mixed.columns()["path"][2].split() == expected
    assert repr(mixed) == "NeuronPaths(3 images, 8 blocks, 1 head and 1 neuron a block, method='causal')"


@pytest.mark.parametrize(
    ("unit", "words"), [("1.7", "units holds 1.7"), ("-1", "out of range"), ("256", "256 .* out of range")]
)
def test_units_that_no_model_has_are_refused(demo, tmp_path, unit, words):
    paths = nph.find_path(demo[0], demo[1][:1], method="random", units="neurons")
    document = json.loads(paths.save(tmp_path / "p.json").read_text())
    document["paths"][0]["units"][2] = [json.loads(unit)]
    (tmp_path / "p.json").write_text(json.dumps(document))
    with pytest.raises(nph.InputError, match=words) as refusal:
        nph.NeuronPaths.load(tmp_path / "p.json")
    assert "\n" not in str(refusal.value)
