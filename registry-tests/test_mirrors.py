"""registries.conf with real registries: mirrors, remaps, what is blocked, what is insecure."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rig import raw, store
from rig.certificates import Authority
from rig.command import PLAIN_HTTP, Done, bootc_py
from rig.credentials import Credentials
from rig.misbehaving import cut, flips
from rig.peers import require
from rig.proxy import CountingProxy, run_proxy
from rig.push import push
from rig.registry import Registry, run_registry
from rig.small import INDEX, small
from rig.twopkg import write_image
from test_failures import RETRY, check_clean

from tools.images.layout import Layout

NAME = "image.example/a/b:v1"
MIRROR_USER = Credentials("mirror", "its secret")
PRIMARY_USER = Credentials("primary", "other:secret")


@dataclass
class Bench:
    """Two registries that hold one image as a/b:v1, a proxy before each, and a user."""

    image: Layout
    mirror: CountingProxy
    primary: CountingProxy
    home: Path

    repos: int = 0

    @property
    def repo(self) -> Path:
        return self.home / f"repo{self.repos}"

    def begin_anew(self) -> None:
        """With an empty repository, and nothing counted."""
        self.repos += 1
        self.mirror.reset()
        self.primary.reset()

    @property
    def pinned(self) -> str:
        return f"image.example/a/b@{self.image.digest}"

    @property
    def layer(self) -> dict[str, Any]:
        """Large enough to be cut."""
        layer: dict[str, Any] = self.image.layers[1]
        return layer

    def configure(self, mirror: str = "", registry: str = "", more: str = "") -> None:
        """Has `image.example` mean the primary, insecure, after the mirror, insecure too."""
        self.write(
            f"""
            [[registry]]
            prefix = "image.example"
            location = "{self.primary.host}"
            insecure = true
            {registry}
            [[registry.mirror]]
            location = "{self.mirror.host}"
            insecure = true
            {mirror}
            {more}
            """
        )

    def write(self, text: str) -> None:
        (self.home / "registries.conf").write_text(text)

    @property
    def env(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": str(self.home / ".config"),
            "XDG_RUNTIME_DIR": str(self.home / "run"),
            "CONTAINERS_REGISTRIES_CONF": str(self.home / "registries.conf"),
        }

    def run(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> Done:
        return bootc_py("image", "pull", *arguments, "--repo", self.repo, env=env or self.env)

    def pull(self, *arguments: str | Path) -> Done:
        """Pulls with success: the whole image, every byte of it counted."""
        done = self.run(*(arguments or [NAME]), "--json")
        assert done.code == 0, done.err
        assert done.json["image"]["manifestDigest"] == self.image.digest
        transfer = done.json["transfer"]
        assert transfer["receivedBytes"] == self.mirror.body_bytes + self.primary.body_bytes
        store.fsck(self.repo)
        return done

    def refused(self, code: int, *arguments: str | Path) -> str:
        done = self.run(*(arguments or [NAME]), "--json")
        assert done.code == code, f"{done.code}: {done.err}"
        check_clean(self.repo)
        return done.error

    def requests(self) -> tuple[int, int]:
        return self.mirror.requests, self.primary.requests

    def blob_bytes(self) -> int:
        """What both sent of blobs."""
        log = self.mirror.log + self.primary.log
        return sum(each.body_bytes for each in log if "/blobs/" in each.path)

    def ranges(self, proxy: CountingProxy) -> list[str | None]:
        """How the layer was asked for."""
        return [each.range for each in proxy.log if self.layer["digest"] in each.path]


def cut_off(proxy: CountingProxy, digest: str, after: int) -> None:
    """Has a blob break off after so many bytes, and then not come at all."""
    proxy.spoil(digest, cut(after), *[cut(0)] * 9)


def damage(proxy: CountingProxy, part: str, at: int) -> None:
    """Has what has `part` in its path come with a wrong byte, the first time."""
    proxy.spoil(part, flips(at))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return small(tmp_path_factory.mktemp("image") / "layout")


@pytest.fixture(scope="module")
def registries(image: Layout) -> Iterator[tuple[Registry, Registry]]:
    with run_registry() as mirror, run_registry() as primary:
        for each in (mirror, primary):
            push(image, each, "a/b", "v1")
        yield mirror, primary


@pytest.fixture
def bench(image: Layout, registries: tuple[Registry, Registry], tmp_path: Path) -> Iterator[Bench]:
    mirror, primary = registries
    with run_proxy(mirror.port) as before_mirror, run_proxy(primary.port) as before_primary:
        bench = Bench(image, before_mirror, before_primary, tmp_path)
        bench.configure()
        yield bench


# -- which one is asked ------------------------------------------------------------------------


def test_the_mirror_serves(bench: Bench) -> None:
    done = bench.pull()
    assert bench.primary.requests == 0
    assert bench.blob_bytes() == done.json["transfer"]["imageBytes"]
    assert f"{NAME} comes from the mirror {bench.mirror.host}/a/b\n" in done.err
    # The image keeps the name that the user gave it.
    assert done.json["image"]["reference"] == f"docker://{NAME}"


def test_a_mirror_without_the_image(
    bench: Bench, image: Layout, registries: tuple[Registry, Registry]
) -> None:
    push(image, registries[1], "only/here", "v1")
    done = bench.pull("image.example/only/here:v1")
    (asked,) = bench.mirror.log[-1:]
    assert (asked.path, asked.status) == ("/v2/only/here/manifests/v1", 404)
    assert bench.primary.fetched(bench.layer["digest"]) == 1
    lines = [line for line in done.err.splitlines() if line.startswith("mirror ")]
    assert len(lines) == 1 and bench.mirror.host in lines[0] and "404" in lines[0]
    bench.begin_anew()
    line = bench.refused(4, "image.example/no/where:v1")
    assert f"{bench.primary.host} answered 404" in line
    assert f"before that, mirror {bench.mirror.host}/no/where: " in line


def test_no_mirror_is_there(bench: Bench) -> None:
    with run_proxy(1) as gone:
        pass
    bench.mirror = gone
    bench.configure()
    said = bench.pull(NAME, RETRY).err
    assert "Connection refused (2 tries)" in said and "; going on with " in said


@pytest.mark.parametrize(
    ("registry", "mirror", "by_tag", "by_digest"),
    [
        ("", "", True, True),
        ("mirror-by-digest-only = true", "", False, True),
        ("", 'pull-from-mirror = "digest-only"', False, True),
        ("", 'pull-from-mirror = "tag-only"', True, False),
    ],
)
def test_mirrors_for_some_references(
    bench: Bench, registry: str, mirror: str, by_tag: bool, by_digest: bool
) -> None:
    bench.configure(mirror, registry)
    bench.pull()
    assert (bench.primary.requests == 0, bench.mirror.requests == 0) == (by_tag, not by_tag)
    bench.begin_anew()
    bench.pull(bench.pinned)
    used = (bench.primary.requests == 0, bench.mirror.requests == 0)
    assert used == (by_digest, not by_digest)


def test_an_index_by_tag_is_not_asked_of_a_mirror_for_digests(
    bench: Bench, registries: tuple[Registry, Registry]
) -> None:
    """Its instance is named by digest, but not by the user."""
    entry = {
        "mediaType": bench.image.manifest["mediaType"],
        "digest": bench.image.digest,
        "size": bench.image.blob(bench.image.digest).stat().st_size,
        "platform": {"os": "linux", "architecture": "amd64"},
    }
    document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
    for each in registries:
        raw.put_manifest(each, "a/b", "index", document)
    bench.configure('pull-from-mirror = "digest-only"')
    bench.pull("image.example/a/b:index")
    assert bench.mirror.requests == 0


def test_another_location(
    bench: Bench, image: Layout, registries: tuple[Registry, Registry]
) -> None:
    push(image, registries[1], "deep/er/a/b", "v1")
    bench.write(
        f"""
        [[registry]]
        prefix = "image.example/team"
        location = "{bench.primary.host}/deep/er"
        insecure = true
        [[registry]]
        prefix = "*.example"
        insecure = true
        [[registry.mirror]]
        location = "{bench.mirror.host}/nothing"
        """
    )
    bench.pull("image.example/team/a/b:v1")
    assert bench.mirror.requests == 0
    assert "/v2/deep/er/a/b/manifests/v1" in [each.path for each in bench.primary.log]


def test_a_host_without_a_table_is_itself(bench: Bench) -> None:
    bench.pull(f"{bench.primary.host}/a/b:v1", PLAIN_HTTP)
    assert bench.mirror.requests == 0


# -- blocked -----------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["image.example", "image.example/a", "*.example", NAME])
def test_blocked(bench: Bench, prefix: str) -> None:
    bench.write(
        f"""
        [[registry]]
        prefix = "{prefix}"
        location = "{bench.primary.host}{NAME.removeprefix("image.example") * (prefix == NAME)}"
        insecure = true
        blocked = true
        """
    )
    line = bench.refused(6)
    assert repr(prefix) in line and "registries.conf" in line and NAME in line
    assert bench.requests() == (0, 0)
    bench.refused(6, NAME, PLAIN_HTTP)
    assert bench.requests() == (0, 0)


def test_a_blocked_place_is_not_asked_for_what_its_mirror_has(bench: Bench) -> None:
    bench.configure(registry="blocked = true")
    bench.refused(4, f"{NAME}-missing")
    assert bench.requests() == (1, 0)
    bench.begin_anew()
    bench.pull(NAME)
    assert bench.requests()[1] == 0


def test_a_blocked_image_is_not_switched_to_nor_upgraded(bench: Bench) -> None:
    sysroot = ("--sysroot", bench.home / "sysroot")
    assert bootc_py("switch", NAME, *sysroot, env=bench.env).code == 0
    bench.write('[[registry]]\nlocation = "image.example"\nblocked = true')
    before = bench.requests()
    for command in (("upgrade",), ("upgrade", "--check"), ("switch", NAME)):
        failed = bootc_py(*command, *sysroot, env=bench.env)
        assert failed.code == 6 and "is forbidden" in failed.error
    assert bench.requests() == before
    bench.configure()
    assert bootc_py("upgrade", "--check", *sysroot, env=bench.env).code == 77


# -- a mirror that fails while it serves -------------------------------------------------------


@pytest.mark.parametrize("after", [0, 1, 1_500_000])
def test_a_blob_goes_on_at_the_primary(bench: Bench, after: int) -> None:
    cut_off(bench.mirror, bench.layer["digest"], after)
    done = bench.pull(NAME, RETRY)
    assert bench.ranges(bench.mirror)[0] is None
    assert bench.ranges(bench.primary) == [f"bytes={after}-" if after else None]
    assert bench.blob_bytes() == done.json["transfer"]["imageBytes"]
    assert done.err.count("going on with") == 1


def test_a_mirror_that_is_killed(tmp_path: Path, registries: tuple[Registry, Registry]) -> None:
    """Its process, in the middle of a blob that is too large to be under way as a whole."""
    files = {"usr/share/large": random.Random(1).randbytes(24_000_000)}
    image = write_image(tmp_path / "large", "v1", [files])
    primary = registries[1]
    push(image, primary, "large/b", "v1")
    with ExitStack() as stack, ExitStack() as mirror_stack:
        mirror = mirror_stack.enter_context(run_registry())
        push(image, mirror, "large/b", "v1")
        bench = Bench(
            image,
            mirror_stack.enter_context(run_proxy(mirror.port)),
            stack.enter_context(run_proxy(primary.port)),
            tmp_path,
        )
        bench.configure()
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "bridge", "image", "pull", "image.example/large/b:v1"),
                *("--repo", bench.repo, "--json", "--limit-rate=12M", RETRY),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **bench.env},
        )
        while bench.blob_bytes() < 4_000_000:
            assert process.poll() is None
        mirror_stack.close()
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    (size,) = (layer["size"] for layer in image.layers)
    (asked,) = (each for each in bench.primary.log if image.layers[0]["digest"] in each.path)
    assert asked.range is not None and 4_000_000 < int(asked.range[6:-1]) < size
    assert asked.body_bytes == size - int(asked.range[6:-1])
    assert json.loads(out)["transfer"]["receivedBytes"] < 1.01 * size
    store.fsck(bench.repo)


def test_the_next_run_goes_on_where_both_stopped(bench: Bench) -> None:
    cut_off(bench.mirror, bench.layer["digest"], 1_000_000)
    cut_off(bench.primary, bench.layer["digest"], 500_000)
    failed = bench.run(NAME, RETRY, "--json")
    assert failed.code == 5
    assert bench.layer["digest"] in failed.error
    assert f"before that, mirror {bench.mirror.host}" in failed.error
    log = len(bench.mirror.log)
    with run_proxy(bench.primary.upstream_port) as primary:
        bench.primary = primary
        bench.mirror.reset()
        bench.configure(mirror='pull-from-mirror = "digest-only"')
        bench.pull()
        assert log and bench.ranges(primary) == ["bytes=1500000-"]


# -- a mirror that is wrong --------------------------------------------------------------------


def test_wrong_bytes_of_a_blob_are_read_elsewhere(bench: Bench) -> None:
    damage(bench.mirror, bench.layer["digest"], 100_000)
    done = bench.pull()
    assert bench.ranges(bench.mirror) == bench.ranges(bench.primary) == [None]
    assert f"mirror {bench.mirror.host}/a/b: wrong bytes for blob" in done.err
    layer = done.json["layers"][1]
    assert layer["receivedBytes"] == 2 * bench.layer["size"]


def test_wrong_bytes_everywhere_are_refused_and_forgotten(bench: Bench) -> None:
    for proxy in (bench.mirror, bench.primary):
        damage(proxy, bench.layer["digest"], 100_000)
    failed = bench.run(NAME, "--json")
    assert failed.code == 6 and bench.layer["digest"] in failed.error
    check_clean(bench.repo, len(store.refs(bench.repo)))
    bench.mirror.reset()
    bench.primary.reset()
    bench.pull()
    assert bench.ranges(bench.mirror) == [None] and bench.primary.requests == 0


def test_a_wrong_manifest_by_digest_is_read_elsewhere(bench: Bench) -> None:
    damage(bench.mirror, "/manifests/", 20)
    done = bench.pull(bench.pinned)
    assert bench.mirror.fetched(bench.layer["digest"]) == 0
    assert f"mirror {bench.mirror.host}/a/b: " in done.err


def test_a_wrong_configuration_is_read_elsewhere(bench: Bench) -> None:
    config = bench.image.manifest["config"]["digest"]
    damage(bench.mirror, config, 10)
    bench.pull()
    assert bench.primary.fetched(config) == bench.primary.requests - _probes(bench.primary) == 1


def _probes(proxy: CountingProxy) -> int:
    return sum(each.path == "/v2/" for each in proxy.log)


# -- TLS and credentials -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def encrypted(image: Layout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry whose certificate is from an authority that nobody knows."""
    authority = Authority.create(tmp_path_factory.mktemp("ca"))
    with run_registry(tls=authority) as registry:
        push(image, registry, "a/b", "v1")
        yield registry


