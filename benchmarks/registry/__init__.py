"""The registry against Debian's `docker-registry` on the same file system, with nginx as the physical reference.

Invariant: both answer the same requests with the same checks (token authentication, digest verification), hold their
data in the same directory tree of one file system, and are measured in turn in one run. CPU is the servers' own.
"""
