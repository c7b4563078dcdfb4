"""Scripts of loaders: nothing approved means the disk, and no foreign text becomes a command."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regional.boot_targets import mac_of
from regional.machines import grub, ipxe
from regional.machines.texts import ArgumentsInvalid
from tests.engines.fixtures import running
from tests.engines.processes import installed_program

KERNEL = "http://192.0.2.1:8081/boot/s/t/kernel"


@pytest.mark.parametrize(
    ("text", "mac"),
    [
        ("52-54-00-AB-34-56", "52:54:00:ab:34:56"),
        ("52:54:00:ab:34:56", "52:54:00:ab:34:56"),
        ("52:54-00:ab:34:56", None),
        ("525400ab3456", None),
        ("52-54-00-ab-34", None),
        ("../../etc/passwd", None),
    ],
)
def test_addresses_are_read_with_hyphens_or_colons(text: str, mac: str | None) -> None:
    assert mac_of(text) == mac


def test_a_machine_without_a_task_goes_to_its_disk() -> None:
    text = ipxe.local_disk("nothing is to be installed")
    assert text.startswith("#!ipxe\n")
    # UEFI goes on after `exit 1`; a plain `exit` hangs in its menu.
    assert "exit 1" in text


@given(why=st.text(), title=st.text())
def test_what_is_shown_is_one_line_and_never_a_command(why: str, title: str) -> None:
    for text in (ipxe.local_disk(why), ipxe.wait(why, 15, "http://x/boot"), ipxe.boot(KERNEL, [], "quiet", title)):
        shown = [line for line in text.splitlines() if line.startswith("echo Longshore: ")]
        plain = [line.removeprefix("echo Longshore: ") for line in shown]
        assert all(re.fullmatch(r"[A-Za-z0-9 .,:()%+/_?${}-]*", line) for line in plain)
        assert len(text.splitlines()) == len(ipxe.local_disk("").splitlines()) or len(shown) <= 2


@given(arguments=st.text())
def test_ipxe_is_given_arguments_that_are_one_line_of_its_script_or_none(arguments: str) -> None:
    try:
        text = ipxe.boot(KERNEL, ["http://192.0.2.1/initrd"], arguments, "")
    except ArgumentsInvalid:
        return
    lines = [line for line in text.splitlines() if line.startswith("kernel ")]
    assert len(lines) == 1
    line = lines[0].removesuffix(" || goto again")
    assert line.split()[:3] == ["kernel", KERNEL, "initrd=initrd0"]
    assert line.split()[3:] == arguments.split()
    assert "${" not in line
    assert "||" not in line.split()


@pytest.mark.parametrize("arguments", ["a || shell", "x && reboot", "console=${serial}", "a\nshell", "# gone"])
def test_what_ipxe_would_read_as_its_own_is_refused(arguments: str) -> None:
    with pytest.raises(ArgumentsInvalid):
        ipxe.boot(KERNEL, [], arguments, "")


@given(arguments=st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126)))
def test_grub_gets_each_argument_in_quotes(arguments: str) -> None:
    text = grub.boot("/boot/s/t/kernel", ["/boot/s/t/initrd0"], arguments, "it's")
    line = next(line for line in text.splitlines() if line.startswith("if linux "))
    quoted = [word.replace("'\\''", "\0") for word in line.removesuffix("; then").split()[2:]]
    assert all(word.startswith("'") and word.endswith("'") and "'" not in word[1:-1] for word in quoted)
    assert [word[1:-1].replace("\0", "'") for word in quoted][1:] == arguments.split()


@pytest.fixture
def grub_script_check() -> Iterator[str]:
    with running("grub-common", installed_program("grub-script-check", "netboot")) as program:
        yield program


def test_grub_itself_understands_its_configurations(grub_script_check: str, tmp_path: Path) -> None:
    texts = [
        grub.local_disk("it's over"),
        grub.wait("place 3", 15, "/boot/grub.cfg-01-52-54-00-12-34-56"),
        grub.boot("/boot/s/t/kernel", ["/a", "/b"], "ds=nocloud-net;s=http://x/ it's $HOME", "node 1"),
        grub.boot("/boot/s/t/kernel", [], "", ""),
    ]
    for number, text in enumerate(texts):
        path = tmp_path / str(number)
        path.write_text(text)
        subprocess.run([grub_script_check, path], check=True, timeout=20)
