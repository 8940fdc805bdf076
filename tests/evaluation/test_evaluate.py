"""Tables of what paths are worth: the numbers by hand, the same ones again, and what is refused."""

import json
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from small import as_logits, small_images, small_timm

import neuronpath as nph
from neuronpath.evaluation.evaluate import as_text, effects, interval, summary
from neuronpath.paths.intervals import intervals, resampled


@pytest.fixture(scope="module")
def measured(demo):
    model, images, labels = demo
    some = list(range(0, 240, 6)) + wrong_ones(demo)[:3]
    images, labels = images[some], labels[some]
    paths = nph.find_paths(model, images, ["joint", "causal", "random"], labels)
    return model, images, labels, paths, effects(model, images, labels, paths, batch_size=16)


def wrong_ones(demo):
    model, images, labels = demo
    return (as_logits(model, images).argmax(1) != labels).nonzero()[:, 0].tolist()


def test_units_that_are_named_one_by_one_are_these(demo):
    """As under nph.remove, and as by site."""
    model, images, labels = demo[0], demo[1][:4], demo[2][:4]
    named = [(block, 10 + block) for block in reversed(range(8))]
    before = as_logits(model, images).softmax(1).gather(1, labels[:, None])[:, 0]
    with nph.remove(model, named):
        after = as_logits(model, images).softmax(1).gather(1, labels[:, None])[:, 0]
    table = effects(model, images, labels, {"one by one": named, "by site": list(range(10, 18))}, labels)
    for _, rows in table.groupby("method"):
        np.testing.assert_allclose(rows["probability_removed"], after - before, atol=1e-6)
    for odd, words in (
        (named[1:], r"0 neuron\(s\) of block 7 are named, and 1 neuron\(s\) of block 0; expected as many each"),
        ([*named[1:], (7, 999)], "neuron 999 of block 7 is out of range"),
        ([*named[1:], ("head", 7, 1)], "block 7, head 1 is asked of neurons"),
    ):
        with pytest.raises(nph.InputError, match=words):
            effects(model, images, labels, {"a": odd})


def test_measured_by_hand(measured):
    """Clean and edited probabilities from hooks written out here, image by image."""
    model, images, labels, paths, table = measured
    row = table[(table["method"] == "causal") & (table["image"] == 5)].iloc[0]
    probability = as_logits(model, images[5:6]).softmax(1)[0, labels[5]].item()

    def with_factor(factor):
        handles = []
        for block, neuron in zip(model.blocks, paths["causal"].neurons[5, :, 0].tolist(), strict=True):

            def hook(_module, args, neuron=neuron):
                x = args[0].clone()
                x[:, 0, neuron] *= factor
                return (x,)

            handles.append(block.mlp.fc2.register_forward_pre_hook(hook))
        logits = as_logits(model, images[5:6])
        for handle in handles:
            handle.remove()
        return logits.softmax(1)[0, labels[5]].item()

    assert row["probability"] == pytest.approx(probability)
    assert row["probability_removed"] == pytest.approx(with_factor(0) - probability, abs=1e-6)
    assert row["probability_enhanced"] == pytest.approx(with_factor(2) - probability, abs=1e-6)
    assert row["probability_removed_relative"] == pytest.approx(row["probability_removed"] / probability)
    np.testing.assert_allclose(table[table["method"] == "joint"]["score"], paths["joint"].score, rtol=2e-3, atol=1e-6)
    np.testing.assert_allclose(
        table[table["method"] == "joint"]["probability_removed"], -paths["joint"].removal, atol=1e-6
    )


def test_accuracy_changes(measured):
    model, images, labels, _, table = measured
    with nph.remove(model, [list(range(256))] * 8):  # nothing is left of the class token's MLPs
        after = (as_logits(model, images).argmax(1) == labels).float()
    before = (as_logits(model, images).argmax(1) == labels).float()
    everything = effects(model, images, labels, {"all": [list(range(256))] * 8})
    np.testing.assert_array_equal(everything["accuracy_removed"], after - before)
    assert everything["accuracy_removed"].min() == -1
    assert table["right"].sum() == 3 * before.sum().item()


def test_summary_by_hand(measured):
    table, made = measured[-1], summary(measured[-1], seed=3)
    right = table["right"].to_numpy(dtype=bool)
    for which, chosen in (("all", np.ones(len(table), dtype=bool)), ("right", right), ("wrong", ~right)):
        part = table[chosen]
        for method in ("joint", "causal", "random"):
            values = part[part["method"] == method]["probability_removed"].to_numpy(dtype=float)
            row = made[
                (made["images"] == which) & (made["method"] == method) & (made["figure"] == "probability_removed")
            ].iloc[0]
            assert row["n"] == len(values)
            assert row["mean"] == pytest.approx(values.mean())
            first, drawn = (
                part[part["method"] == m]["probability_removed"].to_numpy(dtype=float) for m in ("joint", "random")
            )
            assert row["minus_first"] == pytest.approx((values - first).mean(), abs=1e-12)
            assert row["minus_random"] == pytest.approx((values - drawn).mean(), abs=1e-12)
            assert row["low"] <= row["mean"] <= row["high"]
    zero = made[(made["method"] == "joint")][["minus_first", "minus_first_low", "minus_first_high"]]
    assert (zero.to_numpy() == 0).all()


def test_interval_is_scipy_s():
    values = np.random.default_rng(1).exponential(size=80)
    expected = stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(5))
    mean, low, high = interval(values, 0)
    assert mean == values.mean()
    assert low == pytest.approx(expected.confidence_interval.low, abs=0.02)
    assert high == pytest.approx(expected.confidence_interval.high, abs=0.02)


