"""Runs over many images: the same rows as in memory, whatever is damaged, stopped, killed or asked for anew."""

import io
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from limits import full_disk, let_in, nobody
from PIL import Image
from timm.models.vision_transformer import VisionTransformer

import neuronpath as nph
from neuronpath.data.containers import in_row
from neuronpath.jobs.engines import local
from neuronpath.jobs.listing import digest_of_ids
from neuronpath.jobs.work import Done, Shard

FAST = {"method": "causal", "units": "neurons"}


def tiny(seed=0):
    torch.manual_seed(seed)
    return VisionTransformer(
        img_size=16, patch_size=8, in_chans=1, embed_dim=16, depth=2, num_heads=2, mlp_ratio=2, num_classes=10
    ).eval()


def as_grey(image):
    """A transform of the user's own."""
    return torch.from_numpy(np.array(image, np.float32))[None] / 255


@pytest.fixture(scope="module")
def model():
    return tiny()


@pytest.fixture
def photos(tmp_path):
    """40 embedded digits as files, a folder a class."""
    pixels, labels = nph.demo.load_pixels()
    for i, (digit, label) in enumerate(zip(pixels[:40], labels[:40], strict=True)):
        (tmp_path / "photos" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(digit * 15).resize((16, 16)).save(tmp_path / f"photos/{label}/{i:03d}.png")
    return tmp_path / "photos"


def rows_of(run):
    return run.to_frame().sort_values("id", ignore_index=True)


def assert_same_rows(one, other):
    pd.testing.assert_frame_equal(rows_of(one), rows_of(other), rtol=1e-5, atol=1e-6)


def test_the_rows_are_those_of_find_path(model, photos, tmp_path):
    run = nph.run(photos, model, tmp_path / "run", shard_size=16, batch_size=8, **FAST)
    assert [len(part) for part in run] == [16, 16, 8]
    images, names = nph.load_images(photos, model)
    ids = [name.removeprefix(f"{photos}/") for name in names]
    whole = nph.find_path(model, images, names=ids, **FAST)
    paths = run.paths(ids)
    assert torch.equal(paths.units, whole.units)
    assert paths.names == whole.names
    assert paths.settings == whole.settings
    for name in ("attribution", "activations", "removal", "left", "random_left", "probability", "delta"):
        assert torch.allclose(getattr(paths, name), getattr(whole, name), atol=1e-6), name
    frame = run.to_frame(["id", "label", "predicted"])
    assert frame["label"].tolist() == [int(name[0]) for name in frame["id"]]
    assert len(run) == 40
    assert run.errors.empty


def test_reading_in_flat_memory_is_reading_at_once(model, photos, tmp_path):
    run = nph.open_run(nph.run(photos, model, tmp_path / "run", shard_size=9, **FAST).folder)
    whole = nph.concat(run)
    for ours, theirs in zip(run.frequency(), nph.frequency(whole), strict=True):
        assert torch.allclose(ours, theirs)
    assert torch.equal(run.consensus()[1], nph.consensus(whole)[1])
    labels = [int(name[0]) for name in whole.names]
    for column, classes in (("label", labels), ("target", whole.target)):
        for by in ("frequency", "path"):
            pd.testing.assert_frame_equal(run.similarity(column, by), nph.similarity(whole, classes, by))
    unit = (1, int(nph.consensus(whole)[0][1, 0]))
    has = whole.units[:, 1, 0] == unit[1]
    best = whole.activations[has, 1, 0].topk(2)
    found = run.most_active(unit, 2)
    assert found["id"].tolist() == [whole.names[int(has.nonzero()[i, 0])] for i in best.indices]
    assert np.allclose(found["activation"], best.values)
    some = run.to_frame(
        ["id"], [("probability", ">", float(whole.probability.median())), ("predicted", "in", [0, 1, 2, 3])]
    )
    assert some["id"].tolist() == [
        n for n, p, c in zip(whole.names, whole.probability, whole.predicted, strict=True)
        if p > whole.probability.median() and c <= 3
    ]  # fmt: skip
    for rule in (("id", "in", []), ("removal", ">", "x"), ("removal", "~", 1)):
        with pytest.raises(nph.InputError, match=r"^where is \[\(.*; expected \(column, operator, value\) such as"):
            run.to_frame(where=[rule])
    sample = run.sample(5, seed=1)
    assert sample == whole[[whole.names.index(name) for name in sample.names]]
    images, names = nph.load_images(photos, model)
    ids = list(sample.names)
    there = [names.index(f"{photos}/{name}") for name in ids]
    assert torch.equal(run.images(ids, model), images[there])


def test_every_task(model, photos, tmp_path):
    images, names = nph.load_images(photos, model)
    run = nph.run(photos, model, tmp_path / "a", "activations", shard_size=30)
    means = [torch.tensor(np.stack(run.to_frame()["activations"]))[:, s * 32 : s * 32 + 32].mean(0) for s in range(2)]
    for ours, theirs in zip(means, nph.mean_activations(model, images), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)
    best, _, _ = nph.most_active(model, images, [(1, 3)], 3)
    assert run.most_active((1, 3), 3)["activation"].tolist() == pytest.approx(best[0].tolist(), abs=1e-6)
    some = nph.run(photos, model, tmp_path / "b", "activations", units=[(1, 3), ("head", 0, 1)])
    pd.testing.assert_frame_equal(some.most_active((1, 3), 3), run.most_active((1, 3), 3))
    with pytest.raises(nph.InputError, match="the run knows nothing of"):
        some.most_active((1, 4))

    run = nph.run(photos, model, tmp_path / "c", "find_circuit", controls=False, shard_size=30)
    ids = [name.removeprefix(f"{photos}/") for name in names]
    whole = nph.find_circuit(model, images, names=ids, controls=False)
    parts = nph.Circuit.concat(list(run))
    order = [parts.names.index(name) for name in ids]
    assert [set(parts.units[i]) for i in order] == [set(units) for units in whole.units]
    assert torch.allclose(parts.kept[order], whole.kept, atol=1e-5)

    run = nph.run(photos, model, tmp_path / "d", "evaluate", methods=["causal", "random"], units="neurons")
    frame = run.to_frame()
    assert len(run) == 2 * 40
    causal = nph.find_path(model, images, [int(name[0]) for name in ids], names=ids, **FAST)
    ours = frame[frame["method"] == "causal"].set_index("id").loc[ids]
    assert ours["probability_removed"].tolist() == pytest.approx((-causal.removal).tolist(), abs=1e-5)
    assert (ours["label"] == ours["target"]).all()


def damage(file, way):
    data = file.read_bytes()
    file.unlink()
    if way == "folder":
        return file.mkdir()
    if way == "pipe":
        return os.mkfifo(file)
    if way == "link":
        return file.symlink_to("nowhere")
    if way == "circle":
        return file.symlink_to(file)
    if way == "bomb":
        return Image.new("1", (20000, 20000)).save(file)
    return file.write_bytes({
        "empty": b"", "short": data[:50], "text": b"<html>not found</html>", "zeros": bytes(len(data)),
        "half": data[: len(data) // 2], "bits": data[:60] + bytes(b ^ 255 for b in data[60:]),
    }[way])  # fmt: skip


WAYS = ("empty", "short", "text", "zeros", "half", "bits", "pipe", "link", "circle", "bomb")


@pytest.mark.filterwarnings("ignore:Image size:PIL.Image.DecompressionBombWarning")
def test_what_cannot_be_read_is_a_row_in_errors(model, photos, tmp_path):
    files = sorted(photos.rglob("*.png"))
    for file, way in zip(files[::3], WAYS, strict=False):
        damage(file, way)
    run = nph.run(photos, model, tmp_path / "run", shard_size=8, **FAST)
    assert (len(run), len(run.errors)) == (30, 10)
    assert set(run.errors["id"]) | set(run.to_frame()["id"]) == {str(f.relative_to(photos)) for f in files}
    assert all(reason and "\n" not in reason for reason in run.errors["reason"])
    fewer = nph.run(photos, model, tmp_path / "fewer", shard_size=8, max_errors=10, **FAST)
    assert_same_rows(fewer, run)
    with pytest.raises(nph.InputError, match=r"\d+ images can't be read, more than max_errors=3, such as: .*png"):
        nph.run(photos, model, tmp_path / "stopped", shard_size=8, max_errors=3, **FAST)
    assert 0 < len(nph.open_run(tmp_path / "stopped")) < 30
    assert_same_rows(nph.run(photos, model, tmp_path / "stopped", shard_size=8, **FAST), run)  # nothing was lost


def test_a_file_that_vanishes_in_mid_run(model, photos, tmp_path):
    gone = sorted(photos.rglob("*.png"))[-1]

    def transform(image):
        gone.unlink(missing_ok=True)
        return as_grey(image)

    run = nph.run(photos, model, tmp_path / "run", shard_size=8, batch_size=4, transform=transform, **FAST)
    assert (len(run), run.errors["id"].tolist()) == (39, [str(gone.relative_to(photos))])
    assert "doesn't exist" in run.errors["reason"][0]
    with pytest.raises(nph.InputError, match=f"other images: 1 are gone, such as {gone.relative_to(photos)}"):
        nph.run(photos, model, tmp_path / "run", shard_size=8, batch_size=4, transform=transform, **FAST)


def test_a_transform_that_fails_on_an_image(model, photos, tmp_path):
    odd = sorted(photos.rglob("*.png"))[3]
    Image.open(odd).convert("RGB").save(odd)
    given = {"source": photos, "model": model, **FAST}

    def failing(image):
        return as_grey(image) if image.mode == "L" else as_grey(image).reshape(1, 2, 3)

    def giving_none(image):
        return as_grey(image) if image.mode == "L" else None

    whole = None
    for name, transform, words in (
        ("failing", failing, r"can't be used \(RuntimeError: shape .*\)"),
        ("none", giving_none, r"the transform gives None for .*; expected a tensor"),
    ):
        run = nph.run(out=tmp_path / name, transform=transform, **given)
        assert (len(run), run.errors["id"].tolist()) == (39, [str(odd.relative_to(photos))])
        assert re.search(words, run.errors["reason"][0])
        whole = whole or run
        assert_same_rows(run, whole)
    calls = []
    with pytest.raises(nph.InputError, match=r"png can't be used \(TypeError: unsupported"):
        nph.run(out=tmp_path / "never", transform=lambda image: calls.append(image) + 1, **given)
    assert len(calls) < 20, "it isn't tried on all"
    assert not (tmp_path / "never").exists()


def test_a_name_that_is_no_text(model, photos, tmp_path):
    (photos / "0/a.png").write_bytes(next(photos.rglob("*.png")).read_bytes())
    os.rename(photos / "0/a.png", os.fsencode(photos) + b"/0/\xff\xfe.png")
    run = nph.run(photos, model, tmp_path / "run", **FAST)
    assert len(run) == 40
    assert run.errors["reason"].tolist() == [r"the name of 0/\udcff\udcfe.png isn't UTF-8; expected one that is"]


def test_classes_may_be_numpy_s(model, photos, tmp_path):
    classes = {str(i): np.int64(9 - i) for i in range(10)}
    run = nph.run(photos, model, tmp_path / "run", "activations", classes=classes)
    frame = run.to_frame()
    assert frame["label"].tolist() == [9 - int(name[0]) for name in frame["id"]]
    plain = {name: int(number) for name, number in classes.items()}
    assert json.loads((tmp_path / "run/run.json").read_text())["classes"] == plain
    nph.run(photos, model, tmp_path / "run", "activations", classes=plain)


def test_labels_that_the_model_numbers_otherwise_are_refused(photos, tmp_path):
    model = tiny()
    model.pretrained_cfg = {"label_names": ["dog", "cat", *"abcdefgh"]}
    names = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    rows = {"image": [file.read_bytes() for file in sorted(photos.rglob("*.png"))[:4]], "label": [0, 0, 1, 1]}
    about = {"huggingface": json.dumps({"info": {"features": names}})}
    pq.write_table(pa.table(rows).replace_schema_metadata(about), tmp_path / "a.parquet")
    asked = {"target": "label", "transform": as_grey, **FAST}
    with pytest.raises(nph.InputError, match="source calls class 0 'cat', which is class 1 of VisionTransformer"):
        nph.run(tmp_path / "a.parquet", model, tmp_path / "run", **asked)
    run = nph.run(tmp_path / "a.parquet", model, tmp_path / "run", classes={"0": 1, "1": 0}, **asked)
    assert run.to_frame(["id", "target"]).sort_values("id")["target"].tolist() == [1, 1, 0, 0]


def test_only_the_same_run_goes_on(model, photos, tmp_path):
    out = tmp_path / "run"
    run = nph.run(photos, model, out, shard_size=16, **FAST)
    before = {file: file.stat().st_mtime_ns for file in run.files}
    record = json.loads((out / "run.json").read_text())
    assert record["options"]["method"] == "causal"
    assert record["images"]["count"] == 40
    nph.run(photos, model, out, shard_size=16, internal_batch_size=3, baseline=None, **FAST)  # it says the same
    run.files[1].unlink()
    nph.run(photos, tiny(), out, shard_size=16, **FAST)
    after = {file: file.stat().st_mtime_ns for file in run.files}
    assert [before[file] == after[file] for file in before] == [True, False, True]
    Image.new("L", (9, 9)).save(photos / "new.png")
    for changed, words in (
        ({}, r"other images: 1 are new, such as new.png"),
        ({"method": "activation"}, "method is 'causal' there and 'activation' here"),
        ({"shard_size": 8}, "shard_size is 16 there and 8 here"),
        ({"task": "activations", "method": None}, "task is 'find_path' there and 'activations' here"),
        ({"model": tiny(1)}, "the model has other weights"),
        ({"model": nph.demo.create_model()}, "the model is VisionTransformer there and neuronpath_digits here"),
    ):
        words_given = {"model": model, "shard_size": 16, **FAST, **changed}
        if "task" in changed:
            words_given = {"model": model, "shard_size": 16, "task": "activations"}
        with pytest.raises(nph.InputError, match=words) as refusal:
            nph.run(photos, out=out, **words_given)
        assert "\n" not in str(refusal.value)
    assert {file: file.stat().st_mtime_ns for file in run.files} == after


def test_few_images_are_cut_into_small_shards(model, photos, tmp_path):
    run = nph.run(photos, model, tmp_path / "run", **FAST)
    assert [len(part) for part in run] == [8, 8, 8, 8, 8]
    many = nph.run(np.zeros((1281, 16, 16), np.float32)[:, None], model, tmp_path / "many", "activations")
    assert [len(part) for part in many] == [21] * 61
    nph.run(photos, model, tmp_path / "own", shard_size=25, **FAST).files[0].unlink()
    assert [len(part) for part in nph.run(photos, model, tmp_path / "own", **FAST)] == [25, 15]  # it is gone on with
    Image.new("L", (9, 9)).save(photos / "new.png")
    with pytest.raises(nph.InputError, match="other images: 1 are new"):
        nph.run(photos, model, tmp_path / "run", **FAST)


def test_a_table_is_read_from_end_to_end_whatever_its_ids(model, tmp_path, monkeypatch):
    pixels, _ = nph.demo.load_pixels()
    files = [io.BytesIO() for _ in range(96)]
    for file, digit in zip(files, pixels, strict=False):
        Image.fromarray(digit * 15).resize((16, 16)).save(file, "PNG")
    ids = random.Random(0).sample([f"{i:02d}" for i in range(96)], 96)
    for name, some in (("b", slice(0, 48)), ("a", slice(48, 96))):
        table = pa.table({"id": ids[some], "image": [file.getvalue() for file in files[some]]})
        pq.write_table(table, tmp_path / f"{name}.parquet", row_group_size=12)
    read, real = [], pq.ParquetFile.read_row_group

    def counted(self, group, columns):
        read.extend([group] * (columns == ["image"]))
        time.sleep(0.01)
        return real(self, group, columns)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    tables = [tmp_path / "b.parquet", tmp_path / "a.parquet"]
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda row: in_row(str(tables[0]), row), range(8)))) == 8
    assert read == [0], "threads wait for the one that reads"
    read.clear()
    run = nph.run(tables, model, tmp_path / "run", shard_size=16, decoders=1, **FAST)
    assert read == [*range(4), *range(4)]
    assert run.to_frame()["id"].tolist() == ids[48:] + ids[:48]
    for part in nph.Source(tables).split(60, 30):
        rows = [(item.place, item.start) for item in part]
        assert rows == sorted(rows)
    whole = rows_of(run)
    run.files[2].unlink()
    again = nph.run(tables[::-1], model, tmp_path / "run", shard_size=16, **FAST)
    pd.testing.assert_frame_equal(rows_of(again), whole)
    # a folder whose shards were cut in another order
    listing = pq.read_table(tmp_path / "run/images.parquet").sort_by("id")
    pq.write_table(listing, tmp_path / "run/images.parquet")
    record = json.loads((tmp_path / "run/run.json").read_text())
    record["images"]["digest"] = digest_of_ids(listing)
    (tmp_path / "run/run.json").write_text(json.dumps(record))
    with pytest.raises(nph.InputError, match=r"holds another run \(the labels, the order, or the pixels"):
        nph.run(tables, model, tmp_path / "run", shard_size=16, **FAST)


