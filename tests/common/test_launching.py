"""A program is imported with the collector at rest, and runs with it at work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.pace import BUSY_SECONDS

_PROGRAM = """
import gc, sys
while_imported = gc.isenabled()
def main():
    print(while_imported, gc.isenabled(), gc.get_freeze_count() > 0)
"""


def _said(code: str, *arguments: str) -> list[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=BUSY_SECONDS, check=True).stdout.split()


def test_the_collector_rests_until_the_program_runs(tmp_path: Path) -> None:
    (tmp_path / "some_program.py").write_text(_PROGRAM)
    code = "import sys; sys.path.append(sys.argv[1]); from common.launching import launch; launch('some_program')"
    assert _said(code, str(tmp_path)) == ["False", "True", "True"]


@pytest.mark.parametrize("program", ["agent", "control_plane", "control_plane.cli", "regional"])
def test_what_is_started_imports_nothing_but_the_launcher(program: str) -> None:
    code = f"import sys, {program}.__main__; print({program!r} + '.program' in sys.modules, 'typer' in sys.modules)"
    assert _said(code) == ["False", "False"]