@pytest.mark.parametrize("shape", [(), (3,)])
def test_intervals_take_little_memory_and_are_those_of_all_resamples_at_once(shape):
    values = np.random.default_rng(1).exponential(size=(1500, *shape))
    at_once = values[np.random.default_rng(7).integers(0, 1500, (2000, 1500))]
    expected = [np.quantile(of(at_once, axis=1), [0.025, 0.975], axis=0) for of in (np.mean, np.median)]
    tracemalloc.start()
    mean, *ends = intervals(values, 7)
    median = np.quantile(resampled(values, 7, np.median), [0.025, 0.975], axis=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < at_once.nbytes / 20
    assert np.array_equal(mean, values.mean(0))
    assert np.array_equal(ends, expected[0])
    assert np.array_equal(median, expected[1])


def test_a_table_takes_little_memory(measured):
    table = pd.concat([measured[4]] * 30, ignore_index=True).sort_values("method", kind="stable")
    tracemalloc.start()
    made = summary(table, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    count = len(table) // 3
    assert peak < 2000 * count * 8 / 5  # of one table of all resamples
    index = np.random.default_rng(3).integers(0, count, (2000, count))
    row = made[(made["images"] == "all") & (made["method"] == "joint") & (made["figure"] == "score")].iloc[0]
    values = table.loc[table["method"] == "joint", "score"].to_numpy(dtype=float)
    assert [row["low"], row["high"]] == np.quantile(values[index].mean(1), [0.025, 0.975]).tolist()


def test_the_same_numbers_again(measured):
    model, images, labels, paths, table = measured
    again = effects(model, images, labels, paths, batch_size=5)
    pd.testing.assert_frame_equal(table, again, rtol=1e-3, atol=1e-6)  # another batch size: rounding
    pd.testing.assert_frame_equal(summary(table, 1), summary(table, 1))
    assert not summary(table, 1)["low"].equals(summary(table, 2)["low"])


def test_controls(measured):
    """What the methods are for holds on the digits; random neurons carry nothing."""
    made = nph.evaluate(*measured[:4])
    here = made[made["images"] == "all"].set_index(["figure", "method"])
    assert here.loc[("score", "causal"), "minus_first_high"] < 0  # joint has the higher score
    removed = here.loc["probability_removed"]  # a loss has a minus
    assert removed.loc["joint", "mean"] > removed.loc["causal", "mean"]
    assert removed.loc["causal", "minus_random_high"] < 0
    assert removed.loc["random", "low"] <= 0 <= removed.loc["random", "high"]
    text = as_text(made)
    assert max(map(len, text.splitlines())) <= 120
    assert sum(line.startswith("causal") for line in text.splitlines()) == 3, "nine figures in three blocks"
    assert "probability_removed [pp]" in text
    assert "probability_removed_relative [%]" in text
    assert f" {100 * removed.loc['causal', 'mean']:.3g} [" in text


def test_no_interval_for_one_image(measured):
    model, images, labels, paths, _ = measured
    made = nph.evaluate(model, images[:1], labels[:1], {name: each[:1] for name, each in paths.items()})
    intervals = [name for name in made if name.endswith(("low", "high"))]
    assert len(intervals) == 6
    assert made[intervals].isna().all(axis=None)
    assert made["mean"].notna().all()
    assert "nan" not in as_text(made).lower()
    assert "[pp]" in as_text(made)
    assert ", " not in as_text(made)


def test_units_of_measure(measured):
    made = summary(measured[-1])
    units = made.groupby("figure")["unit"].agg(set)
    assert units["probability_removed"] == units["attribution"] == {"probability"}
    assert units["probability_enhanced_relative"] == {"share of the probability"}
    assert units["accuracy_removed"] == {"share of images"}


def test_without_labels(measured):
    model, images, *_ = measured
    made = nph.evaluate(model, images[:6], None, {"a": [1] * 8, "b": [[2]] * 8})
    assert set(made["images"]) == {"all"}
    assert made[made["figure"] == "accuracy_removed"]["mean"].isna().all()
    assert "accuracy_removed" not in as_text(made)


def test_bad_input(measured):
    model, images, labels, paths, _ = measured
    for call, match in (
        (lambda: effects(model, images, labels, {}), "there are no paths to evaluate"),
        (lambda: effects(model, images[:4], labels[:4], paths), "there are 43 paths of 'joint' for 4 images"),
        (lambda: effects(model, images, 10, {"a": [1] * 8}), "target 10 is out of range; expected 0 to 9"),
        (lambda: effects(model, images, labels, {"a": [1] * 7}), r"neurons has shape \(43, 7, 1\)"),
        (
            lambda: effects(model, images, labels, {**paths, "b": nph.find_path(model, images, 3, method="random")}),
            "the paths of 'b' explain other classes than those of 'joint'",
        ),
        (
            lambda: nph.find_paths(model, images, ["joint", "gusto"]),
            "method 'gusto' is unknown; expected one of activation",
        ),
    ):
        with pytest.raises(nph.InputError, match=match):
            call()
    other = small_timm("vision_transformer", "vit_small_patch16_224")
    with pytest.raises(nph.InputError, match="made for another model"):
        effects(other, small_images(other, 43), None, paths)


def test_settings_tell_what_was_done(measured):
    made = nph.evaluate(*measured[:4], factor=3.0, seed=9)
    settings = made.attrs["settings"]
    assert settings["seed"] == 9
    assert settings["factor"] == 3.0
    assert settings["paths"]["causal"]["method"] == "causal"
    assert settings["versions"]["torch"] == str(torch.__version__)
    json.dumps(settings)
