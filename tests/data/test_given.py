"""Images in data sets and loaders: what a tensor of them gives, and no more of them in memory than are run."""

import copy
import inspect
import io
import re
import weakref
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset, default_collate

import neuronpath as nph

N = 7


@pytest.fixture(scope="module")
def model(random_vit, random_images):
    model = random_vit(0)
    with torch.no_grad():  # so that images are of several classes
        model.head.bias -= model(random_images(1, N)).mean(0)
    return model


@pytest.fixture(scope="module")
def images(random_images):
    return random_images(1, N)


@pytest.fixture(scope="module")
def labels(model, images):
    return model(images).argmax(-1)


class Pairs(Dataset):
    """A map-style data set that counts what it was asked for, and what of that is alive."""

    def __init__(self, images, labels=None):
        self.images, self.labels = images, labels
        self.asked, self.alive, self.most = [], weakref.WeakSet(), 0

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        image = self.images[i].clone()
        self.asked.append(i)
        self.alive.add(image)
        self.most = max(self.most, len(self.alive))
        return image if self.labels is None else (image, int(self.labels[i]))


class Endless(IterableDataset):
    """Images one after the other, without a length."""

    def __init__(self, pairs):
        self.pairs = pairs

    def __iter__(self):
        return iter(self.pairs)


def forms(images, labels):
    pairs = list(zip(images, labels.tolist(), strict=True))
    yield Pairs(images, labels)
    yield TensorDataset(images, labels)
    yield DataLoader(TensorDataset(images, labels), batch_size=3)
    yield DataLoader(pairs, batch_size=None)
    yield DataLoader([{"pixel_values": image, "labels": label} for image, label in pairs], batch_size=4)
    yield DataLoader(Endless(pairs), batch_size=2)
    yield DataLoader(TensorDataset(images, labels), batch_sampler=[[0, 1, 2], [3], [4, 5, 6]])
    yield Endless(pairs)


def test_every_form_gives_the_tensors_paths(model, images, labels):
    expected = nph.find_path(model, images, labels, method="joint")
    for form in forms(images, labels):
        for size in (2, None):
            paths = nph.find_path(model, form, "label", method="joint", internal_batch_size=size)
            assert torch.equal(paths.units, expected.units)
            assert torch.equal(paths.target, labels)
            assert paths.names == expected.names
    assert torch.equal(nph.find_path(model, Pairs(images, 4 - labels), method="joint").target, labels)
    cut = nph.find_path(model, DataLoader(TensorDataset(images), batch_size=3, drop_last=True), method="causal")
    assert len(cut) == 6


def near(one, other):
    for a, b in zip(one, other, strict=True):
        assert torch.allclose(a, b, atol=1e-5, equal_nan=True)


def test_every_function_takes_them(model, images, labels, random_images, tmp_path):
    loader, data = DataLoader(TensorDataset(images, labels), batch_size=3), Pairs(images, labels)
    others = random_images(2, 12)
    reference = DataLoader(TensorDataset(others), batch_size=5)
    for baseline in ("mean", "resample"):
        paths = nph.find_path(model, images, baseline=baseline, reference=others)
        again = nph.find_path(model, loader, baseline=baseline, reference=reference)
        assert torch.equal(again.units, paths.units)
        near([again.left], [paths.left])
    paths = nph.find_path(model, images, method="causal")
    assert torch.equal(nph.find_paths(model, loader, ["causal"])["causal"].units, paths.units)
    circuits = nph.find_circuit(model, images, labels, reference=others, keep=0.5)
    assert nph.find_circuit(model, loader, "label", reference=reference, keep=0.5).units == circuits.units
    near(nph.rank_units(model, loader, "label"), nph.rank_units(model, images, labels))
    for by in ("taylor", "complete", "activation"):
        near(nph.importance(model, loader, by=by, target="label"), nph.importance(model, images, by=by, target=labels))
    near(nph.mean_activations(model, data), nph.mean_activations(model, images))
    near(nph.most_active(model, data, [(3, 5)], 2)[:2], nph.most_active(model, images, [(3, 5)], 2)[:2])
    near(nph.activation_maps(model, loader, paths), nph.activation_maps(model, images, paths))
    near(
        [nph.joint_influence(model, loader, paths.units).score], [nph.joint_influence(model, images, paths.units).score]
    )
    near([nph.faithfulness(model, loader, paths, k=[1]).alone], [nph.faithfulness(model, images, paths, k=[1]).alone])
    near([nph.path_graph(model, loader, paths).value], [nph.path_graph(model, images, paths).value])
    table = nph.evaluate(model, loader, "label", {"a": paths}, baseline="resample", reference=reference)
    assert table.equals(nph.evaluate(model, images, labels, {"a": paths}, baseline="resample", reference=others))
    truth = torch.tensor([1, 1, 1, 3, 3, 3, 3])
    twice = DataLoader(TensorDataset(images, truth), batch_size=3)
    ours, theirs = nph.class_path(model, twice, "label"), nph.class_path(model, images, truth)
    assert all(torch.equal(ours[label].units, theirs[label].units) for label in theirs)
    ours, theirs = (
        nph.class_circuit(model, *each, halves=False, keep=0.5) for each in ((loader, "label"), (images, labels))
    )
    assert [each.units for each in ours.values()] == [each.units for each in theirs.values()]
    by = nph.importance(model, by="magnitude")
    small, same = (nph.prune(model, by, 0.5, compensate=True, images=each) for each in (loader, images))
    near(small.state_dict().values(), same.state_dict().values())
    for change in (nph.remove, nph.keep):
        with change(model, paths, baseline="resample", reference=reference, images=loader), torch.no_grad():
            changed = model(images)
        with change(model, paths, baseline="resample", reference=others, images=images), torch.no_grad():
            near([model(images)], [changed])
    drawings = []
    for name, each in (("a", loader), ("b", images)):
        nph.report(model, each, paths, tmp_path / f"{name}.html", labels=labels)
        figures = [
            nph.plot_path(paths, each, 4), nph.plots.plot_methods({"a": paths}, each, 2), nph.plots.plot_circuit(circuits, each, 1),
            nph.plots.plot_places(model, each, paths, 5), nph.plots.plot_gallery(model, each, [(0, 1)], 2),
            nph.plots.plot_alpha(model, each, paths, -1, n_points=3),
        ]  # fmt: skip
        drawings.append([pixels_of(figure) for figure in figures])
    assert drawings[0] == drawings[1]
    assert (tmp_path / "a.html").read_text() == (tmp_path / "b.html").read_text()


