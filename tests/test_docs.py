"""Every Python block of README and docs runs, every public name is documented, and the site is whole without a network."""

import inspect
import os
import pkgutil
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import make_llms
import printed
import pytest
from matplotlib.text import Text

import neuronpath as nph

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
LOADED = {"iframe": "src", "img": "src", "link": "href", "script": "src", "source": "src"}


@pytest.mark.filterwarnings("ignore:.*is no vision transformer itself:UserWarning")
@pytest.mark.parametrize("page", [page for page in PAGES if BLOCK.search(page.read_text())], ids=lambda page: page.name)
def test_code_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    assert printed.stale(page.read_text(), scope) == []
    assert any(isinstance(value, nph.NeuronPaths | nph.Circuit | nph.Faithfulness) for value in scope.values())


STATED = """```python
print(0.8464, 3)  # 0.846, 3; before 0.9
[1, 2]  # [1, 2]: two
[5]  # five
```

Prose.

```text
0.846 3
```
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("0.846, ", "0.848, "),
        ("# [1, 2]", "# [1, 3]"),
        ("\n0.846 3", "\n0.846 4"),
        ("\n0.846 3", "\n0.846 3\n3"),
        ("\n0.846 3\n", "\n"),
    ],
)
def test_what_a_page_says_wrongly_is_told(before, after):
    assert printed.stale(STATED, {}) == []
    assert printed.stale(STATED.replace("0.846 3\n", "...\n"), {}) == []
    assert len(printed.stale(STATED.replace(before, after), {})) == 1


def test_the_readme_s_snippet_runs_again_and_titles_its_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = [code for code in BLOCK.findall(README.read_text()) if "nph.plot_path" in code]
    drawn = code.replace("nph.plot_path", "figure = nph.plot_path")
    for _ in range(2):  # as a cell of a notebook does
        scope: dict = {}
        exec(drawn, scope)
    title = f"a {scope['labels'][5]}"
    assert title in [text.get_text() for text in scope["figure"].findobj(Text)]


def test_every_public_name_is_documented_once():
    entries = [entry for page in PAGES for entry in re.findall(r"^::: (\S+)", page.read_text(), re.MULTILINE)]
    documented = [pkgutil.resolve_name(entry) for entry in entries]
    public = [getattr(module, name) for module in (nph, nph.plots) for name in module.__all__ if name != "__version__"]
    public += [f for _, f in inspect.getmembers(nph.demo, inspect.isfunction) if f.__module__ == nph.demo.__name__]
    assert [thing for thing in public if sum(thing is each for each in documented) != 1] == []


def test_llms_txt_lists_all_that_is_public():
    """Names and how they are called; what they say of themselves may be a step behind."""
    calls = [
        re.findall(r"^- `(.*?)`: ", written, re.MULTILINE) for written in (make_llms.FILE.read_text(), make_llms.text())
    ]
    assert calls[0] == calls[1], "llms.txt is out of date; run PYTHONPATH=. python tests/make_llms.py"
    assert len(calls[1]) > len(nph.__all__)


def test_the_readme_links_to_what_is_there():
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", README.read_text()) if not urlsplit(link).scheme]
    assert links
    assert [link for link in links if not (ROOT / link.partition("#")[0]).exists()] == []


class Page(HTMLParser):
    """The ids of a page, the links in it, and what a browser loads to show it."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids.add(values.get("id", ""))
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if LOADED.get(tag) in values:
            self.loaded.append(values[LOADED[tag]])


def test_the_site_is_whole_and_loads_nothing_from_a_network(tmp_path):
    for package in ("material", "mkdocstrings_handlers.python", "latex2mathml"):
        pytest.importorskip(package, reason=f"{package} isn't installed")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(build, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

    pages = {file: Page(file) for file in tmp_path.rglob("*.html") if file.name != "404.html"}
    assert len(pages) >= len(PAGES) - 1
    broken, remote = [], []
    for file, page in pages.items():
        remote += [(file.name, link) for link in page.loaded if urlsplit(link).netloc]
        for link in page.links + page.loaded:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            anchors = pages[target].ids if target in pages else {""}
            if not target.exists() or (target in pages and parts.fragment and unquote(parts.fragment) not in anchors):
                broken.append((file.name, link))
    styles = [style.read_text(encoding="utf-8") for style in tmp_path.rglob("*.css")]
    remote += [address for style in styles for address in re.findall(r"(?:url\(|@import)[\"' ]*(?:https?:)?//", style)]
    assert broken == []
    assert remote == []
