"""Instances on their way from one host to another, with all that they wrote: stopped here, copied, started there, and
only then removed here (docs/decisions/0042-instances-move-as-exports.md).
"""
