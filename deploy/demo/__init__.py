"""`make demo`: the main job on one computer, every service its own process on loopback, with the proof at the end.

services.py   starting, watching, killing and restarting the services
fleet.py      one control plane, regionals and agents, joined by the same public API that an operator uses
sample.py     the image that is built on the spot
table.py      the live table and the proof
sweeping.py   leaving nothing in the Docker engine
"""
