"""Loading what firmware would load, as it would: by TFTP (tftpy plays the ROM) and by HTTP."""

from __future__ import annotations

import asyncio
import io
import json
import re
from urllib.parse import urljoin

import aiohttp
import tftpy
from tftpy import TftpPacketTypes, TftpShared  # noqa: F401  its submodules are found only once imported

from regional.check import secure_boot
from regional.check.clients import Kind
from regional.check.model import Finding, Level, Load, ok, warning, wrong

_BLOCK_BYTES = 1468
_MOST_BYTES = 64 << 20
_TRIES = 3
_VARIABLE = re.compile(r"\$\{[^}]*\}")
_COMMANDS = frozenset({"kernel", "initrd", "imgfetch", "module", "chain"})
_MOST_FOLLOWED = 10
_SECURED = (Kind.UEFI, Kind.UEFI_ARM)
_GRUB_READS = "grub/grub.cfg"
_MOST_SCRIPTS = 3


class _TooLong(Exception):
    """Ends a transfer that no loader needs."""


class Loading:
    """`seconds`: how long each answer may take."""

    def __init__(self, http: aiohttp.ClientSession, seconds: float, tftp_port: int = 69) -> None:
        self._http = http
        self._seconds = seconds
        self._tftp_port = tftp_port
        # Hosts that did not answer TFTP: they are not waited for again where the answer would add nothing.
        self._silent: set[str] = set()

    async def loader(self, kind: Kind, load: Load) -> list[Finding]:
        """The first file of `kind`, and what of Secure Boot lies beside it."""
        if kind is Kind.IPXE:
            return await self._script(load)
        if load.by_http:
            return await self._by_http(f"http {kind}", load.name)
        first = await asyncio.to_thread(self._by_tftp, kind, load)
        return [first, *(await self._secured(kind, load) if kind in _SECURED else [])]

    async def _secured(self, kind: Kind, load: Load) -> list[Finding]:
        """Shim and GRUB beside the first file of `kind`, and what GRUB reads; nothing where TFTP is silent."""
        suffix = "aa64" if kind is Kind.UEFI_ARM else "x64"
        folder, _, name = load.name.rpartition("/")
        shim = name if name.startswith("shim") else f"shim{suffix}.efi"
        names = [f"{folder}/{each}".lstrip("/") for each in (shim, f"grub{suffix}.efi")]
        found: list[bytes | None] = []
        for each in names:
            data = await asyncio.to_thread(self._got, secure_boot.STEP, Load(load.host, each))
            if load.host in self._silent:
                return []
            found.append(data if isinstance(data, bytes) else None)
        findings = secure_boot.judged(names[0], found[0], names[1], found[1])
        if findings[-1].level is Level.OK:
            read = await asyncio.to_thread(self._got, secure_boot.STEP, Load(load.host, _GRUB_READS))
            findings.append(ok(secure_boot.STEP, f"GRUB finds {_GRUB_READS}") if isinstance(read, bytes) else read)
        return findings

    def _by_tftp(self, kind: Kind, load: Load) -> Finding:
        step = f"tftp {kind}"
        data = self._got(step, load)
        return _fit(step, kind, load.name, data) if isinstance(data, bytes) else data

    def _got(self, step: str, load: Load) -> bytes | Finding:
        """A file by TFTP. Blocking."""
        said = io.BytesIO()
        try:
            self._fetch(load, said)
        except tftpy.TftpFileNotFoundError:
            return wrong(step, f"{load.host} has no {load.name}", _where_from(load.name))
        except tftpy.TftpTimeout:
            self._silent.add(load.host)
            return wrong(
                step,
                f"{load.host} did not answer TFTP for {load.name}",
                f"start the regional with --enable-tftp; see that no firewall drops UDP {self._tftp_port} to it, nor "
                "high UDP ports from it (or set tftp_single_port)",
            )
        except _TooLong:
            return wrong(step, f"{load.name} is longer than {_MOST_BYTES} bytes, so no loader", "name a loader")
        except (tftpy.TftpException, OSError) as error:
            action = "see the regional's log; /static/ must be readable by it"
            return wrong(step, f"{load.host} refused {load.name}: {error}", action)
        return said.getvalue()

    def _fetch(self, load: Load, into: io.BytesIO) -> None:
        client = tftpy.TftpClient(load.host, self._tftp_port, options={"blksize": _BLOCK_BYTES}, flock=False)

        def bounded(_: object) -> None:
            if into.tell() > _MOST_BYTES:
                raise _TooLong

        client.download(load.name, into, packethook=bounded, timeout=self._seconds, retries=_TRIES)

    async def _by_http(self, step: str, url: str) -> list[Finding]:
        """UEFI asks for the length by HEAD, then for the file."""
        head = await self._asked("HEAD", step, url)
        if isinstance(head, Finding):
            return [head]
        if head.content_length is None:
            return [wrong(step, f"{url} has no Content-Length", "let the regional serve it; UEFI needs the length")]
        body = await self._asked("GET", step, url)
        if isinstance(body, Finding):
            return [body]
        return [_fit(step, Kind.HTTP, url, body.start, body.content_length or 0)]

    async def _script(self, load: Load) -> list[Finding]:
        step = "http ipxe"
        if not load.by_http:
            return [warning(step, f"iPXE gets its script {load.name} by TFTP", "use an iPXE with HTTP")]
        return await self._followed(step, load.name, _MOST_SCRIPTS)

    async def _followed(self, step: str, url: str, scripts: int) -> list[Finding]:
        """The script, what it loads, and `scripts` - 1 further ones that it chains to."""
        answer = await self._asked("GET", step, url)
        if isinstance(answer, Finding):
            return [answer]
        text = answer.start.decode("utf-8", "replace")
        if not text.startswith("#!ipxe"):
            return [wrong(step, f"{url} is no iPXE script", "let the regional answer at that address")]
        findings = [ok(step, f"{url} is a script of {len(text.splitlines())} lines")]
        for command, target in _loads(url, text)[:_MOST_FOLLOWED]:
            if command == "chain" and scripts > 1:
                findings += await self._followed(step, target, scripts - 1)
            elif command != "chain":
                there = await self._asked("HEAD", step, target)
                findings.append(there if isinstance(there, Finding) else ok(step, f"{target} is there"))
        return findings

    async def health(self, base: str) -> list[Finding]:
        """Of the regional whose HTTP is at `base`."""
        step = "http regional"
        answer = await self._asked("GET", step, f"{base}/healthz")
        if isinstance(answer, Finding):
            return [answer]
        findings = [ok(step, f"{base} answers")]
        if b'"attached": true' not in answer.start:
            findings.append(
                warning(
                    step,
                    "the regional has no connection to the centre",
                    "what was approved goes on; for new approvals see its log, and --server",
                )
            )
        action = "see docs/operations/dhcp.md"
        findings += [warning(step, f"it says: {alarm}", action) for alarm in _alarms(answer.start)]
        listing = await self._asked("GET", step, f"{base}/api/v1/files/static?limit=1")
        findings.append(listing if isinstance(listing, Finding) else ok(step, "the static root can be listed"))
        return findings

    async def _asked(self, method: str, step: str, url: str) -> _Answer | Finding:
        try:
            async with (
                asyncio.timeout(self._seconds * _TRIES),
                self._http.request(method, url, allow_redirects=False) as answer,
            ):
                start = b"" if method == "HEAD" else await answer.content.read(65536)
                said = _Answer(answer.status, answer.content_length, start)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return wrong(
                step,
                f"{url} cannot be fetched: {str(error) or 'no answer in time'}",
                "see that the regional runs, that --server-ip is the address machines reach, and that no firewall "
                "drops its HTTP port",
            )
        return said if said.status == 200 else _refused(step, url, said.status)


