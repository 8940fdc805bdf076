"""The clean run as a thing: it goes as soon as no one needs it, and its gradients are right in any precision."""

import gc
import weakref

import pytest

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
