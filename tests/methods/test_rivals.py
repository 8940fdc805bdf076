"""The methods that paths are compared with: each against outside code or a definition written out by hand."""

import pytest
import textbook
import torch
from captum.attr import LayerConductance, LayerIntegratedGradients
from torch import nn

import neuronpath as nph
from neuronpath.methods.knowledge import knowledge
from neuronpath.models.hooks import at_rest
from neuronpath.runs.clean import clean_runs

METHODS = ["activation", "causal", "conductance", "influence_pattern", "joint", "knowledge", "random"]
pools = pytest.mark.parametrize("pool", ["token", "avg"])


def top(values, k):
    """The k largest of (B, M), in order, by sorting."""
    return values.argsort(dim=1, descending=True)[:, :k]


def test_the_registry_has_them_all():
    assert nph.list_methods() == sorted([*METHODS, "live"])


@pools
@pytest.mark.parametrize("k", [1, 3])
def test_activation(random_vit, random_images, pool, k):
    model, images = random_vit(1, pool), random_images(2, 4)
    hidden, _ = textbook.clean(model, images)
    expected = torch.stack([top(values.mean(1), k) for values in hidden], 1)
    assert torch.equal(nph.find_path(model, images, method="activation", top_k=k).neurons, expected)


@pools
@pytest.mark.parametrize("k", [1, 3])
def test_conductance_is_captum_s(random_vit, random_images, pool, k):
    model, images = random_vit(3, pool), random_images(4, 3)
    found = nph.find_path(model, images, method="conductance", top_k=k, n_steps=6)
    for block in range(4):
        layer = LayerConductance(lambda x: model(x).softmax(-1), model.blocks[block].mlp.fc2)
        values = layer.attribute(images, target=found.target, n_steps=6, attribute_to_layer_input=True)
        expected = top(values[:, textbook.pooled_tokens(model)].sum(1), k)
        assert torch.equal(found.neurons[:, block], expected)


@pytest.mark.parametrize("units", ["neurons", "heads"])
def test_conductance_refuses_blocks_that_are_one(random_vit, random_images, units):
    model, images = random_vit(3), random_images(4, 2)
    model.blocks[2] = model.blocks[0]
    with pytest.raises(nph.InputError, match=r"runs one layer in several blocks, .*; expected another method"):
        nph.find_path(model, images, method="conductance", units=units)


def test_influence_pattern_refuses_gradient_checkpointing(random_vit, random_images):
    model, images = random_vit(3), random_images(4, 2)
    model.set_grad_checkpointing()
    words = r"^gradient checkpointing runs the blocks .*; expected a model without it \(timm: model.set_grad_checkpointing\(False\)\)$"
    with pytest.raises(nph.InputError, match=words):
        nph.find_path(model, images, method="influence_pattern")


