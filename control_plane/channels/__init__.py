"""Logs, commands and consoles of instances, proxied: a client over HTTP at one end, the agent of a host at the other.

The host is asked over its attachment, dials back over the same mutual TLS, and shows a secret that is good once
(docs/decisions/0035-channels.md).
"""
