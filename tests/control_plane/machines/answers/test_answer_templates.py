"""Operators' templates: a sandbox that bounds work, quotes values, and says which line is wrong."""

from __future__ import annotations

import dataclasses

import pytest
import yaml

from control_plane.machines.answers.defaults import DEFAULTS
from control_plane.machines.answers.failures import InstallationInvalid, TemplateInvalid
from control_plane.machines.answers.model import Family, Format, System, Template
from control_plane.machines.answers.rendering import check_template, default_template, preview, render
from control_plane.machines.answers.rules import VERSIONS
from control_plane.machines.answers.sandbox import LONGEST_TEMPLATE, render_template
from tests.control_plane.machines.answers.installations import (
    DEBIAN,
    NONCE,
    ROCKY,
    SHA512,
    UBUNTU,
    installation,
    served,
)

_EVERY = [System(family, version) for family in Family for version in VERSIONS[family]]


def refused(text: str, **values: object) -> str:
    with pytest.raises(TemplateInvalid) as caught:
        render_template("mine", text, values)
    return str(caught.value)


@pytest.mark.parametrize("system", _EVERY, ids=lambda one: f"{one.family.value}-{one.version}")
def test_the_built_in_templates_pass_their_own_check(system: System) -> None:
    for image in (False, True):
        check_template(Template("mine", default_template(system, image=image)), system, image=image)


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__ }}",
        "{{ x.__class__.__mro__ }}",
        "{{ x['__class__'] }}",
        "{{ x|attr('__class__') }}",
        "{{ x.format(1) }}",
        "{{ range(10) }}",
        "{{ lipsum() }}",
        "{{ cycler }}",
        "{{ self }}",
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{% extends 'x' %}",
        "{% macro m() %}{{ m() }}{% endmacro %}",
        "{% set x %}{{ x }}{% endset %}",
        "{% block x %}{% endblock %}",
        "{% call x() %}{% endcall %}",
        "{% filter upper %}{% endfilter %}",
        "{{ 10 ** 9 }}",
        "{{ 'x' * 1000000000 }}",
        "{{ 'a' ~ 'b' }}",
        "{{ 'a' + 'b' }}",
        "{{ '%1000000000s' % 1 }}",
        "{{ -1 }}",
        "{% set a = [1, 2] %}",
        "{{ [1, 2]|json }}",
        "{{ 1 in [[1], [2]] }}",
        "{{ {'a': 1} }}",
        "{% set a, b = 1, 2 %}",
        "{% for x in x recursive %}{{ loop(x) }}{% endfor %}",
        "{{ x|center(1000000000) }}",
        "{{ x|indent(1000000000) }}",
        "{{ x is filter }}",
    ],
)
def test_what_leads_out_or_costs_without_bound_is_not_there(text: str) -> None:
    assert "line 1" in refused(text, x="plain")


def test_work_is_bounded_whatever_a_template_does() -> None:
    """Work is counted, not timed: without the count most of these would not end before the test's own deadline."""
    many = [str(number) for number in range(500)]
    nested: list[object] = ["x"]
    for _ in range(60):
        nested = [nested, nested]
    for text in (
        "{% for a in x %}{% for b in x %}{% for c in x %}{% endfor %}{% endfor %}{% endfor %}",
        "{% for a in x %}{% for b in x %}{{ x|join }}{% endfor %}{% endfor %}",
        "{% for a in x %}{% for b in x %}" + "{% if a == b %}{% endif %}" * 1000 + "{% endfor %}{% endfor %}",
        "{{ '\"'" + "|json" * 60 + " }}",
        "".join(f"{{% set a{n + 1} = [a{n}, a{n}] %}}" for n in range(60)) + "{{ a60|json }}",
        "".join(f"{{% for a{n + 1} in [[a{n}, a{n}]] %}}" for n in range(15)) + "{% endfor %}" * 15,
        "{{ nested|json }}",
        "{% for a in x %}{{ y }}{% endfor %}",
    ):
        assert refused(text, x=many, y="y" * 4000, a0=many, nested=nested)


def test_nesting_is_bounded() -> None:
    assert "nested too deep" in refused("{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}")
    assert "nested too deep" in refused("{% if 1 %}" * 45 + "{% endif %}" * 45)
    assert "at most" in refused("x" * (LONGEST_TEMPLATE + 1))


def test_the_line_is_named() -> None:
    assert "line 3" in refused("one\ntwo\n{{ nothing }}\n")
    assert "line 2" in refused("one\n{% if %}\n")
    assert "line 4" in refused("one\n\n{% for u in users %}\n{{ u.nope }}\n{% endfor %}", users=[{"name": "x"}])
    assert "line 2" in refused("\n{{ x }}", x="two words")


