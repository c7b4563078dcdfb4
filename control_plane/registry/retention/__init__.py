"""Which tags may never move, and which images may go: immutability rules, retention policies and their runs.

Immutability refuses inside the transaction that would move or delete a tag. Retention plans with a pure planner, shows
every decision before anything happens, and deletes through the registry like anybody else, so every participant has
its say.
"""