def test_pixels_in_memory_are_told_from_others(model, tmp_path):
    images = torch.randn(6, 1, 16, 16)
    nph.run(images, model, tmp_path / "run", **FAST)
    with pytest.raises(nph.InputError, match="or the pixels of an array, are others"):
        nph.run(images.flip(0), model, tmp_path / "run", **FAST)


def test_what_cannot_be_run_is_refused_before_a_folder_is_made(model, photos, tmp_path):
    (tmp_path / "twice.csv").write_text("id,path\na,photos/0/000.png\na,photos/1/001.png\n")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/a.png").write_bytes(b"x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").write_text("precious")
    for given, words in (
        ({"source": tmp_path / "twice.csv"}, "two images have the id 'a'"),
        ({"source": tmp_path / "bad"}, r"none of the 1 images can be read, such as .*a.png is damaged"),
        ({"engine": "cloud"}, "engine 'cloud' is unknown; expected one of 'local'"),
        ({"task": "paint"}, "task 'paint' is unknown"),
        ({"colour": 1}, "'colour' is no option of find_path"),
        ({"method": "best"}, "method 'best' is unknown"),
        ({"target": 77}, "target 77 is out of range"),
        ({"method": "live", "baseline": "paired", "reference": torch.zeros(1, 1, 16, 16)}, "baseline is 'paired', and"),
        ({"target": "cat"}, "target 'cat' names no class of VisionTransformer; expected a class's number or 'label'"),
        ({"target": "label", "classes": {}}, r"the label '\d' names no class"),
        ({"out": "s3://bucket/run"}, "expected a folder of this machine"),
        ({"out": tmp_path / "full"}, "isn't empty and holds no run"),
        ({"out": tmp_path / "full/thesis.txt"}, "can't be used: Not a directory"),
        ({"gpus": 99}, "gpus is 99; this machine has"),
    ):
        with pytest.raises(nph.InputError, match=words) as refusal:
            nph.run(**{"source": photos, "model": model, "out": tmp_path / "out", **FAST, **given})
        assert "\n" not in str(refusal.value)
        if "gpus" not in given:
            assert not (tmp_path / "out").exists()
    with pytest.raises(nph.InputError, match="holds no run; expected a folder that"):
        nph.open_run(tmp_path / "full")


