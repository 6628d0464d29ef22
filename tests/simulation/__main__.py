"""Run seeds of the simulation again: `python -m tests.simulation 17`, step by step with `--trace`."""

from __future__ import annotations

import argparse
import sys
import time
import traceback

from tests.simulation.hunt import told
from tests.simulation.relaying import simulate_relay
from tests.simulation.world import simulate


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seeds", nargs="+", metavar="SEED")
    parser.add_argument("--relay", action="store_true", help="seeds of relays")
    parser.add_argument("--trace", action="store_true", help="print every step")
    chosen = parser.parse_args()
    failed = False
    for seed in chosen.seeds:
        began = time.monotonic()
        outcome = (simulate_relay if chosen.relay else simulate)(seed, print if chosen.trace else None)
        print(f"seed {seed}: {time.monotonic() - began:.3f} s, {dict(sorted(outcome.seen.items()))}")
        for line in told(outcome):
            print(line)
        for _, error in outcome.failures:
            if error is not None:
                traceback.print_exception(error)
        failed = failed or bool(outcome.failures)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
