"""What every registry keeps: one case for each MUST and SHOULD of the OCI distribution specification 1.1 (and the tag
parameters of 1.2) that concerns registries, with sha256 and with sha512, over HTTP and nothing else.

A test subclasses `OciDistributionContract` and supplies the fixture `target`
(of class or module): where the registry is and who may push there. Each
case quotes the specification's section; what it leaves open is said as we chose it (docs/decisions/0011).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from tests.conformance.oci_listing import ListingCases
from tests.conformance.oci_management import ManagementCases
from tests.conformance.oci_manifests import ManifestCases
from tests.conformance.oci_pull import PullCases
from tests.conformance.oci_push import PushCases
from tests.conformance.oci_registry import DockerLogin, RegistryTarget, RegistryUser, fresh_name


class OciDistributionContract(PullCases, PushCases, ManifestCases, ListingCases, ManagementCases):
    @pytest.fixture(scope="class")
    @classmethod
    def logged_in(cls, target: RegistryTarget) -> Iterator[RegistryUser]:
        with httpx.Client(base_url=target.url, auth=DockerLogin(target), timeout=30, follow_redirects=True) as http:
            yield RegistryUser(http, target)

    @pytest.fixture(params=["sha256", "sha512"])
    def user(self, logged_in: RegistryUser, request: pytest.FixtureRequest) -> RegistryUser:
        """With two repositories of its own, which nobody made yet."""
        target = logged_in.target
        return replace(logged_in, algorithm=request.param, repository=fresh_name(target), other=fresh_name(target))
