"""Run seeds again: `python -m tests.simulation 17`, with `--trace` step by step, or `--seeds 1000` from 0 on."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.simulation.world import simulate


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seed", nargs="*")
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--seeds", type=int, default=0)
    parser.add_argument("--go-on", action="store_true")
    chosen = parser.parse_args()
    seen: Counter[str] = Counter()
    failed = 0
    began = time.monotonic()
    for seed in [*chosen.seed, *map(str, range(chosen.seeds))]:
        outcome = simulate(seed, print if chosen.trace else None)
        seen.update(outcome.seen)
        for what, error in outcome.failures[:1]:
            failed += 1
            print(f"seed {seed}: {what}"[:600], flush=True)
            if error is not None and chosen.trace:
                import traceback
                traceback.print_exception(error)
        if failed and not chosen.go_on:
            break
    seconds = time.monotonic() - began
    print(f"{seen['seeds'] / seconds:.0f} seeds/s, {seen['steps'] / seconds:.0f} steps/s; {failed} failed; {dict(sorted(seen.items()))}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