def test_damaged_results_are_named(model, photos, tmp_path):
    run = nph.run(photos, model, tmp_path / "run", shard_size=16, **FAST)
    whole = run.files[0].read_bytes()
    run.files[0].write_bytes(whole[:100])
    for call in (
        lambda: nph.run(photos, model, tmp_path / "run", shard_size=16, **FAST),
        run.to_frame,
        lambda: len(run),
    ):
        with pytest.raises(nph.InputError, match=r"000000.parquet is damaged"):
            call()
    run.files[0].write_bytes(whole)
    (tmp_path / "run/run.json").write_text("{")
    with pytest.raises(nph.InputError, match=r"run\.json is damaged"):
        nph.open_run(tmp_path / "run")


SCRIPT = """
import os, sys, torch
sys.path[:0] = [sys.argv[4], os.path.dirname(sys.argv[4])]
from test_run import tiny, FAST
import neuronpath as nph
torch.set_num_threads(1)
if __name__ == "__main__":
    print("begins", flush=True)
    nph.run(sys.argv[1], tiny(), sys.argv[2], shard_size=4, workers=int(sys.argv[3]), **FAST)
"""


def started(photos, out, workers=1):
    (out.parent / "script.py").write_text(SCRIPT)
    words = [sys.executable, str(out.parent / "script.py"), photos, out, str(workers), os.path.dirname(__file__)]
    return subprocess.Popen(list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def slowly(image):
    time.sleep(0.01)
    return as_grey(image)


def run_one_by_one(photos, out):
    """In a process of its own: a file an image, and slow enough to be killed in the midst."""
    torch.set_num_threads(1)
    nph.run(photos, tiny(), out, shard_size=1, transform=slowly, decoders=1, **FAST)


def test_killed_at_ten_moments_it_ends_with_the_same_rows(model, photos, tmp_path):
    whole = nph.run(photos, model, tmp_path / "whole", shard_size=1, transform=as_grey, **FAST)
    server = multiprocessing.get_context("forkserver")  # imports torch once, not ten times
    server.set_forkserver_preload(["neuronpath.jobs.run", "timm"])
    draw, killed = random.Random(0), 0
    for turn in range(10):
        before = len(list(tmp_path.glob("run/shards/0*")))
        process = server.Process(target=run_one_by_one, args=(photos, tmp_path / "run"))
        process.start()
        more = draw.randint(0, 2) if turn else 0  # the first is killed as it begins
        while process.is_alive() and len(list(tmp_path.glob("run/shards/0*"))) < before + more:
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.02))
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
    assert killed == 10
    assert 0 < len(nph.open_run(tmp_path / "run")) < 40
    assert_same_rows(nph.run(photos, model, tmp_path / "run", shard_size=1, transform=as_grey, **FAST), whole)
    assert not list((tmp_path / "run").rglob(".neuronpath-*"))


