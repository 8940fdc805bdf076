"""Several threads: on one model they wait for each other, on two they don't disturb each other."""

import copy
import threading

import pytest
import torch
from test_untouched import state_of

import neuronpath as nph
from neuronpath.models.hooks import at_rest, eager


def both(*calls):
    """What calls give that are made at once, each in its own thread."""
    start, found = threading.Barrier(len(calls)), {}

    def work(number, call):
        start.wait()
        try:
            found[number] = call()
        except Exception as error:
            found[number] = error

    threads = [threading.Thread(target=work, args=each) for each in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for value in found.values():
        if isinstance(value, Exception):
            raise value
    return [found[number] for number in range(len(calls))]


@pytest.fixture
def model(random_vit):
    return random_vit(11, drop_rate=0.5, proj_drop_rate=0.3)


def test_two_threads_on_one_model_in_train_mode(model, random_images):
    images = random_images(12, 2)
    expected = [nph.find_path(model, images, method=method) for method in ("causal", "joint")]
    model.train()
    model.blocks[1].eval()
    model.head.bias.requires_grad_(False)
    before = state_of(model)
    calls = [lambda method=method: nph.find_path(model, images, method=method) for method in ("causal", "joint")]
    for _ in range(3):
        assert both(*calls) == expected
        assert state_of(model) == before


def test_the_second_thread_waits_for_the_model(model):
    inside, go, seen = threading.Event(), threading.Event(), []

    def first():
        with at_rest(model):
            inside.set()
            go.wait(10)
            seen.append("first")

    def second():
        inside.wait(10)
        threading.Timer(0.2, go.set).start()
        with at_rest(copy.copy(model)), at_rest(model):  # another object isn't waited for
            seen.append("second")

    both(first, second)
    assert seen == ["first", "second"]
    with at_rest(model), at_rest(model):  # one thread may come in twice
        assert not model.training


@pytest.mark.parametrize("method", nph.list_methods())
def test_two_threads_on_two_models(random_vit, random_images, method):
    models, images = [random_vit(seed) for seed in (3, 4)], random_images(12, 2)
    expected = [nph.find_path(model, images, method=method) for model in models]
    calls = [lambda model=model: nph.find_path(model, images, method=method) for model in models]
    assert both(*calls) == expected


def test_two_threads_with_compiled_models(random_vit, random_images):
    """torch's stance on compiling is the process's: whoever leaves first must not take it from the other."""
    inside, out = threading.Event(), threading.Event()

    def first():
        with eager():
            inside.set()
            out.wait(10)
            return torch._dynamo.eval_frame._stance.stance

    def second():
        inside.wait(10)
        with eager():
            pass
        out.set()

    before = torch._dynamo.eval_frame._stance
    assert both(first, second)[0] == "force_eager"
    assert torch._dynamo.eval_frame._stance == before


def test_a_model_made_in_inference_mode_is_refused_and_left_as_it_was(random_vit, random_images):
    images = random_images(12, 2)
    with torch.inference_mode():
        model = random_vit(3)
    model.train()
    for block in model.blocks[:2]:
        block.eval()
    flags = [parameter.requires_grad for parameter in model.parameters()]
    modes = [module.training for module in model.modules()]
    assert all(flags)
    for mode in (torch.enable_grad, torch.inference_mode):
        with (
            mode(),
            pytest.raises(nph.InputTypeError, match=r"cls_token was made under torch\.inference_mode") as refusal,
        ):
            nph.find_path(model, images)
        assert "\n" not in str(refusal.value)
        assert [parameter.requires_grad for parameter in model.parameters()] == flags
        assert [module.training for module in model.modules()] == modes
    assert nph.find_path(copy.deepcopy(model), images, method="causal") == nph.find_path(
        random_vit(3), images, method="causal"
    )
