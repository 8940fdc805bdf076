"""Images of every kind, read as Pillow and timm would read them."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from small import small_timm

import neuronpath as nph
from neuronpath.data.files import find_images, open_image
from neuronpath.models.class_names import class_namer
from neuronpath.models.transform import transform_of

GREY = np.arange(0, 240, dtype=np.uint8).reshape(12, 20)
COLOUR = np.stack([GREY, GREY[::-1], 255 - GREY], -1)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("L", "png"), ("RGB", "png"), ("RGBA", "png"), ("P", "png"), ("LA", "png"), ("1", "png"), ("CMYK", "tif")],
)
def test_modes_are_read_as_pillow_converts_them(tmp_path, mode, suffix):
    source = Image.fromarray(GREY if mode in ("L", "LA", "1") else COLOUR).convert(mode)
    path = tmp_path / f"image.{suffix}"
    source.save(path)
    expected = np.asarray(source.convert("RGB"), float)
    assert np.abs(np.asarray(open_image(path).convert("RGB"), float) - expected).max() <= 1


def test_sixteen_bits_keep_their_range(tmp_path):
    Image.fromarray(GREY.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    assert np.array_equal(np.asarray(open_image(tmp_path / "deep.png").convert("L")), GREY)
    Image.fromarray(GREY.astype(np.int32) * 257).save(tmp_path / "deeper.tif")
    assert np.array_equal(np.asarray(open_image(tmp_path / "deeper.tif").convert("L")), GREY)


def test_what_is_transparent_is_white(tmp_path):
    clear = Image.fromarray(np.dstack([COLOUR, np.zeros_like(GREY)]), "RGBA")
    clear.save(tmp_path / "clear.png")
    assert np.asarray(open_image(tmp_path / "clear.png")).min() == 255


def test_exif_rotation_is_undone(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: 90 degrees clockwise to stand upright
    Image.fromarray(COLOUR).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(np.asarray(open_image(tmp_path / "turned.png")), np.rot90(COLOUR, -1))


def test_transform_is_the_models_own():
    model = timm.create_model("vit_tiny_patch16_224", num_classes=3)
    image = Image.fromarray(np.random.RandomState(0).randint(0, 255, (200, 333, 3), np.uint8))
    own = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    assert torch.equal(transform_of(model)(image), own(image))
    # the weights of the "augreg" ViTs want mean and std of 0.5, not ImageNet's
    white = Image.new("RGB", (224, 224), "white")
    assert torch.allclose(transform_of(model)(white), torch.tensor(1.0))


def test_transform_follows_the_size_and_channels_the_model_was_built_with():
    model = timm.create_model("vit_tiny_patch16_224", img_size=96, in_chans=1)
    assert transform_of(model)(Image.fromarray(COLOUR)).shape == (1, 96, 96)


def test_load_images_and_find_path_on_a_folder(tmp_path, demo):
    model = demo[0]
    (tmp_path / "b").mkdir()
    for name in ("z.png", "b/a.png"):
        Image.fromarray(GREY).save(tmp_path / name)
    images, names = nph.load_images(tmp_path, model)
    assert images.shape == (2, 1, 32, 32)
    assert [n.removeprefix(str(tmp_path)) for n in names] == ["/b/a.png", "/z.png"]
    with pytest.raises(nph.InputError, match="no images were named"):
        nph.load_images([], model)


def test_find_images_keeps_named_files_apart(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    named, found = find_images([tmp_path / "a.png", tmp_path])
    assert named == found == [tmp_path / "a.png"]


def test_class_names(demo):
    assert class_namer(demo[0])(7) == "7"
    assert class_namer(timm.create_model("vit_tiny_patch16_224"))(1) == "goldfish"
    assert class_namer(timm.create_model("vit_tiny_patch16_224", num_classes=3))(1) is None


def test_a_hybrid_takes_pictures_not_its_stem_s_features(tmp_path):
    picture = tmp_path / "a.png"
    Image.new("RGB", (80, 70), "red").save(picture)
    model = small_timm("vision_transformer_hybrid", "vit_base_r50_s16_224")
    images, _ = nph.load_images(picture, model)
    assert images.shape == (1, 3, 64, 64)
