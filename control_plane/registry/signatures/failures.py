"""How keys and signature policies refuse."""

from __future__ import annotations

from common.errors import Conflict, Denied, Invalid, NotFound


class SignatureRequired(Denied):
    """A policy wants a signature that the image does not have; `facts["policy"]` is the policy's name."""

    code = "signature_required"


class KeyInvalid(Invalid):
    code = "trusted_key_invalid"


class KeyUnknown(NotFound):
    code = "trusted_key_unknown"


class KeyExists(Conflict):
    code = "trusted_key_exists"


class KeyInUse(Conflict):
    code = "trusted_key_in_use"


class PolicyInvalid(Invalid):
    code = "signature_policy_invalid"


class PolicyUnknown(NotFound):
    code = "signature_policy_unknown"


class PolicyNameTaken(Conflict):
    code = "signature_policy_exists"
