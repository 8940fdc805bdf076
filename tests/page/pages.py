"""Pages, parsed."""

from html.parser import HTMLParser

VOID = {"meta", "img", "input", "link", "br"}
SELF_CLOSED = {"circle", "rect", "line", "path", "polyline"}


class Page(HTMLParser):
    """Every element as (tag, attributes, the text in it), in order; fails on tags that don't match."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict, list[str]]] = []
        self.open: list[tuple[str, dict, list[str]]] = []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.elements.append((tag, dict(attrs), []))
        if tag not in VOID:
            self.open.append(self.elements[-1])

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        assert tag in SELF_CLOSED, tag
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        for _, _, text in self.open:
            text.append(data)

    def all(self, tag: str, name: str = "") -> list[tuple[dict, str]]:
        """The attributes and texts of the elements of this tag and class."""
        return [
            (attrs, "".join(text).strip())
            for found, attrs, text in self.elements
            if found == tag and (not name or name in (attrs.get("class") or "").split())
        ]
