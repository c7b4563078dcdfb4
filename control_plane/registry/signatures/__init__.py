"""Signatures, SBOMs and attestations of images: shown, verified with keys that a tenant trusts, and demanded by policy.

cosign (simple signing, and sigstore bundles, both with keys), notation (JWS; COSE is shown only). Keyless signing needs
a transparency log and is not verified here.
"""