def tables(bench: Bench, mirror: str, primary: str, *, secure: str = "") -> None:
    """The mirror and the primary, both insecure unless it is the one that is `secure`."""
    bench.write(
        f"""
        [[registry]]
        prefix = "image.example"
        location = "{primary}"
        insecure = {json.dumps(secure != primary)}
        [[registry.mirror]]
        location = "{mirror}"
        insecure = {json.dumps(secure != mirror)}
        """
    )


def test_each_endpoint_is_as_insecure_as_it_says(bench: Bench, encrypted: Registry) -> None:
    tables(bench, encrypted.host, bench.primary.host)
    assert bench.run(NAME, "--json").code == 0
    assert bench.primary.requests == 0
    bench.begin_anew()

    tables(bench, encrypted.host, bench.primary.host, secure=encrypted.host)
    done = bench.pull(NAME, RETRY)
    assert "certificate" in done.err and f"going on with {bench.primary.host}" in done.err
    bench.begin_anew()

    # The other way round: the primary may not be spoken to in the clear.
    tables(bench, encrypted.host + "/nothing", bench.primary.host, secure=bench.primary.host)
    line = bench.refused(5, NAME, RETRY)
    assert bench.primary.host in line and bench.primary.requests == 0


def test_the_command_line_wins(bench: Bench, encrypted: Registry) -> None:
    tables(bench, encrypted.host, bench.primary.host)
    line = bench.refused(5, NAME, RETRY, "--tls-verify")
    assert "certificate" in line and bench.primary.requests == 0
    tables(bench, encrypted.host, bench.primary.host, secure=encrypted.host)
    assert bench.run(NAME, "--tls-verify=false", "--json").code == 0
    assert bench.primary.requests == 0


