"""The house rules that a machine can check."""

import ast
import importlib.metadata
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("common", "control_plane", "agent", "regional", "deploy", "benchmarks")
GENERATED = re.compile(r"_pb2(_grpc)?\.pyi?$")
FORBIDDEN_NAMES = {"utils", "util", "helpers", "misc", "manager", "core", "base"}
LONGEST_FILE = 400
LONGEST_FUNCTION = 60


def sources() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *PACKAGES],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    paths = [ROOT / name for name in listed if name.endswith(".py") and not GENERATED.search(name)]
    return [path for path in paths if path.exists() and "migrations/versions" not in str(path)]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_says_what_it_is_for_and_stays_small(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "the module has no docstring"
    assert text.count("\n") <= LONGEST_FILE, f"split it by subject: {text.count(chr(10))} lines"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{node.name} has {length} lines"


def test_no_module_has_a_name_that_says_nothing() -> None:
    bad = [path for path in sources() if path.stem in FORBIDDEN_NAMES or path.parent.name in FORBIDDEN_NAMES]
    assert not bad


def test_no_source_names_a_path_of_a_machine_or_a_package_index() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    suspicious = re.compile(r"/work/|/root/|/home/[a-z]+/|index-url|simple/|registry\.npmjs")
    me = Path(__file__).relative_to(ROOT)
    found = []
    for name in listed:
        path = ROOT / name
        if path == ROOT / me or not path.is_file():
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if suspicious.search(line) and "no-emit-index-url" not in line:
                found.append(f"{name}:{number}: {line.strip()[:100]}")
    assert not found, "\n".join(found)


def test_the_lock_has_a_hash_for_everything() -> None:
    lock = (ROOT / "requirements" / "all.lock").read_text()
    entries = re.split(r"\n(?=[a-z0-9])", lock.strip())
    assert len(entries) > 50
    assert all("--hash=sha256:" in entry for entry in entries if not entry.startswith("#"))


def test_no_other_distribution_owns_our_top_level_names() -> None:
    ours = {"proto", "agent", "common", "regional", "control_plane"}
    owners = {
        name: distributions
        for name, distributions in importlib.metadata.packages_distributions().items()
        if name in ours and set(distributions) != {"longshore"}
    }
    assert not owners


def test_generated_names_are_in_the_glossary() -> None:
    glossary = (ROOT / "docs" / "glossary.md").read_text().lower()
    domains = ["tenant", "repository", "host", "regional", "instance", "order", "assignment", "content", "swarm"]
    assert all(f"**{word}**" in glossary for word in domains)