class FromNeurons(nn.Module):
    """F as a function of one block's neurons on the pooled tokens, which pass through a layer that captum can hold on to."""

    def __init__(self, model, images, block):
        super().__init__()
        self.model, self.images, self.fc2, self.probe = model, images, model.blocks[block].mlp.fc2, nn.Identity()

    def forward(self, neurons):
        images = (
            self.images.repeat_interleave(len(neurons) // len(self.images), 0)
            if len(neurons) != len(self.images)
            else self.images
        )
        held = self.probe(neurons)

        def hook(_module, args):
            x = args[0].clone()
            x[:, textbook.pooled_tokens(self.model)] = held
            return (x,)

        handle = self.fc2.register_forward_pre_hook(hook)
        try:
            return self.model(images).softmax(-1)
        finally:
            handle.remove()


@pools
def test_knowledge_is_captum_s_layer_integrated_gradients(random_vit, random_images, pool):
    model, image = random_vit(5, pool).double(), random_images(6, 1).double()
    target = model(image).argmax(1)
    with at_rest(model):
        (run,) = clean_runs(nph.view(model), image, target, "prob")
        found = knowledge(run, "gausslegendre", 7)
    hidden, _ = textbook.clean(model, image)
    for block in range(4):
        wrapped = FromNeurons(model, image, block)
        expected = LayerIntegratedGradients(wrapped, wrapped.probe).attribute(
            hidden[block], baselines=torch.zeros_like(hidden[block]), target=target, n_steps=7, method="gausslegendre"
        )
        assert torch.allclose(found[block], expected, rtol=1e-5, atol=1e-8)  # captum weighs nodes in float32
    neurons = nph.find_path(model, image, method="knowledge", top_k=3, n_steps=7).neurons
    assert torch.equal(neurons, torch.stack([top(values.sum(1), 3) for values in found], 1))


@pools
@pytest.mark.parametrize("k", [1, 3])
def test_influence_pattern_by_jacobians(random_vit, random_images, pool, k):
    """Products of Jacobians from neurons to neurons, taken one after the other at each node, in float64."""
    model, image = random_vit(7, pool).double(), random_images(8, 1).double()
    found = nph.find_path(model, image, method="influence_pattern", top_k=k, n_steps=3, quadrature="riemann_middle")
    tokens = textbook.pooled_tokens(model)

    def common_change(block, shift, alpha):
        """F and every block's neurons, summed over tokens, when a shift (M,) is added to the block's on all of its tokens."""
        sums = []

        def hook(b):
            def change(_module, args):
                x = args[0].clone()
                if b == block:
                    x[:, tokens] = x[:, tokens] + shift
                sums.append(x[:, tokens].sum((0, 1)))
                return (x,)

            return change

        with textbook.hooked(model, [hook(b) for b in range(4)]):
            value = model(alpha * image).softmax(-1)[0, found.target[0]]
        return value, sums

    nodes = [1 / 6, 1 / 2, 5 / 6]
    product, path = [torch.ones((), dtype=torch.float64)] * 3, []
    for block in (3, 2, 1, 0):
        derivatives = []
        for node, alpha in enumerate(nodes):
            zero = torch.zeros(64, dtype=torch.float64)

            def behind(shift, block=block, alpha=alpha):
                value, sums = common_change(block, shift, alpha)
                return value if block == 3 else sums[block + 1][path[0]].sum()

            derivatives.append(torch.autograd.functional.jacobian(behind, zero) * product[node])
        path.insert(0, top(torch.stack(derivatives).mean(0)[None], k)[0])
        product = [d[path[0]].sum() for d in derivatives]
    assert torch.equal(found.neurons[0], torch.stack(path))


def test_random_is_drawn_by_seed_and_image(random_vit, random_images):
    model, images = random_vit(9), random_images(10, 40)

    def drawn(some, seed):
        return nph.find_path(model, some, method="random", seed=seed, top_k=3).neurons

    one = drawn(images, 0)
    assert torch.equal(one, drawn(images, 0))
    assert not torch.equal(one, drawn(images, 1))
    assert torch.equal(drawn(images[7:9], 0), one[7:9])
    assert all(len(set(block)) == 3 for path in one.tolist() for block in path)
    counts = torch.bincount(one.flatten(), minlength=64).double()  # 40 * 4 * 3 draws of 64
    assert len(counts) == 64
    assert ((counts - 7.5) ** 2 / 7.5).sum() < 110  # chi-squared with 63 degrees of freedom: 0.9998 quantile


@pytest.mark.parametrize("method", METHODS)
def test_all_k_neurons_count(random_vit, random_images, method):
    """Score and attribution of K = 3 neurons a block against the textbook's."""
    model, images = random_vit(11).double(), random_images(12, 3).double()
    paths = nph.find_path(model, images, method=method, top_k=3, quadrature="gausslegendre", n_steps=5)
    nodes = [(x + 1) / 2 for x in torch.linalg.eigvalsh(jacobi(5)).tolist()]
    weights = weights_of(nodes)
    score, attribution, change = textbook.joint_score(model, images, paths.target, paths.neurons, nodes, weights)
    assert torch.allclose(paths.score.double(), score, rtol=1e-5, atol=1e-9)
    assert torch.allclose(paths.attribution.double(), attribution, rtol=1e-4, atol=1e-8)
    assert torch.allclose(paths.output_change.double(), change, rtol=1e-4, atol=1e-8)
    assert paths.attribution.abs().min() > 0


def jacobi(n):
    """Golub and Welsch's matrix, whose eigenvalues are the Gauss-Legendre nodes on [-1, 1]."""
    beta = torch.tensor([i / (4 * i * i - 1) ** 0.5 for i in range(1, n)], dtype=torch.float64)
    return torch.diag(beta, 1) + torch.diag(beta, -1)


def weights_of(nodes):
    """The weights that integrate all powers below len(nodes) exactly over [0, 1]."""
    powers = torch.arange(len(nodes), dtype=torch.float64)
    matrix = torch.tensor(nodes, dtype=torch.float64)[None] ** powers[:, None]
    return torch.linalg.solve(matrix, 1 / (powers + 1)).tolist()


@pytest.mark.parametrize("method", METHODS)
def test_one_by_one_and_in_pieces(random_vit, random_images, method):
    model, images = random_vit(13, "avg"), random_images(14, 5)
    together = nph.find_path(model, images, method=method)
    for size in (1, 3):
        pieces = nph.find_path(model, images, method=method, internal_batch_size=size)
        assert torch.equal(pieces.neurons, together.neurons)
    alone = nph.concat([nph.find_path(model, image[None], method=method) for image in images])
    assert torch.equal(alone.neurons, together.neurons)


def test_efforts_of_others_are_refused(demo):
    model, images, _ = demo
    with pytest.raises(nph.InputError, match="effort 'thorough' is none of method 'activation'"):
        nph.find_path(model, images[:1], method="activation", effort="thorough")
    with pytest.raises(
        nph.InputError, match="method 'guess' is unknown; expected one of activation, causal, conductance"
    ):
        nph.find_path(model, images[:1], method="guess")