def test_workers_share_the_shards_and_one_may_die(model, photos, tmp_path):
    whole = nph.run(photos, model, tmp_path / "whole", shard_size=4, **FAST)
    process = started(photos, tmp_path / "run", 2)
    children = []
    while process.poll() is None and not children:
        children = subprocess.run(["pgrep", "-P", str(process.pid), "-f", "spawn_main"], capture_output=True, text=True,
                                  check=False).stdout.split()  # fmt: skip
        time.sleep(0.05)
    os.kill(int(children[0]), signal.SIGKILL)
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert_same_rows(nph.open_run(tmp_path / "run"), whole)


class Sleeper:
    """Work that is done with its first shard, and with no other."""

    def on(self, device):
        return self

    def run(self, shards):
        for shard in shards:
            time.sleep(60 if shard.number else 0)
            yield Done(shard.number, None, None)


def test_all_workers_may_die_at_once():
    found = local._dealt(Sleeper(), [Shard(number, []) for number in range(3)], ["cpu", "cpu"])
    assert next(found).number == 0
    for worker in multiprocessing.active_children():
        worker.kill()
        worker.join()
    with pytest.raises(
        nph.InputError, match=r"all workers have died .*; the same command goes on where this one stopped"
    ):
        next(found)


def test_a_second_process_waits_for_no_one(model, photos, tmp_path):
    from neuronpath.jobs.folder import at_work

    nph.run(photos, model, tmp_path / "run", **FAST)
    with (
        at_work(tmp_path / "run", "run.json", ("shards", "errors"), "a run", {}, lambda *_: ""),
        pytest.raises(nph.InputError, match=r"another process is at work in .*run"),
    ):
        nph.run(photos, model, tmp_path / "run", **FAST)


