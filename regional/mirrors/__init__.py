"""Package repositories that are elsewhere, read through: fetched once, kept within bounds, served while their server is
away. Only what the configuration names is ever asked for.
"""
