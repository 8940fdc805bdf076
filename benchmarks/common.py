"""What the benchmarks share: the machine's description, the unit F+B, interleaved timing, tables and JSON."""

import argparse
import json
import runpy
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import pandas as pd
import timm
import torch
from torch import Tensor, nn

import neuronpath as nph
from neuronpath.data.files import find_images
from neuronpath.data.load import load_images
from neuronpath.files import write_whole
from neuronpath.jobs.benchmark.timing import machine
from neuronpath.models.load import load_model


def options(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the table here, as JSON")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser


def report(title: str, rows: list[dict[str, Any]], path: Path | None, device: str = "cpu", **more: Any) -> None:
    """Print the rows as a table; write them as JSON, and what else there is, where a path is given."""
    about = machine(device)
    print(f"\n{title}\n{', '.join(f'{k} {v}' for k, v in about.items())}\n")
    print(pd.DataFrame(rows).to_string(index=False, float_format=lambda value: f"{value:.4g}", na_rep=""))
    if path is not None:
        text = json.dumps({"title": title, "machine": about, "rows": rows, **more}, indent=1)
        write_whole(path, lambda part: part.write_text(text + "\n"), overwrite=True)


def random_model(name: str, device: str = "cpu") -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, pretrained=False, num_classes=1000).eval().to(device)


def random_images(model: nn.Module, n: int) -> Tensor:
    size = timm.data.resolve_model_data_config(model)["input_size"]
    return torch.randn(n, *size, generator=torch.Generator().manual_seed(1)).to(next(model.parameters()).device)


def from_folder(folder: Path, model: nn.Module, count: int) -> Tensor:
    """The first images of a folder with one folder a class, from its folders in turn."""
    files = [find_images([part])[1] for part in sorted(folder.iterdir()) if part.is_dir()]
    mixed = [file for file in chain.from_iterable(zip_longest(*files)) if file is not None]
    return load_images(mixed[:count], model)[0]


def from_options(parser: argparse.ArgumentParser) -> None:
    """The options that say which model and images."""
    parser.add_argument("--model", help="a timm model")
    parser.add_argument("--checkpoint", type=Path, help="its weights; without, timm's")
    parser.add_argument("--folder", type=Path, help="one folder of images a class; without, the embedded digits")
    parser.add_argument("--source", help="a Python file that defines load() -> (model, images, others)")
    parser.add_argument("--limit", type=int, default=60, help="images of the test")
    parser.add_argument("--reference", type=int, default=200, help="images of the mean that units are ablated to")


def load(parser: argparse.ArgumentParser, chosen: Any, more: int = 0) -> tuple[nn.Module, Tensor, Tensor]:
    """The model, the images of the test, and the others: ``--reference`` and ``more``."""
    if (chosen.model is None) != (chosen.folder is None):
        parser.error("--model and --folder go together")
    others = chosen.reference + more
    if chosen.source:
        return runpy.run_path(chosen.source)["load"]()
    if chosen.folder is None:
        model, images, _ = nph.demo.load()
        return model, images[: chosen.limit], nph.demo.load("train")[1][:others]
    model = load_model(chosen.model, chosen.checkpoint is None, chosen.checkpoint, chosen.device)
    images = from_folder(chosen.folder, model, chosen.limit + others)
    return model, images[: chosen.limit], images[chosen.limit :]
