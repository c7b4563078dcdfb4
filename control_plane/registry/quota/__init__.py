"""Quota: how many bytes and images a tenant, and each user, may have; exact, however many push at once.

Vocabulary: an *account* is a tenant's or a user's row of limits and figures; a *charge* is a blob that a tenant pays
for, once, however many of its repositories link it; a *reservation* is room taken for an upload that still streams in;
a transaction's *changes* are settled with the accounts right before it commits.

What counts: the bytes of every blob that a repository of the tenant links, each blob once, charged to the user who
brought it first; the bytes of every manifest, in each repository, charged to the user who pushed it; every repository
as one image, charged to the user who made it. What garbage collection still keeps though nobody links it costs nothing
(docs/decisions/0013).

Invariants:
- used + reserved of an account never exceeds its limit, not by one byte. Only lowering the limit can bring it above;
  then nothing grows until it is below again.
- In every snapshot of the database the figures of an account equal what the registry's tables add up to: whatever
  changes one changes the other in the same transaction.
- No lock is held while bytes stream. Locks are taken in one order: charges by digest, reservations, accounts (tenants
  before users, then by id), and accounts last, right before the commit.
"""
