"""A BMC that speaks Redfish over TLS: sushy-tools' emulator with its fake driver; a program.

It says its port, then each change of its machine as a JSON line; what is plugged in (`Bmcs.follow`) does as it says.
Arguments: directory of its state, certificate, key, file of users (htpasswd).
"""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

from sushy_tools.emulator import main
from sushy_tools.emulator.resources.systems import fakedriver
from werkzeug.serving import make_server


def tell(_driver: object, system: dict[str, Any]) -> None:
    print(json.dumps({"power": system["power_state"].lower(), "boot": system.get("boot_device", "")}), flush=True)


def run(state: str, certificate: str, key: str, users: str) -> None:
    # In place of a PUT to a URL, and of up to 11 seconds before it does what it was told.
    fakedriver.FakeDriver._send_external_notification = tell
    fakedriver.random = SimpleNamespace(randint=lambda _least, _most: 0)
    system = {"uuid": fakedriver.DEFAULT_UUID, "name": "fake", "power_state": "Off", "external_notifier": True}
    wanted = {
        "SUSHY_EMULATOR_FAKE_DRIVER": True,
        "SUSHY_EMULATOR_FAKE_SYSTEMS": [{**system, "nics": []}],
        "SUSHY_EMULATOR_STATE_DIR": state,
        "SUSHY_EMULATOR_AUTH_FILE": users,
    }
    main.app.configure(extra_config=wanted)
    server = make_server("127.0.0.1", 0, main.app, threaded=True, ssl_context=(certificate, key))
    print(json.dumps({"port": server.server_port}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    run(*sys.argv[1:])
