"""Why a request failed, in a few words."""

from __future__ import annotations

import requests
import urllib3


def reason(error: BaseException, idle: float) -> str:
    """Return the innermost cause in a few words: the outer ones are class names and addresses."""
    seen = causes(error)
    for cause in reversed(seen):
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
    timeouts = (urllib3.exceptions.TimeoutError, requests.exceptions.Timeout, TimeoutError)
    if any(isinstance(cause, urllib3.exceptions.ConnectTimeoutError) for cause in seen):
        return "no connection in time"
    if any(isinstance(cause, timeouts) for cause in seen):
        return f"nothing came for {idle:g} seconds"
    words = str(seen[-1]) or type(seen[-1]).__name__
    return "".join(c if c.isprintable() else " " for c in words)[:200]


def causes(error: BaseException) -> list[BaseException]:
    """Return an error and what is wrapped in it, outermost first."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        inner = getattr(cause, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((arg for arg in cause.args if isinstance(arg, BaseException)), None)
        cause = inner or cause.__cause__ or cause.__context__
    return seen
