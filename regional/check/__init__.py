"""`longshore-regional check`: plays the firmware of a machine against a running regional and says in plain words what
would keep the machine from booting. Changes nothing: it takes no lease, and asks as a machine that nobody installs.
"""
