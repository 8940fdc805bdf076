"""Images of every kind, read as Pillow and timm would read them."""

import errno
import os

import numpy as np
import pytest
import timm
import torch
from limits import let_in, nobody
from PIL import Image
from small import small_timm

import neuronpath as nph
from neuronpath.data.files import find_images, open_image
from neuronpath.data.labelled import find_labelled
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


def test_floats_are_levels_or_shares_of_white(tmp_path):
    levels = GREY.astype(np.float32)
    for name, pixels in (("shares", levels / 255), ("levels", levels), ("beyond", levels - 0.25)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.tif")
        assert np.array_equal(np.asarray(open_image(tmp_path / f"{name}.tif")), GREY), name


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


@pytest.fixture
def tree(tmp_path):
    """A folder with images in it and below it, through links too, one of them in a circle."""
    (tmp_path / "in/b/c").mkdir(parents=True)
    (tmp_path / "out/far").mkdir(parents=True)
    for name in ("in/z.png", "in/b/a.png", "in/b/c/a.png", "out/o.png", "out/far/p.png"):
        Image.fromarray(GREY).save(tmp_path / name)
    (tmp_path / "in/linked").symlink_to("../out")
    (tmp_path / "in/a").symlink_to("b")  # a second name for what is there anyway
    (tmp_path / "out/far/up").symlink_to("../../in")
    (tmp_path / "in/b/also.png").symlink_to("../../out/o.png")
    return tmp_path / "in"


def test_links_are_followed_but_no_folder_is_entered_twice(tree):
    _, found = find_images([tree])
    assert [str(path.relative_to(tree)) for path in found] == [
        "b/a.png", "b/also.png", "b/c/a.png", "linked/far/p.png", "linked/o.png", "z.png",
    ]  # fmt: skip


def test_what_cannot_be_read_is_named(tree, monkeypatch, demo):
    os.mkfifo(tree / "pipe.png")
    (tree / "b/gone").symlink_to("nowhere")
    listdir = os.listdir

    def closed(folder):  # to root, who may run this, no folder is closed
        if str(folder).endswith("c"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return listdir(folder)

    monkeypatch.setattr(os, "listdir", closed)
    skipped = []
    _, found = find_images([tree], skipped.append)
    assert len(found) == 5
    assert sorted(reason.removeprefix(f"{tree}/") for reason in skipped) == [
        "b/c can't be read: permission denied; expected a folder of images",
        "b/gone is a link to nothing; expected an image",
        "pipe.png is a named pipe; expected an image",
    ]
    with pytest.raises(nph.InputError, match=r"can't be read: permission denied|is a named pipe|is a link to nothing"):
        nph.load_images(tree, demo[0])
    with pytest.raises(nph.InputError, match=r"c holds no images; .* \(.*c can't be read: permission denied"):
        find_images([tree / "b/c"], skipped.append)
    assert len(skipped) == 3


def test_pipes_and_devices_are_refused_not_waited_on(tmp_path, demo):
    os.mkfifo(tmp_path / "pipe.png")
    for path, words in (
        (tmp_path / "pipe.png", "is a named pipe"),
        ("/dev/zero", "is a device"),
        (tmp_path / "x.png", "doesn't exist"),
    ):
        for call in (lambda path=path: nph.load_images(path, demo[0]), lambda path=path: open_image(path)):
            with pytest.raises(nph.InputError, match=f"{words}; expected an image"):
                call()


def test_folders_of_classes(tmp_path, demo):
    for name in ("in/3", "in/4/deep", "out"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("in/3/a.png", "in/4/b.png", "in/4/deep/c.png", "out/d.png"):
        Image.fromarray(GREY).save(tmp_path / name)
    (tmp_path / "in/5").symlink_to("../out")
    os.mkfifo(tmp_path / "in/4/deep/pipe.png")
    skipped = []
    assert find_labelled(tmp_path / "in", demo[0], skip=skipped.append)[1] == [3, 4, 4, 5]
    assert ["pipe.png is a named pipe" in reason for reason in skipped] == [True]
    with pytest.raises(nph.InputError, match="is a named pipe"):
        find_labelled(tmp_path / "in", demo[0])
    for number in (10, -1):
        with pytest.raises(
            nph.InputError, match=f"classes maps '5' to class {number}, which the model lacks; expected 0 to 9"
        ):
            find_labelled(tmp_path / "in", demo[0], {"3": 3, "4": 4, "5": number}, skipped.append)
    (tmp_path / "in/6").symlink_to("nowhere")
    with pytest.raises(nph.InputError, match="6 is a link to nothing; expected a folder of images"):
        find_labelled(tmp_path / "in", demo[0])


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


def test_folders_that_cannot_be_entered_or_read(tmp_path):
    for name in ("listed", "shut", "open"):
        (tmp_path / name / "below").mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / name / "a.png")
    let_in(tmp_path)
    shut = [tmp_path / "listed", tmp_path / "shut"]
    for folder, mode in zip(shut, (0o644, 0o000), strict=True):
        folder.chmod(mode)
    told = []
    try:
        with nobody():
            assert find_images([tmp_path], told.append) == ([], [tmp_path / "open/a.png"])
            for path in (tmp_path, *shut, *(folder / "a.png" for folder in shut)):
                with pytest.raises(nph.InputError, match="permission denied"):
                    find_images([path])
    finally:
        for folder in shut:
            folder.chmod(0o755)
    assert sorted(told) == [
        f"{folder} can't be read: permission denied; expected a folder of images" for folder in shut
    ]


def test_what_pillow_warns_of_is_told_by_name(tmp_path):
    Image.new("L", (32, 32)).save(tmp_path / "a.jpg", "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05garbage")
    with pytest.warns(UserWarning, match=r"a\.jpg: Corrupt EXIF data"):
        assert open_image(tmp_path / "a.jpg").size == (32, 32)
