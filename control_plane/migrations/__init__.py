"""The history of the tables of every domain: `migrate` runs it, `env` and `versions` are what Alembic reads.

Stands above the domains: it alone knows the tables of all.
"""
