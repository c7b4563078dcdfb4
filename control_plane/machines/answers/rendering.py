"""From an installation to the documents that its machine fetches, their preview, and the check of a template; pure.

Invariant: the same installation, format and nonce give the same documents; what breaks a rule gives none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from common.errors import Invalid
from common.late_words import LateWord, describe
from control_plane.machines.answers import autoinstall, cloud_init, kickstart, preseed
from control_plane.machines.answers.checks import problems_of
from control_plane.machines.answers.defaults import DEFAULTS
from control_plane.machines.answers.examples import example
from control_plane.machines.answers.failures import TemplateInvalid
from control_plane.machines.answers.finishing import FINISH, finish_script
from control_plane.machines.answers.interfaces_file import network_script
from control_plane.machines.answers.late import Late
from control_plane.machines.answers.model import (
    Answers,
    Document,
    Firmware,
    Format,
    Installation,
    Storage,
    System,
    Template,
    User,
)
from control_plane.machines.answers.preseed_storage import DISKS, disks_script, second_esp
from control_plane.machines.answers.quoting import as_yaml
from control_plane.machines.answers.rules import checked, format_for
from control_plane.machines.answers.sandbox import render_template

_TEXT, _SCRIPT, _YAML = "text/plain; charset=utf-8", "text/x-shellscript; charset=utf-8", "text/yaml; charset=utf-8"
_REDACTED_HASH = f"$6$redacted${'.' * 86}"  # of no password
_REDACTED = "REDACTED"
_PREVIEW_NONCE = "5b1f0c6de2a94873b0d7c4e19f283a65"  # of texts that go to nobody's machine


class NonceKnown(Invalid):
    """A value of the installation holds the nonce, which nobody could know."""

    code = "answer_nonce_known"


def render(it: Installation, *, nonce: str, image: bool = False) -> Answers:
    """`nonce`: 32 random hexadecimal digits, new for each rendering that goes out. `image`: the system is streamed to
    the disk, so its first boot is what reads the answers. Raises InstallationInvalid, TemplateInvalid, NonceKnown.
    """
    form = Format.CLOUD_INIT if image else format_for(it)
    checked(it, form)
    if nonce in repr([_values_of(it), it.template]) or (it.template and nonce in it.template.text):
        raise NonceKnown("a value of the machine holds the nonce of the rendering", action="take another nonce")
    late = Late(nonce)
    return _RENDERERS[form](it, late)


def preview(it: Installation, *, image: bool = False) -> Answers:
    """As it would be, with hashes and secrets left out and `<token>` and its like for what the regional fills in."""
    made = render(redacted(it), nonce=_PREVIEW_NONCE, image=image)
    return Answers(
        made.format,
        tuple(dataclasses.replace(one, text=describe(one.text, _PREVIEW_NONCE)) for one in made.documents),
        tuple(describe(argument, _PREVIEW_NONCE) for argument in made.boot_arguments),
    )


def redacted(it: Installation) -> Installation:
    def hidden(value: str | None) -> str | None:
        return None if value is None else _REDACTED_HASH

    def user(one: User) -> User:
        return dataclasses.replace(one, password_hash=hidden(one.password_hash))

    return dataclasses.replace(
        it,
        root_password_hash=hidden(it.root_password_hash),
        users=tuple(user(one) for one in it.users),
        secrets=tuple((name, _REDACTED) for name, _ in it.secrets),
    )


def check_template(template: Template, system: System, *, image: bool = False) -> None:
    """Renders it for example machines of that system. Raises TemplateInvalid with lines, InstallationInvalid for a
    system that there is not.
    """
    for firmware in Firmware:
        it = dataclasses.replace(example(system, firmware), template=template)
        if image:
            it = dataclasses.replace(it, storage=Storage(), kernel_arguments=())
        render(it, nonce=_PREVIEW_NONCE, image=image)


def default_template(system: System, *, image: bool = False) -> str:
    """The built-in text, to begin one's own with."""
    return DEFAULTS[Format.CLOUD_INIT if image else format_for(example(system, Firmware.BIOS))]


def _values_of(it: Installation) -> dict[str, Any]:
    values = dataclasses.asdict(it)
    del values["template"]
    return {**values, "variables": dict(it.variables), "secrets": dict(it.secrets)}


def _document(it: Installation, late: Late, form: Format, parts: Mapping[str, Any]) -> str:
    values = _values_of(it)
    words = {
        "url": late.word(LateWord.BASE_URL),
        "documents": late.word(LateWord.DOCUMENTS),
        "device": late.word(LateWord.DEVICE),
        "token": late.word(LateWord.TOKEN),
        "source_url": late.at(it.source),
    }
    template = it.template or Template(f"of {form.value}", DEFAULTS[form])
    text = render_template(template.name, template.text, {**values, **words, "parts": parts})
    if problems := problems_of(form, text):
        raise TemplateInvalid(template.name, problems)
    return text


def _kickstart(it: Installation, late: Late) -> Answers:
    text = _document(it, late, Format.KICKSTART, kickstart.parts(it, late))
    finish = finish_script(it, Format.KICKSTART, late)
    documents = (Document(kickstart.DOCUMENT, _TEXT, text), Document(FINISH, _SCRIPT, finish))
    return Answers(Format.KICKSTART, documents, kickstart.boot_arguments(it, late))


def _preseed(it: Installation, late: Late) -> Answers:
    text = _document(it, late, Format.PRESEED, preseed.parts(it, late))
    setup = "\n".join(filter(None, (network_script(it.network, late), second_esp(it))))
    keys = tuple(
        Document(preseed.key_document(index), _TEXT, one.key) for index, one in enumerate(it.repositories) if one.key
    )
    documents = (
        Document(preseed.DOCUMENT, _TEXT, text),
        Document(DISKS, _SCRIPT, disks_script(it)),
        Document(FINISH, _SCRIPT, finish_script(it, Format.PRESEED, late, setup=setup)),
        *keys,
    )
    return Answers(Format.PRESEED, documents, preseed.boot_arguments(it, late))


def _autoinstall(it: Installation, late: Late) -> Answers:
    text = _document(it, late, Format.AUTOINSTALL, autoinstall.parts(it, late))
    documents = (
        Document(autoinstall.USER_DATA, _YAML, text),
        Document(autoinstall.META_DATA, _YAML, as_yaml(cloud_init.meta_data(it))),
        Document(autoinstall.VENDOR_DATA, _YAML, "#cloud-config\n{}\n"),
        Document(FINISH, _SCRIPT, finish_script(it, Format.AUTOINSTALL, late)),
    )
    return Answers(Format.AUTOINSTALL, documents, autoinstall.boot_arguments(late))


def _cloud_init(it: Installation, late: Late) -> Answers:
    text = _document(it, late, Format.CLOUD_INIT, cloud_init.user_data(it, late))
    documents = (
        Document("user-data", _YAML, text),
        Document("meta-data", _YAML, as_yaml(cloud_init.meta_data(it))),
        Document("network-config", _YAML, as_yaml(cloud_init.network_config(it))),
    )
    return Answers(Format.CLOUD_INIT, documents)


_RENDERERS = {
    Format.KICKSTART: _kickstart,
    Format.PRESEED: _preseed,
    Format.AUTOINSTALL: _autoinstall,
    Format.CLOUD_INIT: _cloud_init,
}
