"""Planted circuits: small ViTs whose weights are set so that known units decide, and whether the methods find these.

    python benchmarks/planted.py --seeds 20

Each model is a timm VisionTransformer (16 x 16 pixels in patches of 4, 4 blocks of 4 heads and 128 neurons, 64 channels, ReLU, no
norms). Its residual stream has an orthonormal basis, drawn at random: a few directions are the plants', the others noise. All weights
are drawn at random, reading and writing the noise at full strength and the plants' directions at LEAK of it. The classes 1 and 2 each
have a pattern; an image of the class has it in one patch ("carrier") or in all, in noise, and the patch embedding turns it into the
class's direction d0. The classifier takes class c for d_last > 0.5, class 0 else. In between, for each class, which head and which
neuron of a block being drawn at random:

    chain       (mean over patches)  a neuron in every block: block l's reads d_l and writes d_(l+1) where d_l > 0.3
    carrier     (class token)        a head of a block drawn at random attends to the patch with the most d0, and writes it to d1;
                                     a neuron of a later block, too, writes d_last where d1 > 0.2
    redundant   (mean over patches)  two routes, each enough alone: a head of one of the first three blocks attends to where there
                                     is the most d0, and writes it to d_last; a neuron of another of them writes d_last where
                                     d0 > 0.3. In the last block a neuron, the cap, writes -d_last where d_last > 1.5, so that both
                                     together do no more than one and a half: a little less of either changes nothing

The units planted are all of these but the cap: that speaks against the class, and counts neither as found nor as wrong. (Routes of
several units each would leave open which unit of a route a set that breaks them should hold.) That they decide is measured on every
model: without them the decision is another, with them alone (all other units at 0) it stands, and it stands without as many random
heads and neurons. Of "chain" and "carrier" it falls without any one of them; of "redundant" it stands without any one.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from common import options, report
from scoreboard import WORTHS, per_image
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import neuronpath as nph
from neuronpath.paths.intervals import intervals

KINDS = ("chain", "carrier", "redundant")
BLOCKS, HEADS, NEURONS, CHANNELS = 4, 4, 128, 64
LEAK = 0.1  # how much of the plants' directions all other units read and write
PATHS = ("live", "joint", "causal", "knowledge", "conductance", "influence_pattern", "activation", "random")
RANKINGS = ("growth", "integrated", "gates")
CRITERIA = ("keep", "break", "both")
Plant = dict[int, list[nph.Unit]]


class Planter:
    """A model in the making: random weights, and what overwrites some of them."""

    def __init__(self, kind: str, seed: int) -> None:
        self.draw = np.random.default_rng([KINDS.index(kind), seed])
        pooling = {} if kind == "carrier" else {"global_pool": "avg", "fc_norm": False}
        self.model = VisionTransformer(
            img_size=16, patch_size=4, in_chans=1, num_classes=3, embed_dim=CHANNELS, depth=BLOCKS, num_heads=HEADS,
            mlp_ratio=NEURONS / CHANNELS, norm_layer=nn.Identity, act_layer=nn.ReLU, **pooling,
        ).eval().requires_grad_(False)  # fmt: skip
        self.basis = self.orthonormal(CHANNELS)
        self.patterns = self.orthonormal(16)  # of a patch's pixels
        self.taken: list[nph.Unit] = []
        planted = 2 * (BLOCKS + 1)  # directions
        self.noise = torch.diag(torch.tensor([LEAK] * planted + [1.0] * (CHANNELS - planted)))
        self.noise = self.basis.T @ self.noise @ self.basis  # takes the plants' directions down to LEAK
        for name, values in self.model.named_parameters():
            values.copy_(self.normal(values.shape) / (values[0].numel() ** 0.5 if values.ndim > 1 else 10))
            if name in ("cls_token", "pos_embed"):
                values.copy_(0.3 * self.normal(values.shape) @ self.noise)
        for block in self.model.blocks:
            for reader in (block.attn.qkv, block.mlp.fc1):
                reader.weight.copy_(reader.weight @ self.noise)
            for writer in (block.attn.proj, block.mlp.fc2):
                writer.weight.copy_(0.5 * self.noise @ writer.weight)
                writer.bias.zero_()
        embed = self.model.patch_embed.proj
        embed.weight.copy_((self.noise @ self.normal((CHANNELS, 16)) / 4).view(embed.weight.shape))
        embed.bias.zero_()
        for label in (1, 2):
            flat = embed.weight.view(CHANNELS, 16)
            pattern = self.patterns[label]
            flat += torch.outer(self.direction(label, 0) - flat @ pattern, pattern)
        self.model.head.weight.copy_(0.2 * self.normal((3, CHANNELS)) @ self.noise)
        self.model.head.bias.copy_(torch.tensor([4.0, 0.0, 0.0]))

    def normal(self, shape: Sequence[int]) -> Tensor:
        return torch.from_numpy(self.draw.normal(size=tuple(shape))).float()

    def orthonormal(self, n: int) -> Tensor:
        return torch.linalg.qr(self.normal((n, n))).Q.T.contiguous()

    def direction(self, label: int, step: int) -> Tensor:
        return self.basis[(label - 1) * (BLOCKS + 1) + step]

    def place(self, block: int, kind: str) -> nph.Unit:
        """A unit of the block that nothing has been planted in yet."""
        free = [unit for unit in everything() if (unit.block, unit.kind) == (block, kind) and unit not in self.taken]
        self.taken.append(free[self.draw.integers(len(free))])
        return self.taken[-1]

    def neuron(self, unit: nph.Unit, reads: Tensor, above: float, writes: Tensor) -> None:
        mlp = self.model.blocks[unit.block].mlp
        mlp.fc1.weight[unit.index], mlp.fc1.bias[unit.index] = reads, -above
        mlp.fc2.weight[:, unit.index] = writes

    def head(self, unit: nph.Unit, reads: Tensor, writes: Tensor) -> None:
        """Attends to where there is most of what it reads."""
        attention = self.model.blocks[unit.block].attn
        size = CHANNELS // HEADS
        query, key, value = (
            slice(i * CHANNELS + unit.index * size, i * CHANNELS + (unit.index + 1) * size) for i in range(3)
        )
        for part in (query, key, value):
            attention.qkv.weight[part], attention.qkv.bias[part] = 0.0, 0.0
        attention.qkv.bias[query.start] = 8.0 * size**0.5
        attention.qkv.weight[key.start] = attention.qkv.weight[value.start] = reads
        attention.proj.weight[:, unit.index * size : (unit.index + 1) * size] = 0.0
        attention.proj.weight[:, unit.index * size] = writes

    def images(self, n: int, everywhere: bool) -> tuple[Tensor, Tensor]:
        """(n, 1, 16, 16) and their classes, 0, 1, 2 in turn."""
        labels = torch.arange(n) % 3
        among = self.patterns[1:3].T @ self.patterns[1:3]
        patches = 0.5 * self.normal((n, 16, 16)) @ (torch.eye(16) - (1 - LEAK) * among)
        for i, label in enumerate(labels.tolist()):
            if label:
                patches[i, slice(None) if everywhere else self.draw.integers(16)] += self.patterns[label]
        return patches.view(n, 4, 4, 4, 4).transpose(2, 3).reshape(n, 1, 16, 16), labels


def plant(kind: str, seed: int, n_images: int) -> tuple[nn.Module, Tensor, Tensor, Plant, list[nph.Unit]]:
    """A model, images of the classes 1 and 2 that it gets right, their classes, the units planted for each of these, and the caps."""
    planter = Planter(kind, seed)
    planted: Plant = {}
    caps = []
    for label in (1, 2):
        towards = partial(planter.direction, label)
        if kind == "chain":
            units = [planter.place(block, "neuron") for block in range(BLOCKS)]
            for step, unit in enumerate(units):
                planter.neuron(unit, towards(step), 0.3, towards(step + 1) / 0.7)
        elif kind == "carrier":
            begin, end = sorted(planter.draw.choice(BLOCKS, 2, replace=False).tolist())
            units = [planter.place(begin, "head"), planter.place(end, "neuron")]
            planter.head(units[0], towards(0), towards(1))
            planter.neuron(units[1], towards(1), 0.2, towards(BLOCKS) / 0.8)
        else:
            one, other = planter.draw.choice(BLOCKS - 1, 2, replace=False).tolist()
            units = [planter.place(one, "head"), planter.place(other, "neuron")]
            planter.head(units[0], towards(0), towards(BLOCKS))
            planter.neuron(units[1], towards(0), 0.3, towards(BLOCKS) / 0.7)
            caps.append(planter.place(BLOCKS - 1, "neuron"))
            planter.neuron(caps[-1], towards(BLOCKS), 1.5, -towards(BLOCKS))
        planter.model.head.weight[label] += 8 * towards(BLOCKS)
        planted[label] = units
    images, labels = planter.images(3 * n_images, everywhere=kind != "carrier")
    with torch.no_grad():
        right = (labels > 0) & (planter.model(images).argmax(1) == labels)
    return planter.model, images[right][:n_images], labels[right][:n_images], planted, caps


def everything() -> list[nph.Unit]:
    """All units, each block's heads before its neurons, as views and rankings have them."""
    kinds = [("head", HEADS), ("neuron", NEURONS)]
    return [nph.Unit(block, i, kind) for block in range(BLOCKS) for kind, n in kinds for i in range(n)]


