"""Settings of OpenID Connect: teams by claims of a token from the company's identity provider."""

from __future__ import annotations

from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from serving.settings.base import Section
from serving.settings.http import LOOPBACK
from serving.settings.layer import KeyPath
from serving.settings.problems import several

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Signatures by a private key that the provider alone has."""


class OidcSettings(Section):
    """OpenID Connect, beside keys: requests may send a token of an identity provider as their key."""

    issuer: str | None = Field(
        None, description="Address of the identity provider, as it is in its tokens' `iss`; unset: keys alone."
    )
    audience: tuple[str, ...] = Field((), description="This server's names in tokens' `aud`; one of them has to match.")
    claim: str = Field(
        "groups",
        min_length=1,
        description="Claim that says the team, a text or a list of texts; dots lead into objects.",
    )
    teams: dict[str, str] = Field(
        default_factory=dict,
        description="Team by value of the claim; the first one that a token has counts. Empty: the value is the team.",
    )
    algorithms: tuple[Algorithm, ...] = Field(("RS256", "ES256"), min_length=1, description="Signatures accepted.")
    leeway_s: float = Field(30.0, ge=0, le=600, description="Difference of clocks that is allowed, in seconds.")
    refresh_s: float = Field(300.0, ge=1, description="Time between two looks at the provider's keys, in seconds.")
    insecure: bool = Field(False, description="true: http without TLS is allowed to other machines than this one.")

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if self.issuer is None:
            return self
        findings: list[tuple[KeyPath, str]] = []
        if not self.audience:
            findings.append((("audience",), "is missing: without it tokens for any other service would be accepted"))
        if not self.allows(self.issuer):
            findings.append((("issuer",), "should be https://..., or http:// on this machine; see `insecure`"))
        if findings:
            raise several(findings)
        return self

    def allows(self, address: str) -> bool:
        """Whether keys may be read from an address: by TLS, on this machine, or where `insecure` is set."""
        parts = urlsplit(address)
        if not parts.hostname:
            return False
        return parts.scheme == "https" or (parts.scheme == "http" and (self.insecure or parts.hostname in LOOPBACK))
