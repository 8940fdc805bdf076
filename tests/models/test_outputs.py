"""Outputs beyond a class's probability: functions of the user's own, models without a head, heads with several labels."""

import math

import pytest
import torch
from small import redrawn, small_images, small_timm

import neuronpath as nph


def with_and_without_head():
    """The same model twice, once less its head; and the head's weights."""
    whole = small_timm("vision_transformer", "vit_small_patch16_224")
    body = small_timm("vision_transformer", "vit_small_patch16_224")
    body.load_state_dict(whole.state_dict())
    weight, bias = body.head.weight.detach().clone(), body.head.bias.detach().clone()
    body.reset_classifier(0)
    return whole, body, weight, bias


@pytest.mark.parametrize("options", [{"method": "joint"}, {"method": "causal"}, {"preset": "progressive"}], ids=str)
def test_a_headless_model_with_the_head_as_a_function(options):
    whole, body, weight, bias = with_and_without_head()
    images = small_images(whole, 5)

    def zero_shot(features, target):
        return (features @ weight.T + bias).softmax(-1).gather(1, target[:, None])[:, 0]

    expected = nph.find_path(whole, images, [0, 1, 2, 3, 4], **options)
    found = nph.find_path(body, images, [0, 1, 2, 3, 4], output=zero_shot, internal_batch_size=2, **options)
    assert torch.equal(found.neurons, expected.neurons)
    for name in ("score", "attribution", "output_change", "removal"):
        assert torch.allclose(getattr(found, name), getattr(expected, name), rtol=1e-3, atol=1e-6)
    assert found.target.tolist() == [0, 1, 2, 3, 4]
    assert found.predicted.tolist() == [-1] * 5
    assert found.settings.output.endswith("zero_shot")
    again = nph.joint_influence(body, images, found.neurons, found.target, output=zero_shot)
    assert torch.allclose(again.score, found.score, rtol=2e-3)


def test_a_feature_needs_no_target_and_is_saved(tmp_path):
    _, body, _, _ = with_and_without_head()
    paths = nph.find_path(body, small_images(body), output=lambda features, target: features[:, 3])
    assert paths.target.tolist() == [-1, -1]
    assert all(math.isnan(p) for p in paths.probability)
    loaded = nph.NeuronPaths.load(paths.save(tmp_path / "paths.json"))
    assert loaded == paths
    assert all(math.isnan(p) for p in loaded.predicted_probability)


def test_what_a_function_must_give():
    whole, body, _, _ = with_and_without_head()
    images = small_images(whole)
    for function, match in (
        (lambda features, target: features, r"gave \(1, 48\); expected floating-point \(1,\)|gave \(2, 48\)"),
        (lambda features, target: 3.0, "gave float"),
        (lambda features, target: features[:, 0].long(), "expected floating-point"),
    ):
        with pytest.raises(nph.InputError, match=match):
            nph.find_path(body, images, output=function)
    with pytest.raises(nph.InputTypeError, match=r"has no classes .* or output= a function"):
        nph.find_path(body, images)
    with pytest.raises(nph.InputError, match="output is 'probability'; expected one of 'prob', 'logit', 'sigmoid'"):
        nph.find_path(whole, images, output="probability")


def test_a_function_of_a_model_with_a_head():
    """The predicted class reaches the function: the target's logit by a function is the logit."""
    whole, *_ = with_and_without_head()
    images = small_images(whole, 3)
    expected = nph.find_path(whole, images, output="logit")
    found = nph.find_path(whole, images, output=lambda logits, target: logits.gather(1, target[:, None])[:, 0])
    assert torch.equal(found.neurons, expected.neurons)
    assert torch.equal(found.predicted, expected.predicted)
    assert torch.allclose(found.probability, expected.probability)


def test_sigmoid():
    """A label's sigmoid is the softmax of two classes, one of them always at 0."""
    whole = small_timm("vision_transformer", "vit_small_patch16_224")
    two = redrawn(small_timm("vision_transformer", "vit_small_patch16_224", num_classes=2))
    two.load_state_dict({**whole.state_dict(), "head.weight": torch.zeros(2, 48), "head.bias": torch.zeros(2)})
    label = 4
    with torch.no_grad():
        two.head.weight[1], two.head.bias[1] = whole.head.weight[label], whole.head.bias[label]
    images = small_images(whole, 4)
    found = nph.find_path(whole, images, label, method="joint", output="sigmoid")
    expected = nph.find_path(two, images, 1, method="joint")
    assert torch.equal(found.neurons, expected.neurons)
    assert torch.allclose(found.score, expected.score, rtol=1e-3)
    assert torch.allclose(found.probability, whole(images).sigmoid()[:, label])


@pytest.mark.parametrize("output", ["sigmoid", "prob"])
def test_the_prediction_is_the_largest_logit_where_all_shares_round_to_one(output):
    model = small_timm("vision_transformer", "vit_small_patch16_224")
    with torch.no_grad():
        model.head.weight.mul_(1000)
        model.head.bias.fill_(1e5).add_(torch.arange(7.0) * 300)
    images = small_images(model, 8)
    logits = model(images)
    if output == "sigmoid":
        assert (logits.sigmoid() == 1).all()
    found = nph.find_path(model, images, method="activation", output=output)
    assert torch.equal(found.predicted, logits.argmax(1))
    assert len(found.predicted.unique()) > 1
    assert torch.equal(found.target, found.predicted)
