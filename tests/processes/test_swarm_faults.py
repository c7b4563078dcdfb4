"""Some spreads of the soak (benchmarks/swarm/soak.py): kill -9 at seeded moments, and nothing is lost or left over."""

import contextlib
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.swarm.race import arena, make_blob
from benchmarks.swarm.soak import SHAPE, Soak
from tests.engines import EngineCannotRun
from tests.engines.fixtures import running

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

SPREADS = 3
# Of these faults one hits the control plane, one the regional, one an agent, each while the blob is on its way.
SEED = 168


@contextlib.contextmanager
def standing_fleet(folder: Path) -> Iterator[Soak]:
    if os.geteuid() != 0 or shutil.which("tc") is None:
        raise EngineCannotRun("needs root and iproute2")
    empty = folder / "empty"
    with arena(SHAPE, folder, make_blob(empty, 0), empty) as place:
        soak = Soak(place, 8, random.Random(SEED))
        try:
            soak.start()
            yield soak
        finally:
            soak.close()


def test_spreads_with_a_killed_process_complete_and_leave_nothing_behind(tmp_path: Path) -> None:
    with running("shaped links", standing_fleet(tmp_path)) as soak:
        for number in range(SPREADS):
            fault, seconds = soak.spread(number)
            print(f"{fault}; complete after {seconds:.2f} s")
        soak.settle()
