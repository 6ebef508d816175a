"""What a new root gets beside its deployment: fstab, root's ssh keys, and where it came from."""

from __future__ import annotations

import base64
import json
import os

from bridge import limits
from bridge.errors import UsageError
from bridge.ostree import durable
from bridge.pull.images import StoredImage
from bridge.sysroot import files
from bridge.sysroot.image_metadata import parse

ALEPH = ".bootc-aleph.json"


def write_fstab(tree: int, boot_spec: str | None, esp_spec: str | None) -> None:
    """Have the deployment `tree` mount `/boot`, and the EFI system partition at `/boot/efi`.

    Lines that the image has for these places stay as they are.
    """
    with files.directory(tree, "etc", create=0o755) as etc:
        try:
            text = files.read_bytes(etc, "fstab", limits.MIB).decode("utf-8", "surrogateescape")
        except FileNotFoundError:
            text = ""
        present = {line.split()[1] for line in text.splitlines() if _is_mount(line)}
        lines = []
        if boot_spec and "/boot" not in present:
            lines.append(f"{boot_spec} /boot auto defaults 0 2\n")
        if esp_spec and "/boot/efi" not in present:
            options = "umask=0077,shortname=winnt,nofail,x-systemd.automount"
            lines.append(f"{esp_spec} /boot/efi vfat {options} 0 2\n")
        if lines:
            if text and not text.endswith("\n"):
                text += "\n"
            data = (text + "".join(lines)).encode("utf-8", "surrogateescape")
            durable.replace_file("fstab", data, etc)


def _is_mount(line: str) -> bool:
    return len(line.split()) > 1 and not line.lstrip().startswith("#")


def write_ssh_keys(tree: int, keys: str) -> None:
    """Have `root` of the deployment `tree` accept these keys: at boot, systemd-tmpfiles puts them
    where root's home is, as `bootc install --root-ssh-authorized-keys` does it."""
    if not keys.strip():
        raise UsageError("the file with root's ssh keys is empty")
    home = _root_home(tree)
    encoded = base64.b64encode(keys.encode()).decode()
    text = (
        f"d /{home}/.ssh 0700 root root -\n"
        f"f~ /{home}/.ssh/authorized_keys 600 root root - {encoded}\n"
    )
    with files.directory(tree, "etc/tmpfiles.d", create=0o755) as fd:
        durable.replace_file("bootc-root-ssh.conf", text.encode(), fd)


def _root_home(tree: int) -> str:
    """Return where `/root` is: systemd-tmpfiles does not go through a link that anybody may own."""
    try:
        return os.readlink("root", dir_fd=tree).strip("/")
    except OSError:
        return "root"


def aleph(image: StoredImage, source: str, target: str, selinux: bool) -> str:
    """Return the text of the aleph file: which image the machine began with.

    Keys as bootc's; `selinux` is whether files were labelled where there is a policy.
    """
    found = parse(image.commit.metadata)
    document = {
        "image": source,
        "digest": image.manifest_digest,
        "target-image": target,
        "labels": dict(sorted(image.config.labels.items())),
        "version": image.version,
        "timestamp": None if found is None else found.timestamp,
        "kernel": os.uname().release,
        "selinux": "enabled" if selinux else "disabled",
    }
    return json.dumps(document, ensure_ascii=False, sort_keys=True) + "\n"
