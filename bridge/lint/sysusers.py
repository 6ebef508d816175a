"""Users and groups that come with the image, but that no machine makes."""

from __future__ import annotations

from collections.abc import Iterator

from bridge.lint import accounts
from bridge.lint.model import Finding, Level, Lint
from bridge.lint.subject import Subject

_CURE = (
    "write these lines to /usr/lib/sysusers.d/NAME.conf, a user's with a text and a home if it has "
    "them"
)


def _sysusers(subject: Subject) -> Iterator[Finding]:
    users = accounts.users(subject)
    if not users:
        return
    known_users, known_groups = accounts.declared(subject)
    for user in users:
        if user.name not in known_users:
            yield Finding(
                "/etc/passwd",
                "has a user whom no file of /usr/lib/sysusers.d declares",
                _CURE,
                f"add: u {user.name} {user.id}",
            )
    for group in accounts.groups(subject):
        if group.name not in known_groups:
            yield Finding(
                "/etc/group",
                "has a group that no file of /usr/lib/sysusers.d declares",
                _CURE,
                f"add: g {group.name} {group.id}",
            )


LINTS = (
    Lint(
        "sysusers",
        Level.WARNING,
        "Check for users in /etc/passwd and groups in /etc/group that /usr/lib/sysusers.d does not "
        "declare: a machine whose files were changed keeps its own, and does not see those that "
        "come with a newer image.",
        _sysusers,
    ),
)
