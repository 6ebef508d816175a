"""Extended attributes: what is kept to the byte, what is the host's or the store's, limits."""

from __future__ import annotations

import base64
import struct

from support.crafted.blocks import header, pax, record
from support.crafted.case import Case, d, f, legal, ln, refused
from support.images import directory, file, hardlink, symlink

SCHILY, LIBARCHIVE = b"SCHILY.xattr.", b"LIBARCHIVE.xattr."
CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)  # cap_net_raw=ep


def _given(*pairs: tuple[bytes, bytes], form: bytes = SCHILY) -> bytes:
    return pax(*((form + name, value) for name, value in pairs))


# -- kept ----------------------------------------------------------------------------------------

VALUES = {"text": b"v", "a NUL": b"\0", "NULs": bytes(9), "all bytes": bytes(range(256)), "a "
          "newline": b"a\nb=c\n", "equals": b"=", "not UTF-8": b"\xff\xfe", "2,000 bytes": b"v" *
          2000, "digits": b"12 a=b"}  # fmt: skip
KEPT: dict[str, Case] = {
    f"a value: {what}": legal(
        [[_given((b"user.a", value)) + header(b"f"),
          _given((b"user.a", value)) + header(b"d/", b"5", mode=b"0000755\0")]],
        {"f": f(xattrs={"user.a": value}), "d": d(xattrs={"user.a": value})},
    )
    for what, value in VALUES.items()
} | {
    f"a value in base64: {what}": legal(
        [[_given((b"user.a", base64.b64encode(value)), form=LIBARCHIVE) + header(b"f")]],
        {"f": f(xattrs={"user.a": value})},
        engines="umoci reads star's form only",
    )
    for what, value in VALUES.items()
} | {
    f"a name: {name!r:.30}": legal(
        [[_given((name.encode(), b"v")) + header(b"f")]], {"f": f(xattrs={name: b"v"})}
    )
    for name in ("user.a", "user.é", "user.a.b.c", "user.a b", "user.%41", "user." + "n" * 250,
                 "trusted.a", "security.other")
} | {
    "a capability": legal(
        [[_given((b"security.capability", CAPABILITY))
          + header(b"f", mode=b"0000755\0", uid=b"0000001\0")]],
        {"f": f(mode=0o755, uid=1, xattrs={"security.capability": CAPABILITY})},
    ),
    "a capability of a setuid file": legal(
        [[_given((b"security.capability", CAPABILITY)) + header(b"f", mode=b"0004755\0")]],
        {"f": f(mode=0o4755, xattrs={"security.capability": CAPABILITY})},
    ),
    "names are sorted": legal(
        [[_given((b"user.z", b"1"), (b"user.a", b"2"), (b"user.M", b"3")) + header(b"f")]],
        {"f": f(xattrs={"user.z": "1", "user.a": "2", "user.M": "3"})},
    ),
    "the later of two": legal(
        [[_given((b"user.a", b"1"), (b"user.a", b"2")) + header(b"f")]],
        {"f": f(xattrs={"user.a": "2"})},
    ),
    "both forms, one value": legal(
        [[pax((SCHILY + b"user.a", b"1"), (LIBARCHIVE + b"user.a", b"MQ")) + header(b"f")]],
        {"f": f(xattrs={"user.a": "1"})},
    ),
    "an escaped name": legal(
        [[_given((b"user.a%3Db", b"MQ=="), form=LIBARCHIVE) + header(b"f")]],
        {"f": f(xattrs={"user.a=b": "1"})},
        engines="umoci reads star's form only",
    ),
    "a hard link has its target's": legal(
        [[file("a", "x", xattrs={"user.a": "1"}), hardlink("b", "a")]],
        {name: f("x", xattrs={"user.a": "1"}) for name in "ab"},
    ),
    "a directory passed through keeps its own": legal(
        [[directory("d", xattrs={"user.a": "1"})], [file("d/b")]],
        {"d": d(xattrs={"user.a": "1"}), "d/b": ""},
    ),
    "a file that comes again has none": legal(
        [[file("a", "x", xattrs={"user.a": "1"})], [file("a", "x")]], {"a": "x"}
    ),
    "the root's": legal([[directory("./", xattrs={"user.a": "1"})]], {
        "": d(xattrs={"user.a": "1"})}),
    "trusted ones of a link": legal(
        [[symlink("l", "x", xattrs={"trusted.a": "1"})]], {"l": ln("x", xattrs={"trusted.a": "1"})}
    ),
    "fifty": legal(
        [[file("f", xattrs={f"user.{n:02}": str(n) for n in range(50)})]],
        {"f": f(xattrs={f"user.{n:02}": str(n) for n in range(50)})},
    ),
}  # fmt: skip

