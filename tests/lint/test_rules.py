"""Each lint on small roots: what it finds, and what it leaves in peace."""

from __future__ import annotations

import os
from typing import Any

import pytest
from support.lint import GOOD, Look, Tree, build, check, paths

from bridge.lint import sources
from bridge.lint.model import Level
from bridge.lint.registry import LINTS
from bridge.lint.run import run

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\n-----END OPENSSH PRIVATE KEY-----\n"
PASSWD = "root:x:0:0:root:/root:/bin/sh\n"
GROUP = "root:x:0:\n"
BASE = "usr/share/doc/bootc/baseimage/base"
ROOT_AND_LINK: Tree = {"sysroot": None, "ostree": "-> sysroot/ostree"}
API = ("dev", "proc", "sys", "run", "tmp", "var")
CONF = "ostree/prepare-root.conf"
KARGS = "usr/lib/bootc/kargs.d"
MIB = bytes(1024 * 1024)


def without(*names: str) -> dict[str, Any]:
    return {name: None for name in API if name not in names}


CASES: list[tuple[str, Tree, list[str]]] = [
    ("var-run", {}, []),
    ("var-run", {"var/run": "-> ../run"}, []),
    ("var-run", {"var/run/x": "x"}, ["/var/run"]),
    ("var-run", {"var/run": "a file"}, ["/var/run"]),
    ("buildah-injected", {}, []),
    ("buildah-injected", {"etc/hostname": "h", "etc/resolv.conf": "-> ../run/x"}, []),
    ("buildah-injected", {"etc/hostname": "", "etc/resolv.conf": ""},
     ["/etc/hostname", "/etc/resolv.conf"]),
    ("etc-usretc", {}, []),
    ("etc-usretc", {"etc": None}, []),
    ("etc-usretc", {"usr/etc": None}, []),
    ("etc-usretc", {"etc": None, "usr/etc/x": "x"}, ["/usr/etc"]),
    ("kernel", {}, []),
    ("kernel", {"usr/lib/modules": "a file"}, []),
    ("kernel", {"usr/lib/modules/6/vmlinuz": "k", "usr/lib/modules/7/x.ko": "m"}, []),
    ("kernel", {"usr/lib/modules/6/vmlinuz": "k", "usr/lib/modules/7/vmlinuz": "-> nowhere"}, []),
    ("kernel", {"usr/lib/modules/6/vmlinuz": "k", "usr/lib/modules/7/vmlinuz": "-> ../6/vmlinuz"},
     ["/usr/lib/modules/6", "/usr/lib/modules/7"]),
    ("bootc-kargs", {}, []),
    ("bootc-kargs", {KARGS: None}, []),
    ("bootc-kargs", {f"{KARGS}/a.toml": 'kargs = ["quiet"]', f"{KARGS}/README": "["}, []),
    ("bootc-kargs", {f"{KARGS}/a.toml": 'kargs = []\nmatch-architectures = ["riscv64"]'}, []),
    ("bootc-kargs", {f"{KARGS}/a.toml": "-> /usr/a", "usr/a": "kargs = []"}, []),
    ("bootc-kargs", {f"{KARGS}/a.toml": ""}, [f"/{KARGS}/a.toml (has no kargs)"]),
    ("bootc-kargs", {f"{KARGS}/a.toml": "kargs = [1]"},
     [f"/{KARGS}/a.toml (what should be a list of texts is none)"]),
    ("bootc-kargs", {f"{KARGS}/a.toml": "kargs = []\nmatch-architecture = []"},
     [f"/{KARGS}/a.toml (has the unknown key 'match-architecture')"]),
    ("bootc-kargs", {f"{KARGS}/a.toml": b"kargs = ['\xff']"},
     [f"/{KARGS}/a.toml (it is not text)"]),
    ("bootc-kargs", {f"{KARGS}/a.toml": None}, [f"/{KARGS}/a.toml (is no file)"]),
    ("bootc-kargs", {KARGS: "not a directory"}, [f"/{KARGS}"]),
    ("utf8", {"é": "-> ü"}, []),
    ("utf8", {"usr/bad\udcffname": "x", "usr/l": "-> to\udcfe"},
     [r"/usr/bad\xffname", r"/usr/l (leads to to\xfe)"]),
    ("utf8", {"a\udcc3": None, "a\udcc3/b": ""}, [r"/a\xc3"]),
    ("api-base-directories", without(), []),
    ("api-base-directories", without("var"), ["/var"]),
    ("api-base-directories", without("run", "tmp") | {"run": "-> /tmp", "tmp": "x"},
     ["/run", "/tmp"]),
    ("baseimage-root", ROOT_AND_LINK, []),
    ("baseimage-root", {}, ["/sysroot", "/ostree"]),
    ("baseimage-root", {"sysroot": "x", "ostree": None}, ["/sysroot", "/ostree"]),
    ("baseimage-root", {"sysroot": None, "ostree": "-> /sysroot/ostree"},
     ["/ostree (leads to '/sysroot/ostree')"]),
    ("baseimage-root", {**ROOT_AND_LINK, f"{BASE}/sysroot": None},
     [f"/{BASE}/ostree"]),
    ("baseimage-root",
     {**ROOT_AND_LINK, f"{BASE}/sysroot": None, f"{BASE}/ostree": "-> sysroot/ostree"}, []),
    ("baseimage-composefs", {}, [f"/usr/lib/{CONF}"]),
    ("baseimage-composefs", {f"usr/lib/{CONF}": "[composefs]\nenabled=no\n"},
     [f"/usr/lib/{CONF}"]),
    ("baseimage-composefs", {f"usr/lib/{CONF}": "[sysroot]\nreadonly=true\n"},
     [f"/usr/lib/{CONF}"]),
    ("baseimage-composefs", {f"usr/lib/{CONF}": "[composefs]\nenabled=yes\n"}, []),
    ("baseimage-composefs", {f"usr/lib/{CONF}": "[composefs]\nenabled=signed\n"}, []),
    ("baseimage-composefs", {f"usr/lib/{CONF}": "[composefs]\nenabled=maybe\n"}, []),
    ("baseimage-composefs",
     {f"etc/{CONF}": "[composefs]\nenabled=no\n", f"usr/lib/{CONF}": "[composefs]\nenabled=1\n"},
     [f"/etc/{CONF}"]),
    ("baseimage-composefs", {f"usr/lib/{CONF}": "enabled=yes\n"},
     [f"/usr/lib/{CONF} (a key file has a line that is no key and value: 'enabled=yes')"]),
    ("baseimage-composefs",
     {f"usr/lib/{CONF}": "[composefs]\nenabled=yes\n", f"{BASE}/usr": None},
     [f"/{BASE}/usr/lib/{CONF}"]),
    ("var-log", {}, []),
    ("var-log", {"var/log/a/empty": "", "var/log/README": "-> /usr/x"}, []),
    ("var-log", {"var/log/a/b.log": "x", "var/log/dpkg.log": "x", "var/log": None},
     ["/var/log/a/b.log", "/var/log/dpkg.log"]),
    ("nonempty-boot", {"boot": None}, []),
    ("nonempty-boot", {"boot/EFI/Linux/a.efi": "x"}, []),
    ("nonempty-boot", {}, ["/boot"]),
    ("nonempty-boot", {"boot": "-> /usr"}, ["/boot"]),
    ("nonempty-boot", {"boot/vmlinuz-6": "x", "boot/grub/grub.cfg": "x"},
     ["/boot/grub", "/boot/vmlinuz-6"]),
    ("nonempty-run-tmp", {}, []),
    ("nonempty-run-tmp", {"run": None, "tmp": None}, []),
    ("nonempty-run-tmp", {"run/systemd/resolve/stub-resolv.conf": "x"}, []),
    ("nonempty-run-tmp", {"run/systemd/resolve": None}, []),
    ("nonempty-run-tmp", {"run/systemd/resolve/other": "x"},
     ["/run/systemd", "/run/systemd/resolve", "/run/systemd/resolve/other"]),
    ("nonempty-run-tmp", {"run/dnf": None, "run/systemd/resolve": None, "tmp/a/b": "x"},
     ["/run/dnf", "/tmp/a", "/tmp/a/b"]),
    ("nonempty-run-tmp", {"run/.containerenv": ""}, ["/run/.containerenv"]),
    ("sysusers", {}, []),
    ("sysusers", {"etc/group": GROUP}, []),
    ("sysusers", {"etc/passwd": PASSWD, "etc/group": GROUP},
     ["/etc/passwd (add: u root 0)", "/etc/group (add: g root 0)"]),
    ("sysusers", {"etc/passwd": PASSWD, "etc/group": GROUP + "kvm:x:103:\nmail:x:8:\n",
                  "usr/lib/sysusers.d/a.conf": '# no\n\nu! root 0 "Super User" /root\ng mail 8',
                  "usr/lib/sysusers.d/b": "g kvm 103"},
     ["/etc/group (add: g kvm 103)"]),
    ("sysusers", {"etc/passwd": PASSWD + "bad\n+nis\n# no\nx:x:minus:0::/:/\nu1:x:7:7:::\n",
                  "usr/lib/sysusers.d/a.conf": 'u root 0\nu1 "without end\nr - 5-9\nm root a'},
     ["/etc/passwd (add: u u1 7)"]),
    ("var-tmpfiles", {"var": None, "usr/lib/tmpfiles.d/a.conf": "d /var/x"}, []),
    ("var-tmpfiles", {"var/a": None, "usr/lib/tmpfiles.d/a.conf": "#\n\nd\nd /var/a 0755 - - -"},
     []),
    ("var-tmpfiles", {"var/a": None, "var/s p": "-> x y", "var/t\t": None,
                      "etc/tmpfiles.d/a.conf": 'd "/var/s p"\nd /var/t\\x09'}, ["/var/a (add: @)"]),
    ("var-tmpfiles", {"var/run": "-> /run", "var/f": "x", "var/a/b": "-> ../é q"},
     ["/var/a (add: @)", r"/var/a/b (add: L /var/a/b - - - - ../\xc3\xa9\x20q)",
      "/var/f", "/var/run (add: L /var/run - - - - /run)"]),
    # A line may name a path by way of a link.
    ("var-tmpfiles", {"root": "-> var/roothome", "var/roothome/.ssh": None,
                      "usr/lib/tmpfiles.d/a.conf": "d /root/.ssh 0700\nd /var/roothome\nd /no/way"},
     []),
    ("large-caches", {"var/cache/apt/archives/a.deb": MIB[:-1], "var/cache/debconf/x": MIB}, []),
    ("large-caches", {"var/cache/apt/archives/a.deb": MIB, "var/cache/x/y": MIB,
                      "var/cache/dnf/a/b": MIB, "root/.cache/pip/x": MIB * 2,
                      "var/lib/apt/lists/a": MIB[:9], "usr/cached": MIB},
     ["/root/.cache (2.0 MiB in 1 files)", "/var/cache/apt (1.0 MiB in 1 files)",
      "/var/cache/dnf (1.0 MiB in 1 files)", "/var/cache (1.0 MiB in 1 files)"]),
    ("large-caches", {"usr/lib/p/__pycache__/a.cpython-311.pyc": MIB, "usr/lib/p/a.py": "x"}, []),
    ("large-caches", {"usr/lib/p/__pycache__/a.b.cpython-311.opt-1.pyc": MIB,
                      "usr/lib/p/a.b.py": "x"}, []),
    ("large-caches", {"usr/lib/p/__pycache__/a.cpython-311.pyc": MIB},
     ["/usr/lib/p/__pycache__ (1.0 MiB in 1 files)"]),
    ("volatile-files", {"etc/machine-id": "", "var/lib/dbus/machine-id": "-> /etc/machine-id",
                        "etc/ssh/sshd_config": "x", "var/cache/a": "", "var/lib/x": "x",
                        "var/cache/debconf/config.dat": "x",
                        "usr/lib/var/cache/y": "x"}, []),
    ("volatile-files", {"etc/machine-id": "uninitialized\n"}, []),
    ("volatile-files", {"etc/machine-id": "f" * 32 + "\n", "var/lib/dbus/machine-id": "f" * 33},
     ["/etc/machine-id", "/var/lib/dbus/machine-id"]),
    ("volatile-files", {"etc/ssh/ssh_host_rsa_key": "x", "etc/ssh/ssh_host_rsa_key.pub": "x",
                        "var/cache/ldconfig/aux-cache": "x", "var/lib/apt/lists/a_b": "x",
                        "var/lib/systemd/random-seed": "x", "var/tmp/a/b": "x",
                        "var/cache/man/index.db": "x", "root/.bash_history": "ls",
                        "usr/lib/sysimage/rpm/rpmdb.sqlite-wal": "x",
                        "usr/lib/sysimage/rpm/rpmdb.sqlite": "x",
                        "var/lib/dhcp/dhclient.leases": "x"},
     ["/etc/ssh/ssh_host_rsa_key", "/etc/ssh/ssh_host_rsa_key.pub", "/root/.bash_history",
      "/usr/lib/sysimage/rpm/rpmdb.sqlite-wal", "/var/cache/ldconfig/aux-cache",
      "/var/cache/man/index.db", "/var/lib/apt/lists/a_b", "/var/lib/dhcp/dhclient.leases",
      "/var/lib/systemd/random-seed", "/var/tmp/a/b"]),
    ("secrets", {"etc/shadow": "root:*:1::::::\nx:!:1::::::\ny:!$y$locked:1\nz::1\n"}, []),
    ("secrets", {"etc/shadow": "root:$y$j9T$x:1::::::\na:*:1\n", "etc/shadow-": "a:$1$x$y:1"},
     ["/etc/shadow (of root)", "/etc/shadow- (of a)"]),
    ("secrets", {"etc/shadow": "".join(f"u{n}:$6$x:1\n" for n in range(5))},
     ["/etc/shadow (of u0, u1, u2 and 2 more)"]),
    ("secrets", {"etc/ssh/ssh_host_ed25519_key": "x", "etc/ssh/ssh_host_ed25519_key.pub": "x"},
     ["/etc/ssh/ssh_host_ed25519_key"]),
    ("secrets", {"root/.ssh/id_ed25519": KEY, "etc/app.pem": "a cert\n" + KEY,
                 "usr/lib/app/key": KEY.replace("OPENSSH", "EC"),
                 "srv/pgp": "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nx",
                 "srv/pkcs8": "-----BEGIN ENCRYPTED PRIVATE KEY-----\r\nx",
                 "srv/putty": "PuTTY-User-Key-File-3: ssh-ed25519\n",
                 "srv/age": "# a\nAGE-SECRET-KEY-1" + "Q" * 58},
     ["/etc/app.pem", "/root/.ssh/id_ed25519", "/srv/age", "/srv/pgp", "/srv/pkcs8", "/srv/putty",
      "/usr/lib/app/key"]),
    ("secrets", {"usr/lib/python3/test/keycert.pem": KEY, "usr/share/doc/a/key": KEY,
                 "root/.ssh/id_rsa.pub": "ssh-rsa AAAA",
                 "etc/a.pem": KEY.replace("PRIVATE", "PUBLIC"),
                 "usr/bin/tool": 'print("-----BEGIN PRIVATE KEY-----")', "etc/empty": "",
                 "srv/large": KEY + " " * 70_000}, []),
    ("secrets", {"root/.netrc": "machine a login b password c",
                 "home/u/.netrc": "machine a login b",
                 "root/.aws/credentials": "[default]\naws_secret_access_key = abc",
                 "root/.config/containers/auth.json": '{"auths": {"q": {"auth": "YTpi"}}}',
                 "etc/ostree/auth.json": '{"auths": {"q": {}}}',
                 "root/.docker/config.json": '{"auths":{"q":{"identitytoken":"x"}}}',
                 "root/.docker/other/config.json": '{"auth":"x"}',
                 "root/.git-credentials": "https://me:tok@git.example\n",
                 "root/.npmrc": "//r/:_authToken=npm_x", "home/u/.npmrc": "//r/:_authToken=${T}",
                 "root/.pypirc": "[pypi]\npassword = x", "root/.pgpass": "h:5432:*:u:pw",
                 "etc/wireguard/wg0.conf": "[Interface]\nPrivateKey = yAnz5TF+lXXJte14tji3zlMNq\n",
                 "etc/NetworkManager/system-connections/w.nmconnection": "[wifi]\npsk=abcd",
                 "root/.kube/config": "users:\n- name: a\n  user:\n    token: abc",
                 "etc/apt/auth.conf.d/a.conf": "machine x login y password z"},
     ["/etc/NetworkManager/system-connections/w.nmconnection", "/etc/apt/auth.conf.d/a.conf",
      "/etc/wireguard/wg0.conf", "/root/.aws/credentials", "/root/.config/containers/auth.json",
      "/root/.docker/config.json", "/root/.git-credentials", "/root/.kube/config", "/root/.netrc",
      "/root/.npmrc", "/root/.pgpass", "/root/.pypirc"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "tree", "expected"), CASES)
def test_a_lint_finds_what_is_wrong(name: str, tree: Tree, expected: list[str], look: Look) -> None:
    subject = look(tree)
    own = {
        path: f"d /{path} {node.mode:04o} {node.uid} {node.gid} - -"
        for path, node in subject.contents.nodes.items()
    }
    filled = [each.replace("@", own.get(each[1:].partition(" ")[0], "@")) for each in expected]
    assert paths(check(name, subject)) == filled


def test_every_lint_is_shown_to_find_something_and_nothing() -> None:
    found = {name for name, _, expected in CASES if expected}
    quiet = {name for name, _, expected in CASES if not expected}
    elsewhere = {"timestamps", "initramfs"}
    assert found == quiet == {lint.name for lint in LINTS} - elsewhere


@pytest.mark.parametrize("lint", LINTS, ids=lambda lint: lint.name)
def test_a_lint_finds_nothing_in_a_good_root(lint: Any, look: Look) -> None:
    known: Tree = {
        **GOOD,
        "etc/passwd": PASSWD,
        "etc/group": GROUP,
        "usr/lib/sysusers.d/a.conf": "u root 0 - - -",
    }
    subject = look(known, 2**40)
    assert lint.not_for(subject) == ""
    assert list(lint.check(subject)) == []


def test_bootcs_lints_have_its_names_and_levels() -> None:
    fatal = {
        "var-run", "etc-usretc", "bootc-kargs", "kernel", "utf8", "api-base-directories",
        "baseimage-root",
    }  # fmt: skip
    warning = {
        "buildah-injected", "baseimage-composefs", "var-log", "var-tmpfiles", "sysusers",
        "nonempty-boot", "nonempty-run-tmp",
    }  # fmt: skip
    levels = {lint.name: lint.level for lint in LINTS}
    ours = {
        "timestamps": Level.WARNING,
        "volatile-files": Level.WARNING,
        "initramfs": Level.WARNING,
        "secrets": Level.FATAL,
        "large-caches": Level.WARNING,
    }
    assert levels == {
        **dict.fromkeys(fatal, Level.FATAL), **dict.fromkeys(warning, Level.WARNING), **ours
    }  # fmt: skip
    assert [lint.name for lint in LINTS] == sorted(levels)


def test_names_of_accounts_are_the_images_own(look: Look) -> None:
    me, group = os.getuid(), os.getgid()
    tree = {"var/a": None, "etc/passwd": f"me:x:{me}:0:::\nyou:x:{me}:0:::\n"}
    found = check("var-tmpfiles", look({**tree, "etc/group": f"us:x:{group}:\n"}))
    assert [each.detail.split()[4:6] for each in found] == [["me", "us"]]


def test_what_is_not_asked_of_the_running_root(look: Look) -> None:
    from dataclasses import replace

    from bridge.lint.subject import Kind

    running = replace(look(GOOD, 5), kind=Kind.RUNNING)
    skipped = {each.lint.name: each.skipped for each in run(running).results if each.skipped}
    assert skipped == {
        "buildah-injected": "both files are the container's while it runs",
        "timestamps": "times are held down, or not, when the step's layer is written",
    }
    inside = replace(look({"run/.containerenv": "", "run/secrets/a": KEY}), kind=Kind.RUNNING)
    assert check("nonempty-run-tmp", inside) == []


def test_what_is_mounted_is_of_no_layer(look: Look) -> None:
    from dataclasses import replace

    tree = {"run/secrets/a": KEY, "root/.netrc": "password x", "tmp/a/b": "x", "var/cache/c/d": "x"}
    plain = look(tree)
    mounted = frozenset({"run/secrets/a", "root/.netrc", "tmp/a", "var/cache"})
    subject = replace(plain, mounted=mounted)
    assert paths(check("secrets", plain)) == ["/root/.netrc", "/run/secrets/a"]
    assert check("secrets", subject) == check("volatile-files", subject) == []
    assert paths(check("nonempty-run-tmp", subject)) == ["/run/secrets"]


def test_times_are_held_to_the_epoch(tmp_path: Any) -> None:
    top = build(tmp_path / "root", {"a": "x", "b/c": "x", "d": "-> a"})
    for path, when in (("a", 100), ("b/c", 101), ("b", 100), ("d", 2_000_000_000), (".", 99)):
        os.utime(top / path, (when, when), follow_symlinks=False)
    with sources.directory(str(top), 100) as subject:
        found = check("timestamps", subject)
        assert paths(found) == ["/b/c (1970-01-01T00:01:41Z)", "/d (2033-05-18T03:33:20Z)"]
        assert (
            found[0].problem
            == "has a time after 1970-01-01T00:01:40Z, which the next build changes"
        )
    with sources.directory(str(top)) as subject:
        skipped = {each.lint.name: each.skipped for each in run(subject).results if each.skipped}
        assert skipped == {"timestamps": "no time to hold it to: set SOURCE_DATE_EPOCH"}


def test_byte_code_with_the_time_of_the_build(look: Look) -> None:
    def code(flags: int, mtime: int) -> bytes:
        return b"\xa7\x0d\x0d\x0a" + b"".join(n.to_bytes(4, "little") for n in (flags, mtime, 9))

    tree = {
        "usr/a.pyc": code(0, 101),
        "usr/before.pyc": code(0, 100),
        "usr/hash.pyc": code(1, 101),
        "usr/unchecked.pyc": code(3, 101),
        "usr/short.pyc": code(0, 101)[:-1],
    }
    assert paths(check("volatile-files", look(tree, 100))) == ["/usr/a.pyc (1970-01-01T00:01:41Z)"]
    assert check("volatile-files", look(tree)) == []
