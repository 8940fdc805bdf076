"""Labels and units may lie on another device than results do; one is made believe, for machines without a GPU."""

import pandas as pd
import pytest
import torch
from torch import Tensor

import neuronpath as nph


class Away(Tensor):
    """A tensor that refuses what torch refuses of one on a GPU: numpy, and to be reckoned with beside one on the CPU."""

    @classmethod
    def __torch_function__(cls, function, _types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        if name == "numpy":
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if name in ("cpu", "to"):
            return args[0].as_subclass(Tensor)
        here = [each for each in args if isinstance(each, Tensor) and not isinstance(each, Away) and each.ndim]
        if here and name != "__get__":
            raise RuntimeError("Expected all tensors to be on the same device, but found at least two devices")
        return super().__torch_function__(function, (cls,), args, kwargs or {})


@pytest.fixture(scope="module")
def given(demo):
    model, images, labels = demo
    some = torch.isin(labels, torch.tensor([3, 8]))
    images, labels = images[some][:24], labels[some][:24]
    return model, images, labels, nph.find_path(model, images, labels, method="causal")


CALLS = {
    "name_units": lambda m, x, y, p: nph.name_units(m, x, [(4, 163)], y, controls=2),
    "evaluate": lambda m, x, y, p: nph.evaluate(m, x, y, {"mine": p}),
    "evaluate, target": lambda m, x, y, p: nph.evaluate(m, x, None, {"mine": p}, y),
    "class_path": lambda m, x, y, p: nph.class_path(m, x, y)[3].figures,
    "class_circuit": lambda m, x, y, p: nph.class_circuit(m, x, y, units="heads")[3].figures,
    "similarity": lambda m, x, y, p: nph.similarity(p, y),
    "stability": lambda m, x, y, p: nph.stability(p, y),
    "find_path": lambda m, x, y, p: nph.find_path(m, x, y, method="causal").to_frame(),
    "faithfulness": lambda m, x, y, p: nph.faithfulness(m, x, nph.rank_units, y, k=[3]).to_frame(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_labels_on_another_device(given, call):
    model, images, labels, paths = given
    found, expected = (call(model, images, each, paths) for each in (labels.as_subclass(Away), labels))
    pd.testing.assert_frame_equal(found, expected)


def test_units_and_numbers_of_images_on_another_device(given):
    model, images, labels, paths = given
    some = torch.tensor([2, 0])
    assert paths[some.as_subclass(Away)] == paths[some]
    units = paths.units[:2].as_subclass(Away)
    maps = [nph.activation_maps(model, images[:2], each) for each in (units, paths.units[:2])]
    assert torch.equal(*maps)
    both = [nph.joint_influence(model, images[:2], each, labels[:2]).score for each in (units, paths.units[:2])]
    assert torch.equal(*both)
    with nph.remove(model, units):
        away = model(images[:2])
    with nph.remove(model, paths[:2]):
        assert torch.equal(model(images[:2]), away)
