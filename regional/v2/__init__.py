"""`/v2/`: the regional as a registry that reads through. Docker, containerd, podman and skopeo of the IDC pull here,
and what they pull crosses the WAN once (OCI distribution specification 1.1, "Pull"; docs/operations/edge.md).

    paths      what a path asks
    tokens     the centre's registry tokens, verified offline
    trust      the centre's keys and token service, kept on disk
    answers    what the centre said of repositories, kept on disk
    centre     the centre's `/v2/` and its rights, as a client
    gate       who asks, and where to get a token
    links      which contents a repository has
    manifests, blobs, passing   the three ways of an answer
    errors     failures in the OCI's words
    routes     the wire
    assembly   all of it wired

Invariants: nothing is ever written; what one may not pull at the centre one may not pull here, and the answer does not
tell whether it is held; negative answers are not kept.
"""
