"""How a content reaches many hosts in the least time with the fewest copies leaving its source; pure, names no domain.

`model`: what the links allow, at best. `leases`: who fetches which pieces from the source, so that nobody fetches what
another one has. `exchange`: question and answer between a host and a source, as bytes. `books`: the lease books of one
process, bounded.
"""