def test_certificates_are_those_of_the_endpoint(bench: Bench, encrypted: Registry) -> None:
    tables(bench, encrypted.host, bench.primary.host, secure=encrypted.host)
    encrypted.write_certs_dir(bench.home / ".config/containers/certs.d/image.example")
    assert "certificate" in bench.pull(NAME, RETRY).err
    bench.begin_anew()
    encrypted.write_certs_dir(bench.home / ".config/containers/certs.d" / encrypted.host)
    assert bench.run(NAME, "--json").code == 0
    assert bench.primary.requests == 0


@pytest.fixture(scope="module")
def guarded(image: Layout) -> Iterator[tuple[Registry, Registry]]:
    with run_registry(basic=MIRROR_USER) as mirror, run_registry(basic=PRIMARY_USER) as primary:
        for each in (mirror, primary):
            push(image, each, "a/b", "v1")
        yield mirror, primary


def test_credentials_are_those_of_the_endpoint(
    bench: Bench, guarded: tuple[Registry, Registry]
) -> None:
    with run_proxy(guarded[0].port) as bench.mirror, run_proxy(guarded[1].port) as bench.primary:
        bench.configure()
        file = bench.home / "auth.json"

        def log_in(*entries: tuple[str, Credentials]) -> None:
            auths = {host: {"auth": user.basic} for host, user in entries}
            file.write_text(json.dumps({"auths": auths}))

        log_in((bench.mirror.host, MIRROR_USER), (bench.primary.host, PRIMARY_USER))
        bench.pull(NAME, f"--authfile={file}")
        assert bench.primary.requests == 0
        for wrong in ([], [(bench.mirror.host, PRIMARY_USER)]):
            bench.begin_anew()
            log_in(*wrong, (bench.primary.host, PRIMARY_USER), ("image.example", MIRROR_USER))
            done = bench.pull(NAME, f"--authfile={file}")
            assert f"mirror {bench.mirror.host}/a/b: not authorised" in done.err
            assert bench.mirror.fetched(bench.layer["digest"]) == 0

        # What --creds has is for the host in the name, and no other.
        bench.begin_anew()
        line = bench.refused(3, NAME, f"--creds={MIRROR_USER.user}:{MIRROR_USER.password}")
        assert "no credentials" in line and MIRROR_USER.password not in line


