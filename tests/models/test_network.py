"""Without a network pretrained weights are refused soon, and what is in the cache is still used."""

import socket
import threading
import time

import pytest
from huggingface_hub import constants

import neuronpath as nph
from neuronpath.models import network


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def silence(monkeypatch):
    """Nobody ever answers, neither the looking up of names nor a server; what still waits is let go at the end."""
    over = threading.Event()

    def wait(*_, **__):
        over.wait(60)
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", wait)
    monkeypatch.setattr(network, "PATIENCE", 0.2)
    yield
    over.set()


def test_whoever_answers_is_there(server, monkeypatch):
    assert network.reachable(server)
    assert network.reachable(f"{server}/path")
    with socket.create_server(("127.0.0.1", 0)) as other:
        nobody = f"http://127.0.0.1:{other.getsockname()[1]}"
    assert not network.reachable(nobody)
    monkeypatch.setenv("http_proxy", server)
    assert network.reachable("http://no.such.host.invalid")
    assert network.reachable(nobody), "the proxy is asked"


@pytest.mark.usefixtures("silence")
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "hf-hub:someone/none", "google/none"])
def test_silence_isn_t_waited_for(name, monkeypatch, tmp_path):
    if name.startswith("google"):
        pytest.importorskip("transformers")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    begun = time.monotonic()
    with pytest.raises(
        nph.InputError, match=r"https://huggingface\.co can't be reached, and nothing of it is in the cache"
    ):
        nph.load_model(name)
    assert time.monotonic() - begun < 10
    assert not constants.HF_HUB_OFFLINE


@pytest.mark.usefixtures("silence")
def test_what_needs_no_network_asks_for_none(monkeypatch):
    def asked(*_):
        raise AssertionError("it asked")

    monkeypatch.setattr(network, "reachable", asked)
    assert nph.load_model("demo")
    assert nph.load_model("vit_tiny_patch16_224", pretrained=False)


def test_the_cache_is_all_there_is_without_a_way(server, monkeypatch):
    with network.connected(server) as there:
        assert (there, constants.HF_HUB_OFFLINE) == (True, False)
    monkeypatch.setattr(network, "reachable", lambda _: False)
    with network.connected(server) as there:
        assert (there, constants.HF_HUB_OFFLINE) == (False, True)
    assert not constants.HF_HUB_OFFLINE
    with network.connected(None) as there:
        assert (there, constants.HF_HUB_OFFLINE) == (True, False)
