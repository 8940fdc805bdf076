"""What units do on images, held against a plain hook; and what can't be had of a damaged model."""

import copy

import pytest
import torch

import neuronpath as nph
from neuronpath.features.activations import unit_maps


def refused(match, call):
    with pytest.raises(nph.InputError, match=match) as refusal:
        call()
    assert "\n" not in str(refusal.value)


CALLS = {
    "maps": lambda model, images, **options: nph.activation_maps(model, images, [3] * 8, **options),
    "means": lambda model, images, **options: nph.mean_activations(model, images, **options),
    "most active": lambda model, images, **options: nph.most_active(model, images, [(2, 3)], 2, **options),
}
calls = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@calls
def test_a_model_with_nan_is_refused_not_averaged(demo, call):
    model, images = copy.deepcopy(demo[0]), demo[1][:3]
    model.blocks[1].mlp.fc1.bias.data[7] = torch.nan
    refused(
        r"the model's blocks\.1\.mlp\.fc1\.bias holds NaN or infinity; expected finite weights",
        lambda: call(model, images),
    )
    model = copy.deepcopy(demo[0])
    model.blocks[2].mlp.act.forward = lambda x: x / 0
    refused("the neurons of block 2 hold NaN or infinity; expected finite activations", lambda: call(model, images))


@calls
@pytest.mark.parametrize("batch_size", [0, -1, 1.5, None, True])
def test_batches_of_no_size(demo, call, batch_size):
    refused(
        f"batch_size is {batch_size!r}; expected a whole number",
        lambda: call(demo[0], demo[1][:3], batch_size=batch_size),
    )


@calls
def test_batches_change_nothing(demo, call):
    def flat(found):
        parts = found if isinstance(found, list | tuple) else [found]
        return torch.cat([part.flatten().float() for part in parts if torch.is_tensor(part)])

    expected = flat(call(demo[0], demo[1][:5]))
    assert torch.allclose(flat(call(demo[0], demo[1][:5], batch_size=2)), expected, atol=1e-5)


def test_the_most_active_images_hold_no_others(demo):
    model, images, _ = demo
    _, numbers, kept = nph.most_active(model, images[:12], [(2, 3), (5, 1)], 2, batch_size=5)
    assert kept.keys() == set(numbers.flatten().tolist())
    for number, image in kept.items():
        assert torch.equal(image, images[number])
        assert image.untyped_storage().nbytes() == image.nbytes


def test_means_by_hand(demo):
    seen = []
    handle = demo[0].blocks[5].mlp.fc2.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        demo[0](demo[1][:3])
    handle.remove()
    assert torch.allclose(nph.mean_activations(demo[0], demo[1][:3], token="all")[5], seen[0].mean((0, 1)), atol=1e-6)


def test_maps_of_any_units_an_image(demo):
    model, images, _ = demo
    units = [[nph.Unit(4, 163), nph.Unit(0, 2, "head")], [], [nph.Unit(7, 5), nph.Unit(1, 9), nph.Unit(4, 163)]]
    maps = unit_maps(model, images[:3], units, batch_size=2)
    assert [tuple(each.shape) for each in maps] == [(2, 8, 8), (0, 8, 8), (3, 8, 8)]
    for image, mine in enumerate(units):
        for unit, found in zip(mine, maps[image], strict=True):
            path = torch.zeros(1, 16, 1, dtype=torch.int64)
            site = 2 * unit.block + (unit.kind == "neuron")
            path[0, site, 0] = unit.index
            dense = nph.activation_maps(model, images[image : image + 1], path, units="both")[0, site, 0]
            assert torch.allclose(found, dense, atol=1e-6)
    assert [each.shape[0] for each in unit_maps(model, images[:2], [[], []])] == [0, 0]


def test_maps_of_units_that_are_named_one_by_one(demo):
    model, images = demo[0], demo[1][:2]
    named = [(block, 10 + block + more) for more in (0, 30) for block in range(8)]
    by_site = [[10 + block, 40 + block] for block in range(8)]
    found = nph.activation_maps(model, images, named)
    assert found.shape[:3] == (2, 8, 2)
    assert torch.equal(found, nph.activation_maps(model, images, by_site))
