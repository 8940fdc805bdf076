"""The page inside a notebook."""

from html import escape

from torch import nn

from ..checks import check_count, checked
from ..data.given import Classes, Images, Target, as_images
from ..models.view import view
from ..models.vit import ViT
from ..paths.graph import PathGraph
from ..paths.run import Run
from .measured import Measured, Way, check_graph, graphs_given
from .render import page_of
from .report import Ways, given, measure
from .scene import scene


class Shown:
    """A page that shows itself at the end of a notebook's cell; ``html`` is the page."""

    def __init__(self, html: str, height: int, images: int) -> None:
        self.html, self._height, self._images = html, height, images

    def __repr__(self) -> str:
        return f"Shown({self._images} images); a notebook shows the page, .html holds it"

    def _repr_html_(self) -> str:
        style = f"width: 100%; height: {self._height}px; border: 0"
        return f'<iframe srcdoc="{escape(self.html)}" style="{style}" sandbox="allow-scripts" title="Neuron paths"></iframe>'


@checked
def show(
    paths: Ways | Run, images: Images | None, model: nn.Module | ViT | None = None, *, labels: Target = None,
    graph: PathGraph | bool | None = None, reference: Images | None = None, title: str = "Neuron paths", factor: float = 2.0,
    n_likes: int = 4, batch_size: int = 64, height: int = 900,
) -> Shown:  # fmt: skip
    """The page of :func:`~neuronpath.report` in a notebook, below the cell: nothing is served, nothing is written.

    Args:
        paths: NeuronPaths or a Circuit, or several ways' as {name: NeuronPaths or Circuit}; or a Run, as of
            :func:`~neuronpath.report`.
        images: (B, C, H, W), those of the paths. None for a Run.
        model: the vision transformer that the paths were made for. Without it the page has what the paths know by themselves: no
            maps, no favourites, and a graph only if it is given.
        labels: and ``graph``, ``reference``, ``title``, ``factor``, ``n_likes``, ``batch_size`` as of :func:`~neuronpath.report`.
        height: of the page in the notebook, in pixels.

    Returns:
        What a notebook shows at the end of a cell; ``html`` is the page as text.

    Raises:
        InputError: in one line, for anything that can't be used.

    Examples:
        >>> import neuronpath as nph
        >>> model, images, labels = nph.demo.load()
        >>> nph.show(nph.find_path(model, images[:2]), images[:2], model)
        Shown(2 images); a notebook shows the page, .html holds it
    """
    check_count("height", height)
    reference = as_images(reference, model, "reference")
    images, ways, labels, drawn_from = given(paths, images, model, labels)
    if model is None:
        truth, found = Classes(images, labels).all(), unmeasured(ways, graph)
        whole = None
    else:
        vit = view(model)
        whole = vit.model
        truth, found = measure(
            vit, images, ways, labels, graph=graph, reference=reference, factor=factor, n_likes=n_likes, batch_size=batch_size,
            progress=False,
        )  # fmt: skip
    shown = scene(images, ways, found, model=whole, labels=truth, title=title, factor=factor, drawn_from=drawn_from)
    return Shown(page_of(shown), height, len(images))


def unmeasured(ways: dict[str, Way], graph: PathGraph | bool | None) -> dict[str, Measured]:
    """What is known without a model: a graph that is given."""
    check_graph(graph, ways)
    return {name: Measured(graphs=graphs_given(graph, way)) for name, way in ways.items()}
