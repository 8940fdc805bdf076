"""How long listing a million images takes, and the memory that it needs.

    python benchmarks/listing.py

What a run lists at its start: ids, places and labels, sorted, of a list of paths that are never opened.
"""

import resource
import tempfile
import time
from pathlib import Path

from common import options, report

import neuronpath as nph
from neuronpath.jobs.listing import listed


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--images", type=int, default=1_000_000)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        names = Path(folder, "list.txt")
        with names.open("w") as file:
            file.writelines(f"n{number % 1000:08d}/{number:08d}.JPEG\n" for number in range(chosen.images))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begun = time.perf_counter()
        table = listed(iter(nph.Source(str(names))), lambda reason: None)
        taken = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    row = {"images": len(table), "seconds": taken, "GB": (peak - before) / 2**20}
    report("Listing images", [row], chosen.out, chosen.device)


if __name__ == "__main__":
    main()
