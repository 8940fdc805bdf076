"""What Python callers may get wrong: ValueError or TypeError, one line, the thing named."""

import copy

import pytest
import timm
import torch

import neuronpath as nph


def refuse(match: str, *args, kind: type[Exception] = ValueError, call=nph.find_path, **kwargs) -> None:
    with pytest.raises(kind, match=match) as refusal:
        call(*args, **kwargs)
    assert isinstance(refusal.value, nph.InputError)
    assert "\n" not in str(refusal.value)


def test_images(demo):
    model, images, _ = demo
    bad = images[:3].clone()
    bad[1, 0, 5, 5] = torch.nan
    refuse("image 1 of the batch holds NaN", model, bad)
    bad[1, 0, 5, 5] = -torch.inf
    refuse("image 1 of the batch holds NaN or infinity", model, bad)
    refuse("empty batch", model, images[:0])
    refuse(r"shape \(1, 32, 32\)", model, images[0])
    refuse(r"refuses images of shape \(1, 28, 28\)", model, images[:2, :, :28, :28])
    refuse(r"refuses images of shape \(3, 32, 32\)", model, images[:2].repeat(1, 3, 1, 1))
    refuse("images is a ndarray", model, images.numpy(), kind=TypeError)
    refuse(r"torch\.uint8", model, images[:1].to(torch.uint8), kind=TypeError)


def test_targets(demo):
    model, images, _ = demo
    refuse("target 10 is out of range; expected 0 to 9", model, images[:2], 10)
    refuse("target -1 is out of range", model, images[:2], [3, -1])
    refuse(r"target has shape \(3,\); expected one class or \(2,\)", model, images[:2], [1, 2, 3])
    refuse("target is 1.0; expected a whole number", model, images[:2], 1.0, kind=TypeError)
    refuse(
        "target 'three' names no class of VisionTransformer; expected a class's number or name",
        model,
        images[:2],
        "three",
    )
    for target in ([None, 1], {}, 10**30):
        refuse("target is .* whole number", model, images[:2], target, kind=TypeError)
    # the wrong one may belong to an image that a later chunk would bring
    refuse("target 77 is out of range", model, images[:2], [3, 77], internal_batch_size=1)


def test_numbers(demo):
    model, images, _ = demo
    for steps in (0, -3, 1001, 2.5, True):
        refuse(f"n_steps is {steps!r}", model, images[:1], n_steps=steps)
    refuse("n_steps is 1; expected a whole number from 2", model, images[:1], n_steps=1, quadrature="riemann_trapezoid")
    for k in (0, 257, 1.5, True):
        refuse(f"top_k is {k!r}", model, images[:1], top_k=k)
    refuse("internal_batch_size is 0", model, images[:1], internal_batch_size=0)
    refuse("names holds 1 names for 2 images", model, images[:2], names=["a"])
    refuse("names is 'ab'; expected a sequence of texts", model, images[:2], names="ab", kind=TypeError)
    refuse("seed is 1.5; expected a whole number", model, images[:2], method="random", seed=1.5)
    refuse("method '' is unknown; expected one of activation", model, images[:2], method="")
    refuse(r"method is \['joint'\]; expected a text", model, images[:2], method=["joint"])


def test_outputs_without_a_gradient(demo):
    model, images, _ = demo
    for method in ("joint", "causal"):
        refuse(
            "output's values have no gradient", model, images[:2], method=method, output=lambda y, _: y.detach()[:, 0]
        )


def test_paths_of_no_image(demo):
    model, images, _ = demo
    paths = nph.find_path(model, images[:2])
    none = paths[:0]
    assert len(none) == 0
    for call in (nph.frequency, nph.consensus, nph.importance):
        refuse("these paths are of no image", none, call=call)
    refuse("there are no paths", call=lambda: nph.remove(model, none).__enter__())
    assert nph.concat(path for path in paths) == paths


def test_models(demo):
    images = demo[1][:1]
    refuse("model is 'vit'; expected a model", "vit", images, kind=TypeError)
    refuse("ResNet is no vision transformer", timm.create_model("resnet18"), images, kind=TypeError)
    refuse("Linear is no vision", torch.nn.Linear(2, 2), images, kind=TypeError)
    small = {"img_size": 32, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "in_chans": 1}
    vit = timm.models.vision_transformer.VisionTransformer
    parallel = vit(**small, block_fn=timm.models.vision_transformer.ParallelScalingBlock)
    refuse("ParallelScalingBlock", parallel, images, kind=TypeError)
    refuse("num_classes=0", vit(**small, num_classes=0), images, kind=TypeError)


def test_a_block_that_does_more_than_its_family(demo):
    model = copy.deepcopy(demo[0])
    plain = model.blocks[3].forward
    model.blocks[3].forward = lambda x: plain(x) * 1.5
    refuse("does more than its family's blocks do", model, demo[1][:1], kind=TypeError)
    model = copy.deepcopy(demo[0])
    whole = model.forward
    model.forward = lambda x: whole(x)[:, :5]
    refuse(
        r"it gives shape \(1, 10\) where its own forward gives \(1, 5\); expected", model, demo[1][:1], kind=TypeError
    )


def test_weights_and_activations(demo):
    images = demo[1][:1]
    model = copy.deepcopy(demo[0])
    model.blocks[2].mlp.fc2.weight.data[3, 3] = torch.inf
    refuse(r"blocks\.2\.mlp\.fc2\.weight holds NaN or infinity", model, images)
    model = copy.deepcopy(demo[0])
    model.blocks[4].mlp.act.forward = lambda x: x / 0
    refuse("neurons of block 4 hold NaN or infinity", model, images)


def test_given_neurons(demo):
    model, images, _ = demo
    call = {"call": nph.joint_influence}
    refuse("neuron 256 of block 7 is out of range; expected 0 to 255", model, images[:2], [0] * 7 + [256], **call)
    refuse(r"neurons has shape \(2, 3, 1\); expected \(2, 8, K\)", model, images[:2], [0, 1, 2], **call)
    refuse("block 0 names a neuron twice", model, images[:2], [[4, 4]] * 8, **call)
    refuse("neurons is of type", model, images[:2], [0.5] * 8, **call)
