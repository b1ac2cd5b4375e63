"""HTTP to one backend, over connections whose addresses have been checked at the moment they are made."""

from __future__ import annotations

import asyncio

import httpx2

from serving.backends.addresses import Gate
from serving.errors import InvalidValueError

# The client adds what the environment says of OpenAI's own service, and what machine this is: nobody else's business.
_SENT = frozenset(
    ("host", "authorization", "content-type", "content-length", "transfer-encoding", "accept", "accept-encoding")
)


class GuardedTransport(httpx2.AsyncBaseTransport):
    """Transport that resolves the host and connects to the checked address: nothing can change in between.

    TLS still asks for the host's certificate. Proxies of the environment are passed over: they would resolve again.
    """

    def __init__(self, gate: Gate, inner: httpx2.AsyncBaseTransport | None = None) -> None:
        self._gate = gate
        self._inner = inner or httpx2.AsyncHTTPTransport(
            trust_env=False, limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64)
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """See httpx2; raises ConnectError for a host without an address, and for one that is not allowed."""
        host, timeout = request.url.host, request.extensions.get("timeout", {}).get("connect")
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._gate.open(host, request.url.port or 0)
        except TimeoutError as error:
            raise httpx2.ConnectTimeout(f"no address for {host} in time", request=request) from error
        except (OSError, UnicodeError) as error:
            raise httpx2.ConnectError(f"no address for {host}", request=request) from error
        except InvalidValueError as error:
            raise httpx2.ConnectError(error.message, request=request) from error
        for number, address in enumerate(addresses, start=1):
            try:
                return await self._inner.handle_async_request(_at(request, address))
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                if number == len(addresses):
                    raise
        raise httpx2.ConnectError(f"no address for {host}", request=request)

    async def aclose(self) -> None:
        """See httpx2."""
        await self._inner.aclose()


def _at(request: httpx2.Request, address: str) -> httpx2.Request:
    """The same request to one address; its Host header and the name in TLS stay the host's."""
    return httpx2.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=[(name, value) for name, value in request.headers.raw if name.decode("ascii").lower() in _SENT],
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": request.url.host},
    )
