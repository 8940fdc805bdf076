"""Make the demo's two files again: ``python -m neuronpath.demo.train`` (needs the extra ``train``; some 10 minutes on 2 cores).

The digits are split into 1,437 for training and 360 held out, ten classes alike in both; the model never sees the held-out
ones, and nothing is chosen by them: the last epoch's weights are kept.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from ..files import check_writable, write_whole
from . import DIGITS, WEIGHTS, create_model, load_pixels, to_images

SEED, EPOCHS, BATCH, LEARNING_RATE, WEIGHT_DECAY, SMOOTHING = 0, 120, 64, 1e-3, 0.05, 0.1


def write_digits(path: Path, overwrite: bool) -> None:
    """scikit-learn's copy of the digits, with a stratified fifth marked as held out, as one .npz."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    test = train_test_split(np.arange(len(labels)), test_size=360, stratify=labels, random_state=SEED)[1]
    held_out = np.zeros(len(labels), bool)
    held_out[test] = True
    pixels = images.reshape(-1, 8, 8).astype(np.uint8)
    write_whole(
        path,
        lambda part: np.savez_compressed(part, images=pixels, labels=labels.astype(np.uint8), held_out=held_out),
        overwrite,
    )


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image turned by up to 12 degrees, scaled by up to 12 % and moved by up to 3 pixels, at random."""

    def spread(limit: float) -> Tensor:
        return (torch.rand(len(images), generator=generator) * 2 - 1) * limit

    angle, scale, right, down = spread(math.radians(12)), 1 + spread(0.12), spread(3 / 16), spread(3 / 16)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    affine = torch.stack([torch.stack([cos, -sin, right], 1), torch.stack([sin, cos, down], 1)], 1)
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def train(epochs: int = EPOCHS) -> tuple[torch.nn.Module, float]:
    """A model trained from scratch and its accuracy on the held-out digits."""
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    pixels, labels = load_pixels("train")
    images, targets = to_images(pixels), torch.from_numpy(labels)
    model = create_model()
    steps = epochs * math.ceil(len(images) / BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    for _ in tqdm(range(epochs), unit="epoch", disable=None):
        for batch in torch.randperm(len(images), generator=generator).split(BATCH):
            logits = model(augment(images[batch], generator))
            optimizer.zero_grad()
            F.cross_entropy(logits, targets[batch], label_smoothing=SMOOTHING).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    model.eval()
    pixels, labels = load_pixels("test")
    with torch.no_grad():
        accuracy = (model(to_images(pixels)).argmax(1) == torch.from_numpy(labels)).float().mean().item()
    return model, accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where the weights go")
    parser.add_argument("--overwrite", action="store_true")
    options = parser.parse_args()
    check_writable(options.out, options.overwrite)
    if not DIGITS.exists():
        write_digits(DIGITS, overwrite=False)
    model, accuracy = train(options.epochs)
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    write_whole(options.out, lambda part: save_file(weights, part), options.overwrite)
    print(f"{accuracy:.2%} of the held-out digits right; weights in {options.out}")


if __name__ == "__main__":
    main()