# -- short names, files ------------------------------------------------------------------------


def test_short_names_are_pulled(bench: Bench) -> None:
    bench.configure(more='[aliases]\nweb = "image.example/a/b"')
    assert bench.pull("web:v1").json["image"]["reference"] == f"docker://{NAME}"
    bench.begin_anew()
    text = (bench.home / "registries.conf").read_text()
    bench.write(f'unqualified-search-registries = ["image.example"]\n{text}')
    assert bench.pull("a/b:v1").json["image"]["reference"] == f"docker://{NAME}"
    bench.write(f'unqualified-search-registries = ["image.example", "other.example"]\n{text}')
    bench.begin_anew()
    assert NAME in bench.refused(2, "a/b:v1")
    assert bench.requests() == (0, 0)


def test_files_of_the_user(bench: Bench) -> None:
    """A drop-in file replaces the table of the main file."""
    main = bench.home / ".config/containers/registries.conf"
    (main.parent / "registries.conf.d").mkdir(parents=True)
    (bench.home / "registries.conf").rename(main)
    env = {**bench.env, "CONTAINERS_REGISTRIES_CONF": ""}
    assert bench.run(NAME, env=env).code == 0
    assert bench.mirror.requests and not bench.primary.requests
    drop_in = main.parent / "registries.conf.d/50-own.conf"
    drop_in.write_text('[[registry]]\nprefix="image.example"\nlocation="x"\nblocked=true\n')
    failed = bench.run(NAME, env=env)
    assert failed.code == 6 and str(drop_in) in failed.error


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[registry]]\n", "registry[1].location"),
        ('[registries.block]\nregistries = ["image.example"]', "version 1"),
        ("x =", "registries.conf"),
    ],
)
def test_a_broken_file(bench: Bench, text: str, words: str) -> None:
    bench.write(text)
    assert words in bench.refused(2, f"{bench.primary.host}/a/b:v1", PLAIN_HTTP)
    assert bench.requests() == (0, 0)


