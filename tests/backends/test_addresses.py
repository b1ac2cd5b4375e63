"""Where backends may be, and above all where not."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from serving.backends.addresses import AllowList, Gate, is_forbidden, is_loopback
from serving.errors import InvalidValueError
from serving.settings.backends import checked_url


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::",
        "fe80::1",
        "fd00:ec2::254",
        "100.100.100.200",
        "168.63.129.16",
        "0.0.0.0",
        "0.1.2.3",
        "::",
        "224.0.0.1",
        "255.255.255.255",
    ],
)
async def test_some_addresses_are_never_reached(address: str) -> None:
    assert is_forbidden(ip_address(address))
    everywhere = AllowList(("0.0.0.0/0", "::/0"))
    with pytest.raises(InvalidValueError):
        await Gate(everywhere, trusted=True).open(address, 80)


@pytest.mark.parametrize("host", ["10.0.0.1", "192.168.1.1", "8.8.8.8", "::ffff:10.0.0.1", "[fc00::1]"])
async def test_networks_that_are_not_listed_are_refused(host: str) -> None:
    with pytest.raises(InvalidValueError, match=r"backends\.allow"):
        await Gate(AllowList(("127.0.0.0/8", "::1/128")), trusted=False).open(host, 80)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "::ffff:127.0.0.1"])
async def test_this_machine_may_be_reached(host: str) -> None:
    assert await Gate(AllowList(("127.0.0.0/8", "::1/128")), trusted=False).open(host, 80)


async def test_a_name_with_one_address_too_many_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def both(host: str, port: int) -> list[object]:
        return [ip_address("127.0.0.1"), ip_address("10.0.0.1")]

    monkeypatch.setattr("serving.backends.addresses.resolve", both)
    with pytest.raises(InvalidValueError):
        await Gate(AllowList(("127.0.0.0/8",)), trusted=False).open("rebinding.example", 80)


async def test_a_listed_host_may_be_anywhere_but_never_at_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ["10.1.2.3"]

    async def resolve(host: str, port: int) -> list[object]:
        return [ip_address(found[0])]

    monkeypatch.setattr("serving.backends.addresses.resolve", resolve)
    gate = Gate(AllowList(("*.llm.example",)), trusted=False)
    assert await gate.open("a.llm.example", 80) == ["10.1.2.3"]
    with pytest.raises(InvalidValueError):
        await gate.open("llm.example.evil.example", 80)
    found[0] = "169.254.169.254"
    with pytest.raises(InvalidValueError):
        await gate.open("a.llm.example", 80)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1/v1",
        "http://user:secret@127.0.0.1/v1",
        "http:///v1",
        "http://127.0.0.1:99999/v1",
        "http://127.0.0.1/v1?x=1",
        "http://127.0.0.1/v1#x",
        "http://127.0.0.1 /v1",
        "file:///etc/passwd",
        "http://[::1/v1",
        "127.0.0.1:80",
        "",
    ],
)
def test_what_is_no_base_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        checked_url(url)
    assert "secret" not in str(refused.value)


def test_a_url_without_a_path_gets_the_usual_one() -> None:
    assert checked_url("http://127.0.0.1:11434") == checked_url("http://127.0.0.1:11434/v1/")


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://localhost:1/v1", True),
        ("http://[::1]:1/v1", True),
        ("http://10.0.0.1/v1", False),
        ("http://127.0.0.1.example.com/v1", False),
        ("http://localhost.example.com/v1", False),
    ],
)
def test_what_is_on_this_machine_is_known_by_its_text(url: str, here: bool) -> None:
    assert is_loopback(url) == here


async def test_a_name_that_moves_after_registration_is_not_followed(
    house: Any, dialects: Any, running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(dialects["lmstudio"]()) as server, house() as ours:
        body = {"name": "lab", "type": "vllm", "url": f"http://localhost:{server.port}", "models": ["m"]}
        registered = await ours.http.post("/backends/register", json=body)

        async def moved(host: str, port: int) -> list[object]:
            return [ip_address("169.254.169.254")]

        before = await ours.ask("lab:m")
        monkeypatch.setattr("serving.backends.addresses.resolve", moved)
        after = await ours.ask("lab:m")

    assert (registered.status_code, before.status_code, after.status_code) == (201, 200, 503)
    assert len(server.asked) == 1


async def test_redirects_are_not_followed(house: Any, dialects: Any, running: Any) -> None:
    async with running(dialects["lmstudio"]()) as target:
        headers = {"location": f"{target.url}/chat/completions"}
        redirects = dialects["any"](models=("m",), deltas=(), status=307, failures=9, headers=headers)
        async with running(redirects), house(servers={"b": {"url": redirects.url, "type": "vllm"}}) as ours:
            reply = await ours.ask("m")

    assert reply.status_code == 503
    assert target.asked == []
