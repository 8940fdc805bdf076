"""Letters that matplotlib's font lacks: from another font of this machine where there is one, else escaped."""

from collections.abc import Iterator
from functools import cache

from matplotlib import rcParams
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text

from ..checks import printable

OTHERS = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans JP", "Noto Sans SC", "Noto Sans KR", "Source Han Sans", "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei", "IPAexGothic", "Hiragino Sans", "PingFang SC", "Apple SD Gothic Neo", "Arial Unicode MS", "Yu Gothic",
    "Microsoft YaHei", "Malgun Gothic", "Nirmala UI", "Noto Sans Devanagari", "Noto Sans Thai", "Noto Sans Bengali", "Segoe UI Emoji",
)  # fmt: skip


def drawable(text: object) -> str:
    """A text fit to be drawn: what is never seen is escaped, and so are letters of which there is no font."""
    shown = printable(text)
    lacking = set(shown) - _own()
    for name in _others(lacking):
        lacking -= _letters(name)
    return "".join(c.encode("unicode_escape").decode() if c in lacking else c for c in shown)


def give_letters(figure: Figure) -> None:
    """Have a figure's texts draw letters that their own font lacks with others of this machine."""
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if lacking := set(text.get_text()) - _own() - {"\n"}:
            family = text.get_fontfamily()
            more = [name for name in _others(lacking) if name not in family]
            if more:
                text.set_fontfamily([*family, *more])


def _own() -> frozenset[str]:
    """The letters of the fonts that matplotlib is set to use."""
    return frozenset[str]().union(*(_letters(family) for family in rcParams["font.family"]))


def _others(lacking: set[str]) -> Iterator[str]:
    """Fonts of this machine that have some of these letters."""
    there = fonts_here() if lacking else frozenset[str]()
    return (name for name in OTHERS if name in there and _letters(name) & lacking)


@cache
def fonts_here() -> frozenset[str]:
    return frozenset(font.name for font in fontManager.ttflist)


@cache
def _letters(family: str) -> frozenset[str]:
    return frozenset(map(chr, get_font(findfont(FontProperties(family=[family]))).get_charmap()))
