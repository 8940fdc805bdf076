"""How soon the explorer answers, and how much memory many sessions take.

    python benchmarks/explorer.py                                       vit_small_patch16_224, random weights
    python benchmarks/explorer.py --model vit_base_patch16_224 --sessions 40

The server runs in this process, as `neuronpath explore` starts it, and is asked over HTTP. "toggle": one to ten units of the path
switched off or doubled, a new question each time, so that two forwards are run: with these units changed, and with random ones
changed alike. "forward" is one plain forward, in the same process. "sessions": each uploads four photographs of 12 megapixels and
switches a head off on each, all at once; memory is the process's.
"""

import io
import json
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

import numpy as np
import torch
from common import options, report
from PIL import Image

import neuronpath as nph
from neuronpath.page.explorer.explorer import Explored, Explorer
from neuronpath.page.explorer.gallery import no_images
from neuronpath.page.explorer.server import Server


def memory() -> int:
    """Resident, in MB."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmRSS"))


def photo(seed: int) -> bytes:
    pixels = np.random.RandomState(seed).randint(0, 256, (30, 40, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((4000, 3000)).save(file, "JPEG")
    return file.getvalue()


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--model", default="vit_small_patch16_224")
    parser.add_argument("--sessions", type=int, default=20)
    chosen = parser.parse_args()
    model = nph.load_model(chosen.model, pretrained=False, device=chosen.device)
    server = Server(Explorer([Explored(chosen.model, model, "")], no_images()), port=0)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def ask(path: str, body: bytes, kind: str) -> dict:
        connection = HTTPConnection("127.0.0.1", server.server_address[1], timeout=600)
        connection.request("POST", path, body, {"Content-Type": kind})
        answer = connection.getresponse()
        found = json.loads(answer.read())
        assert answer.status == 200, found
        return found

    def question(name: str, **body: object) -> dict:
        return ask(f"/api/{name}", json.dumps(body).encode(), "application/json")

    def upload(seed: int) -> str:
        return ask(f"/api/upload?name={seed}.jpg", photo(seed), "application/octet-stream")["id"]

    image = upload(0)
    pixels = server.explorer.gallery.image(image).pixels[0][None]
    begun = time.perf_counter()
    points = question("explain", image=image, kind="path")["scene"]["images"][0]["views"][0]["drawing"]["points"]
    path = time.perf_counter() - begun
    toggles, forwards = [], []
    for count in range(1, 11):
        ways = ("off", "double")
        changes = [[p["kind"], p["block"], p["index"], ways[(i + count) % 2]] for i, p in enumerate(points[:count])]
        begun = time.perf_counter()
        question("change", image=image, changes=changes)
        toggles.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        with torch.no_grad():
            model(pixels)
        forwards.append(time.perf_counter() - begun)

    def session(seed: int) -> None:
        for own in range(4):
            question("change", image=upload(1 + 4 * seed + own), changes=[["head", 3, 1, "off"]])

    seen = [memory()]
    for turn in range(2):
        with ThreadPoolExecutor(chosen.sessions) as pool:
            list(pool.map(session, range(turn * chosen.sessions, (turn + 1) * chosen.sessions)))
        seen.append(memory())
    row = {
        "path, s": path,
        "toggle, s": statistics.median(toggles),
        "slowest": max(toggles),
        "forward, s": statistics.median(forwards),
        "MB before": seen[0],
        f"after {chosen.sessions} sessions": seen[1],
        "after as many more": seen[2],
    }
    report(f"The explorer with {chosen.model}", [row], chosen.out, chosen.device)


if __name__ == "__main__":
    main()
