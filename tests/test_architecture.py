"""The house as its imports show it: a wing imports only from wings below it, and no file is in a circle."""

import ast
import graphlib
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "neuronpath"
WINGS = (
    "__main__",
    "cli", "jobs", "page", "compression", "evaluation", "plots", "methods", "features", "runs", "paths", "data", "models", "demo",
    "units", "files", "checks", "options", "version",
)  # fmt: skip
FILES = sorted(PACKAGE.rglob("*.py"))


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(file): file for file in FILES}


def imports(file: Path, anywhere: bool = True) -> set[str]:
    """The modules of the package that a file imports; ``anywhere`` also inside its functions."""
    package = module_of(file) if file.name == "__init__.py" else module_of(file).rpartition(".")[0]
    found = set()
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree) if anywhere else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            place = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            inside = {f"{place}.{alias.name}" for alias in node.names}
            found |= inside & MODULES.keys() or {place}
    return {name for name in found if name in MODULES and name != "neuronpath"}


def wing_of(module: str) -> str:
    return module.split(".")[1]


def test_every_file_is_in_a_wing():
    assert {wing_of(module) for module in MODULES if module != "neuronpath"} == set(WINGS)
    assert len(list(PACKAGE.glob("*.py"))) <= 8


def test_a_wing_imports_only_from_wings_below():
    climbing = [
        f"{module} imports {other}"
        for module, file in MODULES.items()
        for other in imports(file)
        if module != "neuronpath" and WINGS.index(wing_of(other)) < WINGS.index(wing_of(module))
    ]
    assert climbing == []


def test_no_file_is_in_a_circle():
    graph = {module: imports(file, anywhere=False) for module, file in MODULES.items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError with the circle


def test_no_file_is_long():
    assert {file.name: lines for file in FILES if (lines := len(file.read_text().splitlines())) > 300} == {}


LIGHT = """
import sys, neuronpath
assert not {"torch", "timm", "numpy", "matplotlib"} & sys.modules.keys(), sorted(sys.modules)
assert neuronpath.__version__ and "find_path" in dir(neuronpath)
assert not [name for name in dir(neuronpath) if name.startswith("_") and name != "__version__"]
sys.argv = ["neuronpath", "--help"]
from neuronpath.cli.main import main
try:
    main()
finally:
    assert not {"torch", "timm", "numpy", "matplotlib"} & sys.modules.keys(), sorted(sys.modules)
"""


def test_help_needs_no_torch():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "find-path" in done.stdout


# ---- something new is one file and one line

FAMILY = """
from torch import nn
from toylib import ToyViT
from ..sites import Site
from ..view import register_vit
from ..vit import Halves, ViT

@register_vit(ToyViT)
def _toy(model):
    halves = Halves(lambda block, x: x + block.mix(x.mT).mT, lambda block, x: x + block.down(block.up(x).relu()))
    return ViT(
        model, model.layers, [halves] * 2, [Site(i, "neuron", b.down) for i, b in enumerate(model.layers)],
        lambda x: model.head(x.mean(1)), "patch", 0, 0,
    )
"""
LIBRARY = """
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix, self.up, self.down = nn.Linear(16, 16), nn.Linear(24, 40), nn.Linear(40, 24)

    def forward(self, x):
        x = x + self.mix(x.mT).mT
        return x + self.down(self.up(x).relu())

class ToyViT(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Conv2d(3, 24, 8, 8), nn.Linear(24, 6)
        self.layers = nn.ModuleList([Block(), Block()])

    def forward(self, images):
        x = self.embed(images).flatten(2).mT
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(1))
"""
METHOD = """
import torch
from .registry import Found, register_method

@register_method("first")
def locate_first(run, search):
    '''The first units of every site.'''
    first = torch.arange(search.top_k, device=run.rows.device)
    return Found(first.expand(len(run.rows), len(run.hidden), -1))
"""
IMPORTANCE = """
import torch
from .registry import register_importance

@register_importance("even", "weights")
def even(vit, seed):
    '''All alike.'''
    return [torch.ones(width) for width in vit.widths]
"""
PICTURE = """
from .parts import axes_for

def plot_sizes(paths, ax=None):
    '''The size of each attribution.'''
    figure, ax = axes_for(ax, (4, 3))
    ax.plot(paths.attribution[0].abs().flatten())
    return figure
"""
TOYS = {  # what is added: (its file, its text, the file with the one line, the line, what must work)
    "family": ("models/families/toylib.py", FAMILY, "models/families/__init__.py", 'LIBRARIES += ("toylib",)',
               "from toylib import ToyViT; p = nph.find_path(ToyViT(), torch.randn(2, 3, 32, 32)); assert p.units.shape == (2, 2, 1)"),
    "method": ("methods/first.py", METHOD, "methods/__init__.py", "from . import first",
               "p = nph.find_path(*demo, units='both', method='first', top_k=2); assert p.units.tolist() == [[[0, 1]] * 16] * 3"),
    "importance": ("compression/importance/even.py", IMPORTANCE, "compression/importance/__init__.py", "from . import even",
                   "assert all((v == 1).all() for v in nph.importance(demo[0], by='even'))"),
    "picture": ("plots/sizes.py", PICTURE, "plots/__init__.py", "from .sizes import plot_sizes",
                "assert nph.plots.plot_sizes(nph.find_path(*demo)).axes"),
}  # fmt: skip


@pytest.mark.parametrize("kind", TOYS)
def test_one_file_and_one_line(kind, tmp_path):
    file, text, place, line, works = TOYS[kind]
    copy = tmp_path / "neuronpath"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "toylib.py").write_text(LIBRARY)
    assert not (copy / file).exists()
    (copy / file).write_text(text)
    with (copy / place).open("a") as known:
        known.write(line + "\n")
    code = f"import torch, neuronpath as nph\nmodel, images, _ = nph.demo.load()\ndemo = model, images[:3]\n{works}\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
