"""An independent etcd client, PyPI's etcd3 0.12, for the tests: run as a process of its own.

Its generated code is too old for today's protobuf, except with the pure Python implementation, and no two etcd
libraries can share a process; so `PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python` and a pipe with one JSON line for each
question and answer.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import etcd3


def answer(client: Any, watches: dict[str, Any], question: dict[str, Any]) -> Any:
    match question["do"]:
        case "put":
            lease = client.lease(question["ttl"]) if question.get("ttl") else None
            client.put(question["key"], question["value"], lease=lease)
            return None
        case "get":
            value, metadata = client.get(question["key"])
            return None if value is None else {"value": value.decode(), "leased": metadata.lease_id != 0}
        case "list":
            return {metadata.key.decode(): value.decode() for value, metadata in client.get_prefix(question["key"])}
        case "delete":
            return client.delete(question["key"])
        case "watch":
            watches[question["key"]], _ = client.watch_prefix(question["key"])
            return None
        case "next":
            event = next(watches[question["key"]])
            return {"kind": type(event).__name__, "key": event.key.decode(), "value": event.value.decode()}
        case _:
            raise ValueError(question["do"])


def main() -> None:
    client = etcd3.client(host="127.0.0.1", port=int(sys.argv[1]), timeout=5)
    watches: dict[str, Any] = {}
    for line in sys.stdin:
        print(json.dumps(answer(client, watches, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
