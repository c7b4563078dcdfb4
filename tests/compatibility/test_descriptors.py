"""Today's messages and those of the previous release understand each other: no number was changed or used again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    MethodDescriptorProto,
)

from tests.compatibility.descriptors import previous_files, today_files

Named = DescriptorProto | EnumDescriptorProto


def messages(files: list[FileDescriptorProto]) -> dict[str, DescriptorProto]:
    return {name: one for file in files for name, one in _nested(file.package, list(file.message_type))}


def enums(files: list[FileDescriptorProto]) -> dict[str, EnumDescriptorProto]:
    found = {f"{file.package}.{one.name}": one for file in files for one in file.enum_type}
    inner = {f"{name}.{one.name}": one for name, message in messages(files).items() for one in message.enum_type}
    return found | inner


def methods(files: list[FileDescriptorProto]) -> dict[str, MethodDescriptorProto]:
    return {
        f"{file.package}.{service.name}.{method.name}": method
        for file in files
        for service in file.service
        for method in service.method
    }


def _nested(prefix: str, found: list[DescriptorProto]) -> Iterator[tuple[str, DescriptorProto]]:
    for message in found:
        name = f"{prefix}.{message.name}"
        yield name, message
        yield from _nested(name, list(message.nested_type))


def is_reserved(message: DescriptorProto | EnumDescriptorProto, number: int) -> bool:
    # Ranges of messages end before `end`, those of enums at it.
    last = 1 if isinstance(message, DescriptorProto) else 0
    return any(one.start <= number <= one.end - last for one in message.reserved_range)


OLD_MESSAGES = messages(previous_files())
OLD_ENUMS = enums(previous_files())
OLD_METHODS = methods(previous_files())


@pytest.mark.parametrize("name", OLD_MESSAGES)
def test_a_message_keeps_its_fields_or_reserves_their_numbers(name: str) -> None:
    today = messages(today_files())[name]
    fields = {field.number: field for field in today.field}
    for old in OLD_MESSAGES[name].field:
        new = fields.get(old.number)
        if new is None:
            assert is_reserved(today, old.number), f"{name}.{old.name} is gone and its number is not reserved"
            continue
        assert (new.type, new.label, new.type_name) == (old.type, old.label, old.type_name), f"{name}.{old.name}"
        assert new.HasField("oneof_index") == old.HasField("oneof_index"), (
            f"{name}.{old.name} moved in or out of a oneof"
        )
        assert new.name == old.name, f"number {old.number} of {name} means something else"


@pytest.mark.parametrize("name", OLD_ENUMS)
def test_an_enum_keeps_its_values_or_reserves_their_numbers(name: str) -> None:
    today = enums(today_files())[name]
    values = {value.number: value.name for value in today.value}
    for old in OLD_ENUMS[name].value:
        assert values.get(old.number) == old.name or is_reserved(today, old.number), f"{name}.{old.name}"


@pytest.mark.parametrize("name", OLD_METHODS)
def test_a_method_keeps_its_shape(name: str) -> None:
    old, today = OLD_METHODS[name], methods(today_files())[name]
    shape = [(one.input_type, one.output_type, one.client_streaming, one.server_streaming) for one in (old, today)]

    assert shape[0] == shape[1]


def test_a_number_that_was_reserved_is_not_used_again() -> None:
    for name, old in OLD_MESSAGES.items():
        for field in messages(today_files())[name].field:
            assert not is_reserved(old, field.number), f"{name}.{field.name} has a number that was given up"
