"""The rig itself: registries, proxy and images are what the other tests take them for."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest
import requests
from rig import reference, twopkg
from rig.certificates import Authority
from rig.credentials import Credentials
from rig.peers import require
from rig.proxy import CountingProxy, run_proxy
from rig.push import push
from rig.registry import Registry, run_registry
from rig.tokens import run_token_server

from tools.images.layout import Layout
from tools.images.spec import FORMATS

SECRET = Credentials("user", "pass:word")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    path = tmp_path_factory.mktemp("small") / "layout"
    return twopkg.write_image(path, "v1", [{"usr/bin/a": b"a"}, {"usr/bin/b": b"b" * 100_000}])


def inspect(reference: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [require("skopeo"), "inspect", "--raw", *options, f"docker://{reference}"]
    return subprocess.run(command, capture_output=True, text=True)


def test_plain_registry_keeps_the_digest(small: Layout) -> None:
    with run_registry() as registry:
        assert push(small, registry, "a/b", "t") == small.digest
        answer = inspect(f"{registry.host}/a/b:t", "--tls-verify=false")
        assert json.loads(answer.stdout) == small.manifest


def test_basic_credentials(small: Layout) -> None:
    with run_registry(basic=SECRET) as registry:
        push(small, registry, "a/b", "t")
        reference = f"{registry.host}/a/b:t"
        assert inspect(reference, "--tls-verify=false", "--creds=user:pass:word").returncode == 0
        refused = inspect(reference, "--tls-verify=false", "--no-creds")
        assert "authentication required" in refused.stderr


def test_bearer_tokens(small: Layout, tmp_path: Path) -> None:
    with (
        run_token_server(tmp_path, SECRET) as tokens,
        run_registry(tokens=tokens) as registry,
    ):
        push(small, registry, "a/b", "t")
        reference = f"{registry.host}/a/b:t"
        tokens.requests.clear()
        assert inspect(reference, "--tls-verify=false", "--creds=user:pass:word").returncode == 0
        (request,) = tokens.requests
        assert request.parameters["scope"] == ["repository:a/b:pull"]
        assert inspect(reference, "--tls-verify=false", "--no-creds").returncode != 0
        assert tokens.requests[-1].status == 401


def test_anonymous_tokens_and_their_end(small: Layout, tmp_path: Path) -> None:
    with run_token_server(tmp_path) as tokens, run_registry(tokens=tokens) as registry:
        push(small, registry, "a/b", "t")
        url = f"{registry.url}/v2/a/b/manifests/t"
        for lifetime, status in ((300, 200), (-3600, 401)):
            tokens.lifetime = lifetime
            token = tokens.token(["repository:a/b:pull"], "")
            headers = {
                "Authorization": f"Bearer {token}",
                "Accept": small.manifest["mediaType"],
            }
            assert requests.get(url, headers=headers, timeout=10).status_code == status


def test_tls(small: Layout, tmp_path: Path) -> None:
    with run_registry(tls=Authority.create(tmp_path / "ca"), basic=SECRET) as registry:
        push(small, registry, "a/b", "t")
        certs = registry.write_certs_dir(tmp_path / "certs")
        reference = f"{registry.host}/a/b:t"
        creds = "--creds=user:pass:word"
        assert inspect(reference, creds, f"--cert-dir={certs}").returncode == 0
        assert "unknown authority" in inspect(reference, creds).stderr


def test_proxy_counts_what_it_sends(small: Layout, tmp_path: Path) -> None:
    with run_registry() as registry, run_proxy(registry.port) as proxy:
        push(small, registry, "a/b", "t")
        url = f"http://{proxy.host}/v2/a/b"
        blob = small.layers[1]
        accept = {"Accept": small.manifest["mediaType"]}
        with requests.Session() as session:
            session.headers["Accept-Encoding"] = "identity"
            got = [
                session.get(f"{url}/manifests/t", headers=accept).content,
                session.get(f"{url}/blobs/{blob['digest']}").content,
                session.get(
                    f"{url}/blobs/{blob['digest']}", headers={"Range": "bytes=10-19"}
                ).content,
                session.get(f"{url}/manifests/missing").content,
            ]
            session.head(f"{url}/blobs/{blob['digest']}")
        assert got[1] == small.blob(blob["digest"]).read_bytes()
        assert [exchange.body_bytes for exchange in proxy.log] == [*map(len, got), 0]
        assert [exchange.status for exchange in proxy.log] == [200, 200, 206, 404, 200]
        assert proxy.body_bytes == sum(map(len, got))
        proxy.reset()
        assert proxy.requests == proxy.body_bytes == 0


def test_proxy_takes_pushes_and_passes_on_a_short_body(small: Layout) -> None:
    with run_registry() as registry, run_proxy(registry.port) as proxy:
        through = Registry(proxy.port, registry.storage, registry.log)
        assert push(small, through, "a/b", "t") == small.digest
        blob = small.layers[1]["digest"]
        half = registry.blob_file(blob).read_bytes()[:100]
        registry.replace_blob(blob, half)
        answer = requests.get(f"http://{proxy.host}/v2/a/b/blobs/{blob}", stream=True, timeout=10)
        assert answer.content == half


def test_two_packages(two_packages: twopkg.TwoImages) -> None:
    one, two = two_packages.one, two_packages.two
    layers = {layer["digest"]: layer["size"] for layer in one.layers + two.layers}
    assert len(layers) == 4, "base and app are shared"
    packages = sorted(layers.values())[-2:]
    assert packages[0] == pytest.approx(50e6, rel=0.01)
    assert packages[1] == pytest.approx(100e6, rel=0.01)


@pytest.mark.parametrize("form", FORMATS)
def test_images(images: dict[tuple[str, str, str], Layout], registry: Registry, form: str) -> None:
    """Each form has its media type and the DiffIDs of the others, here and in the registry."""
    for name in ("base", "server"):
        for version in ("v1", "v2"):
            layout = images[name, version, form]
            assert {layer["mediaType"] for layer in layout.layers} == {FORMATS[form]}
            assert layout.diff_ids == images[name, version, "plain"].diff_ids
            base = images["base", version, form]
            assert layout.layers[: len(base.layers)] == base.layers
            answer = inspect(f"{registry.host}/os/{name}:{version}-{form}", "--tls-verify=false")
            assert json.loads(answer.stdout) == layout.manifest


def test_counting_proxy_fixture(counting_proxy: CountingProxy) -> None:
    answer = requests.get(f"http://{counting_proxy.host}/v2/", timeout=10)
    assert answer.status_code == 200
    assert counting_proxy.body_bytes == len(answer.content)


def test_records(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir(mode=0o700)
    (tmp_path / "d" / "file").write_bytes(b"abc")
    (tmp_path / "d" / "file").chmod(0o4755)
    os.setxattr(tmp_path / "d" / "file", "user.colour", b"blue")
    (tmp_path / "link").symlink_to("d/missing")
    records = reference.records(tmp_path)
    assert list(records) == ["/", "/d", "/d/file", "/link"]
    assert (records["/d"].kind, records["/d"].mode) == ("directory", 0o700)
    owner = (os.getuid(), os.getgid())
    file = records["/d/file"]
    assert (file.kind, file.mode, (file.uid, file.gid), file.size) == ("file", 0o4755, owner, 3)
    assert file.sha256 == hashlib.sha256(b"abc").hexdigest()
    assert file.xattrs == (("user.colour", b"blue"),)
    assert (records["/link"].kind, records["/link"].target) == ("symlink", "d/missing")


def test_flattened_image_is_the_same_tree(images: dict[tuple[str, str, str], Layout]) -> None:
    image = images["base", "v1", "gzip"]
    flat = reference.flatten(image)
    (layer,) = flat.layout.layers
    assert flat.tar.stat().st_size == layer["size"]
    tree = reference.records(reference.unpacked(image))
    assert reference.records(reference.unpacked(flat.layout)) == tree
    assert any(record.xattrs for record in tree.values())
