"""Who may look: everybody on this machine, whoever shows a token, or whoever a trusted proxy lets in.

    listens on                      tokens_file      trust_proxy      answers
    this machine alone              no               any              everybody
    anywhere                        yes              any              who shows a token, through a proxy too
    other addresses                 no               yes              what these proxies pass on
    other addresses                 no               no               does not start (`refuse_open`)

A token comes as `Authorization: Bearer …` (RFC 6750 §2.1) or in the cookie that signing in sets; in
an address it would be in histories and logs, so it counts nowhere else. Each handler needs a scope, `read`
unless its option `SCOPE` names another; None is for anybody. Who opens a page without a token is led to where
one signs in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import structlog
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException, PermissionDeniedException
from litestar.response.redirect import ASGIRedirectResponse
from litestar.status_codes import HTTP_303_SEE_OTHER

from runtime.errors import ConfigurationError
from runtime.http.proxies import FORWARDED, Proxies
from runtime.logs import RateLimit
from runtime.settings import refuse_open
from runtime.tokens import READ, Token, Tokens

if TYPE_CHECKING:
    from collections.abc import Callable

    from litestar.types import ASGIApp, Receive, Scope, Send

    from runtime.settings import Listener

SCOPE: Final = "scope"
"""The option of handlers with the scope that they need; None: anybody."""

COOKIE: Final = "edge_token"
SIGN_IN: Final = "sign-in"
_MOST_COOKIES: Final = 4  # each is looked for

_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="edge"'}

log = structlog.get_logger()


class Access:
    """The rule of one listener.

    Attributes:
        leads: whether there is a page where one signs in.

    Args:
        listener: its section of the configuration.
        name: the section's.
        refused: told why, whenever somebody is (`token`, `scope`, `address`).

    Raises:
        ConfigurationError: its tokens cannot be read, or it would be open to other machines.
    """

    def __init__(
        self, listener: Listener, name: str, refused: Callable[[str], None] = lambda _: None
    ) -> None:
        if reason := refuse_open(name, listener):
            raise ConfigurationError(reason)
        self._name = name
        self.leads = False
        setting = f"{name}.tokens_file"
        self.tokens = Tokens(listener.tokens_file, setting=setting) if listener.tokens_file else None
        self.proxies = Proxies(listener.trust_proxy)
        self._is_open = self.tokens is None and listener.is_local
        self._refused = refused
        self._told = RateLimit(log.warning)

    def guard(self, app: ASGIApp) -> ASGIApp:
        """An application in which handlers answer to who may look alone."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            needed = scope["route_handler"].opt.get(SCOPE, READ)
            token = self._shown(scope)
            scope["auth"] = token
            if needed is not None and not self._is_open:
                if token is None and self.leads and _is_page(scope):
                    await _lead(scope, receive, send)
                    return
                self._check(scope, token, needed)
            await app(scope, receive, send)

        return guarded

    def knows(self, scope: Scope) -> bool:
        """Whether who asks may know what keeps the process from its work, when anybody may ask for that."""
        if self.tokens is None:
            return self._is_open or FORWARDED in scope.get("state", ())
        return scope["auth"] is not None

    def still(self, scope: Scope) -> bool:
        """Whether the token of a request that was let in still counts."""
        token: Token | None = scope["auth"]
        return token is None or (self.tokens is not None and self.tokens.holds(token))

    def _shown(self, scope: Scope) -> Token | None:
        """The token of a request, when it is one that is known."""
        if self.tokens is None:
            return None
        asking: ASGIConnection[Any, Any, Any, Any] = ASGIConnection(scope)
        kind, _, token = asking.headers.get("authorization", "").partition(" ")
        texts = [token.strip()] if kind.lower() == "bearer" else _cookies(asking)
        return self.find(scope, *texts) if any(texts) else None

    def find(self, scope: Scope, *texts: str) -> Token | None:
        """The token that one of these is; None when none is, which is told in the log."""
        found = next(filter(None, map(self.tokens.find, texts)), None) if self.tokens is not None else None
        if found is None:
            self._told("token_refused", address=_address(scope))
        return found

    def _check(self, scope: Scope, token: Token | None, needed: str) -> None:
        if self.tokens is None:
            if FORWARDED not in scope.get("state", ()):
                self._refused("address")
                raise PermissionDeniedException(
                    f"only what the reverse proxies of {self._name}.trust_proxy pass on is answered, and "
                    f"{_address(scope)} is none of them"
                )
        elif token is None:
            self._refused("token")
            raise NotAuthorizedException(
                f"a token is needed, as Authorization: Bearer …; {self._name} token NAME makes one",
                headers=_CHALLENGE,
            )
        elif needed not in token.scopes:
            self._refused("scope")
            raise PermissionDeniedException(f"the token {token.name} lacks the scope {needed}")


def _cookies(asking: ASGIConnection[Any, Any, Any, Any]) -> list[str]:
    """What our cookie holds; a site above ours on the same host has one too, and browsers send both."""
    pairs = (each.strip().partition("=") for each in asking.headers.get("cookie", "").split(";"))
    return [value for name, _, value in pairs if name == COOKIE][:_MOST_COOKIES]


def _is_page(scope: Scope) -> bool:
    """Whether somebody opens a page."""
    return any(name == b"accept" and b"text/html" in value for name, value in scope["headers"])


async def _lead(scope: Scope, receive: Receive, send: Send) -> None:
    """To where one signs in, whatever path a proxy has us below."""
    up = "../" * (scope["raw_path"].count(b"/") - 1)
    await ASGIRedirectResponse(path=f"{up}{SIGN_IN}", status_code=HTTP_303_SEE_OTHER)(scope, receive, send)


def _address(scope: Scope) -> str:
    client = scope["client"]
    return client[0] if client else "unknown"
