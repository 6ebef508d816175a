"""One manifest is one commit, however it came; one image is one content, however compressed."""

from __future__ import annotations

import subprocess
from pathlib import Path

from rig import store
from rig.command import PLAIN_HTTP, pull, report
from rig.peers import require
from rig.proxy import run_proxy
from rig.push import push
from rig.registry import run_registry
from rig.small import plain, small

from tools.images import layout as oci
from tools.images.spec import FORMATS


def archive(reference: str, path: Path) -> str:
    """`reference` as an archive that skopeo wrote."""
    name = f"oci-archive:{path}:v1"
    command = [require("skopeo"), "copy", "--quiet", "--preserve-digests", reference, name]
    subprocess.run(command, check=True)
    return name


def test_one_manifest_gives_one_commit(tmp_path: Path) -> None:
    image = small(tmp_path / "image")
    with run_registry() as registry:
        push(image, registry, "a/b", "tag")
        ways = [
            image.reference,
            archive(image.reference, tmp_path / "image.tar"),
            f"{registry.host}/a/b:tag",
            f"docker://{registry.host}/a/b@{image.digest}",
        ]
        found = [
            pull(way, tmp_path / f"repo-{number}", f"--mode={mode}")["image"]
            for mode in ("bare", "bare-user", "archive")
            for number, way in enumerate(ways, {"bare": 0, "bare-user": 10, "archive": 20}[mode])
        ]
    assert {each["manifestDigest"] for each in found} == {image.digest}
    assert len({each["commit"] for each in found}) == 1
    for repo in tmp_path.glob("repo-*"):
        store.fsck(repo)
        (name,) = (ref for ref in store.refs(repo) if ref.startswith("ostree/container/image/"))
        assert store.ostree(repo, "rev-parse", name).decode().strip() == found[0]["commit"]


def test_compression_does_not_change_the_content(tmp_path: Path) -> None:
    """Each into a repository of its own; and a form after another moves no layer at all."""
    image = plain(small(tmp_path / "image"), tmp_path / "plain")
    forms = {form: oci.convert(image, tmp_path / form, form) for form in FORMATS if form != "plain"}
    forms["plain"] = image
    found = {
        form: pull(image.reference, tmp_path / f"repo-{form}")["image"]
        for form, image in forms.items()
    }
    assert len({each["manifestDigest"] for each in found.values()}) == len(FORMATS)
    assert len({each["commit"] for each in found.values()}) == len(FORMATS)
    assert len({each["contentChecksum"] for each in found.values()}) == 1
    for form in FORMATS:
        store.fsck(tmp_path / f"repo-{form}")
    again = pull(forms["zstd"].reference, tmp_path / "repo-gzip")
    assert {layer["mode"] for layer in again["layers"]} == {"present"}
    assert again["image"] == found["zstd"]


def test_the_second_switch_moves_nothing(tmp_path: Path) -> None:
    with run_registry() as registry, run_proxy(registry.port) as proxy:
        image = small(tmp_path / "image")
        push(image, registry, "a/b", "tag")
        options = (PLAIN_HTTP, "--sysroot", str(tmp_path / "sysroot"))
        repo = tmp_path / "sysroot/ostree/repo"
        name = f"{proxy.host}/a/b:tag"

        first = report("switch", name, *options)
        assert [proxy.fetched(layer["digest"]) for layer in image.layers] == [1, 1, 1]
        objects, refs = store.object_names(repo), sorted(store.refs(repo))

        proxy.reset()
        second = report("switch", name, *options)
        assert proxy.blob_requests == 0  # not even the configuration
        assert store.object_names(repo) == objects
        assert sorted(store.refs(repo)) == refs
        assert second["store"]["newObjects"] == second["store"]["newBytes"] == 0
        assert (second["changed"], second["image"]) == (False, first["image"])
        avoided = second["transfer"]["avoided"]["layerBytes"]
        assert avoided == sum(layer["size"] for layer in image.layers)
        store.fsck(repo)
