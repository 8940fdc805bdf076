"""The clean run as a thing: it goes as soon as no one needs it, and its gradients are right in any precision."""

import copy
import gc
import weakref

import pytest
import torch

import neuronpath as nph
from neuronpath.runs.clean import CleanRun


@pytest.mark.parametrize("work", [nph.find_path, nph.find_circuit, nph.rank_units])
def test_runs_go_without_the_collector(random_vit, random_images, monkeypatch, work):
    """A run holds all that a model computed: the collector, which counts objects and not bytes, comes too late."""
    made, make = [], CleanRun.__init__

    def noted(run, *args, **kwargs):
        make(run, *args, **kwargs)
        made.append(weakref.ref(run))

    monkeypatch.setattr(CleanRun, "__init__", noted)
    gc.collect()
    gc.disable()
    try:
        work(random_vit(0, depth=2), random_images(1, 6), internal_batch_size=2)
        left = [run for run in made if run() is not None]
    finally:
        gc.enable()
    assert len(made) >= 3
    assert not left


@pytest.mark.parametrize("output", ["logit", "prob"])
def test_float16_gradients_are_those_of_float32(demo, output):
    """On this image a logit's gradients overflow float16 at the scale that keeps those of a probability from its lower end."""
    model, images, _ = demo
    whole = nph.find_path(model, images[5:6], output=output)
    half = nph.find_path(copy.deepcopy(model).half(), images[5:6], output=output)
    assert torch.equal(half.units, whole.units)
    assert torch.allclose(half.attribution, whole.attribution, rtol=0.05, atol=0.02)
