"""Preheats: an image is brought near its hosts before anybody asks for it, in hours that suit and without disturbing
others; one without an end is a pin. They work through what exists: wants in the swarm, held assignments for hosts.
"""
