"""Toolkit: background and periodic work whose truth is a row.

Vocabulary: a *job* has a kind (which handler), a payload, and a state; a *handler* does the work and is idempotent; a
*worker* runs jobs; a *lease* is a worker's right to a running job, prolonged while it lives; a *tick* is one moment of
a periodic schedule.

                 ┌────────────── retry, lease lapsed ◄─────────┐
    enqueue ► queued ──── a worker takes the lease ────► running ──► done | failed
                 └───────────► cancelled ◄─────────────────────┘

Invariants:
- A job that was committed runs until it ends: the queue carries only ids, and the sweep pushes every id that is due but
  not running again. Losing the queue, a worker or all of them costs time, never a job.
- At most one worker writes the result of a job: whoever lost the lease writes nothing more. The work itself may happen
  twice (a worker that is cut off does not know it at once), hence idempotent handlers.
- A tick is claimed together with the job that it makes, by comparing and setting one row: never twice.

Clocks of the replicas may differ by a fraction of the lease (default 60 s), not more.
"""
