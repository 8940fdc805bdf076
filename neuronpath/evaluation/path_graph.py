""":func:`path_graph`: the direct effects between the units of each image's path or circuit, and straight on the output."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..checks import InputError, InputTypeError, checked
from ..data.given import Images, as_images
from ..methods.grow import log_odds
from ..models.hooks import at_rest
from ..models.outputs import Output, check_output, output_name
from ..models.vit import ViT
from ..options import Baseline
from ..paths.circuit import Circuit
from ..paths.graph import PathGraph
from ..paths.made_for import view_for
from ..paths.neuron_paths import NeuronPaths, versions
from ..runs.baselines import ablation, baseline_named
from ..runs.clean import CleanRun, clean_runs
from ..runs.edges import Effects, Nodes, Stream, edges_of, stream_of
from ..runs.gates import Ablated
from ..runs.progress import bar_over
from ..units import KINDS, Unit, place_of

LOG_ODDS = "log-odds"


@checked
def path_graph(
    model: nn.Module | ViT,
    images: Images,
    paths: NeuronPaths | Circuit,
    *,
    baseline: Baseline | None = None,
    reference: Images | None = None,
    output: Output | None = None,
    inside: bool = False,
    check: bool = False,
    internal_batch_size: int | None = None,
    seed: int | None = None,
    progress: bool | tqdm = False,
) -> PathGraph:
    """What each unit of an image's path or circuit does directly on the later ones, and straight on the output.

    A unit's *ablation* changes what its block writes into the residual stream. Its direct effect on a later unit, the receiver, is what
    F loses when only the receiver's input lacks that, and the receiver's changed value runs on live. Within a block heads come before
    neurons; units of one kind in one block have no edge. The effect straight on the output is what F loses when only the head of the
    model lacks it; it is always exact.

    Args:
        model: the vision transformer that the paths or circuits were found in; it is left exactly as it was.
        images: (B, C, H, W), or a Dataset, DataLoader or Source of them, those of the paths.
        paths: for each image its path or circuit. Units are ablated on the tokens that they were found on.
        baseline: what a unit is ablated to: "zero", "mean", "resample" or "paired" (see :func:`~neuronpath.find_path`). None is what
            the paths were found with, or where that is "zero" and there is a reference, "mean".
        reference: the images (R, C, H, W) for that, or a Dataset, DataLoader or Source of them.
        output: F: None is the log-odds of the target, log p - log(1 - p), which doesn't saturate; or as in
            :func:`~neuronpath.find_path`.
        inside: all units outside the path or circuit, of the kinds that it was sought among, are ablated. What a unit sends then
            goes through units of the circuit alone. Edges are patched for real.
        check: patch every edge for real, for a forward each from the receiver on, and report how well the estimates agree
            (``pearson``). The effects are then the real ones.
        internal_batch_size: rows run at once; None fits them to the memory.
        seed: of "resample"; None is the paths' own.
        progress: True shows a bar; a tqdm bar of your own is moved on by one an image.

    Returns:
        The graph of every image. Effects between units are estimates, unless ``check`` or ``inside``: the receiver is computed with its
        changed input, exactly, and what it gives to F by F's gradient. For n units that takes one to two n forwards an image.

    Raises:
        InputError: (a ValueError) in one line: for paths or circuits of another model or number of images, or anything else that can't
            be used.

    Source: path patching, Goldowsky-Dill et al. (arXiv 2304.05969); the estimate is edge attribution patching, Syed et al.
    (arXiv 2310.10348), with the receiver computed in place of its gradient.

    Examples:
        >>> import neuronpath as nph
        >>> model, images, labels = nph.demo.load()
        >>> paths = nph.find_path(model, images[:3], units="both", method="causal")
        >>> nph.path_graph(model, images[:3], paths)
        PathGraph(3 images, 48 units, effects estimated)
    """
    images = as_images(images, model)
    reference = as_images(reference, model, "reference")
    if not isinstance(paths, NeuronPaths | Circuit):
        raise InputTypeError(f"paths is a {type(paths).__name__}; expected NeuronPaths or Circuit")
    vit = view_for(paths, model)
    if len(images) != len(paths):
        raise InputError(f"images holds {len(images)} images for {len(paths)} paths or circuits; expected as many")
    check_output("prob" if output is None else output, vit.has_head, type(vit.model).__name__)
    known = bool((paths.target >= 0).all())
    if output is None and not known:
        raise InputError("these paths explain no class; expected output= a function of (model's output, target)")
    if baseline is None and paths.settings.baseline != "zero":
        baseline = paths.settings.baseline
    baseline = baseline_named(baseline, reference)
    seed = paths.settings.seed if seed is None else seed
    ablate = ablation(vit, baseline, reference, len(images), seed)
    units = [_in_order(paths, i) for i in range(len(paths))]
    graphs: list[tuple[Tensor, Tensor, float]] = []
    values: list[Tensor] = []
    with at_rest(vit.model), bar_over(progress, len(images)) as bar:
        for run in clean_runs(vit, images, paths.target if known else None, output or _log_odds, internal_batch_size):
            first = len(graphs)
            here = units[first : first + len(run.rows)]
            stream, nodes = _stream(run, here, ablate(run, first), inside)
            graphs += _graphs(edges_of(stream, nodes, check or inside), [len(mine) for mine in here])
            values.append(stream.value.float().cpu())
            bar.update(len(here))
    effects, total, pearson = zip(*graphs, strict=True)
    return PathGraph(
        units=tuple(units),
        effects=effects,
        total=total,
        value=torch.cat(values),
        pearson=torch.tensor(pearson),
        target=paths.target,
        probability=paths.probability,
        names=paths.names,
        inside=inside,
        patched=check or inside,
        settings=replace(
            paths.settings,
            baseline=baseline,
            output=LOG_ODDS if output is None else output_name(output),
            seed=seed,
            precision=None,
            versions=versions(),
        ),
        class_names=paths.class_names,
    )


def _log_odds(answer: Tensor, target: Tensor | None) -> Tensor:
    assert target is not None
    if answer.shape[1] == 1:
        raise InputError(
            "the model has one class, whose log-odds by softmax are infinite; expected output='sigmoid' or 'logit'"
        )
    return log_odds(answer, target)


def _in_order(paths: NeuronPaths | Circuit, index: int) -> tuple[Unit, ...]:
    """An image's units in the order in which the model runs."""
    return tuple(
        sorted(paths.units_of(index), key=lambda unit: (unit.block, KINDS["both"].index(unit.kind), unit.index))
    )


