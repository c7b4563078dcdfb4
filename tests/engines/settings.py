"""What the environment says about the tests' engines; read when asked, so that a test may change it."""

import os
from pathlib import Path


def engines_required() -> bool:
    """Whether an engine that cannot run is a failure: continuous integration sets this."""
    return os.environ.get("LONGSHORE_REQUIRE_ENGINES", "") not in ("", "0")  # noqa: TID251


def oci_conformance() -> Path | None:
    """The suite of opencontainers/distribution-spec: its folder `conformance`, or the program made of it."""
    named = os.environ.get("LONGSHORE_OCI_CONFORMANCE", "")  # noqa: TID251
    return Path(named) if named else None