def pixels_of(figure):
    file = io.BytesIO()
    figure.savefig(file, dpi=30, format="png", metadata={"Software": None})
    return np.asarray(Image.open(file)).tobytes()


def test_images_are_read_once_and_let_go(model, random_images):
    data = Pairs(random_images(3, 40), torch.arange(40) % 5)
    nph.find_path(model, data, "label", method="causal", internal_batch_size=4)
    assert sorted(data.asked) == list(range(40))
    assert data.most <= 10
    data = Pairs(random_images(3, 40), torch.arange(40) % 5)
    nph.importance(model, DataLoader(data, batch_size=4), by="taylor", target="label", batch_size=4)
    assert sorted(data.asked) == list(range(40))
    assert data.most <= 12


def test_a_source_is_what_the_model_sees_of_it(demo, tmp_path):
    model = demo[0]
    pixels, truth = nph.demo.load_pixels()
    for number in range(8):
        folder = tmp_path / "photos" / str(truth[number] % 2)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[number] * 15).save(folder / f"{number}.png")
    images, names, labels = nph.load_images(tmp_path / "photos", model, labels=True)
    source, ids = nph.Source(tmp_path / "photos"), tuple(name.removeprefix(f"{tmp_path}/photos/") for name in names)
    paths = nph.find_path(model, source, "label", reference=source)
    expected = nph.find_path(model, images, labels, reference=images)
    assert torch.equal(paths.units, expected.units)
    assert torch.equal(paths.target, labels)
    assert paths.names == nph.find_circuit(model, source, controls=False).names == ids
    assert nph.find_path(model, source, names=names, method="causal").names == tuple(names)
    table = nph.evaluate(model, source, "label", {"a": paths}, reference=source)
    assert table.equals(nph.evaluate(model, images, labels, {"a": paths}, reference=images))
    near(nph.importance(model, source, target="label"), nph.importance(model, images, target=labels))
    ours, theirs = nph.class_path(model, source, "label"), nph.class_path(model, images, labels)
    assert all(torch.equal(ours[label].units, theirs[label].units) for label in (0, 1))
    near(nph.most_active(model, source, [(3, 5)], 2)[:2], nph.most_active(model, images, [(3, 5)], 2)[:2])
    with pytest.raises(nph.InputError, match="images is a Source, and there is no model to see it"):
        nph.plots.plot_path(paths, source)
    (tmp_path / "photos/0/bad.png").write_bytes(b"")
    with pytest.raises(nph.InputError, match=r"bad\.png"):
        nph.find_path(model, source, method="causal")


def refuse(match, *arguments, **options):
    with pytest.raises(nph.InputError, match=match) as caught:
        nph.find_path(*arguments, **{"method": "causal", **options})
    assert "\n" not in str(caught.value)


