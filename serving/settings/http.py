"""Settings of the public HTTP port."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Literal

from pydantic import Field, field_validator

from serving.settings.base import Section

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
"""Hosts that only this machine reaches."""


class HttpSettings(Section):
    """Limits of the public HTTP port."""

    max_body_bytes: int = Field(8 * 1024 * 1024, ge=1024, description="Largest request body read, in bytes.")
    keep_alive_s: float = Field(15.0, gt=0, description="Silence after which a stream gets a comment line, in seconds.")
    longest_answer_s: int = Field(900, ge=1, description="Longest time one answer may take, in seconds.")
    longest_body_s: float = Field(
        30.0, gt=0, description="Longest time a request's body may take to arrive, in seconds."
    )
    max_header_bytes: int = Field(32 * 1024, ge=1024, description="All headers of a request together, in bytes.")
    max_messages: int = Field(2048, ge=1, description="Most messages of a conversation.")
    unknown_fields: Literal["ignore", "refuse"] = Field(
        "ignore",
        description="Fields of requests that this server does not know: ignored and named in x-ignored-parameters, or "
        "refused with a 400; the header x-unknown-fields: refuse does that for one request.",
    )
    reasoning_content: bool = Field(
        True, description="Chat replies have the analysis as `reasoning_content` too, beside `reasoning`."
    )
    commentary: Literal["field", "content", "both"] = Field(
        "both",
        description="Place of what the model says before calls, in chat replies: the field `commentary`, `content`, or "
        "both; answers of a certain form have the field alone.",
    )
    trusted_proxies: tuple[str, ...] = Field(
        ("127.0.0.0/8", "::1/128"),
        description="Networks whose x-forwarded-for is believed; add the nodes of a cluster and load balancers.",
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            try:
                ip_network(network)
            except ValueError as error:
                raise ValueError(f"should be networks such as 10.0.0.0/8: {error}") from error
        return networks
