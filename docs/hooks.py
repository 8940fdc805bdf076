"""What mkdocs can't do by itself: formulas as MathML, links for the docstrings' roles, the commands' options, notebooks, llms.txt."""

import re
from html import unescape
from pathlib import Path
from typing import Any

import typer
from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter
from typer.cli import get_docs_for_click

from neuronpath.cli.main import (
    benchmark,
    circuit,
    command,
    compress,
    evaluate,
    explore,
    find_path,
    prune_experiment,
    run_data_set,
)

COMMANDS = {
    "find-path": find_path,
    "neuronpath circuit": circuit,
    "neuronpath evaluate": evaluate,
    "neuronpath run": run_data_set,
    "neuronpath explore": explore,
    "neuronpath compress": compress,
    "neuronpath benchmark": benchmark,
    "prune-experiment": prune_experiment,
}
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
ROLE = re.compile(r":(?:class|data|func|meth):<code>~?([\w.]+)</code>")


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """The notebooks with their outputs as pages, each with its pictures; and llms.txt beside them."""
    root = Path(config.config_file_path).parent
    files.append(File.generated(config, "llms.txt", content=(root / "llms.txt").read_text(encoding="utf-8")))
    for notebook in sorted((root / "notebooks").glob("*.ipynb")):
        page, resources = MarkdownExporter().from_filename(str(notebook))
        page = page.replace(".ipynb)", ".md)").replace("![png](", "![the output](")
        for name, picture in resources["outputs"].items():
            own = f"{notebook.stem}_{name}"
            page = page.replace(f"({name})", f"({own})")
            files.append(File.generated(config, f"notebooks/{own}", content=picture))
        files.append(File.generated(config, f"notebooks/{notebook.stem}.md", content=page))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Each line ``<!-- options: NAME -->`` becomes the command's usage and options."""
    return re.sub(r"^<!-- options: (.+) -->$", lambda found: options(found[1]), markdown, flags=re.MULTILINE)


def on_page_content(html: str, **_: Any) -> str:
    return ROLE.sub(link, FORMULA.sub(formula, html))


def options(name: str) -> str:
    click = typer.main.get_command(command(COMMANDS[name]))
    return get_docs_for_click(obj=click, ctx=typer.Context(click), indent=1, name=name)


def formula(found: re.Match) -> str:
    return convert(unescape(found[2]), display="block" if found[1] == "div" else "inline")


def link(found: re.Match) -> str:
    """A name of neuronpath's, to be found by autorefs."""
    place, _, name = found[1].rpartition(".")
    return f'<autoref identifier="{place or "neuronpath"}.{name}" optional><code>{name}</code></autoref>'
