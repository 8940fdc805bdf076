"""Files written whole or not at all, on file systems of every kind, and what is no ordinary file."""

import errno
import os
import stat
import threading

import pytest

import neuronpath as nph
from neuronpath.files import (
    as_path,
    check_distinct,
    check_readable,
    check_spared,
    check_writable,
    read_text,
    write_folder_whole,
    write_whole,
)


def refused(match, call, *args, **kwargs):
    with pytest.raises(nph.InputError, match=match) as refusal:
        call(*args, **kwargs)
    assert "\n" not in str(refusal.value)


def fill(part):
    part.write_text("new")


@pytest.fixture
def poor_file_system(monkeypatch):
    """As exFAT and some FUSE file systems are: no hard links, no modes."""

    def unsupported(*_args, **_kwargs):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", unsupported)
    monkeypatch.setattr(os, "chmod", unsupported)
    monkeypatch.setattr("pathlib.Path.chmod", unsupported)


@pytest.mark.usefixtures("poor_file_system")
def test_without_hard_links_and_modes(tmp_path):
    path = tmp_path / "a.txt"
    write_whole(path, fill)
    assert path.read_text() == "new"
    refused("exists already", write_whole, path, fill)
    write_whole(path, lambda part: part.write_text("newer"), overwrite=True)
    assert path.read_text() == "newer"
    refused(
        "appeared while it was being written",
        write_whole,
        tmp_path / "b.txt",
        lambda _: (tmp_path / "b.txt").write_text("theirs"),
    )
    assert (tmp_path / "b.txt").read_text() == "theirs"
    assert sorted(os.listdir(tmp_path)) == ["a.txt", "b.txt"]


@pytest.mark.usefixtures("poor_file_system")
def test_a_move_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    refused("can't be written: No space left on device", write_whole, tmp_path / "a.txt", fill)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.EIO, "Input/output error")])
@pytest.mark.parametrize("moves", [0, 1])
def test_a_folder_whose_writing_is_interrupted_stays_as_it_was(tmp_path, monkeypatch, error, moves):
    place = tmp_path / "site"
    place.mkdir()
    (place / "a.txt").write_text("old")
    real, done = os.replace, []

    def replace(*names):
        if len(done) == moves:
            done.append(error)
            raise error
        done.append(names)
        real(*names)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises((KeyboardInterrupt, nph.InputError)):
        write_folder_whole(place, lambda part: fill(part / "a.txt"), lambda _: True, "a site", overwrite=True)
    assert (place / "a.txt").read_text() == "old"
    assert os.listdir(tmp_path) == ["site"]


def test_modes(tmp_path):
    path = write_whole(tmp_path / "a.txt", fill)
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    path.chmod(0o640)
    write_whole(path, fill, overwrite=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_links_are_written_through(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there/a.txt").write_text("old")
    link = tmp_path / "a.txt"
    link.symlink_to("there/a.txt")
    refused("exists already", write_whole, link, fill)
    write_whole(link, fill, overwrite=True)
    assert link.is_symlink()
    assert (tmp_path / "there/a.txt").read_text() == "new"
    (tmp_path / "there/a.txt").unlink()
    write_whole(link, fill)
    assert link.is_symlink()
    assert (tmp_path / "there/a.txt").read_text() == "new"


@pytest.mark.parametrize("name", ["n" * 251 + ".txt", "ü" * 125 + ".json", "a." + "e" * 253])
def test_long_names(tmp_path, name):
    assert len(os.fsencode(name)) in (254, 255)
    assert write_whole(tmp_path / name, fill).read_text() == "new"
    refused("File name too long", check_writable, tmp_path / f"{name}xx")
    assert os.listdir(tmp_path) == [name]


def test_a_folder_that_takes_no_file_is_refused_before_the_work(tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("tempfile.mkstemp", full)
    refused("can't be written: Read-only file system", check_writable, tmp_path / "a.txt")


def test_what_names_no_file(tmp_path, demo):
    refused("path is empty", check_writable, "")
    refused("without a null character", check_writable, "a\0b")
    for thing in (None, 5, b"a", object()):
        refused("expected the name of a file", check_writable, thing)
        refused("expected a text, or a path", nph.load_pruned, thing)
    refused("out is None", as_path, None, "out")
    refused("is empty", nph.load_images, "", demo[0])
    refused("named for two outputs", check_distinct, [tmp_path / "a", None, str(tmp_path) + "/b/../a"])


def test_an_output_that_is_an_input_is_refused(tmp_path):
    cat = tmp_path / "cat.png"
    cat.write_text("precious")
    (tmp_path / "link.png").symlink_to(cat)
    check_spared([tmp_path / "new.png", None], [cat])
    for output in (
        cat,
        str(cat),
        tmp_path / "link.png",
        tmp_path / "x/../cat.png" if (tmp_path / "x").mkdir() is None else None,
    ):
        refused(
            "is an input; expected another name for the output",
            check_spared,
            [None, output],
            [tmp_path / "gone.png", None, cat],
        )


def test_what_is_read_is_an_ordinary_file(tmp_path):
    (tmp_path / "a.txt").write_text("\ufeffhi", encoding="utf-8")
    assert read_text(tmp_path / "a.txt") == "hi"
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "broken").symlink_to("nothing")
    for path, words in (
        (tmp_path / "pipe", "is a named pipe; expected a picture"),
        (tmp_path, "is a folder; expected a picture"),
        ("/dev/zero", "is a device; expected a picture"),
        (tmp_path / "none", "doesn't exist; expected a picture"),
        (tmp_path / "a.txt/b", "doesn't exist; expected a picture"),
        (tmp_path / "broken", "is a link to nothing; expected a picture"),
        (tmp_path / ("n" * 300), "can't be read: file name too long"),
    ):
        refused(words, check_readable, path, "a picture")


@pytest.mark.parametrize("read", [nph.load_pruned, nph.NeuronPaths.load, nph.Circuit.load])
def test_a_pipe_is_not_waited_on(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    found = []

    def call():
        try:
            read(tmp_path / "pipe")
        except nph.InputError as error:
            found.append(str(error))

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive(), "it waits"
    assert "is a named pipe; expected" in found[0]
