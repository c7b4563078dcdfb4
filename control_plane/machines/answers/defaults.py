"""The built-in templates: what operators begin their own with; pure."""

from __future__ import annotations

from collections.abc import Mapping

from control_plane.machines.answers.model import Format

_KICKSTART = """\
# {{ system.family }} {{ system.version }} on {{ hostname }}
{{ parts.installer }}
{{ parts.source }}
{{ parts.locale }}
{{ parts.network }}
{{ parts.accounts }}
{{ parts.services }}
{{ parts.storage }}

{{ parts.packages }}

{{ parts.pre }}

{{ parts.post }}
"""

_PRESEED = """\
# {{ system.family }} {{ system.version }} on {{ hostname }}
{{ parts.locale }}
{{ parts.network }}
{{ parts.source }}
{{ parts.accounts }}
{{ parts.storage }}
{{ parts.packages }}
{{ parts.ending }}
"""

_AUTOINSTALL = """\
#cloud-config
autoinstall:
{{ parts | yaml | indent(2) }}
"""

_CLOUD_INIT = """\
#cloud-config
{{ parts | yaml }}
"""

DEFAULTS: Mapping[Format, str] = {
    Format.KICKSTART: _KICKSTART,
    Format.PRESEED: _PRESEED,
    Format.AUTOINSTALL: _AUTOINSTALL,
    Format.CLOUD_INIT: _CLOUD_INIT,
}
