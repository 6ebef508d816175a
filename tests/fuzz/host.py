"""The host: boot entries, kernel arguments, key files, os-release, names, and what is shown."""

from __future__ import annotations

import argparse
import random
import re
from datetime import UTC, datetime
from typing import Any

import yaml

from bridge import limits
from bridge.cli import options
from bridge.errors import BridgeError, MalformedImage, UsageError
from bridge.ostree import prepare_root
from bridge.ostree.keyfile import KeyFile
from bridge.ostree.prepare_root import Composefs
from bridge.sysroot import (
    block_yaml,
    bls,
    bootentry,
    deployment,
    failed_images,
    grubenv,
    kargs,
    kargs_d,
    settings,
    timestamp,
)
from bridge.sysroot.origin import Origin
from bridge.sysroot.trial import Trial

from . import glib
from .harness import Target


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


# -- boot entries ----------------------------------------------------------------------------


def _entry(data: bytes) -> bls.Entry:
    return bls.parse(_text(data[: limits.BLS_ENTRY_MAX]))


def _entry_comes_back(_data: bytes, found: bls.Entry) -> None:
    if any("\0" in value for _, value in found.fields):
        return
    again = bls.parse(bls.render(found))
    assert sorted(again.fields) == sorted(found.fields)
    bls.version_key(found.get("version"))


def _versions(data: bytes) -> int:
    """Compare the two versions that a NUL parts, as below, equal or above."""
    one, _, other = data.partition(b"\0")
    keys = [bls.version_key(_text(each)) for each in (one, other)]
    return (keys[0] > keys[1]) - (keys[0] < keys[1])


def _as_the_c_library_compares(data: bytes, found: int) -> None:
    one, _, other = (_text(part).encode() for part in data.partition(b"\0"))
    if b"\0" not in other:
        expected = glib.strverscmp(one, other)
        assert found == (expected > 0) - (expected < 0)


def _boot_link(data: bytes) -> deployment.BootLink:
    return deployment.BootLink.parse(_text(data))


def _boot_link_is_below(data: bytes, found: deployment.BootLink) -> None:
    for part in (found.stateroot, found.bootcsum):
        assert part not in ("", ".", "..") and not {"/", "\0"} & set(part)
    digits = _text(data).rpartition("/")[2]
    assert str(found) == _text(data).removesuffix(digits) + str(int(digits))


def _deployment_name(data: bytes) -> tuple[str, int] | None:
    return deployment.parse_name(_text(data))


def _os_release(data: bytes) -> dict[str, str]:
    return bootentry.parse_os_release(_text(data[: limits.OS_RELEASE_MAX]))


def _title(data: bytes) -> str:
    """Make a title of a name and a version that a NUL parts."""
    name, _, version = _text(data).partition("\1")
    return bootentry.compose_title(name, version, "default", 0)


def _title_is_one_line(_data: bytes, found: str) -> None:
    entry = bls.Entry((("title", found), ("options", "rw")))
    assert found.isprintable()
    assert bls.parse(bls.render(entry)) == entry


def _arguments(data: bytes) -> kargs.Arguments:
    return kargs.split(_text(data))


def _arguments_come_back(data: bytes, found: kargs.Arguments) -> None:
    if _text(data).count('"') % 2 == 0:
        assert kargs.split(kargs.join(found)) == found
    assert kargs.split(_text(data) + "\n") == found or '"' in _text(data)
    for each in found[:50]:
        assert kargs.without(found, kargs.key(each)).count(each) == 0


# -- prepare-root.conf ------------------------------------------------------------------------


def _prepare_root(data: bytes) -> Composefs:
    try:
        return prepare_root.parse(data.decode())
    except UnicodeDecodeError:
        raise BridgeError("not text") from None


def _prepare_root_as_glib_reads_it(data: bytes, found: Composefs) -> None:
    theirs = None if b"\0" in data or data.endswith(b"\r") else glib.key_file(data)
    if theirs is not None and b"\\" not in data:
        value = theirs.get(("composefs", "enabled"), "no")
        assert value == found.value or (value, found) in (
            *(("true", Composefs.YES), ("1", Composefs.YES)),
            *(("false", Composefs.NO), ("0", Composefs.NO)),
        )