# -- the same file in skopeo's and podman's hands ----------------------------------------------


def _plain(bench: Bench) -> str:
    bench.configure()
    return NAME


def _by_digest(bench: Bench) -> str:
    bench.configure()
    return bench.pinned


def _digest_only(bench: Bench) -> str:
    bench.configure(registry="mirror-by-digest-only = true")
    return NAME


def _digest_only_by_digest(bench: Bench) -> str:
    bench.configure(registry="mirror-by-digest-only = true")
    return bench.pinned


def _missing(bench: Bench) -> str:
    bench.configure()
    bench.write((bench.home / "registries.conf").read_text().replace(
        f'"{bench.mirror.host}"', f'"{bench.mirror.host}/nothing"'
    ))  # fmt: skip
    return NAME


def _longest(bench: Bench) -> str:
    bench.configure(
        more=f"""
        [[registry]]
        prefix = "image.example/a"
        location = "{bench.primary.host}/a"
        insecure = true
        [[registry]]
        prefix = "image.example/a/bc"
        location = "{bench.mirror.host}/a"
        insecure = true
        """
    )
    return NAME


def _wildcard(bench: Bench) -> str:
    bench.configure()
    text = (bench.home / "registries.conf").read_text()
    bench.write(text.replace('"image.example"', '"*.example"'))
    return NAME


