"""Bare machines at the edge: who asks, what it may boot, and the one installation approved, also without the centre."""
