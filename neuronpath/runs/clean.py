"""The clean run of a batch, and the runs that start from what it leaves behind.

In a *frozen run* the units on the pooled tokens are held at given values, site by site, while everything else follows; in a
*live run* they follow too. Both begin at the first unit: with neurons alone behind block 0's attention, for all that comes before is as
it was in the clean run. In the last block they compute nothing for tokens that no one reads.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..checks import InputError, InputTypeError
from ..data.given import Classes, Target
from ..models.hooks import in_turn
from ..models.outputs import Output, check_output, check_range, output_of, run_model, widest
from ..models.sites import visited
from ..models.view import check_model
from ..models.vit import Extra, Hidden, ViT
from .gradients import gradients_of
from .pieces import Pieces, rows_at_once


@dataclass(frozen=True, eq=False)
class CleanRun:
    """What one ordinary run over B images leaves behind: all that later runs need.

    Later runs are of rows: R numbers of images, of which one may come several times. What they hold at a site is given as the units'
    values (R, T, U), or as a function of the site's live channels.
    """

    vit: ViT
    output: Output
    pieces: Pieces
    pixels: Tensor  # (B, C, H, W)
    answer: Tensor  # (B, classes), or whatever else the model returns
    target: Tensor | None  # (B,)
    extras: list[Extra]  # what the model calls each block with, beside its input
    channels: list[Tensor]  # a site: (B, T, C), its channels on the T tokens that units are read on
    hidden: list[Tensor]  # a site: (B, T, U), the units' values
    entering: Tensor  # (B, N, D): block 0's input
    middle: Tensor  # (B, T, D): the residual stream behind block 0's attention, on those tokens
    others: Tensor  # (B, N - T, D): block 0's output on the other tokens
    live_gradients: list[Tensor] = field(default_factory=list)  # a site: (B, T, U), F's gradients where nothing is held

    def output_of(self, answer: Tensor, rows: Tensor) -> Tensor:
        """F (R,) of the model's output (R, ...) of these rows."""
        return output_of(answer, None if self.target is None else self.target[rows], self.output)

    @cached_property
    def rows(self) -> Tensor:
        """Each image once: 0 .. B - 1."""
        return torch.arange(len(self.answer), device=self.answer.device)

    @cached_property
    def value(self) -> Tensor:
        """F (B,) of the clean run."""
        return self.output_of(self.answer, self.rows)

    def extra(self, block: int, rows: Tensor) -> Extra:
        """What the model calls the block with, for these rows.

        Of its tensors those with four dimensions and the batch's length have a row an image, as masks do; the others serve all.
        """
        extra, n = self.extras[block], len(self.answer)
        kwargs = {name: _of_rows(value, rows, n) for name, value in extra.kwargs.items()}
        return Extra(_of_rows(extra.args, rows, n), kwargs)

    def held(self, site: int, rows: Tensor, values: Hidden) -> Hidden:
        """A site's values (R, T, U) as its channels (R, T, C); a function of the live channels is one already."""
        place = self.vit.sites[site]
        if isinstance(values, Tensor) and place.size > 1:
            return place.write(values, self.channels[site][rows])
        return values

    def attend(self, block: int, x: Tensor, rows: Tensor) -> Tensor:
        """A block's input (R, N, D) to the residual stream after its attention."""
        return self.vit.attend(block, x, self.extra(block, rows))

    def block(self, block: int, x: Tensor, rows: Tensor, hidden: Mapping[int, Hidden] | None = None) -> Tensor:
        """One block (see :meth:`ViT.block`) on rows (R, N, D), the sites named in ``hidden`` held."""
        held = (
            {kind: self.held(s, rows, hidden[s]) for kind, s in self.vit.sites_of[block].items() if s in hidden}
            if hidden
            else None
        )
        return self.vit.block(block, x, self.extra(block, rows), held)

    def enter(self, rows: Tensor, hidden: Mapping[int, Hidden]) -> Tensor:
        """Block 0's output (R, N, D), the sites named in ``hidden`` held."""
        if "head" in self.vit.sites_of[0]:
            return self.block(0, self.entering[rows], rows, hidden)
        return self.vit.join(self.vit.mlp(0, self.middle[rows], hidden.get(0)), self.others[rows])

    def onward(self, x: Tensor, block: int, rows: Tensor, hidden: Mapping[int, Hidden] | None = None) -> Tensor:
        """The model's output (R, ...) when blocks ``block`` and later run from ``x`` (R, N, D), the sites in ``hidden`` held."""
        for later in range(block, len(self.vit.blocks)):
            x = self.block(later, x, rows, hidden)
        return self.readout(x, rows)

    def readout(self, x: Tensor, rows: Tensor) -> Tensor:
        """The model's output (R, ...) when the last block gives ``x`` (R, N, D)."""
        return self.vit.answer(x, self.pixels[rows] if self.vit.around else self.pixels)

    def finish(self, x: Tensor, block: int, rows: Tensor) -> Tensor:
        """F (R,) when blocks ``block`` and later run live from ``x`` (R, N, D)."""
        return self.output_of(self.onward(x, block, rows), rows)

    def answer_with(self, rows: Tensor, hidden: Sequence[Hidden]) -> Tensor:
        """The model's output (R, ...) of a run whose units are replaced, as in :meth:`replaced`."""
        held = dict(enumerate(hidden))
        return self.onward(self.enter(rows, held), 1, rows, held)

    def replaced(self, rows: Tensor, hidden: Sequence[Hidden]) -> Tensor:
        """F (R,) of a run whose units are replaced, a site by values (R, T, U) or by a function of the live channels."""
        return self.output_of(self.answer_with(rows, hidden), rows)

    def frozen_gradients(self, rows: Tensor, hidden: Sequence[Tensor]) -> list[Tensor]:
        """F's gradient to every unit of a frozen run, a site (R, T, U): one forward, one backward."""
        held = [values.detach().requires_grad_() for values in hidden]
        with torch.enable_grad():
            return gradients_of(self.replaced(rows, held), held)

    @cached_property
    def gradients(self) -> list[Tensor]:
        """F's gradient to every unit in the frozen run at alpha = 1, a site (B, T, U): the same for every path."""
        return self.gradients_at([1.0] * len(self.hidden))

    def gradients_at(self, factors: Sequence[float]) -> list[Tensor]:
        """F's gradients in the frozen run whose every unit is scaled, by one factor a site."""
        found = [torch.empty_like(values, dtype=widest(values)) for values in self.hidden]

        def work(piece: slice) -> None:
            held = [values[piece] * factor for values, factor in zip(self.hidden, factors, strict=True)]
            for site, gradient in enumerate(self.frozen_gradients(self.rows[piece], held)):
                found[site][piece] = gradient

        self.pieces.each(len(self.rows), work)
        return found


