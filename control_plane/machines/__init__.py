"""Bare metal: machines as they are seen, what may be put on them, and one installation after the other."""
