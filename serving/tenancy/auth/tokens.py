"""Authentication by a token of the company's identity provider: a JWT whose claims say the team."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jwt

from serving.errors import InvalidTokenError, TokenTeamError
from serving.settings.oidc import OidcSettings
from serving.tenancy.auth.provider_keys import ProviderKeys
from serving.tenancy.auth.team_directory import Identity, TeamDirectory

_LONGEST_SUBJECT = 64


def is_token(text: str) -> bool:
    """Whether a request's key is meant as a token: three parts, the first of them a JSON object in Base64."""
    return text.startswith("ey") and text.count(".") == 2


class TokenAuthenticator:
    """Authenticator of tokens from the provider in the settings. `clock` is monotonic, in seconds.

    A token's signature, issuer, audience and times are checked each time; nothing of it is kept.
    """

    def __init__(self, settings: OidcSettings, directory: TeamDirectory, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._directory = directory
        self.keys = ProviderKeys(settings, clock)

    async def identify(self, token: str) -> Identity:
        """Identity of the team that a token's claims name.

        Raises InvalidTokenError with the reason, TokenTeamError where the claims name no team, and
        StoreUnavailableError while the provider's keys are not known.
        """
        claims = await self._verified(token)
        team = self._team_of(claims)
        policy = None if team is None else self._directory.teams.get(team)
        if team is None or policy is None:
            raise TokenTeamError(
                f"The token is valid, and its claim '{self._settings.claim}' names no team of this server."
            )
        return Identity(team, policy, f"oidc:{str(claims['sub'])[:_LONGEST_SUBJECT]}")

    async def _verified(self, token: str) -> dict[str, Any]:
        """Claims of a token, verified; raises InvalidTokenError."""
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError as error:
            raise InvalidTokenError("The token is no JSON Web Token.") from error
        algorithm, key_id = header.get("alg"), header.get("kid")
        accepted = self._settings.algorithms
        if algorithm not in accepted:
            raise InvalidTokenError(
                f"The token has the signature '{str(algorithm)[:16]}'; this server accepts {', '.join(accepted)}."
            )
        keys = await self.keys.find(key_id if isinstance(key_id, str) else None)
        if not keys:
            raise InvalidTokenError(
                "The token is signed with a key that the identity provider does not publish, or no longer. Get a new "
                "token."
            )
        for key in keys:
            try:
                return self._claims(token, key, str(algorithm))
            except (jwt.InvalidSignatureError, jwt.InvalidKeyError, jwt.InvalidAlgorithmError, jwt.PyJWKError):
                continue  # without a key's id in the token each may be the one
            except jwt.InvalidTokenError as error:
                raise InvalidTokenError(self._reason(error)) from error
        raise InvalidTokenError("The token's signature is wrong.")

    def _claims(self, token: str, key: dict[str, Any], algorithm: str) -> dict[str, Any]:
        # A key that names its algorithm is for that one alone.
        signer = jwt.PyJWK(key, algorithm=None if "alg" in key else algorithm)
        claims: dict[str, Any] = jwt.decode(
            token,
            signer,
            algorithms=list(self._settings.algorithms),
            audience=list(self._settings.audience),
            issuer=self._settings.issuer,
            leeway=self._settings.leeway_s,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )
        return claims

    def _reason(self, error: jwt.InvalidTokenError) -> str:
        """Reason of a refusal, for the token's owner."""
        match error:
            case jwt.ExpiredSignatureError():
                return "The token has expired. Get a new one."
            case jwt.ImmatureSignatureError():
                return "The token is not valid yet; is a clock wrong?"
            case jwt.InvalidAudienceError():
                return f"The token is for another audience; this server's is '{self._settings.audience[0]}'."
            case jwt.InvalidIssuerError():
                return f"The token is of another issuer than '{self._settings.issuer}'."
            case jwt.MissingRequiredClaimError():
                return f"The token has no claim '{error.claim}'."
            case _:
                return "The token cannot be read."

    def _team_of(self, claims: dict[str, Any]) -> str | None:
        """Team that the claims name; None where they name none."""
        values = set(_texts(_at(claims, self._settings.claim)))
        if not self._settings.teams:
            return next((value for value in sorted(values) if value in self._directory.teams), None)
        return next((team for value, team in self._settings.teams.items() if value in values), None)


def _at(claims: dict[str, Any], path: str) -> Any:
    """Value of a claim: by its whole name, which may be an address with dots, or else along the dots."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _texts(value: Any) -> Iterable[str]:
    values = value if isinstance(value, list) else [value]
    return (each for each in values if isinstance(each, str))
