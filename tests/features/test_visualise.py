"""Images made to excite units: they do so more than real ones, each its own way; a neuron that is off is found."""

import pytest
import torch

import neuronpath as nph

UNITS = [("head", 3, 0), ("head", 7, 2), (2, 208), (1, 106)]


@pytest.fixture(scope="module")
def made(demo):
    return nph.visualise(demo[0], UNITS, steps=128)


def test_above_the_best_real_image(demo, made):
    best = nph.most_active(demo[0], demo[1], UNITS, 1)[0][:, 0]
    assert (made.values > best).all()
    again, numbers, _ = nph.most_active(demo[0], made.images, UNITS, 1)
    assert torch.allclose(again[:, 0], made.values.maximum(again[:, 0]))  # values are those of the images given back
    assert numbers[:, 0].tolist() == list(range(4))  # and each unit likes its own best


def test_pixels_and_images_are_the_same_picture(made):
    assert made.pixels.shape == made.images.shape == (4, 1, 32, 32)
    assert made.pixels.min() >= 0
    assert made.pixels.max() <= 1
    assert torch.allclose(made.images, (made.pixels - 0.5) / 0.5, atol=1e-6)  # the digits model's mean and deviation


def test_a_neuron_that_is_off_in_noise_is_switched_on(demo):
    """Its input is below GELU's dip there, from where plain ascent goes down for good."""
    model = demo[0]
    assert nph.visualise(model, [(4, 77)], steps=1).values < 0
    assert nph.visualise(model, [(4, 77)], steps=100).values > 0.5


def test_neither_other_units_nor_batches_matter_and_the_seed_does(demo):
    model = demo[0]
    two = nph.visualise(model, UNITS[2:], steps=3)
    assert torch.allclose(nph.visualise(model, UNITS[3:], steps=3).pixels, two.pixels[1:], atol=1e-5)
    assert torch.allclose(nph.visualise(model, UNITS[2:], steps=3, batch_size=1).pixels, two.pixels, atol=1e-5)
    assert not torch.allclose(nph.visualise(model, UNITS[2:], steps=3, seed=1).pixels, two.pixels, atol=1e-5)


def test_several_starts_find_more_than_one(demo):
    units = [
        (5, 61),
        (4, 77),
        (1, 106),
    ]  # those of the digits' paths that one start most often leaves below real images
    one, more = (nph.visualise(demo[0], units, steps=64, starts=starts).values for starts in (1, 5))
    assert more.mean() > 1.05 * one.mean()


def test_colour(random_vit):
    """Of a model in colour, whose images it doesn't describe."""
    model = random_vit(0)
    with pytest.raises(nph.InputError, match="doesn't say how its images are made; expected size="):
        nph.visualise(model, [(0, 1)], steps=2)
    size = (3, *model.patch_embed.img_size)
    made = nph.visualise(model, [(0, 1)], steps=2, size=size, mean=[0.5] * 3, std=[0.25] * 3)
    assert made.images.shape == (1, *size)
    assert torch.allclose(made.images, (made.pixels - 0.5) / 0.25, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps is 0; expected"),
        ({"starts": 0}, "starts is 0; expected"),
        ({"total_variation": -1.0}, "total_variation is -1.0; expected 0 or more"),
        ({"size": (2, 8, 8)}, r"size is \(2, 8, 8\); expected \(C, H, W\) with 1 or 3 channels"),
        ({"std": [0.0]}, r"std is \[0.0\]; expected a number for each of 1 channels"),
        ({"mean": [0.1, 0.2]}, "expected a number for each of 1 channels"),
    ],
)
def test_bad_input(demo, options, message):
    with pytest.raises(nph.InputError, match=message):
        nph.visualise(demo[0], [(1, 3)], **options)


def test_seeds_beyond_those_that_torch_takes(demo):
    made = [nph.visualise(demo[0], [(4, 163)], steps=1, seed=seed).pixels for seed in (2**70, 2**70, 2**70 + 1)]
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])
