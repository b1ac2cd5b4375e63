from __future__ import annotations

import pytest

from serving.api.middleware.client_address import ClientAddress


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("10.0.0.9", [], "10.0.0.9"),
        ("10.0.0.9", ["1.1.1.1"], "10.0.0.9"),  # nobody we trust says so
        ("127.0.0.1", ["1.1.1.1"], "1.1.1.1"),
        ("127.0.0.1", ["9.9.9.9, 1.1.1.1"], "1.1.1.1"),  # the client wrote 9.9.9.9 itself
        ("127.0.0.1", ["9.9.9.9", "1.1.1.1"], "1.1.1.1"),
        ("127.0.0.1", ["1.1.1.1, 192.168.0.7"], "1.1.1.1"),  # two trusted proxies
        ("127.0.0.1", ["junk, 192.168.0.7"], "192.168.0.7"),
        ("127.0.0.1", ["junk"], "127.0.0.1"),
        ("::1", ["2001:db8::1"], "2001:db8::1"),
        (None, ["1.1.1.1"], "unknown"),
    ],
)
def test_only_trusted_proxies_are_believed(peer: str | None, forwarded: list[str], expected: str) -> None:
    address = ClientAddress(("127.0.0.0/8", "::1/128", "192.168.0.0/16"))
    scope = {
        "type": "http",
        "client": (peer, 1234) if peer else None,
        "headers": [(b"x-forwarded-for", value.encode()) for value in forwarded],
    }

    assert address(scope) == expected
