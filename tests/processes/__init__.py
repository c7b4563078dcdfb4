"""Whole fleets of real processes: the main job, crashes in the middle of it, and what goes wrong in the field."""
