"""Which stores hold a blob: how many copies, and in which tier.

    planner   from what is there to the steps that are due; pure
    store     rows: what is due, what was decided
    service   carrying the steps out; the census of the stores
    jobs      when

Copies come first: one is dropped only after all that are wanted are good, under the lock of the blob's row, and never
the last good one. A copy stays for a while after it came, so that a blob that is read now and then does not wander.
"""
