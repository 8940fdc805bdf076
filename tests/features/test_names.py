"""Names for units: the AUROC is scikit-learn's, planted names are found, chance gets none."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

import neuronpath as nph


def test_auroc_is_scikit_learns(demo):
    """A unit's score is the AUROC of its best class of the other half: one of those that scikit-learn gives some split."""
    model, images, labels = demo
    named = nph.name_units(model, images, [(6, 40)], labels, controls=5).iloc[0]
    values = nph.most_active(model, images, [(6, 40)], len(images))
    order = values[1][0].argsort()
    value = values[0][0][order].numpy()
    overall = roc_auc_score(labels.numpy() == int(named["best"]), value)
    assert abs(named["score"] - overall) < 0.1
    each = [roc_auc_score(labels.numpy() == c, value) for c in range(10)]
    assert int(named["best"]) in np.argsort(each)[-3:]


def test_planted_words_are_found_and_chance_gets_none(demo):
    """Images are what they show: the joint model knows the label, so a unit that likes a digit gets that digit's word."""
    model, images, labels = demo
    by_label = nph.name_units(model, images, [("head", 7, h) for h in range(4)], labels)
    words = [f"digit {c}" for c in range(10)]
    vectors = torch.eye(10)
    known = {tuple(image.flatten()[:400:7].tolist()): int(c) for image, c in zip(images, labels, strict=True)}

    def see(batch):
        return vectors[[known[tuple(image.flatten()[:400:7].tolist())] for image in batch]]

    units = [("head", 7, h) for h in range(4)] + [(7, n) for n in range(12)]
    named = nph.name_units(model, images, units, words=words, image_text=(see, lambda _: vectors), n=20)
    _, numbers, _ = nph.most_active(model, images, units, 20)
    for row, favourites in zip(named.itertuples(), numbers, strict=True):
        commonest = labels[favourites].bincount(minlength=10)
        assert commonest[words.index(row.best)] == commonest.max()
        assert (row.name is None) == (row.score <= row.control)
    assert len(by_label) == 4

    draw = torch.Generator().manual_seed(0)
    blind = torch.randn(len(images), 10, generator=draw)
    rows = iter(range(len(images)))
    named = nph.name_units(
        model, images, units, words=words,
        image_text=(lambda batch: blind[[next(rows) for _ in batch]], lambda _: vectors), n=20,
    )  # fmt: skip
    assert named["name"].isna().mean() > 0.8


def test_random_labels_name_nothing(demo):
    model, images, labels = demo
    shuffled = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(3))]
    units = [(b, n) for b in range(8) for n in range(5)]
    chance = nph.name_units(model, images, units, shuffled, controls=60)
    true = nph.name_units(model, images, units, labels, controls=60)
    assert chance["name"].notna().mean() < 0.2
    assert true["name"].notna().mean() > 0.8
    assert true["control"].between(0.5, 0.75).all()


def test_a_joint_model_of_transformers():
    transformers = pytest.importorskip("transformers")
    side = 32
    config = transformers.CLIPConfig(
        text_config={"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 99},
        vision_config={
            "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "image_size": side,
            "patch_size": 8,
        },
        projection_dim=16,
    )  # fmt: skip
    torch.manual_seed(0)
    clip = transformers.CLIPModel(config).eval()

    def tokenizer(words, **_):
        return transformers.BatchEncoding({"input_ids": torch.tensor([[1, 5 + len(word), 98] for word in words])})

    see, read = nph.image_text_pair(clip, tokenizer, (0.5,), (0.5,), side)
    with torch.no_grad():
        assert see(torch.zeros(2, 1, 16, 16)).shape == (2, 16)
        assert read(["a", "bee"]).shape == (2, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "expected either labels or words"),
        ({"labels": 3, "words": ["a"]}, "expected either labels or words"),
        ({"words": ["a"]}, "words want image_text, two functions"),
        ({"labels": [1] * 6}, r"labels name 1 class\(es\) of 6 images; expected two classes"),
        ({"labels": [1, 2]}, r"target has shape \(2,\); expected one class or \(6,\)"),
        ({"labels": [0, 1] * 3, "controls": 0}, "controls is 0; expected"),
        (
            {"words": ["a"], "image_text": (lambda x: torch.zeros(len(x), 3), lambda w: torch.zeros(1, 2))},
            r"image_text makes vectors of shapes \(6, 3\) and \(1, 2\); expected \(6, D\) and \(1, D\)",
        ),
    ],
)
def test_bad_input(demo, options, message):
    with pytest.raises(nph.InputError, match=message):
        nph.name_units(demo[0], demo[1][:6], [(1, 3)], **options)