def _of_rows(value: Any, rows: Tensor, n_images: int) -> Any:
    """The rows of what belongs to ``n_images`` images, in tuples too. (Within the run it would be a cycle, which outlives the run.)"""
    if isinstance(value, Tensor) and value.ndim == 4 and len(value) == n_images:
        return value[rows]
    return tuple(_of_rows(each, rows, n_images) for each in value) if isinstance(value, tuple) else value


def clean_run(
    vit: ViT, images: Tensor, target: Tensor | None, output: Output, pieces: Pieces, live: bool = False
) -> CleanRun:
    """Run the model as it is, once, and keep what later runs start from; ``live`` also keeps F's gradients.

    ``target=None`` takes the predicted classes, where there are any.
    """
    inputs: list[Tensor] = []  # of blocks 0 and 1
    extras: list[Extra] = []
    whole: dict[int, Tensor] = {}  # every site's channels on all tokens, in the graph if there is one

    def enters(_block: int, args: tuple, kwargs: dict) -> None:
        extras.append(Extra(args[1:], kwargs))
        if len(inputs) < 2:
            inputs.append(args[0].detach())

    def keep(site: int, channels: Tensor) -> Tensor:
        whole[site] = channels if channels.requires_grad or not live else channels.detach().requires_grad_()
        return whole[site]

    with ExitStack() as stack:
        stack.enter_context(in_turn(vit.model, vit.blocks, enters))
        stack.enter_context(visited(vit.model, vit.sites, keep))
        stack.enter_context(torch.set_grad_enabled(live))
        answer = run_model(vit.model, images)
        ran = len(extras)
        if ran != len(vit.blocks):
            raise InputTypeError(
                f"{type(vit.model).__name__} ran its {len(vit.blocks)} blocks {ran} times in all; expected each of them once"
            )
        for s, place in enumerate(vit.places):
            if s not in whole:
                raise InputTypeError(
                    f"block {place.block} of {type(vit.model).__name__} never calls the layer whose input is its {place.kind}s"
                )
        sites = [(site, whole[s]) for s, site in enumerate(vit.sites)]
        channels = [vit.split(values.detach())[0].clone() for _, values in sites]
        hidden = [site.read(values) for (site, _), values in zip(sites, channels, strict=True)]
        check_finite(vit, hidden, answer.detach())
        if target is None and vit.has_head and answer.ndim == 2:
            target = answer.argmax(-1)
        if target is not None and isinstance(output, str) and answer.ndim == 2:
            check_range(target, answer.shape[-1])
        slopes: list[Tensor] = []
        if live:
            found = gradients_of(output_of(answer, target, output), [values for _, values in sites])
            parts = [vit.split(gradient)[0] for gradient in found]
            slopes = [
                site.slope(part.to(widest(part)), values)
                for (site, _), part, values in zip(sites, parts, channels, strict=True)
            ]
    middle, others = vit.split(vit.attend(0, inputs[0], extras[0]))
    if len(vit.blocks) > 1:
        others = vit.split(inputs[1])[1]
    elif vit.head_reads_others:
        others = vit.mlp(0, others)
    return CleanRun(
        vit, output, pieces, images, answer.detach(), target, extras, channels, hidden, inputs[0], middle.clone(), others.clone(),
        slopes,
    )  # fmt: skip


