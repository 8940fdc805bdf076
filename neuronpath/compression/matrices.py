"""The matrices that tokens are multiplied by in every block, and the second moments of what comes in there."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from timm.layers import RelPosMlp
from torch import Tensor, nn
from tqdm import tqdm

from ..checks import InputTypeError
from ..models.adapters import name_of
from ..models.factored import PARTS, is_factored, parts_of, set_parts
from ..models.hooks import at_rest, eager, inputs_seen
from ..models.outputs import run_model
from ..models.view import inner_of, view
from ..models.vit import ViT

PACKED = "in_proj_weight"  # torch's MultiheadAttention hands it to a function; a parameter of its own, in no layer
RIDGE = 1e-2  # of the moments' mean, added to their diagonal: a channel that the images hardly move isn't free


class Matrix(NamedTuple):
    """A weight (out, in) of a block: the module that has it, the parameter's name, and where the module is in the block."""

    module: nn.Module
    name: str
    where: str

    @property
    def weight(self) -> Tensor:
        return getattr(self.module, self.name)


def matrices_of(block: nn.Module) -> list[Matrix]:
    """The block's matrices, in the order of its modules; those that make a table of relative positions see no token."""
    apart = {inner for m in block.modules() if isinstance(m, RelPosMlp) for inner in m.modules()}
    found = []
    for where, module in block.named_modules():
        if module in apart:
            continue
        if isinstance(module, nn.Linear):
            found.append(Matrix(module, "weight", where))
        elif isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            found.append(Matrix(module, PACKED, where))
    return found


def table_of(vit: ViT) -> list[list[Matrix]]:
    """Every block's matrices; refuses blocks without any, and layers that are neither plain nor factored."""
    found = []
    for i, block in enumerate(vit.blocks):
        found.append(matrices_of(block))
        if not found[-1]:
            raise InputTypeError(f"block {i} of {type(vit.model).__name__} has no linear layer; expected at least one")
        for module, name, where in found[-1]:
            others = set(getattr(module, PARTS, ())) - ({name} if is_factored(module, name) else set())
            if others:
                raise InputTypeError(
                    f"{where} of block {i} ({name_of(module)}) has a parametrisation of another kind; expected plain layers"
                )
    return found


def make_of(matrices: Sequence[Matrix], shared: Sequence[Tensor], products: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Make matrices of parts that all of them hold and of a product (b, a) each of its own, none where its rank is 0; in place."""
    like, flag = matrices[0].weight, parts_of(*matrices[0][:2])[0].requires_grad

    def parameter(values: Tensor) -> nn.Parameter:
        return nn.Parameter(values.to(like).contiguous(), requires_grad=flag)

    common = [parameter(part) for part in shared]
    for matrix, own in zip(matrices, products, strict=True):
        set_parts(matrix.module, matrix.name, [*common, *(map(parameter, own) if own[0].shape[1] else ())])


def second_moments(
    model: nn.Module, images: Tensor, batch_size: int = 32, progress: bool = False
) -> list[list[Tensor]]:
    """E[x xᵀ] (in, in) of what enters every block's every matrix on the images' tokens, float64 on the CPU, slightly ridged."""
    vit = view(inner_of(model))
    table = table_of(vit)
    like = next(vit.model.parameters())
    sums: dict[tuple[int, int], Any] = {}
    counts: dict[tuple[int, int], int] = {}

    def see(key: tuple[int, int]) -> Callable[[tuple, dict], None]:
        def add(args: tuple, kwargs: dict) -> None:
            x = args[0] if args else next(iter(kwargs.values()))
            rows = x.detach().reshape(-1, x.shape[-1]).to(torch.promote_types(x.dtype, torch.float32))
            sums[key] = sums.get(key, 0) + rows.T.double() @ rows.double()
            counts[key] = counts.get(key, 0) + len(rows)

        return add

    with ExitStack() as stack:
        for site in _with_heads(vit):
            stack.enter_context(site.called())
        for i, matrices in enumerate(table):
            for j, matrix in enumerate(matrices):
                stack.enter_context(inputs_seen(_seen_at(vit.blocks[i], matrix), see((i, j))))
        stack.enter_context(at_rest(model))
        stack.enter_context(eager())
        for part in tqdm(images.split(batch_size), unit="batch", disable=not progress):
            run_model(model, part.to(like))
    found: list[list[Tensor]] = []
    for i, matrices in enumerate(table):
        found.append([])
        for j, matrix in enumerate(matrices):
            if (i, j) not in sums or len(sums[i, j]) != matrix.weight.shape[1]:
                raise InputTypeError(
                    f"what enters {matrix.where} of block {i} can't be seen; expected a layer that is called with it, or attention"
                )
            moment = (sums.pop((i, j)) / counts[i, j]).cpu()
            found[-1].append(moment + RIDGE * moment.diagonal().mean() * torch.eye(len(moment), dtype=moment.dtype))
    return found


def _with_heads(vit: ViT) -> Sequence[Any]:
    """The sites of the heads, where there are any: some have to be asked to call their layer."""
    try:
        return view(vit.model, None, "heads").sites
    except InputTypeError:
        return []


def _seen_at(block: nn.Module, matrix: Matrix) -> nn.Module:
    """The module whose input the matrix multiplies: its layer; of ``qkv`` attention, which may hand the weight to a function."""
    parent, _, own = matrix.where.rpartition(".")
    return block.get_submodule(parent) if own == "qkv" else matrix.module