# -- the host's and the store's ------------------------------------------------------------------

_FOREIGN = ["trusted.overlay.opaque", "trusted.overlay.redirect", "trusted.overlay.metacopy",
            "trusted.overlay.origin", "user.overlay.opaque", "user.overlay.redirect",
            "user.ostreemeta", "security.selinux", "system.nfs4_acl", "com.apple.quarantine",
            "nothing", "security", "user.", "user", "os2.x", "btrfs.compression"]  # fmt: skip
_MAKE = {
    "a file": (lambda xattrs: file("x", xattrs=xattrs), f),
    "a directory": (lambda xattrs: directory("x", xattrs=xattrs), d),
    "a link": (lambda xattrs: symlink("x", "y", xattrs=xattrs), lambda: ln("y")),
}
_UMOCI = "umoci sets what the file system takes"
FOREIGN: dict[str, Case] = {
    f"{name} of {what}": legal(
        [[make({name: "forged"})]], {"x": node()}, [("x", f"xattr {name}")], engines=_UMOCI
    )
    for name in _FOREIGN
    for what, (make, node) in _MAKE.items()
} | {
    f"an empty value of {what}": legal(
        [[make({"user.a": ""})]], {"x": node()}, [("x", "xattr user.a")], engines=_UMOCI
    )
    for what, (make, node) in _MAKE.items()
} | {
    "user ones of a link": legal(
        [[symlink("l", "x", xattrs={"user.a": "1"})]], {"l": "-> x"}, [("l", "xattr user.a")],
        engines=_UMOCI,
    ),
    "a forged ostreemeta does not make root's": legal(
        [[_given((b"user.ostreemeta", bytes(8) + b"\0\0\x89\xed")) + header(b"f")]],
        {"f": ""}, [("f", "xattr user.ostreemeta")], engines=_UMOCI,
    ),
}  # fmt: skip

# -- access control lists ------------------------------------------------------------------------

_NOBODY = 0xFFFFFFFF


def acl(*entries: tuple[int, int, int], version: int = 2) -> bytes:
    """Return a POSIX ACL as the kernel has it: tag, permissions and id of each entry."""
    return struct.pack("<I", version) + b"".join(struct.pack("<HHI", *each) for each in entries)


OWNER, USER, GROUP_OWNER, GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32
GOOD_ACL = acl((OWNER, 6, _NOBODY), (USER, 4, 1000), (GROUP_OWNER, 4, _NOBODY),
               (MASK, 4, _NOBODY), (OTHER, 4, _NOBODY))  # fmt: skip
_BAD_ACLS = {
    "that is another mode": acl((OWNER, 7, _NOBODY), (USER, 4, 9), (GROUP_OWNER, 7, _NOBODY),
                                (MASK, 7, _NOBODY), (OTHER, 7, _NOBODY)),
    "that is only a mode": acl((OWNER, 6, _NOBODY), (GROUP_OWNER, 4, _NOBODY), (OTHER, 4, _NOBODY)),
    "of no entries": acl(),
    "of another version": acl((OWNER, 6, _NOBODY), version=3),
    "cut off": GOOD_ACL[:-3],
    "out of order": acl((OTHER, 4, _NOBODY), (OWNER, 6, _NOBODY), (GROUP_OWNER, 4, _NOBODY)),
    "with an unknown tag": acl((64, 7, _NOBODY)),
    "of noise": b"noise",
    "whose owner has an id": acl((OWNER, 6, 5), (USER, 4, 1000), (GROUP_OWNER, 4, 5),
                                 (MASK, 4, 5), (OTHER, 4, 5)),
}  # fmt: skip
ACLS: dict[str, Case] = {
    "an access list": legal(
        [[_given((b"system.posix_acl_access", GOOD_ACL)) + header(b"f")]],
        {"f": f(xattrs={"system.posix_acl_access": GOOD_ACL})},
    ),
    "a default list": legal(
        [[_given((b"system.posix_acl_default", GOOD_ACL)) + header(b"d/", b"5", mode=b"0000755\0"),
          file("d/f"), directory("d/e")]],
        {"d": d(xattrs={"system.posix_acl_default": GOOD_ACL}), "d/f": "", "d/e": "dir"},
        engines="umoci's directories inherit it",
    ),
    **{
        f"an access list {what}": refused(
            [[_given((b"system.posix_acl_access", value)) + header(b"f")]], "access control list"
        )
        for what, value in _BAD_ACLS.items()
    },
    "a default list of a file": refused(
        [[_given((b"system.posix_acl_default", GOOD_ACL)) + header(b"f")]], "access control list"
    ),
    "an access list of a link": legal(
        [[_given((b"system.posix_acl_access", GOOD_ACL)) + header(b"l", b"2", target=b"x")]],
        {"l": "-> x"}, [("l", "xattr system.posix_acl_access")], engines=_UMOCI,
    ),
}  # fmt: skip