def clean_runs(
    vit: ViT,
    images: Tensor,
    target: Target,
    output: Output,
    internal_batch_size: int | None = None,
    n_nodes: int = 1,
    live: bool = False,
) -> Iterator[CleanRun]:
    """The clean runs of consecutive chunks of the images (see :func:`check_images`), moved to the model's device and dtype.

    Of target "label" the images' own. A chunk has as many images as make one piece with ``n_nodes`` rows an image.
    """
    check_output(output, vit.has_head, type(vit.model).__name__)
    classes = Classes(images, target, vit.model)
    like = next(vit.model.parameters())
    pieces = Pieces(rows_at_once(vit, internal_batch_size, images[:1].to(like)))
    at_once = max(1, pieces.size // n_nodes)
    for start in range(0, len(images), at_once):
        chosen = slice(start, start + at_once)
        wanted = classes[chosen]
        run = clean_run(
            vit, images[chosen].to(like), None if wanted is None else wanted.to(like.device), output, pieces, live
        )
        if start == 0:
            check_view(run)
            if classes.known is not None and isinstance(output, str):
                check_range(classes.known, run.answer.shape[-1])
        yield run


def check_finite(vit: ViT, hidden: Sequence[Tensor], answer: Tensor | None = None) -> None:
    """Refuse NaN and infinity, naming the weight they came from, else the block."""
    for place, values in zip(vit.places, hidden, strict=True):
        if not torch.isfinite(values).all():
            check_model(vit.model)
            raise InputError(
                f"the {place.kind}s of block {place.block} hold NaN or infinity; expected finite activations"
            )
    if answer is not None and not torch.isfinite(answer).all():
        check_model(vit.model)
        raise InputError("the model's output holds NaN or infinity; expected finite numbers")


def check_view(run: CleanRun) -> None:
    """Refuse a model whose frozen run at alpha = 1 isn't its clean run: its blocks compute more than its family's do.

    Its output as a whole is compared too: what is explained of it may be so near 1 that nothing shows.
    """
    first = run.rows[:1]
    name, expected = type(run.vit.model).__name__, run.answer[:1]
    answer = run.answer_with(first, [values[first] for values in run.hidden])
    if answer.shape != expected.shape:
        raise InputTypeError(
            f"{name} does more than its family's blocks do: run block by block it gives shape {tuple(answer.shape)} where its own "
            f"forward gives {tuple(expected.shape)}; expected the same"
        )
    frozen, clean = run.output_of(answer, first), run.value[:1]
    tolerance = 1e-4 if run.middle.dtype in (torch.float32, torch.float64) else 0.05
    far = (answer - expected).abs().max() > 10 * tolerance * expected.abs().max().clamp(min=1)
    if far or not torch.allclose(frozen, clean, rtol=tolerance, atol=tolerance):
        found, own = (answer, expected) if far else (frozen, clean)
        worst = (found - own).abs().argmax()
        raise InputTypeError(
            f"{name} does more than its family's blocks do: run block by block it gives {found.flatten()[worst].item():.6g} where its "
            f"own forward gives {own.flatten()[worst].item():.6g}; expected the same"
            + (f", or token='all' where {name} reads other tokens than the ViT in it does" if run.vit.around else "")
        )
