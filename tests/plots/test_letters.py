"""Names in pictures: escaped where they can't be seen, drawn by another font where matplotlib's own lacks their letters."""

import warnings
from io import BytesIO

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.text import Text

import neuronpath as nph
from neuronpath.plots import letters

ODD = "猫\x1b[31m\u202e\n$x$\udcff.png"


@pytest.fixture
def paths(demo):
    model, images, _ = demo
    return nph.find_path(model, images[:2], method="random", names=[ODD, ODD], class_names=[ODD] * 10)


def drawn(figure):
    """A figure's words, as they are drawn; whatever matplotlib warns of is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(BytesIO())
    return " ".join(text.get_text() for text in figure.findobj(Text))


def test_names_are_escaped(demo, paths):
    model, images, _ = demo
    pictures = {
        "path": nph.plots.plot_path(paths[0], images[:1]),
        "paths": nph.plots.plot_paths(paths),
        "methods": nph.plots.plot_methods({ODD: paths[:1]}),
        "places": nph.plots.plot_places(model, images[:2], paths),
        "gallery": nph.plots.plot_gallery(model, images[:2], [(0, 1)], n=2, names=list(paths.names)),
        "circuit": nph.plots.plot_circuit(
            nph.find_circuit(model, images[:1], controls=False, names=[ODD], class_names=[ODD] * 10)
        ),
        "graph": nph.plots.plot_graph(nph.path_graph(model, images[:1], paths[:1])),
    }
    for name, figure in pictures.items():
        words = drawn(figure)
        assert not set("猫\x1b\u202e\udcff") & set(words), name
        assert name == "paths" or r"\x1b" in words, f"{name}: {words}"


def test_another_font_of_this_machine(monkeypatch, tmp_path, paths, demo):
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    pen.lineTo((500, 0))
    pen.lineTo((0, 500))
    pen.closePath()
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder([".notdef", "cat"])
    font.setupCharacterMap({ord("猫"): "cat"})
    font.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "cat": pen.glyph()})
    font.setupHorizontalMetrics({".notdef": (600, 0), "cat": (600, 0)})
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": letters.OTHERS[0], "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(tmp_path / "cats.ttf")
    assert letters.drawable("猫 café") == r"\u732b café"
    monkeypatch.setattr(font_manager.fontManager, "ttflist", list(font_manager.fontManager.ttflist))
    font_manager.fontManager.addfont(tmp_path / "cats.ttf")
    letters.fonts_here.cache_clear()
    try:
        assert letters.drawable("猫 café 犬") == r"猫 café \u72ac"
        assert "猫" in drawn(nph.plots.plot_path(paths[0], demo[1][:1]))
    finally:
        letters.fonts_here.cache_clear()


def test_kinds_of_pictures_are_tried(monkeypatch):
    monkeypatch.setenv("PATH", "")  # no TeX
    with pytest.raises(nph.InputError, match=r"a\.pgf can't be drawn here .* expected another ending") as refusal:
        nph.plots.check_picture("a.pgf")
    assert "\n" not in str(refusal.value)
    for name in ("a.png", "a.SVG", "b.pdf"):
        nph.plots.check_picture(name)