def test_what_cannot_be_used_is_one_line(model, images, labels):
    data = TensorDataset(images, labels)
    refuse("images is a DataLoader that shuffles; expected shuffle=False", model, DataLoader(data, shuffle=True))
    refuse(
        "reference is a DataLoader that shuffles",
        model,
        images,
        method="live",
        reference=DataLoader(data, shuffle=True),
    )
    refuse("images holds no images", model, TensorDataset(images[:0]))
    refuse("images holds no images", model, DataLoader(Endless([]), batch_size=2))
    refuse("images holds a Image for image 0; expected tensors", model, Listed([Image.new("L", (32, 32))] * 3))
    refuse("holds images of .* and of .*; expected one shape", model, Listed([images[0], images[1][:, :10]]))
    refuse(r"image 3 and on\) has dtype torch.uint8", model, Listed([*images[:3], images[0].byte()]))
    refuse("target is 'label', but images is a tensor", model, images, "label")
    refuse(
        "target 'truth' names no class of .*; expected a class's number or 'label'; class_names gives",
        model,
        data,
        "truth",
    )
    refuse("images holds no label beside image 0", model, TensorDataset(images), "label")
    refuse("images holds 'seven' beside image 0", model, Listed([(image, "seven") for image in images]), "label")
    refuse("target 1[0-4] is out of range", model, TensorDataset(images, labels + 10), "label")
    refuse("names holds 2 names for 7 images", model, data, names=["a", "b"])
    refuse("image 0 of the batch holds NaN", model, Listed([images[0] * torch.nan]))


class Listed(Dataset):
    def __init__(self, elements):
        self.elements = elements

    def __len__(self):
        return len(self.elements)

    def __getitem__(self, i):
        return self.elements[i]


def test_no_length_is_believed_that_the_images_do_not_have(model, images, labels):
    def without_1(batch):
        return default_collate([(images[i], i) for i in batch if i != 1])

    def twice(batch):
        return torch.cat([images[batch], images[batch]])

    class Says(Endless):
        def __len__(self):
            return N + 1

    twos = images[:6].unflatten(0, (3, 2))
    few, many = "2 images where 3 should be", "6 images where 3 should be"
    for words, odd in (
        (few, DataLoader(range(6), batch_size=3, collate_fn=without_1)),
        (few, DataLoader(range(6), batch_size=3, collate_fn=without_1, drop_last=True)),
        (many, DataLoader(range(6), batch_size=3, collate_fn=twice)),
        ("2 images where 1 should be", TensorDataset(twos)),
        (f"{N} images where {N + 1} should be", Says(images)),
    ):
        refuse(rf"images holds {words}.*; expected as many as its length says", model, odd)
        with pytest.raises(nph.InputError, match="should be"):
            nph.mean_activations(model, odd)
        with pytest.raises(nph.InputError, match=f"reference holds {words}"):
            nph.find_path(model, images, reference=odd)
    alone = DataLoader(range(N), batch_sampler=[[0, 1, 2], [3, 4], [5, 6]], collate_fn=without_1)  # says no length
    near(nph.mean_activations(model, alone), nph.mean_activations(model, images[[0, *range(2, N)]]))
    near(nph.mean_activations(model, TensorDataset(images[:, None])), nph.mean_activations(model, images))
    pairs = DataLoader(TensorDataset(twos), batch_size=None)
    near(nph.mean_activations(model, pairs), nph.mean_activations(model, images[:6]))
    dropping = DataLoader(Says(images), batch_size=3, drop_last=True)  # 6, where its length is of 8
    near(nph.mean_activations(model, dropping), nph.mean_activations(model, images[:6]))


def test_no_public_function_takes_a_tensor_of_images_alone():
    found = 0
    for function in (getattr(module, name) for module in (nph, nph.plots) for name in module.__all__):
        if not inspect.isfunction(function):
            continue
        for name, kind in get_type_hints(function).items():
            if name in ("images", "reference") and kind is not str:  # a table's rows are chosen by a word
                found += 1
                assert {Dataset, DataLoader, nph.Source} <= set(get_args(kind)), function.__name__
    assert found > 25


def test_one_word_for_images_at_a_time_and_one_for_rows():
    """``batch_size`` is of images, ``internal_batch_size`` of rows, wherever they are."""
    seen = set()
    for name in nph.__all__:
        thing = getattr(nph, name)
        if not inspect.isfunction(thing):
            continue
        for parameter, unit in (("batch_size", "images"), ("internal_batch_size", "rows")):
            if parameter in inspect.signature(thing).parameters:
                line = re.search(rf"^ *{parameter}: (.*)$", thing.__doc__, re.MULTILINE)
                seen.add(parameter)
                assert line is None or line[1].startswith(unit), name
    assert len(seen) == 2


