"""iPXE scripts; pure. Debian's iPXE of 2019 runs them: no HTTPS, no `imgverify`, no `params`.

Invariant: a script that cannot go on ends at the local disk, and never at a prompt. iPXE gives no way to quote, so what
it would read as its own (`${`, `||`, `&&`, `#`) is refused where it means something and replaced where it is shown.
"""

from __future__ import annotations

from collections.abc import Sequence

from regional.machines.texts import ArgumentsInvalid, shown, words_of

_TRIES = 10
# UEFI goes on to the next boot device after `exit 1`; a plain `exit` ends in its menu and hangs there (measured).
_DISK = """:disk
iseq ${platform} efi && exit 1 ||
sanboot --no-describe --drive 0x80 || exit 1
"""
_FACTS = "serial=${serial:uristring}&uuid=${uuid:uristring}&platform=${platform:uristring}&arch=${buildarch:uristring}"


def local_disk(why: str) -> str:
    return f"#!ipxe\necho Longshore: {shown(why)}\n{_DISK}"


def stub(url: str) -> str:
    """The first script says who asks: `url` with what the firmware knows of itself. It decides nothing."""
    return f"""#!ipxe
set tries:int32 0
:ask
chain --autofree --replace {url}?{_FACTS} ||
inc tries
iseq ${{tries}} {_TRIES} && goto disk ||
echo Longshore: no answer, again in ${{tries}} seconds
sleep ${{tries}}
goto ask
{_DISK}"""


def wait(why: str, seconds: int, url: str) -> str:
    """`url`: of the stub."""
    return f"""#!ipxe
echo Longshore: {shown(why)}
sleep {seconds}
chain --autofree --replace {url} ||
{_DISK}"""


def boot(kernel: str, initrds: Sequence[str], arguments: str, title: str) -> str:
    """URLs without blanks. Raises `ArgumentsInvalid`."""
    words = words_of(arguments)
    for word in words:
        if word in ("||", "&&") or "${" in word or "#" in word[:1]:
            raise ArgumentsInvalid(f"iPXE would read {word[:40]!r} as its own", action="take it out of the arguments")
    names = [f"initrd{number}" for number in range(len(initrds))]
    # The names are for kernels that read them by themselves from UEFI; others ignore the argument.
    line = " ".join([*(f"initrd={name}" for name in names), *words])
    loads = "".join(f"initrd --name {name} {url} || goto again\n" for name, url in zip(names, initrds, strict=True))
    return f"""#!ipxe
echo Longshore: {shown(title)}
set tries:int32 0
:load
imgfree
kernel {kernel} {line} || goto again
{loads}boot ||
:again
inc tries
iseq ${{tries}} {_TRIES} && goto disk ||
echo Longshore: not loaded, again in ${{tries}} seconds
sleep ${{tries}}
goto load
{_DISK}"""
