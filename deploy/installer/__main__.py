"""`make installer`: the installer environment, into a folder that may be the `/static` of a regional."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from common.errors import Failure
from deploy.installer.building import Options, build
from deploy.installer.recipe import RECIPES


def main(arguments: Sequence[str] | None = None) -> int:
    words = argparse.ArgumentParser(prog="make installer", description=__doc__)
    words.add_argument("output", type=Path, help="where to, such as /tftpboot/static")
    words.add_argument("--packages", type=Path, required=True, help="folder of Debian's packages; filled if need be")
    words.add_argument("--refresh", action="store_true", help="fetch today's packages")
    words.add_argument("--architecture", choices=sorted(RECIPES), default="amd64")
    words.add_argument("--firmware", type=Path, help="folder whose files go to /lib/firmware")
    words.add_argument("--layout", type=Path, help="folder for an OCI image layout of both, to be pushed")
    said = words.parse_args(arguments)
    try:
        made = build(
            said.output,
            cache=said.packages,
            recipe=RECIPES[said.architecture],
            options=Options(refresh=said.refresh, firmware=said.firmware, layout=said.layout),
        )
    except (Failure, OSError) as failure:
        print(f"installer: {failure}", file=sys.stderr)
        return 1
    for path in (made.kernel, made.initrd, made.manifest):
        print(f"{path.stat().st_size:>10}  {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
