"""Many seeds, one after the other: `python -m tests.simulation.soak --seeds 200`, or `--only SEED` for one of them."""

from __future__ import annotations

import argparse
import logging
import sys
import traceback

import structlog

from tests.simulation.rollout import run
from tests.simulation.scenario import large, small


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--begin", type=int, default=1)
    parser.add_argument("--hosts", type=int, default=12)
    parser.add_argument("--only", type=int)
    parser.add_argument("--log", action="store_true", help="show what everybody logs")
    wanted = parser.parse_args()
    if not wanted.log:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    seeds = [wanted.only] if wanted.only is not None else range(wanted.begin, wanted.begin + wanted.seeds)
    failed = []
    for seed in seeds:
        scenario = small(seed, wanted.hosts) if wanted.hosts < 200 else large(seed, wanted.hosts)
        try:
            outcome = run(scenario)
        except Exception:
            failed.append(seed)
            traceback.print_exc()
        else:
            print(f"seed {seed}: {outcome.words}", flush=True)
    print(f"{len(seeds) - len(failed)} of {len(seeds)} seeds hold" + (f"; failed: {failed}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