def _stream(run: CleanRun, units: Sequence[Sequence[Unit]], ablated: Ablated, inside: bool) -> tuple[Stream, Nodes]:
    """What edges are measured in, and their ends: each image's units; ``inside`` all other units are ablated."""
    each = [
        (image, place_of(unit, run.vit.places), unit.index, rank)
        for image, mine in enumerate(units)
        for rank, unit in enumerate(mine)
    ]
    nodes = Nodes(*torch.tensor(each, dtype=torch.int64, device=run.rows.device).reshape(-1, 4).unbind(1))
    on = [torch.full((len(units), width), not inside, device=run.rows.device) for width in run.vit.widths]
    for site, mask in enumerate(on):
        here = nodes.site == site
        mask[nodes.image[here], nodes.unit[here]] = True
    return stream_of(run, on, ablated), nodes


def _graphs(found: Effects, sizes: Sequence[int]) -> list[tuple[Tensor, Tensor, float]]:
    """Of each image its effects (n, n + 1), what its units take alone (n,), and the estimates' correlation with real patching.

    Of what was patched the effects are the real ones.
    """
    graphs = []
    for estimate, real, to_output, total in zip(*(part.float().cpu().split(sizes) for part in found), strict=True):
        estimate, real = estimate[:, : len(total)], real[:, : len(total)]
        both = ~real.isnan()
        between = torch.where(both, real, estimate)
        graphs.append((torch.cat([between, to_output[:, None]], 1), total, _pearson(estimate[both], real[both])))
    return graphs


def _pearson(a: Tensor, b: Tensor) -> float:
    """The correlation of two vectors; NaN where there are fewer than two numbers, or all are equal."""
    return float(torch.corrcoef(torch.stack([a, b]).double())[0, 1]) if len(a) > 1 else torch.nan
