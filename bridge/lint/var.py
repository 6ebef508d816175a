"""What an image has in `/var`, which is a machine's own: it gets the image's once, when it is made.

Semantics: bootc, crates/lib/src/lints.rs and crates/tmpfiles. bootc looks at `/var` of the running
root alone, as it asks that one's accounts; here they are those of the image.
"""

from __future__ import annotations

from collections.abc import Iterator

from bridge.layer.tar import EntryType
from bridge.lint import accounts, tmpfiles
from bridge.lint.model import Finding, Level, Lint
from bridge.lint.subject import Subject


def _var_log(subject: Subject) -> Iterator[Finding]:
    for node in subject.below("var/log"):
        if node.type is EntryType.FILE and node.size:
            yield Finding(
                f"/{node.path}",
                "is a log that has something in it",
                "end the step that writes it with: find /var/log -type f -delete",
            )


def _var_tmpfiles(subject: Subject) -> Iterator[Finding]:
    known = tmpfiles.declared(subject)
    users = {user.id: user.name for user in reversed(accounts.users(subject))}
    groups = {group.id: group.name for group in reversed(accounts.groups(subject))}
    for node in subject.below("var"):
        if node.path in known or node.path.startswith("var/run/"):
            continue
        if node.type in (EntryType.DIRECTORY, EntryType.SYMLINK):
            user = users.get(node.uid, str(node.uid))
            group = groups.get(node.gid, str(node.gid))
            yield Finding(
                f"/{node.path}",
                "is in /var, and no file of tmpfiles.d makes it: a machine that was installed "
                "before does not get it",
                "write these lines to /usr/lib/tmpfiles.d/NAME.conf, or remove what they make",
                f"add: {tmpfiles.line(node, user, group)}",
            )
        else:
            yield Finding(
                f"/{node.path}",
                "is in /var and neither a directory nor a link: only a machine that is installed "
                "with this very image gets it, and an upgrade never changes it",
                "remove it, or keep it below /usr, with a line of tmpfiles.d that copies (C) or "
                "links (L) it",
            )


LINTS = (
    Lint(
        "var-log",
        Level.WARNING,
        "Check for files in /var/log that are not empty: they are of the build, have times in "
        "them, and may tell what is nobody's business.",
        _var_log,
    ),
    Lint(
        "var-tmpfiles",
        Level.WARNING,
        "Check for content of /var without a line of tmpfiles.d: it is there on a machine that is "
        "installed with this image, and missing where the image comes as an upgrade.",
        _var_tmpfiles,
    ),
)
