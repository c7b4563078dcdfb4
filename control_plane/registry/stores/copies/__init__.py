"""The copies of blobs in the stores: what is known of each, looking whether one is good, making another one.

    model      a copy and its state
    tables     `blob_copies`, `blob_placements`, `lost_blobs`
    store      their rows
    notes      commits, reads and failures, noted in memory on the hot paths and written every few seconds
    pace       a budget of bytes a second
    checking   reading one copy from its first byte to its last; moving it aside if it is not the blob
    copying    another copy, verified before it counts

The truth is in the stores. A row may be late or lost: the census (checking.py) compares them, and readers ask the
stores, not the rows. A copy is *good* when all its bytes were read or written under its digest.
"""
