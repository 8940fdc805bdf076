"""How many rows (an image at a node) run at once: as many as memory holds, fewer where it turns out not to."""

from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor

from ..checks import check_count
from ..models.hooks import inputs_seen
from ..models.outputs import run_model
from ..models.vit import ViT

CPU_PIECE = 256 * 2**20  # bytes of a piece's graph on a CPU: more would only leave the cache sooner
CUDA_SHARE = 0.25  # of the free memory, for a piece's graph on a GPU


class Pieces:
    """How many rows (an image at a node) run at once: halved whenever the device runs out of memory."""

    def __init__(self, size: int) -> None:
        self.size = size

    def each(self, rows: int, work: Callable[[slice], None]) -> None:
        """Have ``work`` done on consecutive slices of ``rows`` rows; it must change nothing before it has succeeded."""
        start = 0
        while start < rows:
            piece = slice(start, min(start + self.size, rows))
            try:
                work(piece)
            except torch.OutOfMemoryError:
                if self.size == 1:
                    raise
                self.size //= 2
            else:
                start = piece.stop


def rows_at_once(vit: ViT, internal_batch_size: int | None, image: Tensor) -> int:
    """How many rows to run together: what was asked for, or as many as the graph's share of the memory holds."""
    if internal_batch_size is not None:
        check_count("internal_batch_size", internal_batch_size)
        return internal_batch_size
    # pixels; and for the backward, a token and block: the inputs of two norms, q, k, v and attention's output, the activation's input
    wide = sum(site.reader.out_features for site in vit.sites) / len({site.kind for site in vit.sites})  # of all blocks
    floats = 6 * int(wide) + sum(site.reader.in_features for site in vit.sites)
    row = (floats * n_tokens(vit, image) + image.numel()) * image.element_size()
    share = CUDA_SHARE * torch.cuda.mem_get_info(image.device)[0] if image.is_cuda else CPU_PIECE
    return max(1, int(share // row))


class Reached(Exception):  # noqa: N818  (no error)
    """The first block has been reached: what follows needn't run."""


def n_tokens(vit: ViT, image: Tensor) -> int:
    """The length of the sequence that the blocks work on, for an image (1, C, H, W)."""
    length = 1

    def stop(args: tuple, _kwargs: dict) -> None:
        nonlocal length
        length = args[0].shape[1]
        raise Reached

    with inputs_seen(vit.blocks[0], stop), suppress(Reached):
        run_model(vit.model, image)
    return length
