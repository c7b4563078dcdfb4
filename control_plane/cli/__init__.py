"""`longshore`: the command line of tenants and operators.

It speaks HTTP only and imports no other part of the control plane, so that what it can do, any client can do. Every
command takes `--json`; progress goes to standard error, results to standard output. Exit codes are in `failures.py`.
"""
