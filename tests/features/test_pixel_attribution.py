"""Which pixels drive a unit: against torch's own gradients through a plain hook, and by deleting the pixels that count most."""

import pytest
import torch

import neuronpath as nph

UNITS = [(4, 163), ("head", 7, 1), (1, 30)]


def value_by_hand(model, unit, images):
    """The unit's value on the class token (B,), through a plain hook, in the graph."""
    unit = nph.view(model) and nph.Unit(*unit) if isinstance(unit[0], int) else nph.Unit(*unit[1:], unit[0])
    seen = []
    block = model.blocks[unit.block]
    layer = block.mlp.fc2 if unit.kind == "neuron" else block.attn.proj
    handle = layer.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model(images)
    handle.remove()
    cls = seen[0][:, 0]
    return cls[:, unit.index] if unit.kind == "neuron" else cls.unflatten(1, (4, -1))[:, unit.index].norm(dim=1)


def test_complete_within_one_percent(demo):
    model, images, _ = demo
    found = nph.pixel_attribution(model, images[:3], UNITS)
    for p, unit in enumerate(UNITS):
        with torch.no_grad():
            value, empty = (value_by_hand(model, unit, x) for x in (images[:3], torch.zeros(1, 1, 32, 32)))
        assert torch.allclose(found.value[:, p], value, atol=1e-5)
        total = found.attribution[:, p].flatten(1).sum(1)
        assert (total - (value - empty)).abs().le(0.01 * (value - empty).abs() + 1e-5).all()
        assert torch.allclose(found.delta[:, p], total - (value - empty), atol=1e-5)


def test_input_x_gradient_by_hand(demo):
    model, images, _ = demo
    found = nph.pixel_attribution(model, images[:2], UNITS, method="input_x_gradient")
    for p, unit in enumerate(UNITS):
        pixels = images[:2].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(value_by_hand(model, unit, pixels).sum(), pixels)
        assert torch.allclose(found.attribution[:, p], gradient * images[:2], atol=1e-6)


def test_neither_batches_nor_a_piece_change_it(demo):
    model, images, _ = demo
    whole = nph.pixel_attribution(model, images[:3], UNITS[:1])
    single = [nph.pixel_attribution(model, images[i : i + 1], UNITS[:1], internal_batch_size=5) for i in range(3)]
    assert torch.allclose(whole.attribution, torch.cat([one.attribution for one in single]), atol=1e-6)


def test_the_pixels_that_count_most_are_those_that_lower_the_unit(demo):
    """Put to the baseline, the top fifth lowers the unit by more than random fifths do."""
    model, images, _ = demo
    images = images[:12]
    numbers = [(2, 3), (4, 90), (6, 3)]
    found = nph.pixel_attribution(model, images, numbers, n_steps=16)
    draw = torch.Generator().manual_seed(0)
    for p, unit in enumerate(numbers):
        flat = found.attribution[:, p].flatten(1)
        top = flat.argsort(1, descending=True)[:, : flat.shape[1] // 5]
        chance = torch.rand(flat.shape, generator=draw).argsort(1)[:, : flat.shape[1] // 5]
        with torch.no_grad():
            without, random = (
                value_by_hand(model, unit, images.flatten(1).scatter(1, gone, 0.0).view_as(images))
                for gone in (top, chance)
            )
        assert without.mean() < random.mean()


def test_the_model_is_left_as_it_was(demo):
    model, images, _ = demo
    before = model(images[:2])
    model.train()
    try:
        nph.pixel_attribution(model, images[:1], UNITS[:1], n_steps=4)
        assert model.training
    finally:
        model.eval()
    assert all(p.requires_grad for p in model.parameters())
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert torch.equal(model(images[:2]), before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"units": []}, r"units is \[\]; expected at least one"),
        ({"units": [(9, 3)]}, "block 9 is out of range; expected 0 to 7"),
        ({"method": "magic"}, "method 'magic' is unknown; expected one of"),
        ({"baseline": torch.zeros(1, 8, 8)}, r"baseline has shape \(1, 8, 8\); expected \(1, 32, 32\)"),
        ({"n_steps": 0}, "n_steps is 0; expected"),
    ],
)
def test_bad_input(demo, options, message):
    with pytest.raises(nph.InputError, match=message):
        nph.pixel_attribution(demo[0], demo[1][:1], **{"units": [(1, 3)], **options})
