"""Writes docs/models.md: what the library makes of every plain-ViT architecture of timm, by the same examination as the tests'.

python tests/make_models_table.py
"""

import textwrap
from importlib.metadata import version
from pathlib import Path

import timm
import torch
from small import MODULES, NAMES, examine, small_images, small_timm
from torch import nn

import neuronpath as nph

TABLE = Path(__file__).parent.parent / "docs" / "models.md"
HEAD = """# Models

Written by `python tests/make_models_table.py`, which builds every architecture of timm's plain-ViT modules small, with random weights,
and examines it with paths of neurons and of both neurons and heads: the model's output is unchanged, the view computes what the model
computes, the attributions sum to what they must. `tests/models/test_families.py` does the same on every change.

timm {timm}: {good} of {all} architectures work, {bad} are refused, for the reason given. Tokens are those that the head pools, on
which units are read with `token="auto"`; registers are never among them unless the head pools them too.

{heads}

torchvision's `vit_b_16`, `vit_b_32`, `vit_l_16`, `vit_l_32` and `vit_h_14` work (torchvision {torchvision}), and of transformers
({transformers}) ViT, DeiT, BEiT, DINOv2, DINOv2 with registers and DINOv3, with and without a head; neurons and heads of both, and
their neurons can be pruned. A ViT of your own takes a few lines: [own-model.md](own-model.md).
"""
HEADS = (
    'Attention heads (`units="heads"` or `"both"`) are reached in {reached} of {all} architectures; the column says how many a block '
    'has. `nph.prune(..., units="heads")` takes them out of {cut}: those whose attention is `timm.layers.Attention` without a norm '
    "over its heads. Of the others it is refused by name ({not_cut}); their heads are found, removed and enhanced all the same, and "
    "their neurons can be pruned."
)
COLUMNS = ("architecture", "MLP", "heads", "heads pruned", "tokens", "registers, not read")


def row_of(module: str, name: str) -> str:
    """The table's line for an architecture."""
    model = small_timm(module, name)
    images = small_images(model)
    try:
        vit = examine(model, images)
        no_heads = why_no_heads(model)
        if not no_heads:
            examine(model, images, units="both")
    except nph.InputTypeError as refusal:
        return line(name, f"refused: {str(refusal).split(';')[0]}", *[""] * (len(COLUMNS) - 2))
    tokens = {"cls": "class token", "patch": "patches", "all": "all"}[vit.token]
    if vit.token == "cls" and vit.num_cls_tokens == 2:
        tokens = "class and distillation token"
    registers = vit.num_prefix_tokens - vit.num_cls_tokens
    return line(
        name,
        type(vit.blocks[0].mlp).__name__,
        no_heads or str(heads_of(name)),
        "" if no_heads else pruned(model),
        tokens,
        "" if vit.pools_registers else str(registers or ""),
    )


def line(*cells: str) -> str:
    return "".join(f"| {cell} " for cell in cells).replace("|  ", "| ") + "|"


def why_no_heads(model: nn.Module) -> str:
    """Why its attention heads can't be reached; nothing where they can."""
    try:
        nph.view(model, units="heads")
    except nph.InputTypeError as refusal:
        return f"none: {str(refusal).split(': ')[1].split(';')[0]}"
    return ""


def heads_of(name: str) -> int:
    """The heads of a block at the architecture's own size."""
    own = {"num_kv_heads": (1,)} if "sapiens2" in name else {}  # one number a block
    with torch.device("meta"):
        return nph.view(timm.create_model(name, depth=1, **own), units="heads").widths[0]


def pruned(model: nn.Module) -> str:
    """Whether its heads can be taken out, else the attention that they can't be taken out of."""
    try:
        nph.prune(model, nph.importance(model, by="random", units="heads"), 0.5, units="heads")
    except nph.InputTypeError as refusal:
        name, *with_what = str(refusal).split("attention of class ")[1].split(",")[0].split(";")[0].split(" ", 1)
        return " ".join(["no:", ".".join(name.split(".")[-2:]), *with_what])
    return "yes"


def main() -> None:
    rows = {module: [row_of(m, name) for m, name in NAMES if m == module] for module in MODULES}
    lines = [row for module in MODULES for row in rows[module]]
    bad = sum("refused:" in row for row in lines)
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in lines if "refused:" not in row]
    not_cut = sorted({cell[3].removeprefix("no: ") for cell in cells if cell[3].startswith("no: ")})
    heads = HEADS.format(
        all=len(lines),
        reached=sum(cell[2].isdigit() for cell in cells),
        cut=sum(cell[3] == "yes" for cell in cells),
        not_cut=", ".join(f"`{name.replace(' ', '` ', 1)}" + ("" if " " in name else "`") for name in not_cut),
    )
    versions = {name: version(name) for name in ("timm", "torchvision", "transformers")}
    text = HEAD.format(good=len(lines) - bad, bad=bad, all=len(lines), heads=textwrap.fill(heads, 132), **versions)
    for module in MODULES:
        text += f"\n## {module}\n\n{line(*COLUMNS)}\n{'|---' * len(COLUMNS)}|\n" + "\n".join(rows[module]) + "\n"
    TABLE.write_text(text)


if __name__ == "__main__":
    main()