def test_folders_give_labels(tmp_path, demo):
    model = demo[0]
    pixels, truth = nph.demo.load_pixels()
    for number in range(6):
        folder = tmp_path / "photos" / str(int(truth[number]))
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels[number] * 15).astype(np.uint8)).save(folder / f"{number}.png")
    images, names, labels = nph.load_images(tmp_path / "photos", model, labels=True)
    plain = nph.load_images(tmp_path / "photos", model)
    assert (len(plain), names) == (2, plain[1])
    assert torch.equal(plain[0], images)
    assert labels.tolist() == [int(name.split("/")[-2]) for name in names]
    with pytest.raises(nph.InputError, match="holds no folders"):
        nph.load_images(tmp_path / "photos" / names[0].split("/")[-2], model, labels=True)
    (tmp_path / "photos" / "cat").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "photos" / "cat" / "c.png")
    with pytest.raises(nph.InputError, match="'cat', which names no class"):
        nph.load_images(tmp_path / "photos", model, labels=True)
    mapping = {folder.name: 0 for folder in (tmp_path / "photos").iterdir()}
    assert nph.load_images(tmp_path / "photos", model, labels=True, classes=mapping)[2].tolist() == [0] * 7
    with pytest.raises(nph.InputError, match="labels is False"):
        nph.load_images(tmp_path / "photos", model, classes=mapping)


def test_classes_by_their_names(model, images):
    """A target may be a class's name: the model's own, or the caller's."""
    called = ["cat", "dog", "a hen"] + [f"class {i}" for i in range(3, model.num_classes)]
    by_number = nph.find_path(model, images, [1, 0, 2, 1, 1, 1, 1], method="causal", class_names=called)
    by_name = nph.find_path(
        model, images, ["dog", "cat", "a hen", *[1] * 4], method="causal", class_names=dict(enumerate(called))
    )
    assert by_name == by_number
    assert nph.find_circuit(model, images[:1], "dog", class_names=called).target.tolist() == [1]
    with pytest.raises(
        nph.InputError, match=r"'dig' names no class of .*; expected a class's number or name, such as 'dog'"
    ):
        nph.find_path(model, images, "dig", class_names=called)
    with pytest.raises(
        nph.InputError, match=r"'cat' names no class of .*; expected a class's number or 'label'; class_names gives"
    ):
        nph.find_path(model, images, "cat")
    with_names = copy.deepcopy(model)
    with_names.pretrained_cfg = {"label_names": called}
    assert nph.find_path(with_names, images, "a_hen", method="causal").target.tolist() == [2] * N
    assert nph.importance(with_names, images, by="taylor", target="dog")[0].allclose(
        nph.importance(model, images, by="taylor", target=1)[0]
    )


class Named(Pairs):
    """A data set that says what its classes are called, as torchvision's do."""

    classes = ("dog", "cat")


def test_a_data_set_that_numbers_its_classes_otherwise_is_refused(model, images):
    with_names = copy.deepcopy(model)
    with_names.pretrained_cfg = {"label_names": ["cat", "dog", *map(str, range(100, 98 + model.num_classes))]}
    loader = DataLoader(Named(images, [0] * N), batch_size=2)
    with pytest.raises(nph.InputError, match=r"images calls class 0 'dog', which is class 1 of .*as neuronpath.Source"):
        nph.find_path(with_names, loader, "label", method="causal")
    paths = nph.find_path(model, loader, "label", method="causal")  # a model that names none
    assert paths.target.tolist() == [0] * N
    with_names.pretrained_cfg["label_names"][:2] = ["dog", "cat"]
    assert torch.equal(nph.find_path(with_names, loader, "label", method="causal").units, paths.units)


def test_nor_is_it_taken_as_a_source(model, images):
    with_names = copy.deepcopy(model)
    with_names.pretrained_cfg = {
        "label_names": ["cat", "dog", *map(str, range(100, 98 + model.num_classes))],
        "input_size": (3, 16, 16),
    }
    source = nph.Source(Subset(Named(images, [0] * N), range(N)))
    with pytest.raises(nph.InputError, match="images calls class 0 'dog', which is class 1 of"):
        nph.find_path(with_names, source, "label", method="causal")
    assert len(nph.find_path(with_names, source, method="causal")) == N  # of the predicted class
    mapped = source.dataset(with_names, {"0": 1, "1": 0})
    assert nph.find_path(with_names, mapped, "label", method="causal").target.tolist() == [1] * N
    with_names.pretrained_cfg["label_names"][:2] = ["dog", "cat"]
    assert nph.find_path(with_names, source, "label", method="causal").target.tolist() == [0] * N
