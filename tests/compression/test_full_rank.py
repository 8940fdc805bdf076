"""At full rank a recursive model is the original, for every architecture of timm whose blocks are alike; others are refused."""

import pytest
from small import NAMES, as_logits, small_images, small_timm

import neuronpath as nph


@pytest.mark.parametrize(("module", "name"), NAMES, ids=[name for _, name in NAMES])
def test_timm(module, name):
    model = small_timm(module, name)
    parallel = "Parallel" in type(model.blocks[0]).__name__
    if parallel or "sapiens2" in name:
        with pytest.raises(nph.InputTypeError, match="Parallel" if parallel else "differ"):
            nph.recursive(model, 1, init="average", rank="full")
        return
    images = small_images(model)
    expected = as_logits(model, images)
    found = as_logits(nph.recursive(model, 1, init="average", rank="full"), images)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
