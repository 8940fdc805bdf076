"""The paths and scores that the authors' released code gave on models anyone can draw again (tests/data/parity.json)."""

import json
from pathlib import Path

import pytest
import textbook
import torch

import neuronpath as nph

CASES = json.loads((Path(__file__).parents[1] / "data" / "parity.json").read_text())["cases"]
BY_NAME = {f"{case['pool']}-seed{case['seed']}-target{case['target']}": case for case in CASES}
WITH_ACTIVATION_PATH = [name for name, case in BY_NAME.items() if "activation_path" in case]


@pytest.fixture(params=BY_NAME)
def golden(request, random_vit, random_images):
    case = BY_NAME[request.param]
    return case, random_vit(case["seed"], case["pool"]), random_images(case["image_seed"], case["n"])


def test_the_model_is_the_same(golden):
    case, model, images = golden
    with torch.no_grad():
        assert torch.allclose(model(images), torch.tensor(case["logits"]), rtol=0, atol=1e-5)  # float32


def test_paths_and_scores_are_the_authors(golden):
    case, model, images = golden
    paths = nph.find_path(model, images, case["target"], preset="paper")
    assert torch.equal(paths.neurons, torch.tensor(case["path"])[..., None])
    assert paths.score.tolist() == pytest.approx(case["score"], rel=1e-4)


def test_the_textbook_finds_the_authors_paths(golden):
    """So that what other tests hold against the textbook is held against the paper."""
    case, model, images = golden
    target = torch.full((len(images),), case["target"])
    path = textbook.paper_path(model.double(), images.double(), target)
    assert torch.equal(path, torch.tensor(case["path"])[..., None])


@pytest.mark.parametrize("golden", WITH_ACTIVATION_PATH, indirect=True)
def test_score_of_the_most_active_neurons(golden):
    case, model, images = golden
    path = torch.tensor(case["activation_path"])[..., None]
    influence = nph.joint_influence(model, images, path, case["target"], quadrature="riemann_left", n_steps=20)
    assert influence.score.tolist() == pytest.approx(case["activation_score"], rel=1e-4)
