from __future__ import annotations

import pytest

from control_plane.registry.serving import sees_credentials


@pytest.mark.parametrize(
    ("registry", "address", "seen"),
    [
        ("//registry.test:5000", "https://registry.test/bucket/x?X-Amz-Signature=y", True),
        ("//127.0.0.1:5000", "http://127.0.0.1:7480/bucket/x", True),
        ("https://Example.com", "https://s3.example.com/x", True),
        ("//[::1]:5000", "http://[::1]:7480/x", True),
        ("//registry.example.com", "https://s3.example.com/x", False),
        ("//example.com", "https://s3.notexample.com/x", False),
        ("//s3.example.com", "https://example.com/x", False),
        ("//", "https://s3.example.com/x", False),
        ("//[", "https://s3.example.com/x", False),
    ],
)
def test_a_store_of_the_registrys_name_would_be_shown_the_token(registry: str, address: str, seen: bool) -> None:
    assert sees_credentials(registry, address) is seen
