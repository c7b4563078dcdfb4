"""Copying images between this registry and others, by rules: pushed there or pulled here, on request, by event, on a
schedule.

Invariants: a tag moves only after everything that it stands for is there, and its signatures too. What is there
already is not sent again. Work is rows with leases: whoever is killed is followed by somebody else, and doing a thing
twice changes nothing. What is pulled comes in like any push: quota, immutable tags and the audit trail hold.
"""