def _loads(base: str, script: str) -> list[tuple[str, str]]:
    """(command, URL), each once. What iPXE would put in for variables stays empty."""
    found: dict[tuple[str, str], None] = {}
    for line in script.splitlines():
        words = line.partition("||")[0].split()
        if words and words[0] in _COMMANDS:
            target = next((word for word in words[1:] if "://" in word or word.startswith("/")), None)
            if target is not None:
                found[words[0], urljoin(base, _VARIABLE.sub("", target))] = None
    return list(found)


def _alarms(health: bytes) -> list[str]:
    """What a regional says is wrong; nothing if it is none of ours that answers."""
    try:
        said = json.loads(health)
    except ValueError:
        return []
    alarms = said.get("alarms") if isinstance(said, dict) else None
    return [str(each) for each in alarms] if isinstance(alarms, list) else []


class _Answer:
    def __init__(self, status: int, content_length: int | None, start: bytes) -> None:
        self.status, self.content_length, self.start = status, content_length, start


def _refused(step: str, url: str, status: int) -> Finding:
    actions = {
        301: "name the file's own address: firmware follows no redirect",
        302: "name the file's own address: firmware follows no redirect",
        403: "mend the file's permissions (chmod -R a+rX on the static root), or allow_clients of the regional",
        404: _where_from(url),
        429: "raise client_requests of the regional: many machines share one address here",
        503: "wait until the file is copied, or copy it with `longshore-regional publish`",
    }
    return wrong(step, f"{url} answers {status}", actions.get(status, "see the regional's log"))


def _fit(step: str, kind: Kind, name: str, data: bytes, size: int | None = None) -> Finding:
    size = len(data) if size is None else size
    if size == 0:
        return wrong(step, f"{name} is empty", _where_from(name))
    if kind is not Kind.BIOS and not data.startswith(b"MZ"):
        return wrong(step, f"{name} is no EFI program: it does not begin with MZ", _where_from(name))
    if kind is Kind.BIOS and data.startswith(b"MZ"):
        return wrong(step, f"{name} is an EFI program, and BIOS runs none", "name undionly.kpxe for BIOS")
    return ok(step, f"{name}, {size} bytes")


def _where_from(name: str) -> str:
    last = name.rsplit("/", 1)[-1]
    return (
        f"put {last} where that path is below the static root; Debian's package ipxe has loaders in /usr/lib/ipxe: "
        f"longshore-regional publish /usr/lib/ipxe/{last} static/{last}"
    )
