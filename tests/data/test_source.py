"""One source for images from anywhere: the same images, ids and labels whatever they lie in."""

import io
import json
import pickle
import tarfile
from importlib.util import find_spec

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import neuronpath as nph
from neuronpath.data.loading import loaded
from neuronpath.data.source import Source

DRAW = np.random.RandomState(0)
PICTURES = {f"{label}/{i}.png": DRAW.randint(0, 255, (9, 7, 3), np.uint8) for label in ("cat", "dog") for i in range(3)}


def as_png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


FILES = {name: as_png(pixels) for name, pixels in PICTURES.items()}
ROWS = [{"id": name, "label": name[:3], "bytes": data} for name, data in FILES.items()]


class Elements(Dataset):
    """A data set of these."""

    def __init__(self, elements):
        self.elements = elements

    def __len__(self):
        return len(self.elements)

    def __getitem__(self, index):
        return self.elements[index]


@pytest.fixture
def folder(tmp_path):
    for name, data in FILES.items():
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(data)
    return tmp_path / "photos"


def lists(folder, kind):
    paths = [{"id": name, "path": f"photos/{name}", "label": name[:3]} for name in FILES]
    text = {
        "csv": "id,path,label\n" + "".join(f"{p['id']},{p['path']},{p['label']}\n" for p in paths),
        "jsonl": "".join(json.dumps(p) + "\n\n" for p in paths),
    }[kind]
    file = folder.parent / f"list.{kind}"
    file.write_text("\ufeff" + text)
    return file


def packed(folder, kind):
    file = folder.parent / f"images.{kind}"
    if kind == "tar":
        with tarfile.open(file, "w") as tar:
            for name, data in FILES.items():
                for ending, content in (("txt", b"a caption"), ("png", data), ("cls", name[:3].encode())):
                    about = tarfile.TarInfo(f"{name.removesuffix('.png')}.{ending}")
                    about.size = len(content)
                    tar.addfile(about, io.BytesIO(content))
        return file
    pairs = [{"bytes": row["bytes"], "path": None} for row in ROWS]
    table = {
        "bytes": pa.table({"image": [row["bytes"] for row in ROWS], "label": [row["label"] for row in ROWS]}),
        "paths": pa.table({"path": [f"photos/{name}" for name in FILES], "label": [name[:3] for name in FILES]}),
        "pairs": pa.table({"image": pairs, "label": [row["label"] for row in ROWS]}),
    }[kind]
    file = file.with_suffix(".arrow" if kind == "pairs" else ".parquet")
    table = table.append_column("id", pa.array(list(FILES)))
    if kind == "pairs":  # as Hugging Face's save_to_disk writes them
        with pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table, max_chunksize=4)
    else:
        pq.write_table(table, file, row_group_size=4)
    return file


def remote(folder, protocol):
    if protocol == "file":
        return f"file://{folder}"
    fs = fsspec.filesystem("memory")
    for name, data in FILES.items():
        fs.pipe(f"/{folder.name}/{name}", data)
    return f"memory://{folder.name}"


