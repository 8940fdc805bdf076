"""Early answers are those of the blocks so far; every image leaves where it is sure enough; the threshold keeps its promise."""

import copy

import pytest
import torch
from small import as_logits, redrawn, small_images, small_timm
from torch import nn
from torchvision.models.vision_transformer import VisionTransformer

import neuronpath as nph


def answers_by_hand(model, images, ends):
    """(exits, B, classes): the model's own head on the residual stream behind each of these blocks, seen by hooks."""
    seen = {}
    handles = [
        model.blocks[i].register_forward_hook(lambda _, __, out, i=i: seen.update({i: out.detach()})) for i in ends
    ]
    last = as_logits(model, images)
    for handle in handles:
        handle.remove()
    with torch.no_grad():
        return torch.stack([*(model.forward_head(model.norm(seen[i])) for i in ends), last])


@pytest.mark.parametrize("by", ["confidence", "entropy", "patience"])
def test_every_image_leaves_where_it_is_sure(demo, early, by):
    _, images, _ = demo
    every = answers_by_hand(early, images, [1, 3, 5])
    p = every.softmax(-1)
    for threshold in (0.3, 0.9, 1.0):
        found = nph.predict(early, images, threshold, by=by, batch_size=100)
        depths = []
        for b in range(len(images)):
            for exit in range(4):
                sure = {
                    "confidence": p[exit, b].max() >= threshold,
                    "entropy": 1 + (p[exit, b] * p[exit, b].log()).sum() / torch.tensor(10.0).log() >= threshold,
                    "patience": exit > 0 and every[exit, b].argmax() == every[exit - 1, b].argmax(),
                }[by]
                if sure or exit == 3:
                    break
            depths.append(2 * exit + 2)
            assert torch.allclose(found.logits[b], every[exit, b], atol=1e-4)
        assert found.depth.tolist() == depths
        assert found.mean_depth == pytest.approx(sum(depths) / len(depths))
        assert torch.equal(found.predicted, found.logits.argmax(-1))


def test_the_threshold_keeps_its_promise(demo, early):
    """On the images it was chosen on; against all thresholds one by one."""
    _, images, labels = demo
    every = answers_by_hand(early, images, [1, 3, 5])
    full = (every[-1].argmax(1) == labels).double().mean().item()
    chosen = []
    for max_loss in (0.0, 0.003, 0.02, 1.0):
        found = nph.calibrate_exits(early, images, labels, max_loss)
        answers = nph.predict(early, images, found.confidence)
        accuracy = (answers.predicted == labels).double().mean().item()
        assert found.accuracy == pytest.approx(accuracy)
        assert found.full_accuracy == pytest.approx(full)
        assert accuracy >= full - max_loss - 1e-9
        assert found.mean_depth == pytest.approx(answers.mean_depth)
        chosen.append(found)
    depths = [found.mean_depth for found in chosen]
    assert depths == sorted(depths, reverse=True)
    assert depths[1] < 5
    assert depths[-1] == 2  # everything may be lost: all leave at the first exit


def test_distilling_trains_the_exits(demo, early):
    model, images, _ = demo
    teacher = as_logits(model, images).argmax(1)
    before = nph.with_exits(nph.recursive(model, 2, rank=8, images=nph.demo.load("train")[1][:100]))
    agree = [
        (answers_by_hand(each, images, [1, 3, 5])[0].argmax(1) == teacher).float().mean() for each in (before, early)
    ]
    assert agree[0] < 0.8
    assert agree[1] > 0.9


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("vision_transformer", "vit_base_patch16_siglip_224"),
        ("deit", "deit_tiny_distilled_patch16_224"),
        ("eva", "eva02_base_patch14_224"),
        ("eva", "vit_small_patch16_rope_mixed_ape_224"),
        ("beit", "beit_base_patch16_224"),
        ("naflexvit", "naflexvit_base_patch16_gap"),
    ],
)
def test_families(module, name):
    """Run block by block a model gives what it gives whole; and its output stays what it was."""
    model = small_timm(module, name)
    images = small_images(model, 3)
    expected = as_logits(model, images)
    early = nph.with_exits(model, [0, 1])
    assert torch.equal(as_logits(early, images), expected)
    found = nph.predict(early, images, 1.0, batch_size=2)
    assert torch.allclose(found.logits[found.depth == 3], expected[found.depth == 3], atol=1e-4)
    assert (found.depth == 3).any()


