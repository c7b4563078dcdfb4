"""The HTTP toolkit of every domain: one error table, one envelope, one way to page, one way to learn who asks.

Knows no domain except the pure `tenants.access` (who a request speaks for), whose principal its dependency returns.
"""
