"""Authentication as a flow: requests come out, replies go in, and no network is needed to test it.

A request goes out with what was accepted last. On 401 the challenge says what is wanted: one new
token is fetched (by one thread; the others wait and use it), the request is repeated, and what
comes back then is the answer. So a token that runs out in the middle of a pull costs one token
request, and one that is never accepted ends after three tries.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

from bridge.errors import NetworkError, NotAuthorised
from bridge.oci import strict_json
from bridge.registry.authfile import CredentialStore
from bridge.registry.challenge import Challenge, parse_challenges
from bridge.registry.message import Reply, Request, origin
from bridge.registry.token import Authorization, Scope, TokenCache, parse_token, token_request

Flow = Generator[Request, Reply, Reply]


class Authenticator:
    """Answers the challenges of registries, and remembers tokens for each scope."""

    def __init__(
        self,
        credentials: CredentialStore,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._credentials = credentials
        self._now = now
        self._tokens = TokenCache()

    def flow(self, request: Request, scope: Scope) -> Flow:
        """Yield requests to be sent, take their replies, return the reply to `request`.

        What sending one of them raised is thrown in here. Raises `NotAuthorised` when a token
        server refuses, `NetworkError` when it misbehaves.
        """
        sent = self._tokens.get(scope, self._now())
        reply = yield request.authorized(sent)
        for _ in range(2):
            # Another origin's 401, behind a redirect, is never answered: see CVE-2020-15157.
            if reply.status != 401 or reply.foreign:
                return reply
            with self._tokens.renewing(scope):
                current = self._tokens.get(scope, self._now())
                fresh = current is None or current == sent
                if fresh:
                    current = yield from self._obtain(request, reply, scope)
            if current is None:
                return reply
            sent = current
            reply = yield request.authorized(sent)
            if fresh:
                break
        if reply.status == 401 and sent is not None:
            self._tokens.drop(scope, sent)
        return reply

    def refusal(self, scope: Scope, reply: Reply) -> NotAuthorised:
        """Return the error for a registry's 401 or 403, with what was tried and what may help."""
        return self._refusal(scope, f"{scope.host} answered {describe(reply)}")

    def _obtain(
        self, request: Request, reply: Reply, scope: Scope
    ) -> Generator[Request, Reply, str | None]:
        """Answer the challenge of `reply`; return None when there is nothing to answer it with."""
        challenges = parse_challenges(reply.headers.get("WWW-Authenticate", ""))
        credentials = self._credentials.find(scope.host, scope.repository, named=scope.named)
        if bearer := _first(challenges, "bearer"):
            secure = not request.insecure and origin(request.url)[0] == "https"
            asked = token_request(bearer, scope, credentials, secure=secure)
            asked = replace(asked, insecure=request.insecure)
            server = origin(asked.url)[1]
            try:
                answer = yield asked
            except NetworkError as error:
                raise NetworkError(f"the token server of {scope.host}: {error}") from None
            if answer.status in (400, 401, 403):
                raise self._refusal(scope, f"its token server {server} said {describe(answer)}")
            if answer.status != 200:
                raise NetworkError(f"the token server {server} answered {describe(answer)}")
            token = parse_token(answer.body, self._now(), server)
        elif _first(challenges, "basic") and credentials and credentials.username:
            token = Authorization(credentials.basic)
        else:
            return None
        self._tokens.put(scope, token)
        return token.value

    def _refusal(self, scope: Scope, what: str) -> NotAuthorised:
        credentials = self._credentials.find(scope.host, scope.repository, named=scope.named)
        name = f"{scope.host}/{scope.repository}"
        if credentials is not None:
            user = f"the credentials of {credentials.username!r:.100}"
            if credentials.identity_token:
                user = "the identity token"
            tried = (
                f"{user} from {credentials.source} do not give access; log in again, or the "
                "repository does not exist"
            )
        else:
            searched = ", ".join(file.path for file in self._credentials.files)
            remedy = (
                "--authfile or --creds" if scope.named else "--authfile (--creds are not for it)"
            )
            tried = (
                f"no credentials for it in {searched}; give {remedy}, or the repository does not "
                "exist"
            )
        return NotAuthorised(f"not authorised for {name}: {what}; {tried}")


def describe(reply: Reply) -> str:
    """Return a status with the first code and message of a registry's error, as one line."""
    try:
        answer: Any = strict_json.parse(reply.body)
        first = answer["errors"][0]
        parts = [str(first[key]) for key in ("code", "message") if first.get(key)]
    except (ValueError, LookupError, TypeError, AttributeError):
        parts = []
    text = "".join(c if c.isprintable() else " " for c in ": ".join(parts))[:200].strip()
    return f"{reply.status} ({text})" if text else str(reply.status)


def _first(challenges: list[Challenge], scheme: str) -> Challenge | None:
    return next((found for found in challenges if found.scheme == scheme), None)
