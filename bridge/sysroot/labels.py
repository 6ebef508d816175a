"""SELinux labels of what a deployment has of its own: `/etc` and `/var`.

As libostree: by the deployment's own policy, `/etc` first and then `/usr/etc`; `/var` once, which
the stamp `.ostree-selabeled` in it tells; what the policy gives no label keeps the one it has. All
else is labelled in the commit.
"""

from __future__ import annotations

import errno
import os
import stat

from bridge import limits
from bridge.errors import BridgeError
from bridge.ostree import durable, selinux
from bridge.ostree.selinux import Labels, Policy
from bridge.sysroot import files
from bridge.sysroot.deployment import Deployment
from bridge.sysroot.sysroot import Sysroot

_STAMP = ".ostree-selabeled"
_NAME = selinux.XATTR.decode()


def label(sysroot: Sysroot, deployment: Deployment, tree: int) -> None:
    """Label `/etc` of the deployment whose directory is `tree`, and its stateroot's `/var` if that
    never was; nothing where there is no policy, or the commit was made without labels on purpose.

    Raises `BridgeError` where there is no libselinux, or labels cannot be set.
    """
    commit = sysroot.repo.read_commit(deployment.checksum)
    if commit.metadata.get(selinux.COMMIT_KEY) == "":
        return
    policy = policy_of(tree)
    if policy is None:
        return
    with Labels(policy) as labels:
        with files.directory(tree, "etc") as etc:
            _directory(etc, "/etc", labels)
        with files.directory(sysroot.ostree_fd, f"deploy/{deployment.stateroot}/var") as var:
            if files.lstat(var, _STAMP) is None:
                _directory(var, "/var", labels)
                # Everything before the stamp: nobody looks at it again.
                durable.syncfs(var)
                durable.replace_file(_STAMP, b"", var)
                _one(var, _STAMP, f"/var/{_STAMP}", labels)


def policy_of(tree: int) -> Policy | None:
    """Return the policy of the deployment in the directory `tree`; None where it has none."""
    top = "etc/selinux" if files.lstat(tree, "etc/selinux") else "usr/etc/selinux"
    try:
        with files.directory(tree, top) as fd:
            name = selinux.policy_name(_read(fd, selinux.CONFIG))
            if name is None:
                return None
            with files.directory(fd, selinux.contexts_directory(name)) as contexts:
                names = [each for each in os.listdir(contexts) if selinux.is_file_contexts(each)]
                if selinux.FILE_CONTEXTS not in names:
                    return None
                return Policy(name, {each: _read(contexts, each) for each in sorted(names)})
    except FileNotFoundError:
        return None


def _read(fd: int, name: str) -> bytes:
    return files.read_bytes(fd, name, limits.POLICY_MAX)


def _directory(fd: int, path: str, labels: Labels) -> None:
    _set(fd, labels.lookup(path, os.fstat(fd).st_mode))
    for name in os.listdir(fd):
        if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
            with files.directory(fd, name) as below:
                _directory(below, f"{path}/{name}", labels)
        else:
            _one(fd, name, f"{path}/{name}", labels)


def _one(fd: int, name: str, path: str, labels: Labels) -> None:
    mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
    # There is no lsetxattrat before Linux 6.13: go by the directory's magic link.
    _set(f"/proc/self/fd/{fd}/{name}", labels.lookup(path, mode))


def _set(where: int | str, label: bytes | None) -> None:
    if label is None:
        return
    follow = isinstance(where, int)
    try:
        if os.getxattr(where, _NAME, follow_symlinks=follow) == label:
            return
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
            raise
    try:
        os.setxattr(where, _NAME, label, follow_symlinks=follow)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        raise BridgeError(
            "labelling /etc and /var: their file system has no SELinux labels; use another, or "
            "--disable-selinux"
        ) from None
