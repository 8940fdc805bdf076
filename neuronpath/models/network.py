"""Whether there is a way to published weights: the hub's client tries for a minute before it says that there is none."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from huggingface_hub import constants

HUB, TORCHVISION = constants.ENDPOINT, "https://download.pytorch.org"
PATIENCE = 4  # seconds


@contextmanager
def connected(address: str | None) -> Iterator[bool]:
    """Whether there is a way to an address, which is tried (None is there); inside, without one, the hub's cache is all there is."""
    there = address is None or constants.HF_HUB_OFFLINE or reachable(address)
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not there
    try:
        yield there
    finally:
        constants.HF_HUB_OFFLINE = before


def reachable(address: str) -> bool:
    """Whether somebody answers there, or at the proxy before it."""
    place, proxies = urlsplit(address), getproxies()
    proxy = proxies.get(place.scheme) or proxies.get("all")
    if proxy and not proxy_bypass(place.hostname or ""):
        place = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    port = place.port or (80 if place.scheme == "http" else 443)
    found: list[bool] = []

    def call() -> None:
        try:
            socket.create_connection((place.hostname, port), PATIENCE).close()
            found.append(True)
        except OSError:
            pass

    thread = threading.Thread(target=call, daemon=True)  # looking up a name can't be given a time
    thread.start()
    thread.join(PATIENCE)
    return bool(found)
