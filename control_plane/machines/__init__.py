"""Bare machines: what is known of them, what may be installed on them, and how that went."""
