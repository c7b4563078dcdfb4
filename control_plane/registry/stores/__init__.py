"""The face of placement and scrubbing: what the platform's administrators see of the stores, and what runs when.

service    the picture, the lost blobs, a scrub by hand
routes     `/api/v1/stores`
jobs       the schedules of both
assembly   both, wired
"""