def test_a_disk_that_is_full_or_not_to_be_written(model, photos, tmp_path):
    whole = nph.run(photos, model, tmp_path / "whole", shard_size=16, **FAST)
    listing = (tmp_path / "whole/images.parquet").stat().st_size
    words = r"shards/000000\.parquet can't be written: .*[Ff]ile too large"
    with full_disk(listing + 100), pytest.raises(nph.InputError, match=words) as full:
        nph.run(photos, model, tmp_path / "run", shard_size=16, **FAST)
    run = nph.run(photos, model, tmp_path / "run", shard_size=16, **FAST)
    assert_same_rows(run, whole)

    run.files[1].unlink()
    let_in(tmp_path)
    for folder, file, words in (
        (tmp_path / "run", "shards/000001.parquet", r"000001\.parquet can't be written: .*ermission"),
        (tmp_path / "new", "", r"new/shards can't be made: Permission denied; choose another folder"),
    ):
        with nobody(), pytest.raises(nph.InputError, match=words) as shut:
            nph.run(photos, model, folder, shard_size=16, **FAST)
        assert "\n" not in f"{full.value}{shut.value}"
        assert not (folder / file).exists()
    assert len(run) == 24
    assert_same_rows(nph.run(photos, model, tmp_path / "run", shard_size=16, **FAST), whole)