def others_like(units: Sequence[nph.Unit], plants: Plant, draw: np.random.Generator) -> list[nph.Unit]:
    """As many other heads and neurons, none of them planted, at random."""
    known = {unit for each in plants.values() for unit in each}
    found = []
    for kind in ("head", "neuron"):
        free = [unit for unit in everything() if unit.kind == kind and unit not in known]
        found += [free[i] for i in draw.choice(len(free), sum(unit.kind == kind for unit in units), replace=False)]
    return found


@torch.no_grad()
def check(kind: str, seed: int, n_images: int) -> dict[str, float]:
    """Whether the planted units decide: shares of the images."""
    model, images, labels, planted, _ = plant(kind, seed, n_images)
    draw = np.random.default_rng(seed)
    shares: dict[str, list[bool]] = {}

    def says(name: str, edit: object, image: Tensor, label: int) -> None:
        with edit:  # type: ignore[attr-defined]
            shares.setdefault(name, []).append(int(model(image).argmax()) == label)

    for image, label in zip(images.split(1), labels.tolist(), strict=True):
        units = planted[label]
        says("stands without the plant", nph.remove(model, units, tokens="all"), image, label)
        says("stands with it alone", nph.keep(model, units, units="both", tokens="all"), image, label)
        for _ in range(5):
            says(
                "stands without random others",
                nph.remove(model, others_like(units, planted, draw), tokens="all"),
                image,
                label,
            )
        for unit in units:
            says("stands without one of it", nph.remove(model, [unit], tokens="all"), image, label)
    return {name: float(np.mean(values)) for name, values in shares.items()}


