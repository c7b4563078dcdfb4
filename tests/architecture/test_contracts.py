"""The import contracts hold, and each kind of them catches a breach."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("control_plane", "agent", "regional", "common", "proto")

# The contract, the module that breaks it (made if there is none), and what is added to it.
BREACHES = [
    ("Services meet only over proto", "agent/health.py", "import regional.model"),
    ("domains form a chain", "control_plane/tenants/service.py", "import control_plane.fleet.service"),
    ("domains form a chain", "control_plane/utils.py", ""),
    ("domains form a chain", "control_plane/audit/service.py", "import control_plane.tenants.access"),
    ("domains form a chain", "control_plane/webhooks/fanout.py", "import control_plane.registry.messages"),
    ("every domain reads top to bottom", "control_plane/jobs/store.py", "import control_plane.jobs.service"),
    ("registry: features", "control_plane/registry/quota/meter.py", "import control_plane.registry.retention.model"),
    ("registry: the store", "control_plane/registry/uploads.py", "import control_plane.registry.quota.model"),
    ("agent reads top to bottom", "agent/wire.py", "import agent.session"),
    ("regional reads top to bottom", "regional/cooldown.py", "import regional.edge"),
    ("No cycles anywhere", "common/errors.py", "import common.backoff\nimport common.tls"),
    ("Pure modules know no I/O library", "control_plane/registry/manifests.py", "import sqlalchemy"),
    ("Pure modules know no I/O library", "agent/planner.py", "import agent.runtimes.docker"),
    ("What only tests may use", "control_plane/machines/answers/rules.py", "import pykickstart"),
    ("SQL lives in stores and tables", "control_plane/registry/service.py", "import sqlalchemy"),
    ("control plane's backing", "control_plane/registry/uploads.py", "import control_plane.blobs.filesystem"),
    ("agent's composition root", "agent/reconciler.py", "import agent.runtimes.docker"),
    ("BitTorrent engine or a directory", "regional/registrar.py", "import common.discovery.etcd"),
    ("The edge and the shared ground", "regional/journal.py", "import sqlalchemy"),
    ("The command line speaks HTTP", "control_plane/cli/output.py", "import control_plane.tenants.model"),
]


def lint(directory: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    return subprocess.run(
        [*command, "--no-cache"], cwd=directory, env={"PYTHONPATH": str(directory)}, capture_output=True, text=True
    )


def broken(output: str) -> list[str]:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output)
    return re.findall(r"^(.*) BROKEN\b", plain, re.MULTILINE)


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree, to be broken."""
    directory = tmp_path_factory.mktemp("tree")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, directory / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", directory)
    return directory


def test_every_part_of_the_registry_is_held_to_its_contracts() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    features = {
        f"control_plane.registry.{each.parent.name}"
        for each in (ROOT / "control_plane/registry").glob("*/__init__.py")
        if each.parent.name not in ("remote", "v2")
    }
    base = {f"control_plane.registry.{each.stem}" for each in (ROOT / "control_plane/registry").glob("[a-z]*.py")}
    base -= {"control_plane.registry.policies"}  # puts features together; who imports it is not the base any more
    apart = next(each for each in contracts if each["type"] == "independence")
    beneath = next(each for each in contracts if each["name"].startswith("registry: the store"))
    assert set(apart["modules"]) == features == set(beneath["forbidden_modules"])
    assert set(beneath["source_modules"]) == base | {"control_plane.registry.v2"}


def test_the_tree_keeps_every_contract() -> None:
    checked = lint(ROOT)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "0 broken" in checked.stdout


@pytest.mark.parametrize(("contract", "module", "breach"), BREACHES, ids=[f"{b[1]}: {b[2]}" for b in BREACHES])
def test_a_breach_is_caught(copied: Path, contract: str, module: str, breach: str) -> None:
    path = copied / module
    before = path.read_text() if path.exists() else None
    path.write_text(f"{before or ''}\n{breach}\n")
    try:
        checked = lint(copied)
    finally:
        path.unlink() if before is None else path.write_text(before)
    assert checked.returncode != 0
    assert any(contract in name for name in broken(checked.stdout)), checked.stdout + checked.stderr


def test_the_copy_is_whole_without_a_breach(copied: Path) -> None:
    checked = lint(copied)
    assert checked.returncode == 0, checked.stdout + checked.stderr
