"""Repositories that mirror an upstream registry: what is pulled is fetched once, verified, kept, and served from here.

A mirror is a name of a tenant (`acme/hub`) and what it stands for (`registry-1.docker.io/library`); every repository
beneath the name belongs to it. What it holds are ordinary manifests, blobs and tags, so that access, quota, collection
and retention treat them as any other. Nobody pushes into it.

- A tag is asked for upstream when it was not for `tag_ttl_seconds`; if upstream is away, what is here is served.
- A blob reaches the client while it is being fetched (`fetches`); one fetch serves everybody who asks meanwhile.
- Nothing is published before it was verified, and a blob that another repository holds is fetched all the same: that a
  manifest names it proves no right to it (the upstream may be the asker's own).
"""
