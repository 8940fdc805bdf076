"""What classes are called: only where the names are those of the head that is there."""

import json

import pytest
import timm
import torch
from torch import nn

import neuronpath as nph
from neuronpath.data.labelled import read_class_names
from neuronpath.models.class_names import class_namer, folder_namer, head_size

SMALL = {"img_size": 32, "patch_size": 8, "depth": 1}


@pytest.fixture
def imagenet():
    return timm.create_model("vit_tiny_patch16_224", **SMALL)


def test_a_new_head_has_no_names_of_the_old_one(imagenet, demo):
    assert (head_size(imagenet), class_namer(imagenet)(1)) == (1000, "goldfish")
    assert folder_namer(imagenet)("n01443537") == folder_namer(imagenet)("goldfish") == 1
    for n in (5, 1200):
        imagenet.head = nn.Linear(192, n)  # num_classes stays 1000
        assert head_size(imagenet) == n
        assert [class_namer(imagenet)(label) for label in (0, 4, n - 1)] == [None] * 3
        assert folder_namer(imagenet)("goldfish") is None
        assert folder_namer(imagenet)("n01443537") is None
        assert folder_namer(imagenet)(str(n - 1)) == n - 1
        assert folder_namer(imagenet)(str(n)) is None
    paths = nph.find_path(imagenet, torch.randn(2, 3, 32, 32), [0, 1199], method="random")
    assert paths.class_names == {}
    imagenet.head = nn.Sequential(nn.Dropout(), nn.Linear(192, 64), nn.GELU(), nn.Linear(64, 5))
    assert head_size(imagenet) == 5
    model = nph.demo.create_model()
    model.head = nn.Linear(64, 12)
    assert class_namer(model)(3) is None
    assert class_namer(model, n_classes=10)(3) == "3"
    assert folder_namer(demo[0])("7") == 7


def test_a_head_taken_off_is_no_head(imagenet):
    imagenet.head = nn.Identity()  # num_classes stays 1000: its 192 features are no classes
    images = torch.randn(1, 3, 32, 32)
    with pytest.raises(nph.InputTypeError, match="has no classes"):
        nph.find_path(imagenet, images)
    bare = timm.create_model("vit_tiny_patch16_224", num_classes=0, **SMALL)
    bare.head = nn.Linear(192, 5)
    assert nph.find_path(bare, images, method="random").predicted[0] >= 0


def test_wrapped_models_keep_their_names(imagenet):
    assert class_namer(nn.DataParallel(imagenet))(1) == "goldfish"
    assert class_namer(torch.compile(imagenet))(1) == "goldfish"


def test_transformers_names():
    transformers = pytest.importorskip("transformers")
    sizes = {
        "image_size": 32,
        "patch_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "hidden_size": 24,
        "intermediate_size": 40,
    }
    config = transformers.ViTConfig(**sizes, num_labels=3, id2label={0: "cat", 1: "dog", 2: "cow"})
    model = transformers.ViTForImageClassification(config)
    assert class_namer(model)(2) == "cow"
    model.classifier = nn.Linear(24, 4)
    assert class_namer(model)(2) is None


def test_names_of_the_caller_s(demo):
    model = demo[0]
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    assert class_namer(model, names)(3) == class_namer(model, tuple(names))(3) == "three"
    some = class_namer(model, {3: "three"})
    assert (some(3), some(4)) == ("three", None)
    for wrong, message in (
        (names[:9], "class_names holds 9 names for 10 classes; expected one each"),
        ({10: "ten"}, "class_names names a class 10; expected whole numbers from 0 up to 9"),
        ({-1: "x"}, "class_names names a class -1"),
        ({"3": "x"}, "class_names names a class '3'"),
        ({True: "x"}, "class_names names a class True"),
        ([*names[:9], 9], "class_names calls class 9 9; expected a text"),
        ("0123456789", "class_names is a str; expected a sequence with a name for each class"),
        (5, "class_names is a int"),
    ):
        with pytest.raises(nph.InputError, match=message) as refusal:
            class_namer(model, wrong)
        assert "\n" not in str(refusal.value)


def test_names_from_files(tmp_path):
    def written(name, text):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    assert read_class_names(written("a.txt", "\ufeffcat\ntabby dog \nKüken\n\n")) == ["cat", "tabby dog", "Küken"]
    assert read_class_names(written("a.json", json.dumps(["cat", "dog"]))) == ["cat", "dog"]
    assert read_class_names(written("b.json", json.dumps({"0": "cat", "7": "dog"}))) == {0: "cat", 7: "dog"}
    for name, text, message in (
        ("b.txt", "cat\n\ndog", "line 2 is empty; expected a name a line"),
        ("c.txt", "", "holds no names"),
        ("c.json", "{", "can't be read as JSON"),
        ("d.json", '{"cat": 3}', "names a class 'cat'; expected class numbers and names"),
        ("e.json", '{"3": 3}', "calls class 3 3; expected a text"),
        ("f.json", "[1]", "calls class 0 1; expected a text"),
        ("g.json", "5", "holds a int; expected a list of names"),
        ("names.csv", "cat", r"names no kind of file; expected \.txt or \.json"),
    ):
        with pytest.raises(nph.InputError, match=message) as refusal:
            read_class_names(written(name, text))
        assert "\n" not in str(refusal.value)
    with pytest.raises(nph.InputError, match=r"none\.txt doesn't exist; expected names of classes"):
        read_class_names(tmp_path / "none.txt")
    (tmp_path / "x.txt").write_bytes(b"caf\xe9")
    with pytest.raises(nph.InputError, match="isn't UTF-8"):
        read_class_names(tmp_path / "x.txt")
