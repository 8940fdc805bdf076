"""Images a second of a model with exits, by schedule, over those of its full depth; and what paper says of the same.

    python benchmarks/serving.py

A recursive model of the embedded digits with an exit behind each loop, distilled on the training digits but those of calibration, which
choose the threshold. Every schedule is timed between two full-depth runs, and what it takes on paper is reckoned from times that were
measured just before; medians over the rounds. Threads are as OMP_NUM_THREADS says.
"""

import statistics
from collections import defaultdict

import torch
from common import options, report

import neuronpath as nph
from neuronpath.jobs.benchmark.timing import seconds
from neuronpath.models.hooks import at_rest

WAYS = [
    ("sync", "own"),
    ("compact", "own"),
    ("queues", "own"),
    ("mixed", "own"),
    ("mixed", "gather"),
    ("mixed", "group"),
]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--unique", type=int, default=2)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--batch", type=int, default=8, help="images a step of distillation")
    parser.add_argument("--held-out", type=int, default=300, help="training digits that choose the threshold")
    parser.add_argument("--max-loss", type=float, default=0.003)
    parser.add_argument("--confidence", type=float, help="the threshold itself")
    parser.add_argument("--slots", type=int, default=32)
    parser.add_argument("--repeat", type=int, default=4, help="times the test images in a stream")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    model, images, labels = nph.demo.load()
    _, train, train_labels = nph.demo.load("train")
    held, own = train[: chosen.held_out], train[chosen.held_out :]
    early = nph.with_exits(nph.recursive(model, chosen.unique, rank=chosen.rank, images=own[:400]))
    nph.distil(early, model, own.split(chosen.batch), chosen.epochs, chosen.lr)
    threshold = chosen.confidence
    if threshold is None:
        threshold = nph.calibrate_exits(early, held, train_labels[: len(held)], chosen.max_loss).confidence
    found = nph.predict(early, images, threshold)
    full = nph.predict(early, images, 1.0)
    right = [(each.predicted == labels).float().mean().item() for each in (full, found)]
    ends = len(nph.view(early).loop_ends)
    about = {
        "threshold": threshold,
        "accuracy of the last block": right[0],
        "accuracy with exits": right[1],
        "mean loops": found.mean_depth * ends / len(nph.view(early).blocks),
        "loops": ends,
    }
    print(about)
    early.to(chosen.device)
    stream = images.repeat(chosen.repeat, 1, 1, 1).to(chosen.device)
    depths = found.depth.repeat(chosen.repeat)
    whole = nph.merge_(early)
    servers = {way: nph.Server(early, threshold, slots=chosen.slots, schedule=way[0], mix=way[1]) for way in WAYS}

    def at_full_depth() -> None:
        with at_rest(whole):
            for part in stream.split(chosen.slots):
                whole(part)

    at_full_depth()
    taken, over, paper, waits = (defaultdict(list) for _ in range(4))
    for _ in range(chosen.rounds):
        for way, server in servers.items():
            times = server.block_times(stream[0])
            before = seconds(at_full_depth, chosen.device)
            answers: list[nph.Answer] = []
            taken[way].append(seconds(lambda s=server, a=answers: a.extend(s.answers(stream)), chosen.device))
            after = seconds(at_full_depth, chosen.device)
            again = server.block_times(stream[0])
            assert [answer.depth for answer in answers] == depths.tolist()
            over[way].append((before + after) / 2 / taken[way][-1])
            on_paper = [nph.simulate(depths, each, way[0], chosen.slots).seconds for each in (times, again)]
            paper[way].append(statistics.mean(on_paper) / taken[way][-1])
            waits[way].append(statistics.mean(answer.seconds for answer in answers))
    rows = [
        {
            "schedule": way[0],
            "mix": way[1],
            "images a second": len(stream) / statistics.median(taken[way]),
            "over full depth": statistics.median(over[way]),
            "least": min(over[way]),
            "most": max(over[way]),
            "on paper / measured": statistics.median(paper[way]),
            "ms an image": 1000 * statistics.median(waits[way]),
        }
        for way in servers
    ]
    report(f"Serving, {chosen.slots} slots", rows, chosen.out, chosen.device, about=about)


if __name__ == "__main__":
    torch.set_float32_matmul_precision("highest")
    main()
