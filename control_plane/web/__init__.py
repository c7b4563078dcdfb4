"""The HTTP toolkit of every domain: one error table, one envelope, one way to page, one log of requests.

Imports no domain. Who asks is for `tenants.principals` to say.
"""