def test_files_are_columns_that_others_read(model, photos, tmp_path):
    run = nph.run(photos, model, tmp_path / "run", shard_size=16, **FAST)
    table = pq.ParquetDataset(tmp_path / "run/shards").read()
    assert table.num_rows == 40
    frame = pd.read_parquet(tmp_path / "run/shards")
    assert np.allclose(frame["removal"], run.to_frame()["removal"])


def test_the_docs_query_finds_the_commonest_units(model, photos, tmp_path, monkeypatch):
    duckdb = pytest.importorskip("duckdb", reason="duckdb isn't installed")
    run = nph.run(photos, model, tmp_path / "run", **FAST)
    page = (Path(__file__).parents[2] / "docs/data-sets.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    found = duckdb.sql(re.search(r"```sql\n(.*?)```", page, re.DOTALL)[1]).fetchall()
    for (site, unit, images), shares in zip(found, run.frequency(), strict=True):
        assert images == round(40 * float(shares[unit])) == round(40 * float(shares.max())), site


def test_a_sample_while_a_shard_appears(tmp_path, monkeypatch):
    images = torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    run = nph.run(images, tiny(), tmp_path / "run", shard_size=4, **FAST)
    whole, first = run.sample(8), run.files[0]
    read = pq.read_metadata

    def read_and_add(file):
        shutil.copy(first, first.with_name("000009.parquet"))
        return read(file)

    monkeypatch.setattr(pq, "read_metadata", read_and_add)
    assert run.sample(8) == whole
    for file in run.files:
        file.unlink()
    with pytest.raises(nph.InputError, match="has no row yet"):
        run.sample()
