"""Online garbage collection: what nobody needs any more goes after a grace period, while everybody pushes and pulls.

Nothing is ever searched for: each change that may leave something unneeded queues a review of just that thing, in its
own transaction, so the work is in proportion to the changes. A worker takes reviews that are due and decides. There is
no mark phase and no pause, and every batch is one transaction: kill it anywhere, run as many workers as there are.

    manifest deleted ──► trash, for the grace: payload, tags, who and when; can be undeleted
         purge ──► its blobs' links in the repository, each reviewed when its grace is over
              unlink ──► the blob, reviewed `settle` later: condemned, and after `blob_lives.REPRIEVE` deleted

Invariants, each kept by the transaction that makes the change:
- A link that no manifest of its repository refers to has a row in `link_reviews`. What is in the trash refers, too.
- A row in `blobs` that nobody links has a row in `blob_reviews`. Bytes without a row (a push that died between
  publishing and linking) are found by a slow sweep over the store, and get both rows.
- A push that races always wins. Who pushes a blob, mounts it, or is told by HEAD that it is there, moves the link's
  review a whole grace away (`promised_until`), and linking and unlinking exclude each other by the repository's row;
  bytes are deleted only as `blob_lives` allows.
- The collection waits for no lock longer than `LOCK_WAIT_MILLISECONDS` and then gives up its batch: in a circle of
  locks it is never the push that fails.

Bytes count for the quota as long as a repository links them, so also during the grace; `purge` ends it early.

Files: `rules` decides, pure; `marking` queues; `reviewing` takes and carries out; `sweeping` compares store and rows;
`trash` gives back; `service` is what routes, jobs and commands call.
"""
