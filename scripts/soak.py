#!/usr/bin/env python3
"""Kill runs some hundred times, and check that each ends bit-identical to an uninterrupted one.

    python scripts/soak.py --kills 300 --seed 1

Trains dcgan, wgan_gp and cyclegan with moving averages and two data workers in a temporary folder, and sends SIGKILL at
random moments: half of them exactly before a file of the run folder is opened, renamed or removed, a third of them to
the data workers too. Prints a table, and where the kills hit; the exit status is 1 if a run ended differently.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.extend(str(Path(__file__).parents[1] / "tests" / folder) for folder in ("", "faults"))

from killing import SETTINGS, survive
from warm import Warm


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300, help="in total")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    hits: Counter[str] = Counter()
    differences: list[str] = []
    print(f"{'model':<10}{'kills':>7}{'starts':>8}{'ends':>6}  equal")
    with tempfile.TemporaryDirectory(prefix="soak-") as scratch, Warm() as warm:
        for number, model in enumerate(SETTINGS):
            kills = (options.kills + number) // len(SETTINGS)
            draw = random.Random(f"{options.seed} {model}")
            survival = survive(warm, model, kills, draw, Path(scratch) / model)
            equal = "no" if survival.differences else "yes"
            print(f"{model:<10}{survival.kills:>7}{survival.starts:>8}{survival.ends:>6}  {equal}", flush=True)
            hits += survival.hits
            differences += survival.differences
    print("\nkilled")
    for place, count in hits.most_common():
        print(f"{count:>7}  {place}")
    print("\n".join(["", *differences]) if differences else "")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
