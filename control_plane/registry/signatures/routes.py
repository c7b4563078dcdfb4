"""HTTP for trusted keys, signature policies, and what is attached to an image."""

from __future__ import annotations

from fastapi import APIRouter, status

from common.digest import Digest
from common.reference import check_repository_name
from control_plane.registry.signatures.schemas import (
    AttachedArtifactView,
    SignaturePolicyBody,
    SignaturePolicyView,
    TrustedKeyBody,
    TrustedKeyView,
)
from control_plane.registry.signatures.service import SignatureService
from control_plane.tenants.principals import CurrentPrincipal
from control_plane.web.envelope import Envelope, Listing
from control_plane.web.paging import PageQuery, page_of

_KEYS = "/api/v1/tenants/{tenant}/trusted-keys"
_POLICIES = "/api/v1/tenants/{tenant}/signature-policies"


def build_router(signatures: SignatureService) -> APIRouter:
    router = APIRouter(tags=["signatures"])
    _add_keys(router, signatures)
    _add_policies(router, signatures)

    # `/-/` ends the name of the repository: no component of a name can be "-".
    @router.get("/api/v1/repositories/{repository:path}/-/manifests/{digest}/attachments")
    async def list_attachments(
        principal: CurrentPrincipal, repository: str, digest: str, page: PageQuery
    ) -> Listing[AttachedArtifactView]:
        """Signatures, attestations, SBOMs and others that refer to the image, and which trusted keys signed them."""
        name, parsed = check_repository_name(repository), Digest.parse(digest)
        return Listing.of(page_of(await signatures.attachments(principal, name, parsed), page), AttachedArtifactView.of)

    return router


def _add_keys(router: APIRouter, signatures: SignatureService) -> None:
    @router.get(_KEYS)
    async def list_trusted_keys(principal: CurrentPrincipal, tenant: str, page: PageQuery) -> Listing[TrustedKeyView]:
        """The tenant's, by name."""
        return Listing.of(page_of(await signatures.keys(principal, tenant), page), TrustedKeyView.of)

    @router.post(_KEYS, status_code=status.HTTP_201_CREATED)
    async def add_trusted_key(
        principal: CurrentPrincipal, tenant: str, body: TrustedKeyBody
    ) -> Envelope[TrustedKeyView]:
        """A public key or certificate by which signatures are verified."""
        return Envelope(data=TrustedKeyView.of(await signatures.add_key(principal, tenant, body.name, body.pem)))

    @router.delete(f"{_KEYS}/{{key_id}}", status_code=status.HTTP_204_NO_CONTENT)
    async def remove_trusted_key(principal: CurrentPrincipal, tenant: str, key_id: str) -> None:
        """Not while a policy needs it."""
        await signatures.remove_key(principal, tenant, key_id)


def _add_policies(router: APIRouter, signatures: SignatureService) -> None:
    @router.get(_POLICIES)
    async def list_signature_policies(
        principal: CurrentPrincipal, tenant: str, page: PageQuery
    ) -> Listing[SignaturePolicyView]:
        """The tenant's, by name."""
        return Listing.of(page_of(await signatures.policies(principal, tenant), page), SignaturePolicyView.of)

    @router.post(_POLICIES, status_code=status.HTTP_201_CREATED)
    async def add_signature_policy(
        principal: CurrentPrincipal, tenant: str, body: SignaturePolicyBody
    ) -> Envelope[SignaturePolicyView]:
        """Holds from now on, for pulls and for new instances."""
        return Envelope(data=SignaturePolicyView.of(await signatures.add_policy(principal, tenant, body.to_draft())))

    @router.get(f"{_POLICIES}/{{policy_id}}")
    async def get_signature_policy(
        principal: CurrentPrincipal, tenant: str, policy_id: str
    ) -> Envelope[SignaturePolicyView]:
        """One policy of the tenant."""
        return Envelope(data=SignaturePolicyView.of(await signatures.policy(principal, tenant, policy_id)))

    @router.put(f"{_POLICIES}/{{policy_id}}")
    async def replace_signature_policy(
        principal: CurrentPrincipal, tenant: str, policy_id: str, body: SignaturePolicyBody
    ) -> Envelope[SignaturePolicyView]:
        """Everything but its name."""
        changed = await signatures.replace_policy(principal, tenant, policy_id, body.to_draft())
        return Envelope(data=SignaturePolicyView.of(changed))

    @router.delete(f"{_POLICIES}/{{policy_id}}", status_code=status.HTTP_204_NO_CONTENT)
    async def remove_signature_policy(principal: CurrentPrincipal, tenant: str, policy_id: str) -> None:
        """Its repositories are pulled without signatures again."""
        await signatures.remove_policy(principal, tenant, policy_id)
