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


def test_a_class_of_one_image_takes_no_name(demo):
    """A unit's favourite image alone in a class would tell it best of all, and has no other half to be scored on."""
    model, images, labels = demo
    units = [("head", 7, h) for h in range(4)]
    favourites = nph.most_active(model, images[:200], units, 1)[1][:, 0]
    for row, favourite in enumerate(favourites.tolist()):
        changed = labels[:200].clone()
        changed[favourite] = 99
        named = nph.name_units(model, images[:200], units, changed, controls=50).iloc[row]
        assert named["name"] == named["best"] != "99"
        assert named["score"] > 0.6


@pytest.mark.parametrize("longest", ["dog", "a very long word"])
def test_siglip_reads_words_and_images_as_it_was_trained(longest):
    """As SigLIP's own processor makes them: words padded to the full length, whatever stands beside them; grey is 0."""
    transformers = pytest.importorskip("transformers")
    config = transformers.SiglipConfig(
        text_config={
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 100,
            "max_position_embeddings": 24,
        },
        vision_config={
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32,
            "patch_size": 16,
        },
    )  # fmt: skip
    torch.manual_seed(0)
    siglip = transformers.SiglipModel(config).eval()

    def tokenizer(words, padding=False, max_length=24, **_):
        rows = [[5 + ord(letter) % 90 for letter in word] for word in words]
        width = max_length if padding == "max_length" else max(map(len, rows))
        ids = torch.tensor([row + [1] * (width - len(row)) for row in rows])
        return transformers.BatchEncoding({"input_ids": ids, "attention_mask": (ids != 1).long()})

    see, read = nph.image_text_pair(siglip, tokenizer, (0.5,) * 3, (0.25,) * 3, 32)
    with torch.no_grad():
        ids = tokenizer(["cat"], padding="max_length")["input_ids"]
        expected = siglip.text_model(input_ids=ids).pooler_output
        assert torch.allclose(read(["cat", longest])[:1], expected, atol=1e-6)
        grey = siglip.vision_model(pixel_values=torch.zeros(1, 3, 32, 32)).pooler_output
        assert torch.allclose(see(torch.zeros(1, 3, 32, 32)), grey, atol=1e-5)


def test_images_for_open_clip_are_normalised_as_it_says():
    class Joint(torch.nn.Linear):
        def encode_image(self, images):
            return images.flatten(1)

    model = Joint(1, 1)
    model.visual = torch.nn.Identity()
    model.visual.image_mean, model.visual.image_std = (0.5, 0.25, 0.0), (0.5, 0.5, 2.0)
    see, _ = nph.image_text_pair(model, str, (0.5,) * 3, (1.0,) * 3, 2)
    assert torch.allclose(see(torch.zeros(1, 3, 2, 2)).view(3, 4), torch.tensor([[0.0], [0.5], [0.25]]).expand(3, 4))
