"""What the benchmarks share: the machine's description, the unit F+B, interleaved timing, tables and JSON."""

import argparse
import json
import platform
import runpy
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
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
from neuronpath.models.hooks import at_rest, input_replaced
from neuronpath.models.load import load_model
from neuronpath.models.view import view


def options(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the table here, as JSON")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser


def machine(device: str = "cpu") -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        **{name: version(name) for name in ("neuronpath", "torch", "timm")},
        "date": time.strftime("%Y-%m-%d"),
    }


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


def forward_backward(model: nn.Module, images: Tensor) -> None:
    """F+B, the unit of cost: one plain forward of all images, one backward to the first block's input."""
    leaves: list[Tensor] = []

    def leaf(x: Tensor) -> Tensor:
        leaves.append(x.detach().requires_grad_())
        return leaves[0]

    with at_rest(model), torch.enable_grad(), input_replaced(view(model).blocks[0], leaf):
        torch.autograd.grad(model(images).softmax(-1)[:, 0].sum(), leaves)


def seconds(work: Callable[[], object], device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start


def multiples(unit: Callable[[], object], work: Callable[[], object], repeats: int, device: str) -> list[float]:
    """How many units the work takes, once a repeat; units are timed before and after it, for machines are shared."""
    found = []
    unit()  # warm up
    for _ in range(repeats):
        before = [seconds(unit, device) for _ in range(3)]
        taken = seconds(work, device)
        after = [seconds(unit, device) for _ in range(3)]
        found.append(taken / statistics.median(before + after))
    return found


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
