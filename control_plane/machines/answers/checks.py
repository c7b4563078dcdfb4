"""Whether a rendered document has the shape of its format; pure. The installers' own parsers are in the tests.

Invariant: a template that passes leaves no section open and no quote, and its installation has an end that is told.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import yaml

from control_plane.machines.answers.failures import Problem
from control_plane.machines.answers.finishing import FINISH
from control_plane.machines.answers.model import Format

_SECTIONS = frozenset(
    {"%packages", "%pre", "%pre-install", "%post", "%onerror", "%traceback", "%addon", "%anaconda", "%certificate"}
)
_TYPES = frozenset({"string", "boolean", "select", "multiselect", "password", "note", "text", "error", "seen"})
# Read with libyaml a megabyte takes 50 ms, without it seconds.
_LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def problems_of(form: Format, text: str) -> list[Problem]:
    """Lines are those of the rendered document."""
    if form is Format.KICKSTART:
        found = list(_kickstart(text))
    elif form is Format.PRESEED:
        found = list(_preseed(text))
    else:
        found = list(_cloud_config(text, autoinstall=form is Format.AUTOINSTALL))
    if form is not Format.CLOUD_INIT and f"/{FINISH}" not in text:
        found.append(Problem("template", f"nothing runs {FINISH}, so the installation would never end: {_HINTS[form]}"))
    return found


_HINTS = {
    Format.KICKSTART: "add {{ parts.post }}",
    Format.PRESEED: "add {{ parts.ending }}",
    Format.AUTOINSTALL: 'add late-commands: {{ parts["late-commands"] | json }}',
}


def _kickstart(text: str) -> Iterator[Problem]:
    opened = ""
    for number, line in enumerate(text.split("\n"), start=1):
        where = f"line {number} of the document"
        first = line.split(maxsplit=1)[0] if line.strip() else ""
        if first == "%end":
            if not opened:
                yield Problem(where, "%end without a section")
            opened = ""
        elif first in _SECTIONS:
            if opened:
                yield Problem(where, f"{opened} is not ended with %end")
            opened = first
        elif not opened and first and not first.startswith("#"):
            try:
                shlex.split(line, comments=True)
            except ValueError as error:
                yield Problem(where, str(error))
    if opened:
        yield Problem("end of the document", f"{opened} is not ended with %end")


def _preseed(text: str) -> Iterator[Problem]:
    for number, line in enumerate(text.replace("\\\n", " ").split("\n"), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        words = line.split()
        if len(words) < 3 or words[2] not in _TYPES:
            yield Problem(f"line {number} of the document", "not `owner question type value`")


def _cloud_config(text: str, *, autoinstall: bool) -> Iterator[Problem]:
    if not text.startswith("#cloud-config\n"):
        yield Problem("line 1 of the document", "the first line is #cloud-config")
        return
    try:
        loaded = yaml.load(text, Loader=_LOADER)  # noqa: S506  both are safe loaders
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1} of the document" if mark else "the document"
        yield Problem(where, getattr(error, "problem", None) or str(error)[:200])
        return
    if not isinstance(loaded, dict):
        yield Problem("the document", "not a mapping")
    elif autoinstall and not (
        isinstance(loaded.get("autoinstall"), dict) and loaded["autoinstall"].get("version") == 1
    ):
        yield Problem("the document", "has no `autoinstall` with `version: 1`")
