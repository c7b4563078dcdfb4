"""The OCI content store: blobs, resumable uploads, manifests, tags, and the `/v2/` that Docker and skopeo speak.

Invariant: bytes are stored once across tenants, and a tenant sees them only through a link of one of its repositories,
so that storing once never tells one tenant what another holds. What was acknowledged can be pulled, whole.

Files: `manifests`, `access` and `scopes` are pure rules; `uploads`, `images` and `service` are the use cases (pushing
blobs; manifests and tags; what other domains ask); `v2/` is the wire. Other domains use `service.RegistryService` and
subscribe to `messages`.
"""
