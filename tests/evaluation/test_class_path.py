"""Many images: frequencies and similarities by counting, a class's path by brute force, and always on images not used to find it."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.cluster.hierarchy import fcluster

import neuronpath as nph


@pytest.fixture(scope="module")
def digits(demo):
    model, images, labels = demo
    return model, images[:100], labels[:100], nph.find_path(model, images[:100], labels[:100], method="joint")


def test_frequency_and_consensus_by_counting(digits):
    *_, paths = digits
    shares = nph.frequency(paths)
    common, agreement = nph.consensus(paths)
    for block in range(8):
        neurons = paths.units[:, block, 0].tolist()
        assert shares[block].sum() == pytest.approx(1)
        for neuron in range(256):
            assert shares[block][neuron] == pytest.approx(neurons.count(neuron) / 100)
        assert neurons.count(common[block, 0].item()) == max(neurons.count(n) for n in neurons)
        assert agreement[block] == pytest.approx(neurons.count(common[block, 0].item()) / 100)


def test_class_results_are_a_few_lines(digits):
    model, images, labels, _ = digits
    found = nph.class_path(model, images[labels == 1], 1)
    text = repr(found)
    assert len(text) < 700
    assert text.count("\n") <= 8
    assert f"class 1: {' '.join(str(int(unit)) for unit in found[1].units[:, 0])}; " in text
    circuits = nph.class_circuit(model, images[labels == 1], 1, keep=0.5)
    assert len(repr(circuits)) < 1100
    assert str(circuits[1].units[0]) in repr(circuits)
    assert len(repr(nph.view(model))) < 100


def test_similarity_by_hand(digits):
    _, _, labels, paths = digits
    table = nph.similarity(paths, labels)
    assert table.shape == (10, 10)
    np.testing.assert_allclose(np.diag(table), 1, rtol=1e-6)
    vectors = []
    for digit in (3, 8):
        mine = paths.units[labels == digit, :, 0]
        vectors.append(
            np.array([(mine[:, block] == neuron).double().mean().item() for block in range(8) for neuron in range(256)])
        )
    cosine = vectors[0] @ vectors[1] / np.linalg.norm(vectors[0]) / np.linalg.norm(vectors[1])
    assert table.loc["3", "8"] == pytest.approx(cosine, rel=1e-5)
    jaccard = nph.similarity(paths, labels, by="path")
    three, eight = (set(enumerate(nph.consensus(paths[labels == digit])[0][:, 0].tolist())) for digit in (3, 8))
    assert jaccard.loc["3", "8"] == pytest.approx(len(three & eight) / len(three | eight))
    with pytest.raises(nph.InputError, match="by 'colour' is unknown; expected one of 'frequency', 'path'"):
        nph.similarity(paths, labels, by="colour")


def test_cluster_puts_the_alike_together():
    values = np.full((4, 4), 0.1)
    values[[0, 2, 1, 3], [2, 0, 3, 1]] = 0.9
    np.fill_diagonal(values, 1)
    table = pd.DataFrame(values, index=list("abcd"), columns=list("abcd"))
    groups = fcluster(nph.cluster(table), 2, "maxclust")
    assert groups[0] == groups[2] != groups[1] == groups[3]


def test_stability_of_planted_classes(digits):
    """Classes whose images all have one path are wholly stable; classes drawn at random from all images are not."""
    _, _, labels, paths = digits
    two = nph.concat([paths[[0] * 6], paths[[1] * 5]])
    found = nph.stability(two, [0] * 6 + [1] * 5)
    assert found["n"].tolist() == [6, 5]
    assert found[["frequency", "path"]].to_numpy() == pytest.approx(1)
    real = nph.stability(paths, labels)
    shuffled = nph.stability(paths, labels[torch.randperm(100, generator=torch.Generator().manual_seed(0))])
    assert (real["frequency"] > real["frequency_others"]).all()
    gap = (real["frequency"] - real["frequency_others"]).mean()
    assert gap > 0.5 > abs((shuffled["frequency"] - shuffled["frequency_others"]).mean()) + 0.3
    with pytest.raises(nph.InputError, match="class 7 has 1 image; expected at least 2"):
        nph.stability(two, [0] * 6 + [1] * 4 + [7])


def test_class_path_beats_the_consensus_on_its_own_half_and_is_tested_on_the_other(digits):
    model, images, labels, _ = digits
    found = nph.class_path(model, images, labels)
    assert list(found) == list(range(10))
    for label, path in found.items():
        figures = path.figures.set_index(["images", "path"])
        assert figures.loc[("own", "class"), "score"] >= figures.loc[("own", "consensus"), "score"] - 1e-7
        n = int((labels == label).sum())
        assert figures["n"].tolist() == [(n + 1) // 2] * 2 + [n // 2] * 2
        assert path.units.shape == (8, 1)
    gains = [
        p.figures.loc[p.figures["path"] == "class", "score"].iloc[0] - p.figures["score"].iloc[1]
        for p in found.values()
    ]
    assert max(gains) > 0
    means = [p.figures.set_index(["images", "path"]).loc[("held out", "class"), "score"] for p in found.values()]
    assert np.mean(means) > 0.03  # found on one half, it serves the other


def test_class_path_by_brute_force(random_vit, random_images):
    """All 512 shared paths of a small model: no single swap is better, and few paths are."""
    model, images = random_vit(40, depth=3, mlp_ratio=0.25), random_images(41, 4)
    found = nph.class_path(model, images, 2, halves=False)[2]
    scores = {}
    for path in itertools.product(range(8), repeat=3):
        scores[path] = nph.joint_influence(model, images, list(path), 2).score.mean().item()
    mine = tuple(found.units[:, 0].tolist())
    assert found.figures["score"].iloc[0] == pytest.approx(scores[mine], rel=1e-3)
    swaps = [(*mine[:b], n, *mine[b + 1 :]) for b in range(3) for n in range(8)]
    assert max(scores[path] for path in swaps) <= scores[mine] * 1.01
    assert sum(score > scores[mine] for score in scores.values()) <= 10


def test_three_neurons_and_pieces(digits):
    model, images, labels, _ = digits
    one = nph.class_path(model, images[labels == 6], 6, top_k=3)[6]
    assert one.units.shape == (8, 3)
    assert all(len(set(block)) == 3 for block in one.units.tolist())
    again = nph.class_path(model, images[labels == 6], 6, top_k=3, internal_batch_size=2)[6]
    assert torch.equal(one.units, again.units)


def test_bad_input(digits):
    model, images, _, _ = digits
    with pytest.raises(nph.InputError, match="class 4 has 1 image; expected at least 2, for halves"):
        nph.class_path(model, images[:1], 4)
    with pytest.raises(nph.InputError, match="target 12 is out of range"):
        nph.class_path(model, images[:2], 12)
    with pytest.raises(nph.InputError, match="labels is None"):
        nph.class_path(model, images[:2], None)
