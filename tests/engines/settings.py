"""What the environment says about the tests' engines; read when asked, so that a test may change it."""

import os


def engines_required() -> bool:
    """Whether an engine that cannot run is a failure: continuous integration sets this."""
    return os.environ.get("LONGSHORE_REQUIRE_ENGINES", "") not in ("", "0")  # noqa: TID251
