"""The agent replaces itself: a new version is unpacked beside the old one, tried by a parent that outlives both, and
trusted once it stayed attached; else the old one comes back and says why (docs/decisions/0039-agent-self-update.md).

Two processes share one directory, and each file in it has one writer:

    versions/<hex>/     a whole version, or it is not there; the entry is `longshore-agent`       agent
    wanted.json         the newest order that this host knows, its version being unpacked         agent
    healthy.json        "I was tried under this order, and I am well"                             agent, while tried
    state.json          what is trusted, what is being tried, what failed                         supervisor
    current             link to the version that runs, for people                                 supervisor
"""
