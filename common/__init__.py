"""What at least two services need and that names no domain.

Entry rule: a module may live here only if two of `control_plane`, `agent` and `regional` import it, and only if it
would read the same in a product that has no images. `common` imports no service.
"""
