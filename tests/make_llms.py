"""Writes llms.txt, the public surface in brief, for coding agents: ``python tests/make_llms.py``."""

import inspect
import re
from pathlib import Path

import typer

import neuronpath as nph
from neuronpath.cli import main as cli

ROOT = Path(__file__).parent.parent
FILE = ROOT / "llms.txt"
COMMANDS = {"find-path": "find_path", "neuronpath circuit": "circuit", "neuronpath evaluate": "evaluate",
            "neuronpath run": "run_data_set", "neuronpath benchmark": "benchmark", "neuronpath explore": "explore",
            "neuronpath compress": "compress", "prune-experiment": "prune_experiment"}  # fmt: skip
HEAD = """# neuronpath

> A Python library that finds which attention heads and MLP neurons a vision transformer's decision hangs on, removes them for real,
> and reports what is left beside what removing random units leaves. Models of timm, torchvision and transformers, and one's own.

Install, in a clone: `pip install -e .`; Python 3.10 or later, torch 2.4 or later. Nothing is downloaded for the embedded demo.

```python
import neuronpath as nph

model, images, labels = nph.demo.load()
# or: model = nph.load_model("vit_base_patch16_224"); images, names = nph.load_images("photos/", model)
paths = nph.find_path(model, images[:4])  # a head and a neuron of every block, for each image
print(paths.to_text())
with nph.remove(model, paths):
    logits = model(images[:4])
```

## Rules

- `images` are floats (B, C, H, W), transformed as the model wants them; a Dataset, DataLoader (not shuffled) or Source serves too.
- What can't be used raises `nph.InputError` (a ValueError), of a wrong kind `nph.InputTypeError` (a TypeError too), in one line.
- The model is left exactly as it was. Files are never overwritten without `overwrite=True`.
- A unit is `(block, neuron)`, `("head", block, index)` or `nph.Unit`. B images, S sites (for "both" each block's heads before its
  neurons), K units a site: `paths.units` is (B, S, K).
- Interventions act on their paths' tokens; on a plain list of units on those that the head pools: `tokens="all"` for all.
- Read a figure beside its control: `paths.left` beside `paths.random_left`; "random" in `nph.evaluate`.
"""
TAIL = """
## Documentation

- docs/index.md: start. docs/concepts.md: exact definitions. docs/reading.md: what the printed figures mean.
- docs/own-images.md, docs/own-model.md: images, data sets, checkpoints, models of one's own.
- docs/circuits.md, docs/edges.md, docs/faithfulness.md, docs/classes.md, docs/pruning.md, docs/pictures.md: what to do with units.
- docs/data-sets.md, docs/benchmark.md, docs/gpu.md: many images, measuring a model, GPUs. docs/features.md, docs/explorer.md,
  docs/recursive.md: what a unit means, the page in the browser, looped and low-rank models.
- docs/limits.md, docs/paper.md: what doesn't hold.
- docs/reference.md (built by `make docs`): every argument. docs/developing.md: how to add a model family, a method, a picture.
"""


def entry(name: str, thing: object) -> str:
    """A line for one public name: how it is called, and the first sentence of what it says of itself."""
    said = " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())
    said = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", said)
    call = ""
    if inspect.isfunction(thing):
        parameters = inspect.signature(thing).parameters.values()
        plain = [each.replace(annotation=inspect.Parameter.empty) for each in parameters]
        call = str(inspect.Signature(plain))
    return f"- `{name}{call}`: {said}"


def text() -> str:
    parts = [HEAD, "## Python: `import neuronpath as nph`\n"]
    parts += [
        entry(f"nph.{name}", getattr(nph, name))
        for name in sorted(nph.__all__)
        if name not in ("demo", "plots", "__version__")
    ]
    parts.append("\n## Pictures: each returns a matplotlib Figure\n")
    parts += [entry(f"nph.plots.{name}", getattr(nph.plots, name)) for name in sorted(nph.plots.__all__)]
    parts.append("\n## The embedded model and its digits\n")
    own = inspect.getmembers(
        nph.demo, lambda thing: inspect.isfunction(thing) and thing.__module__ == nph.demo.__name__
    )
    parts += [entry(f"nph.demo.{name}", function) for name, function in own if not name.startswith("_")]
    parts.append("\n## Commands (`--help` has all options)\n")
    parts += [
        entry(name, typer.main.get_command(cli.command(getattr(cli, function))).callback)
        for name, function in COMMANDS.items()
    ]
    return "\n".join(parts) + "\n" + TAIL


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