def test_other_libraries():
    model = redrawn(VisionTransformer(32, 8, 3, 2, 48, 96, num_classes=7))
    images = small_images(model, 3)
    early = nph.with_exits(model, [1], shared=False)
    assert torch.allclose(nph.predict(early, images, 1.0).logits, as_logits(model, images), atol=1e-4)
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
    config = transformers.ViTConfig(**sizes, image_size=32, patch_size=8, num_labels=5)
    model = redrawn(transformers.ViTForImageClassification(config))
    with torch.no_grad():
        expected = model(images).logits
    assert torch.allclose(nph.predict(nph.with_exits(model), images, 1.0).logits, expected, atol=1e-4)


def test_heads_of_their_own_and_files(demo, early, tmp_path):
    model, images, _ = demo
    looped = nph.recursive(model, 2, rank=4, init="lower")
    own = nph.with_exits(looped, [1, 5], shared=False)
    added = sum(p.numel() for p in own.parameters()) - sum(p.numel() for p in looped.parameters())
    assert added == 2 * (64 + 64 + 64 * 10 + 10)
    for which, each in enumerate((own, early)):
        again = nph.load_compressed(nph.save_compressed(each, tmp_path / f"{which}.safetensors"))
        found, expected = (nph.predict(m, images[:40], 0.6) for m in (again, each))
        assert torch.equal(found.logits, expected.logits)
        assert torch.equal(found.depth, expected.depth)
    small = nph.prune(early, nph.importance(early, images[:40]), 0.5)  # keeps them
    assert nph.predict(small, images[:40], 0.6).depth.min() == 2
    assert not any("forward" in vars(module) for module in early.modules())


def test_refusals(demo, early):
    model, images, labels = demo
    for call, match in (
        (lambda: nph.with_exits(model, [7]), r"at is \[7\]; expected blocks of 0 to 6, ascending"),
        (lambda: nph.with_exits(model, [3, 1]), r"at is \[3, 1\]; expected"),
        (lambda: nph.with_exits(model, []), r"at is \[\]; expected"),
        (lambda: nph.with_exits(model, "ends"), "at is 'ends'; expected 'loops', or a sequence of whole numbers"),
        (lambda: nph.predict(model, images), "VisionTransformer has no exits; expected what with_exits gave"),
        (lambda: nph.predict(early, images, 0.0), "confidence is 0.0; expected a finite number above 0 and at most 1"),
        (lambda: nph.predict(early, images, 1.5), "confidence is 1.5; expected"),
        (lambda: nph.predict(early, images, by="luck"), "by 'luck' is unknown; expected one of 'confidence'"),
        (lambda: nph.calibrate_exits(early, images, labels, by="patience"), "by 'patience' is unknown"),
        (lambda: nph.calibrate_exits(early, images, labels, -0.1), "max_loss is -0.1"),
        (lambda: nph.calibrate_exits(early, images, labels[:3]), r"target has shape \(3,\)"),
    ):
        with pytest.raises(nph.InputError, match=match) as refusal:
            call()
        assert "\n" not in str(refusal.value)
    headless = copy.deepcopy(model)
    headless.reset_classifier(0)
    with pytest.raises(nph.InputTypeError, match="VisionTransformer can't answer early: it has no classes"):
        nph.with_exits(headless)
    with (
        pytest.raises(nph.InputTypeError, match="can't answer early"),
        pytest.warns(UserWarning, match="no vision transformer itself"),
    ):
        nph.with_exits(nn.Sequential(nn.Identity(), model))