def _secure_mirror(bench: Bench) -> str:
    tables(bench, bench.mirror.host, bench.primary.host, secure=bench.mirror.host)
    return NAME


def _blocked(bench: Bench) -> str:
    bench.write(f'[[registry]]\nlocation = "{bench.primary.host}"\nblocked = true')
    return f"{bench.primary.host}/a/b:v1"


def _blocked_but_mirrored(bench: Bench) -> str:
    bench.configure(registry="blocked = true")
    return NAME


CASES: list[Callable[[Bench], str]] = [
    _plain,
    _by_digest,
    _digest_only,
    _digest_only_by_digest,
    _missing,
    _longest,
    _wildcard,
    _secure_mirror,
    _blocked,
    _blocked_but_mirrored,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__[1:])
def test_skopeo_asks_the_same(bench: Bench, case: Callable[[Bench], str]) -> None:
    name = case(bench)

    def manifests() -> list[list[str]]:
        asked = [
            [each.path for each in proxy.log if "/manifests/" in each.path]
            for proxy in (bench.mirror, bench.primary)
        ]
        bench.begin_anew()
        return asked

    skopeo = subprocess.run(
        [
            *(require("skopeo"), "--registries-conf", str(bench.home / "registries.conf")),
            *("inspect", "--raw", f"docker://{name}"),
        ],
        capture_output=True,
        env={**bench.env, "PATH": "/usr/bin:/bin"},
    )
    theirs = manifests()
    ours = bench.run(name, RETRY)
    assert (skopeo.returncode == 0) == (ours.code == 0), (skopeo.stderr, ours.err)
    assert manifests() == theirs
    assert any(theirs) == (ours.code == 0)


def test_podman_pulls_the_same_short_name(bench: Bench) -> None:
    bench.configure(more='[aliases]\nweb = "image.example/a/b"')
    # Podman refuses a path of more than 50 characters.
    with tempfile.TemporaryDirectory(prefix="podman-") as directory:
        podman = [require("podman"), "--root", f"{directory}/root", "--runroot", f"{directory}/run"]
        done = subprocess.run(
            [*podman, "--storage-driver=vfs", "pull", "--quiet", "web:v1"],
            capture_output=True,
            text=True,
            env={**bench.env, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )
    assert done.returncode == 0, done.stderr
    assert bench.primary.requests == 0 and bench.mirror.fetched(bench.layer["digest"]) == 1
    bench.mirror.reset()
    bench.pull("web:v1")
    assert bench.primary.requests == 0 and bench.mirror.fetched(bench.layer["digest"]) == 1