def _image_arguments(data: bytes) -> kargs.Arguments:
    return kargs_d.parse(_text(data[: limits.KARGS_FILE_MAX]), "the image", "x86_64")


def _image_arguments_are_applied(_data: bytes, found: kargs.Arguments) -> None:
    assert kargs.split(kargs.join(found)) == found or any('"' in each for each in found)
    there = kargs_d.change(("root=x",), (), found)
    assert there[0] == "root=x"
    assert kargs_d.change(there, found, found) == there
    assert set(kargs_d.change(there, found, ())) <= {"root=x"}


def _deployment_settings(data: bytes) -> settings.DeploymentSettings:
    text = _text(data[: limits.SETTINGS_MAX])
    default = settings.DeploymentSettings()
    return settings.read_text(text, "here", "deployments", default, settings.deployments)


def _deployment_settings_can_be_kept_to(_data: bytes, found: settings.DeploymentSettings) -> None:
    assert found.keep is None or found.keep >= limits.DEPLOYMENTS_KEPT
    assert found.keep_age is None or found.keep_age >= 0


# -- key files -------------------------------------------------------------------------------


def _key_file(data: bytes) -> KeyFile:
    try:
        return KeyFile.parse(data.decode())
    except UnicodeDecodeError:
        raise BridgeError("not text") from None


def _key_file_as_glib_reads_it(data: bytes, found: KeyFile) -> None:
    # GLib's texts end at a NUL, and it keeps a carriage return at the very end.
    theirs = None if b"\0" in data or data.endswith(b"\r") else glib.key_file(data)
    for (group, key), value in (theirs or {}).items():
        if value is not None and "\\" not in found.text:
            assert found.get(group, key) == value, (group, key)
    for value in ("", " a b\t", "\\s;\n", "é"):
        changed = found.with_value("origin", "new-key", value)
        assert KeyFile.parse(changed.text).get("origin", "new-key") == value
        if theirs is not None:
            read = glib.key_file(changed.text.encode())
            assert read is not None and read["origin", "new-key"] == value
    gone = found.with_value("origin", "a", None)
    assert gone.get("origin", "a") is None
    assert "origin" not in found.without_group("origin").groups


# -- health ----------------------------------------------------------------------------------


def _environment(data: bytes) -> dict[bytes, bytes]:
    return grubenv.parse(data)


def _environment_can_be_changed(data: bytes, found: dict[bytes, bytes]) -> None:
    change: dict[bytes, bytes | None] = {b"boot_counter": b"3", b"boot_success": None}
    try:
        changed = grubenv.changed(data, change)
    except BridgeError:
        return  # it is full
    assert len(changed) == len(data)
    found.pop(b"boot_success", None)
    assert grubenv.parse(changed) == found | {b"boot_counter": b"3"}


def _failed_images(data: bytes) -> tuple[str, ...]:
    return failed_images.parse(_text(data))


def _failed_images_come_back(_data: bytes, found: tuple[str, ...]) -> None:
    assert failed_images.parse("".join(f"{each}\n" for each in found)) == found


def _trial(data: bytes) -> Trial:
    return Trial.of(Origin(_key_file(data).text))


def _trial_comes_back(data: bytes, found: Trial) -> None:
    assert Trial.of(found.written_to(Origin(_key_file(data).text))) == found


# -- what is shown ---------------------------------------------------------------------------


def _timestamp(data: bytes) -> str | None:
    return timestamp.normalise(_text(data))


def _timestamp_is_that_moment(data: bytes, found: str | None) -> None:
    if found is None:
        return
    assert found.isascii() and found.endswith("Z")
    assert timestamp.normalise(found) == found
    text = _text(data).strip()
    if ":60" not in text and not text.startswith(("0001-01-01", "9999-12-31")):
        moment = datetime.fromisoformat(re.sub(r"\.[0-9]+", "", text.upper())).astimezone(UTC)
        assert datetime.fromisoformat(found).replace(microsecond=0) == moment


def _yaml(data: bytes) -> str:
    """Write what the bytes are taken for: texts in a mapping, a list, a list of lists."""
    return block_yaml.render(_yaml_value(data))


def _yaml_value(data: bytes) -> Any:
    texts = _text(data[:2000]).split("\1")
    short = {each[:80]: each for each in texts}
    return {"a": short, "b": texts, "c": [[texts, {"d": None}], [len(data), True, {}]]}


