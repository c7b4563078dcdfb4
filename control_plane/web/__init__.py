"""The HTTP toolkit of every domain: one error table, one envelope, one way to page, one way to learn who asks.

Imports no domain. Its dependency returns the principal of the pure `tenants.access`, which it knows by type only.
"""
