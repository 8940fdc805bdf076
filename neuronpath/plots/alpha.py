"""The curve that the attribution integrates, and the nodes that measured it."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn

from ..checks import checked
from ..data.given import Images, sliceable
from ..models.outputs import Output, output_name
from ..paths.neuron_paths import NeuronPaths
from ..runs.alpha import along_path
from ..runs.quadrature import nodes_and_weights
from .parts import BLUE, LINE, SMALL, VERMILLION, axes_for, check_paths, plain, tidy


@checked
def plot_alpha(
    model: nn.Module, images: Images, paths: NeuronPaths, index: int = 0, *, gradient: bool = False,
    reference: Images | None = None, n_points: int = 51, output: Output | None = None, ax: Axes | None = None,
) -> Figure:  # fmt: skip
    """The output F(alpha) as an image's path goes from its ablated to its clean values; with ``gradient`` its slope, the area shaded.

    The area below the slope is F(1) - F(0), what the attributions sum to. The quadrature's nodes stand on the curve.

    Args:
        model: the vision transformer that the paths were made for.
        images: (B, C, H, W), those of the paths.
        paths: one path an image.
        index: the image.
        gradient: draw the slope of F in place of F.
        reference: the images that the paths' baseline was made of, where it was.
        n_points: values of alpha, both ends among them; each costs a forward and a backward.
        output: F; None is that of the paths, where it isn't a function.
        ax: axes to draw in.
    """
    images, reference = sliceable(images), sliceable(reference)
    check_paths(paths, images, index)
    row = index % len(paths)
    path = paths[row]
    if reference is not None and path.settings.baseline == "paired":
        reference = reference[row : row + 1]
    along = along_path(model, images[row : row + 1], path, reference=reference, n_points=n_points, output=output)
    alpha, curve = along.alpha.numpy(), (along.slope if gradient else along.value)[0].numpy()
    figure, ax = axes_for(ax, (5.6, 3.6))
    ax.plot(alpha, curve, color=BLUE, linewidth=1.8, label=r"$dF / d\alpha$" if gradient else r"$F(\alpha)$")
    rule, steps = path.settings.quadrature, int(path.n_steps[0])
    if steps:
        nodes = nodes_and_weights(rule, steps)[0]
        ax.plot(nodes, np.interp(nodes, alpha, curve), "s", color=VERMILLION, markersize=6, markeredgecolor="white",
                label=f"the {steps} nodes of {rule}", zorder=3)  # fmt: skip
    if gradient:
        ax.fill_between(alpha, curve, color=BLUE, alpha=0.15, linewidth=0)
        ax.axhline(0, color=LINE, linewidth=0.8)
    own = output is None or output_name(output) == path.settings.output
    name = output_label(path, None if output is None else output_name(output))
    tidy(ax)
    ax.set(
        xlabel=r"$\alpha$: the path's units, as a share of their clean values",
        ylabel=f"slope of {name}" if gradient else name,
    )
    change = float(path.output_change[0] if own else along.value[0, -1] - along.value[0, 0])
    ax.set_title(f"F(1) - F(0) = {change:.4g}" + f", delta {float(path.delta[0]):.1e}" * own, fontsize=10)
    ax.legend(frameon=False, fontsize=SMALL)
    return figure


def output_label(path: NeuronPaths, output: str | None = None) -> str:
    """What F is, in words, for a path of one image; None is the path's own."""
    kind, target = output or path.settings.output, int(path.target[0])
    words = {"prob": "probability", "logit": "logit", "sigmoid": "sigmoid"}.get(kind, str(kind))
    return words if target < 0 else f"{words} of class {plain(path.name_of(target))}"
