"""Real servers for the tests: PostgreSQL, Redis, etcd, Ceph with its S3 gateway, dockerd and LXD; skopeo and podman as
clients.

Every engine listens on loopback, on a free port that its own process is proved to own, keeps its state in a short
scratch directory, dies with the process that started it, and is ended by process id. Nothing here installs anything
except `python -m tests.engines.install`, and nothing is ended by name.

An engine that cannot run raises `EngineCannotRun`; the fixtures turn that into a skip with the reason, or into a
failure where LONGSHORE_REQUIRE_ENGINES=1 says that everything must run.
"""

# The summary recognises skips by this beginning; it survives the way from an xdist worker to its controller.
SKIPPED = "engine "


class EngineCannotRun(Exception):
    """Why an engine cannot run here, and what to do about it."""