@pytest.mark.parametrize("value", ["two words", "-x", "a\nb", "$(id)", "x;y", "'", '"', "a:", "%include", "#", "ö"])
def test_a_value_that_is_not_one_plain_word_needs_a_filter(value: str) -> None:
    assert "add a filter" in refused("{{ x }}", x=value)
    assert "add a filter" in refused("{{ x|upper|lower }}", x=value)
    assert "add a filter" in refused("{{ x|join(',') }}", x=[value, value])


def test_quoted_parts_can_be_joined_and_indented() -> None:
    text = "{{ p | shell | indent(2) }}|{{ x | kickstart }}|{{ x | json }}"
    assert render_template("mine", text, {"p": "a", "x": "a b"}) == "  a|'a b'|\"a b\""


def test_an_own_template_takes_parts_and_values() -> None:
    text = (
        "text\n{{ parts.network }}\n{{ parts.source }}\n{{ parts.accounts }}\n{{ parts.storage }}\n"
        "{% for user in users if user.administrator %}\n# {{ user.name }}: {{ user.full_name | json }}\n{% endfor %}\n"
        "{{ parts.packages }}\n{{ parts.pre }}\n%post\necho {{ variables.rack | shell }} {{ secrets.license }}\n%end\n"
        "{{ parts.post }}\n"
    )
    it = installation(
        ROCKY[1], template=Template("mine", text), variables=(("rack", "A 7"),), secrets=(("license", "S3cret"),)
    )
    made = served(it, "ks.cfg")
    assert '\n# robot: ""\n' in made
    assert "\necho 'A 7' S3cret\n" in made
    shown = preview(it).documents[0].text
    assert "S3cret" not in shown
    assert "echo 'A 7' REDACTED" in shown


def test_yaml_templates_take_parts_as_data() -> None:
    text = (
        "#cloud-config\nautoinstall:\n  version: 1\n  storage: {{ parts.storage | json }}\n"
        '  late-commands: {{ parts["late-commands"] | json }}\n'
        "  identity:\n    realname: {{ users[0].full_name | json }}\n"
    )
    it = installation(UBUNTU[2], "raid1", template=Template("mine", text))
    loaded = yaml.safe_load(served(it, "user-data"))["autoinstall"]
    assert loaded["identity"]["realname"] == it.users[0].full_name
    assert loaded["storage"]["config"][0]["path"] == "/dev/sda"


@pytest.mark.parametrize(
    ("system", "text", "words"),
    [
        (ROCKY[1], "text\n", "nothing runs finish.sh"),
        (ROCKY[1], "{{ parts.post }}\n%packages\nvim\n", "is not ended"),
        (ROCKY[1], "%packages\n{{ parts.post }}\n", "line 2 of the document"),
        (ROCKY[1], "{{ parts.post }}\n%end\n", "%end without"),
        (ROCKY[1], "rootpw 'x\n{{ parts.post }}\n", "No closing quotation"),
        (DEBIAN[1], "d-i what\n{{ parts.ending }}\n", "owner question type value"),
        (DEBIAN[1], "# nothing\n", "parts.ending"),
        (UBUNTU[1], "autoinstall:\n", "#cloud-config"),
        (UBUNTU[1], "#cloud-config\nx: [\n", "line 3 of the document"),
        (UBUNTU[1], "#cloud-config\n- x\n", "not a mapping"),
        (UBUNTU[1], "#cloud-config\nautoinstall: {}\n", "version: 1"),
        (UBUNTU[1], "#cloud-config\nx: !!python/object/apply:os.system [id]\n", "could not determine a constructor"),
    ],
)
def test_saving_checks_the_document_that_a_template_makes(system: System, text: str, words: str) -> None:
    with pytest.raises(TemplateInvalid) as caught:
        check_template(Template("mine", text), system)
    assert words in str(caught.value)


def test_a_system_that_there_is_not_is_said_so() -> None:
    with pytest.raises(InstallationInvalid, match="there are 11, 12"):
        check_template(Template("mine", "x"), System(Family.DEBIAN, "4"))


@pytest.mark.parametrize("system", [ROCKY[1], DEBIAN[1], UBUNTU[1]], ids=lambda one: one.family.value)
def test_a_preview_shows_everything_but_secrets(system: System) -> None:
    it = installation(system, root_password_hash=SHA512)
    shown = preview(it)
    real = render(it, nonce=NONCE)
    assert [one.name for one in shown.documents] == [one.name for one in real.documents]
    whole = "\n".join([*(one.text for one in shown.documents), *shown.boot_arguments])
    assert SHA512 not in whole
    assert "longshore-5b1f" not in whole
    assert "<documents>/" in whole
    assert "LONGSHORE_TOKEN='<token>'" in whole
    assert SHA512 not in repr(it)


def test_every_format_has_a_built_in_template() -> None:
    assert set(DEFAULTS) == set(Format)


def test_the_same_input_gives_the_same_documents() -> None:
    it = installation(UBUNTU[1], "lvm", "bond")
    assert render(it, nonce=NONCE) == render(dataclasses.replace(it), nonce=NONCE)
