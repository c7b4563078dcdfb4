"""What is written short on a command line, in the words of `POST /api/v1/instances`; pure."""

from __future__ import annotations

from typing import Any

from common.errors import Invalid


def pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise Invalid(f"{text!r} is not NAME=VALUE", action="write NAME=VALUE")
    return name, value


def port(text: str) -> dict[str, Any]:
    mapping, _, protocol = text.partition("/")
    parts = mapping.rsplit(":", 2)
    try:
        numbers = [int(part) for part in parts[-2:]] if len(parts) > 1 else [0, int(parts[0])]
    except ValueError:
        raise Invalid(f"{text!r} is not a port mapping", action="write [IP:][PORT:]PORT[/udp]") from None
    host_ip = parts[0] if len(parts) == 3 else "127.0.0.1"
    return {
        "host_ip": host_ip,
        "host_port": numbers[0],
        "container_port": numbers[1],
        "protocol": protocol or "tcp",
    }


def mount(text: str) -> dict[str, Any]:
    """A path is a directory of the host, anything else the name of a volume."""
    source, _, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    if not source or not target or mode not in ("", "ro", "rw"):
        raise Invalid(f"{text!r} is not a mount", action="write VOLUME:PATH[:ro], or /HOST/PATH:PATH[:ro]")
    where = {"host_path": source} if source.startswith("/") else {"volume": source}
    return {**where, "target": target, "read_only": mode == "ro"}


def given(**options: Any) -> dict[str, Any]:
    """Without what was not given."""
    return {key: value for key, value in options.items() if value not in (None, "", 0, False, [], {})}