_BAD_CAPABILITIES = {"of noise": b"noise!", "of version 9": struct.pack("<5I", 9 << 24, 0, 0, 0, 0),
                     "cut off": CAPABILITY[:-1], "of version 1": struct.pack("<3I", 1 << 24, 1, 0),
                     "of a namespace": CAPABILITY[:3] + b"\x03" + CAPABILITY[4:] + bytes(4),
                     "too long": CAPABILITY + bytes(4)}  # fmt: skip
CAPABILITIES: dict[str, Case] = {
    f"a capability {what}": refused(
        [[_given((b"security.capability", value)) + header(b"f")]], "file capability"
    )
    for what, value in _BAD_CAPABILITIES.items()
} | {
    "a capability of a directory": legal(
        [[directory("d", xattrs={"security.capability": "x"})]], {"d": "dir"},
        [("d", "xattr security.capability")], engines=_UMOCI,
    ),
    "a capability of a link": legal(
        [[symlink("l", "x", xattrs={"security.capability": "x"})]], {"l": "-> x"},
        [("l", "xattr security.capability")], engines=_UMOCI,
    ),
}  # fmt: skip

# -- limits --------------------------------------------------------------------------------------

_MANY = b"".join(record(SCHILY + b"user.%05d" % n, b"v") for n in range(7000))
LIMITS: dict[str, Case] = {
    "a name of 255 bytes": legal(
        [[_given((b"user." + b"n" * 250, b"v")) + header(b"f")]],
        {"f": f(xattrs={"user." + "n" * 250: "v"})},
    ),
    "a name of 256 bytes": refused(
        [[_given((b"user." + b"n" * 251, b"v")) + header(b"f")]], "extended attribute named"
    ),
    "a value of 64 KiB and a byte": refused(
        [[_given((b"user.a", b"v" * 65537)) + header(b"f")]], "65537 bytes"
    ),
    "64 KiB in all": refused(
        [[_given((b"user.a", b"v" * 40000), (b"user.b", b"v" * 30000)) + header(b"f")]],
        "extended attributes of",
    ),
    "64 KiB of a directory": refused(
        [[_given((b"user.a", b"v" * 65536)) + header(b"d", b"5")]], "extended attributes of"
    ),
    "7,000 small ones": refused([[pax(_MANY) + header(b"f")]], "extended attributes of"),
    "no name": refused([[_given((b"", b"v")) + header(b"f")]], "extended attribute named"),
    "no base64": refused(
        [[_given((b"user.a", b"?"), form=LIBARCHIVE) + header(b"f")]], "not base64"
    ),
    "two forms, two values": refused(
        [[pax((SCHILY + b"user.a", b"1"), (LIBARCHIVE + b"user.a", b"Mg")) + header(b"f")]],
        "two values",
    ),
    "a global one": refused(
        [[pax((SCHILY + b"user.a", b"1"), kind=b"g") + header(b"f")]], "single file"
    ),
}  # fmt: skip

CASES: dict[str, Case] = KEPT | FOREIGN | ACLS | CAPABILITIES | LIMITS
