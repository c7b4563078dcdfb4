"""The daemon on each host: what the control plane wants of the host becomes what the host does.

    session ──▶ desired (journalled) ──▶ planner ──▶ reconciler ──▶ fetch, cache, mirror, runtimes
       ▲                                    ▲             │
       └──── reporter (journalled) ◀────────┴─ observe ◀──┘

Invariants: desired state is on disk before it is acted on; content is verified as a whole before anything can see it;
nothing that another program made on this host is ever touched; what runs goes on running while the control plane, the
regional or this daemon is away.
"""
