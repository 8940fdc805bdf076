"""Writes docs/models.md: what the library makes of every plain-ViT architecture of timm, by the same examination as the tests'.

python tests/make_models_table.py
"""

from importlib.metadata import version
from pathlib import Path

from small import MODULES, NAMES, examine, small_images, small_timm

import neuronpath as nph

TABLE = Path(__file__).parent.parent / "docs" / "models.md"
HEAD = """# Models

Written by `python tests/make_models_table.py`, which builds every architecture of timm's plain-ViT modules small, with random weights,
and examines it: the model's output is unchanged, the view computes what the model computes, the attributions sum to what they
must. `tests/test_families.py` does the same on every change.

timm {timm}: {good} of {all} architectures work, {bad} are refused, for the reason given. Tokens are those that the head pools, on
which neurons are read with `token="auto"`; registers are never among them unless the head pools them too.

torchvision's `vit_b_16`, `vit_b_32`, `vit_l_16`, `vit_l_32` and `vit_h_14` work (torchvision {torchvision}), and of transformers
({transformers}) ViT, DeiT, BEiT, DINOv2, DINOv2 with registers and DINOv3, with and without a head. A ViT of your own takes a few
lines: [own-model.md](own-model.md).
"""


def row_of(module: str, name: str) -> str:
    """The table's line for an architecture."""
    model = small_timm(module, name)
    try:
        vit = examine(model, small_images(model))
    except nph.InputTypeError as refusal:
        return f"| {name} | refused: {str(refusal).split(';')[0]} | | |"
    tokens = {"cls": "class token", "patch": "patches", "all": "all"}[vit.token]
    if vit.token == "cls" and vit.num_cls_tokens == 2:
        tokens = "class and distillation token"
    registers = vit.num_prefix_tokens - vit.num_cls_tokens
    return (
        f"| {name} | {type(vit.blocks[0].mlp).__name__} | {tokens} | {'' if vit.pools_registers else registers or ''} |"
    )


def main() -> None:
    rows = {module: [row_of(m, name) for m, name in NAMES if m == module] for module in MODULES}
    lines = [line for module in MODULES for line in rows[module]]
    bad = sum("refused:" in line for line in lines)
    versions = {name: version(name) for name in ("timm", "torchvision", "transformers")}
    text = HEAD.format(good=len(lines) - bad, bad=bad, all=len(lines), **versions)
    for module in MODULES:
        text += f"\n## {module}\n\n| architecture | MLP | tokens | registers, not read |\n|---|---|---|---|\n"
        text += "\n".join(rows[module]) + "\n"
    TABLE.write_text(text)


if __name__ == "__main__":
    main()