def found_by(model: nn.Module, images: Tensor) -> dict[str, list[list[nph.Unit]]]:
    """By method, for every image its units, the most important first; "whole" paths and circuits, and rankings' first 16."""
    found: dict[str, list[list[nph.Unit]]] = {}
    for method in PATHS:
        paths = nph.find_path(model, images, method=method, units="both", token="all")
        best = paths.attribution.flatten(1).argsort(1, descending=True).tolist()
        found[f"path: {method}"] = [[paths.units_of(i)[at] for at in order] for i, order in enumerate(best)]
    named = everything()
    rankings = {by: nph.rank_units(model, images, by=by) for by in RANKINGS}
    vit = nph.view(model, "all", "both")
    rankings |= {name: per_image(vit, images, worth) for name, worth in WORTHS.items()}
    for name, ranking in rankings.items():
        best = torch.cat(ranking, 1).topk(16, 1).indices.tolist()
        found[f"ranking: {name}"] = [[named[at] for at in row] for row in best]
    for criterion in CRITERIA:
        circuit = nph.find_circuit(model, images, criterion=criterion, controls=False)
        found[f"circuit: {criterion}"] = [list(units) for units in circuit.units]
    return found


def score(kind: str, seed: int, n_images: int) -> list[dict[str, object]]:
    """A row a method: of the planted units the share found among as many, and by the whole path or circuit, and its precision."""
    model, images, labels, planted, caps = plant(kind, seed, n_images)
    rows = []
    for method, found in found_by(model, images).items():
        at_size, whole, precision = [], [], []
        for units, label in zip(found, labels.tolist(), strict=True):
            truth = set(planted[label])
            units = [unit for unit in units if unit not in caps]
            at_size.append(len(truth & set(units[: len(truth)])) / len(truth))
            whole.append(len(truth & set(units)) / len(truth))
            precision.append(len(truth & set(units)) / max(1, len(units)))
        row = {"kind": kind, "seed": seed, "method": method, "at size": np.mean(at_size)}
        if not method.startswith("ranking"):
            row |= {"whole": np.mean(whole), "precision": np.mean(precision)}
        rows.append(row)
    return rows


def cell(values: pd.Series) -> str:
    """The mean over models and its 95 % bootstrap interval."""
    return "{:.2f} [{:.2f}, {:.2f}]".format(*map(float, intervals(values.to_numpy(float))))


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="models of each kind")
    parser.add_argument("--images", type=int, default=8, help="of each model")
    chosen = parser.parse_args()
    each = [(kind, seed) for kind in KINDS for seed in range(chosen.seeds)]
    checks = pd.DataFrame([{"kind": kind} | check(kind, seed, chosen.images) for kind, seed in each])
    decide = checks.groupby("kind", sort=False).mean().round(4).reset_index()
    print(f"Do the planted units decide? Shares of the images\n\n{decide.to_string(index=False)}")
    scores = pd.DataFrame([row for kind, seed in each for row in score(kind, seed, chosen.images)])
    rows = []
    for method, of_method in scores.groupby("method", sort=False):
        rows.append({"method": method})
        for kind, here in of_method.groupby("kind", sort=False):
            rows[-1][f"{kind}: recall at size"] = cell(here["at size"])
            if not method.startswith("ranking"):
                rows[-1] |= {f"{kind}: {name}": float(here[name].mean()) for name in ("whole", "precision")}
    title = f"Planted units found, {chosen.seeds} models of each kind, up to {chosen.images} images each"
    report(title, rows, chosen.out, plants=decide.to_dict("records"))


if __name__ == "__main__":
    main()
