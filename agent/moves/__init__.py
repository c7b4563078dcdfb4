"""Bytes of an instance on their way from one host to another: one line over mutual TLS, dialled by the host that takes
over (docs/decisions/0042-instances-move-as-exports.md).
"""