def _yaml_reads_back(data: bytes, found: str) -> None:
    assert yaml.safe_load(found) == _yaml_value(data)


def _rate(data: bytes) -> int | None:
    try:
        return options._rate(_text(data))
    except argparse.ArgumentTypeError:
        return None


def _rate_is_plain(data: bytes, found: int | None) -> None:
    assert found is None or found >= 1024
    if data.isdigit() and len(data) < 15 and int(data) >= 1024:
        assert found == int(data)


def _versions_mutated(data: bytes, chance: random.Random) -> bytes:
    parts = [b"0", b"00", b"1", b"01", b"9", b"10", b"-", b".", b"~", b"a", b"rc", b"9" * 5000, b""]
    one = b"".join(chance.choices(parts, k=chance.randint(0, 5)))
    other = b"".join(chance.choices(parts, k=chance.randint(0, 5)))
    same = chance.choice((b"", data[:5].replace(b"\0", b"")))
    return same + one + b"\0" + same + other


TARGETS = [
    Target(
        "boot-entry",
        lambda: [
            b"title Fake OS 1.0 (ostree:0)\nversion 2\noptions rw ostree=/ostree/boot.1/a/b/0\n"
            b"linux /ostree/a-b/vmlinuz\ninitrd /i\ninitrd /j\nx-note  a\tb\n# note\naboot\n"
        ],
        _entry,
        (),
        _entry_comes_back,
        (b"\n", b" ", b"\t", b"\0", b"\r", b"version 99", b"\xe2\x80\xa8", b"\x1c", b"initrd"),
    ),
    Target(
        "versions",
        lambda: [b"6.1.0-9\x006.1.0-10", b"1\x002"],
        _versions,
        (),
        _as_the_c_library_compares,
        mutate=_versions_mutated,
    ),
    Target(
        "boot-link",
        lambda: [b"/ostree/boot.1/default/" + b"cd" * 32 + b"/10", b"/ostree/boot.0/a/b/0"],
        _boot_link,
        (BridgeError,),
        _boot_link_is_below,
        (b"..", b"/", b"\0", b"boot.1", b"\n", "٣".encode(), b"9" * 5000),
    ),
    Target(
        "deployment-name",
        lambda: [b"ab" * 32 + b".0", b"ab" * 32 + b".12"],
        _deployment_name,
        words=(b".", b"\n", "٣".encode(), b"9" * 5000),
    ),
    Target(
        "os-release",
        lambda: [b'# os\nID=debian\nPRETTY_NAME="Debian \\"12\\""\nVERSION_ID=\'12\'\nA=b\\ c\n'],
        _os_release,
        words=(b'"', b"'", b"\\", b"\n", b"=", b"#", b"\0", b"$("),
    ),
    Target(
        "boot-title",
        lambda: [b"Debian 12\x0142", b"Os\x01"],
        _title,
        (),
        _title_is_one_line,
        (b"\n", b"\r", b"\0", b"\x1b[2J", b"\xe2\x80\xa8", b"\x85", b"\noptions init=/x", b" "),
    ),
    Target(
        "kernel-arguments",
        lambda: [b'rw quiet a="b c" "d e=f" console=tty0 console=ttyS0\n'],
        _arguments,
        (),
        _arguments_come_back,
        (b'"', b" ", b"=", b"\t", b"\n", b"\xc2\xa0"),
    ),
    Target(
        "prepare-root",
        lambda: [
            b"# boot\n[composefs]\nenabled = yes\n\n[sysroot]\nreadonly=true\n",
            b"[composefs]\nkeypath=/etc/key\nenabled=signed\n[etc]\ntransient=true\n",
        ],
        _prepare_root,
        (BridgeError,),
        _prepare_root_as_glib_reads_it,
        (b"enabled=", b"maybe", b"verity", b"true", b"0", b" ", b"\\s", b"\n", b"[composefs]"),
    ),
    Target(
        "image-kernel-arguments",
        lambda: [
            b'kargs = ["a=1 quiet", \'b="c d"\']\nmatch-architectures = ["x86_64", "aarch64"]\n',
            b'# note\nkargs = [\n  "console=ttyS0",\n]\n',
        ],
        _image_arguments,
        (MalformedImage,),
        _image_arguments_are_applied,
        (b'"', b"'", b"[", b"]", b"=", b"\\n", b"\\u0000", b"\n", b"9" * 5000, b"[" * 2000, b"a-b"),
    ),
    Target(
        "settings",
        lambda: [b'[deployments]\nkeep = 5\nkeep-age = "30d"\n[health]\nattempts = 3\n'],
        _deployment_settings,
        (UsageError,),
        _deployment_settings_can_be_kept_to,
        (
            b"-",
            b"_",
            b"0",
            b'"',
            b"true",
            b"\n",
            b"9" * 5000,
            "٣".encode(),
            b"d",
            b"[",
            b"=",
            b"1e9",
        ),
    ),
    Target(
        "key-file",
        lambda: [
            b"# mine\n[origin]\na=b\nrefspec = fedora:x\n\n[libostree-transient]\npinned=true\n",
            b"[origin]\ncontainer-image-reference=ostree-unverified-registry:quay.io/a\n[origin]\na=c\n",
        ],
        _key_file,
        (BridgeError,),
        _key_file_as_glib_reads_it,
        (
            b"[origin]\n",
            b"\n",
            b"=",
            b" ",
            b"\t",
            b"\r",
            b"\\s",
            b"\\",
            b"#",
            b"[",
            b"]",
            b"a=",
            b"\0",
        ),
    ),
    Target(
        "grub-environment",
        lambda: [
            b"# GRUB Environment Block\n# WARNING\nsaved_entry=x\nboot_success=1\n" + b"#" * 99,
            b"# GRUB Environment Block\na=b\\\nc\nd=\\\\\n" + b"#" * 9,
        ],
        _environment,
        (BridgeError,),
        _environment_can_be_changed,
        (b"\n", b"\\", b"=", b"#", b"\nboot_counter=-1\n", b"\nboot_success", b"\\\n", b"\0"),
    ),
    Target(
        "failed-images",
        lambda: [b"sha256:" + b"ab" * 32 + b"\nsha256:" + b"cd" * 32 + b"\n"],
        _failed_images,
        (),
        _failed_images_come_back,
        (b"\n", b"sha512:", b"\r", b"\0", b"\xe2\x80\xa8", "٣".encode()),
    ),
    Target(
        "trial",
        lambda: [
            b"[origin]\na=b\n[libostree-transient]\nbootc-py-health=failed\nbootc-py-boots=3\n",
            b"[libostree-transient]\nbootc-py-boots=1\nbootc-py-boot-id=0-1\npinned=true\n",
        ],
        _trial,
        (BridgeError,),
        _trial_comes_back,
        (b"good", b"trial", b"boots=", b"9" * 5000, "٣".encode(), b"-1", b"[", b"\n", b"\\s"),
    ),
    Target(
        "timestamp",
        lambda: [
            b"2023-10-14T19:22:15.123456789Z",
            b"2024-01-01T00:30:00+02:00",
            b"0001-01-01t00:00:00z",
        ],
        _timestamp,
        (),
        _timestamp_is_that_moment,
        (b":60", b":61", b"+24:00", b"-99:99", "٣".encode(), b"Z", b"9999-12-31T23:59:59", b" "),
    ),
    Target(
        "yaml",
        lambda: [
            b"plain\x01quay.io/a/b:t\x01- x\x01yes\x01\x01a: b\x01#c\x01 d ",
            b"\xe2\x80\xa8\x01\n\x01\t",
        ],
        _yaml,
        (),
        _yaml_reads_back,
        (
            b"\x01",
            b": ",
            b"- ",
            b"#",
            b"null",
            b"0x1",
            b"1e3",
            b"~",
            b"!",
            b"&a",
            b"*a",
            b"\xc2\x85",
            b"\xef\xbb\xbf",
            b"\xef\xbf\xbe",
            b"=",
            b"<<",
            b"0b1",
            b"1:30",
            b"\x7f",
            b"/a:",
            b"2001-01-01",
        ),
    ),
    Target(
        "rate",
        lambda: [b"500k", b"2MiB/s", b"1.5G", b"1048576"],
        _rate,
        (),
        _rate_is_plain,
        (b"k", b"M", b"Gi", b"e", b"inf", b"nan", b"_", b".", b"-", b"/s", "٣".encode(), b"1e308"),
    ),
]
