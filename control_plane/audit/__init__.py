"""The audit trail: who did what, to what, from where, with which outcome. Append-only and hash-chained.

    act       what a domain says happened; a change says so in its own transaction (`AuditTrail.record`), what changes
              nothing (a pull, a failed login, a denial) through a bounded buffer (`note`, `refused`)
    entry     an act with its time and origin; it waits in the inbox until it is sealed
    sealing   one sealer at a time gives the entries their place in the chain: a gapless number, and a hash over the
              entry and the hash before it (`chain`, `sealer`)
    anchor    the head of the chain, once a day, sealed with the master key and written to the log
    pruning   a beginning that was exported may be dropped; a sealed checkpoint keeps its last hash (`retention`)

The lowest domain: all others may record. It knows operators and tenants by name only.
"""
