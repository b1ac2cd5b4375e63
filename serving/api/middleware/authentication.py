"""Authentication: a key for every path but the few that are open to everybody."""

from __future__ import annotations

from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.answering.request_context import RequestContext, context_of
from serving.api.routing import Audience, PathRules
from serving.errors import AuthenticationError, InvalidTokenError, PermissionDeniedError, TokenTeamError
from serving.tenancy.auth.authenticator import OPEN
from serving.tenancy.auth.team_directory import Identity
from serving.tenancy.auth.tokens import TokenAuthenticator, is_token
from serving.tenancy.tenancy import Tenancy


class AuthenticationMiddleware:
    """Identity of a request, by the key in `Authorization: Bearer`, or in `x-api-key` of Anthropic's older clients.

    A background request has its identity from the batch that it is of.

    Sets the identity of the request's context. Raises AuthenticationError, after a wait where an address fails often,
    with one text for every kind of wrong key, and PermissionDeniedError for a team's key on the administrator's
    routes. ErrorHandlingMiddleware, outside, answers.
    """

    def __init__(
        self,
        app: ASGIApp,
        tenancy: Tenancy,
        address: Callable[[Scope], str],
        rules: PathRules,
    ) -> None:
        self._app = app
        self._rules = rules
        self._tenancy = tenancy
        self._address = address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, identified."""
        audience = self._rules.find(scope["path"]).audience if scope["type"] == "http" else "everybody"
        if audience != "everybody":
            context = context_of(scope)
            recorder = context.recorder
            if recorder is not None:
                recorder.address = self._address(scope)
            if context.background is not None:
                identity = context.background.identity
            else:
                identity = await self._identified(scope, context, audience)
            context.identity = identity
            if identity is not OPEN and recorder is not None:
                recorder.team, recorder.key_id = identity.team, identity.key_id or None
        await self._app(scope, receive, send)

    async def _identified(self, scope: Scope, context: RequestContext, audience: Audience) -> Identity:
        key = _key(scope)
        authenticator = self._tenancy.authenticator
        if audience == "teams":
            tokens = self._tenancy.tokens
            if tokens is not None and is_token(key):
                return await self._of_token(scope, context, tokens, key)
            identity = authenticator.identify(key)
        elif authenticator.admin_is_open or authenticator.is_admin(key):
            identity = ADMIN
        elif not authenticator.open and authenticator.identify(key) is not None:
            raise PermissionDeniedError("This route is the administrator's; a team's key does not open it.")
        else:
            identity = None
        if identity is None:
            context.reject("authentication")
            await self._tenancy.throttle.delay(self._address(scope))
            raise AuthenticationError("Incorrect API key provided. Send yours as `Authorization: Bearer KEY`.")
        return identity

    async def _of_token(
        self, scope: Scope, context: RequestContext, tokens: TokenAuthenticator, token: str
    ) -> Identity:
        """Identity by a token, whose refusals are counted and delayed as those of keys."""
        try:
            return await tokens.identify(token)
        except (InvalidTokenError, TokenTeamError):
            context.reject("authentication")
            await self._tenancy.throttle.delay(self._address(scope))
            raise


ADMIN = Identity("admin", OPEN.policy)
"""The administrator, whose routes generate nothing."""


def _key(scope: Scope) -> str:
    headers = Headers(scope=scope)
    given = headers.get("authorization")
    if given is None:
        return headers.get("x-api-key", "").strip()
    scheme, _, key = given.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""
