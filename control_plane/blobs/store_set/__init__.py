"""Several stores that look like one: a blob has copies in some of them, and any copy serves.

    members   the stores by name, with tier and location, and which of them is away at the moment
    uploads   an upload lives in one hot store from its first byte to its commit
    reading   an open blob that goes on with the next copy when one fails on the way
    store     `StoreSet`, the `BlobStore` over all of this

Invariant: where a blob is, the stores are asked; what is remembered only says whom to ask first. So no record that is
lost or late can hide a blob. Which copies there should be is decided elsewhere (registry/stores).
"""
