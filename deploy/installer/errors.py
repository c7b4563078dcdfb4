"""What keeps an installer environment from being made."""

from __future__ import annotations

from common.errors import Invalid, Unavailable


class PackagesUnavailable(Unavailable):
    """apt has not what is needed, or is not here."""

    code = "installer_packages_unavailable"


class PackageIncomplete(Invalid):
    """A package lacks a file that the recipe names, or a program a library."""

    code = "installer_package_incomplete"
