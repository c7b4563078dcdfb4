"""A client of other registries: OCI distribution 1.1 over the guarded way out (`control_plane.web.outbound`).

Invariant: what it hands out was verified. A manifest has the digest it was asked by (or the one its answer names), a
blob's stream ends without an error only if every byte was what the digest names. Credentials go to the registry and to
the token service that belongs to it (`challenges.trusted_realm`), nowhere else.
"""