KINDS = {
    "folder": lambda f: f,
    "csv": lambda f: lists(f, "csv"),
    "jsonl": lambda f: lists(f, "jsonl"),
    "parquet with bytes": lambda f: packed(f, "bytes"),
    "parquet with paths": lambda f: packed(f, "paths"),
    "arrow": lambda f: packed(f, "pairs"),
    "tar": lambda f: packed(f, "tar"),
    "file://": lambda f: remote(f, "file"),
    "memory://": lambda f: remote(f, "memory"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_images_ids_and_labels_from_everywhere(folder, kind):
    source = pickle.loads(pickle.dumps(Source(KINDS[kind](folder))))  # workers get it so
    items = list(source)
    assert items == list(source), "listed anew it is the same"
    ids = [item.id.removeprefix("images.tar/") for item in items]
    assert ids == [name.removesuffix(".png") if kind == "tar" else name for name in FILES]
    for item, (name, pixels) in zip(reversed(items), reversed(PICTURES.items()), strict=True):
        image, label = source.read(item)
        assert np.array_equal(np.asarray(image), pixels)
        assert label == name[:3]


def test_arrays_and_data_sets(demo, tmp_path):
    _, images, labels = demo
    pixels = np.stack(list(PICTURES.values()))
    first = pixels.transpose(0, 3, 1, 2)  # the channels, as torchvision has them
    np.save(tmp_path / "pixels.npy", pixels)
    np.save(tmp_path / "first.npy", first)
    for given in (
        pixels,
        first,
        torch.from_numpy(pixels),
        torch.from_numpy(first),
        tmp_path / "pixels.npy",
        tmp_path / "first.npy",
    ):
        source = Source(given)
        assert [np.asarray(source.read(item)[0]).tolist() for item in source] == pixels.tolist()
    grey = pixels[0, ..., 0]
    odd = [grey[None, None].repeat(5, 1), grey[:0], np.zeros((2, 7, 9, 3), np.uint8), grey]
    source = Source(Elements([each for p in (grey, grey[None], grey[..., None]) for each in (p, torch.from_numpy(p))]))
    assert [np.asarray(source.read(item)[0]).tolist() for item in source] == [grey.tolist()] * 6
    reasons = [
        one.reason for one in loaded(Source(Elements(odd)), list(Source(Elements(odd))), lambda: lambda _: images[0])
    ]
    for reason, each in zip(reasons[:3], odd, strict=False):
        assert reason.endswith(f"has shape {each.shape}; expected pixels (H, W), (H, W, C) or (C, H, W)")
    assert reasons[3] is None
    dataset = TensorDataset(images[:5], labels[:5])
    for given in (dataset, DataLoader(dataset, 2, shuffle=True)):
        source = Source(given)
        found = [source.read(item) for item in source]
        assert torch.equal(torch.stack([image for image, _ in found]), images[:5])
        assert [int(label) for _, label in found] == labels[:5].tolist()
    assert Source(images[:5]).digest() == Source(images[:5].clone()).digest() != Source(images[1:6]).digest()


def test_a_file_that_is_written_anew_is_read_anew(folder):
    def shown(source):
        return [int(np.asarray(source.read(item)[0])[0, 0]) for item in source]

    def written(kind, levels):
        file = folder.parent / f"grey.{kind}"
        pixels = np.stack([np.full((32, 32), level, np.uint8) for level in levels])
        table = pa.table({"image": list(map(as_png, pixels))})
        if kind == "npy":
            np.save(file, pixels)
        elif kind == "parquet":
            pq.write_table(table, file)
        else:
            with pa.ipc.new_file(file, table.schema) as arrow:
                arrow.write_table(table)
        return Source(file)

    for kind in ("parquet", "arrow", "npy"):
        for levels in ([1, 2], range(3, 99), [7]):  # first grown: what is shorter than its map ends the process
            source = written(kind, levels)
            assert shown(source) == list(levels), kind
        items = list(written(kind, range(90)))
        source = written(kind, [5])
        with pytest.raises(nph.InputError, match=rf"grey\.{kind} can't be read as {kind} \("):
            source.read(items[-1])
        (folder.parent / f"grey.{kind}").unlink()
        with pytest.raises(nph.InputError, match=rf"grey\.{kind} doesn't exist"):
            source.read(items[0])


def test_class_names_are_read_where_they_are_told(folder):
    features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    table = pa.table({"image": [row["bytes"] for row in ROWS], "label": [0, 0, 0, 1, 1, 1]})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    where = folder.parent / "parts"
    where.mkdir()
    pq.write_table(table[:2], where / "train-0.parquet")
    pq.write_table(table[2:], where / "train-1.parquet")
    source = Source(where)
    assert source.class_names == {0: "cat", 1: "dog"}
    (folder.parent / "none.csv").write_text("path")
    assert Source([folder, folder.parent / "none.csv", where]).class_names == {0: "cat", 1: "dog"}
    assert Source(folder).class_names == {}
    features["label"] = [{"names": ["cat"]}]
    several = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(several, folder.parent / "several.parquet")
    assert Source(folder.parent / "several.parquet").class_names == {}
    assert [(item.id, item.label) for item in source][1:3] == [
        ("train-0.parquet/000000001", "0"), ("train-1.parquet/000000000", "0"),
    ]  # fmt: skip


def test_links_to_nothing_hide_no_packed_files(folder):
    where = folder.parent / "parts"
    where.mkdir()
    for i in range(2):
        pq.write_table(pa.table({"image": [FILES["cat/0.png"]] * 2}), where / f"train-{i}.parquet")
    whole = list(Source(where))
    (where / "README.md").symlink_to("nowhere")
    assert [item for item in Source(where) if item.id != "README.md"] == whole
    (where / "train-2.parquet").symlink_to("nowhere")
    with pytest.raises(nph.InputError, match=r"train-2\.parquet is a link to nothing"):
        list(Source(where))
    for i in range(2):
        (where / f"train-{i}.parquet").unlink()
    (where / "train-2.parquet").unlink()
    (where / "photo").symlink_to("nowhere")
    assert [item.id for item in Source(where)] == ["README.md", "photo"]  # each has its reason when it is read


def test_several_at_once(folder):
    items = list(Source([folder, folder / "cat/0.png"]))
    assert [item.id for item in items][-2:] == [f"{folder}/dog/2.png", f"{folder}/cat/0.png"]


def test_what_cannot_be_a_source_is_refused(folder, tmp_path):
    class Stream(IterableDataset):
        def __iter__(self):
            return iter([])

    (tmp_path / "empty").mkdir()
    (tmp_path / "a.tar.gz").write_bytes(b"")
    (tmp_path / "a.tar").write_bytes(b"x" * 2000)
    (tmp_path / "a.parquet").write_bytes(b"x" * 2000)
    (tmp_path / "a.jsonl").write_text('{"path": "x"}\n{')
    (tmp_path / "b.csv").write_text("id,label\n1,2\n")
    (tmp_path / "c.txt").write_text("x.png\nb.parquet\n")
    (tmp_path / "d.csv").write_text("path\nb.npy\n")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "b.parquet")
    for given, words in (
        (tmp_path / "empty", "empty holds no images"),
        (tmp_path / "gone.png", "gone.png doesn't exist"),
        (tmp_path / "a.tar.gz", "is compressed"),
        (tmp_path / "a.tar", "is no tar"),
        (tmp_path / "a.parquet", "can't be read as parquet"),
        (tmp_path / "a.jsonl", "can't be read as jsonl"),
        (tmp_path / "b.csv", "image 1 has no path"),
        (tmp_path / "b.parquet", "has no column of images"),
        (tmp_path / "c.txt", r"c\.txt: image 2 is b\.parquet, which holds many"),
        (tmp_path / "d.csv", r"d\.csv: image 1 is b\.npy, which holds many"),
        ("qq://bucket/photos", "Protocol not known"),
        *([] if find_spec("s3fs") else [("s3://bucket/photos", "Install s3fs")]),
        ([], "source is empty"),
        (5, "source is 5; expected files"),
        (np.zeros((2, 3)), r"source has shape \(2, 3\) and type float64"),
        (Stream(), "expected a map-style Dataset"),
    ):
        with pytest.raises(nph.InputError, match=words) as refusal:
            list(Source(given))
        assert "\n" not in str(refusal.value)


def test_a_tar_that_breaks_off_gives_what_is_before(folder):
    file = packed(folder, "tar")
    file.write_bytes(file.read_bytes()[: 9 * 512 + 256])
    told = []
    assert [item.label for item in Source(file, told.append)] == ["cat", None]
    assert "is damaged behind cat/1" in told[0]


def test_a_tar_that_is_damaged_in_the_middle_is_not_taken_for_whole(folder):
    file = packed(folder, "tar")
    told = []
    assert len(list(Source(file, told.append))) == 6
    assert told == []
    with tarfile.open(file) as tar:
        third = tar.getmembers()[6].offset
    data = bytearray(file.read_bytes())
    data[third + 150] ^= 0x55  # in the checksum
    file.write_bytes(data)
    assert [item.id for item in Source(file, told.append)] == ["images.tar/cat/0", "images.tar/cat/1"]
    assert told == [f"{file} is damaged behind cat/1 (bad header)"]
    with pytest.raises(nph.InputError, match=r"is damaged behind cat/1 \(bad header\)"):
        list(Source(file))


def test_what_cannot_be_read_has_a_reason(folder, demo):
    (folder / "cat/0.png").write_bytes(FILES["cat/0.png"][:90])
    (folder / "cat/1.png").unlink()
    (folder / "cat/1.png").symlink_to("nowhere")
    (folder / "dog/1.png").write_bytes(b"")
    source = Source(folder)
    items = list(source)
    (folder / "dog/2.png").unlink()
    grey = torch.zeros(1)
    found = list(loaded(source, items, lambda: lambda image: grey, threads=2, ahead=3))
    assert [one.item for one in found] == items
    reasons = [one.reason and one.reason.removeprefix(f"{folder}/") for one in found]
    assert reasons == [
        "cat/0.png is damaged or no image (OSError); expected one that Pillow reads",
        "cat/1.png is a link to nothing; expected an image", None, None, "dog/1.png is empty; expected an image",
        "dog/2.png doesn't exist; expected an image",
    ]  # fmt: skip


def test_a_source_is_a_data_set_for_whatever_takes_one(tmp_path, demo):
    model, _, labels = demo
    pixels, _ = nph.demo.load_pixels()
    for i in range(12):
        (tmp_path / "digits" / str(int(labels[i]))).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[i] * 15).save(tmp_path / f"digits/{labels[i]}/{i}.png")
    dataset = Source(tmp_path / "digits").dataset(model)
    stacked, names = nph.load_images(tmp_path / "digits", model)
    truth = [int(name.split("/")[-2]) for name in names]
    assert [label for _, label in dataset] == truth
    paths = nph.find_path(model, dataset, "label", method="causal")
    assert torch.equal(paths.units, nph.find_path(model, stacked, truth, method="causal").units)
    by_class = nph.class_path(model, dataset, "label", halves=False)
    assert by_class.keys() == set(truth)
    assert [label for _, label in Source(tmp_path / "digits").dataset(model, {"3": 7})].count(7) == truth.count(3)
