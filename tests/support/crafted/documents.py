"""Manifests, indexes and configurations: of kinds that are no images, and with odd members."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from bridge.oci.digest import Digest
from bridge.oci.model import (
    DOCKER_CONFIG,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Platform,
)
from support.crafted.case import Case, complete
from support.crafted.digests import changed
from support.images import (
    Image,
    descriptor,
    dumps,
    file,
    image,
    index,
)

_MEMBERS = [file("a", "1")]
TREE = complete({"a": "1"})
_LAYER = "application/vnd.oci.image.layer"
_SCHEMA = "a registry refuses what is no manifest"


def _made(**how: Any) -> Image:
    return image(_MEMBERS, **how)


def _layer_type(media_type: str, kind: str = "gzip", **more: Any) -> Image:
    return changed(_made(compression=kind), "layer", mediaType=media_type, **more)


def with_config(change: Callable[[dict[str, Any]], Any], *layers: list[Any]) -> Image:
    """Return an image whose configuration was changed, and its manifest with it.

    `change` works on the parsed configuration, or returns other bytes.
    """
    made = image(*(layers or (_MEMBERS,)))
    config = json.loads(made.blobs[made.document["config"]["digest"]])
    other = change(config)
    raw = other if isinstance(other, bytes) else dumps(config)
    made.blobs[str(Digest.of(raw))] = raw
    return made.changed(config=descriptor(raw, OCI_CONFIG))


def _legal(make: Callable[[], Image], **more: Any) -> Case:
    return Case(make, tree=TREE, **more)


# -- media types ---------------------------------------------------------------------------------

_TYPES = {
    f"{_LAYER}.v1.tar+gzip": "gzip", f"{_LAYER}.v1.tar+zstd": "zstd", f"{_LAYER}.v1.tar": "none",
    "application/vnd.docker.image.rootfs.diff.tar.gzip": "gzip",
    "application/vnd.docker.image.rootfs.diff.tar": "none",
    "application/vnd.docker.image.rootfs.diff.tar.zstd": "zstd",
    f"{_LAYER}.nondistributable.v1.tar+gzip": "gzip",
    f"{_LAYER}.nondistributable.v1.tar+zstd": "zstd",
    f"{_LAYER}.nondistributable.v1.tar": "none",
}  # fmt: skip
_NO_LAYERS = [f"{_LAYER}.v1.tar+xz", f"{_LAYER}.v1.tar+bzip2", f"{_LAYER}.v1.tar+gzip+encrypted",
              f"{_LAYER}.v1.tar+encrypted", f"{_LAYER}.v2.tar", f"{_LAYER}.v1.squashfs",
              f"{_LAYER}.v1.TAR+GZIP", f"{_LAYER}.v1.tar+gzip; a=b", "application/octet-stream",
              "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
              "application/vnd.docker.plugin.v1+json", "application/vnd.in-toto+json",
              "application/vnd.oci.empty.v1+json", "application/json", "text/plain",
              "application/vnd.cncf.helm.chart.content.v1.tar+gzip", OCI_MANIFEST]  # fmt: skip
MEDIA: dict[str, Case] = {
    f"a layer of {media_type.rpartition('/')[2]}": _legal(
        lambda media_type=media_type, kind=kind: _layer_type(media_type, kind),  # type: ignore[misc]
        engines="" if ".v1.tar" in media_type and "+zstd" not in media_type
        else "umoci knows OCI's types, and no zstd",
    )
    for media_type, kind in _TYPES.items()
} | {
    f"a layer of {media_type.rpartition('/')[2]} is none": Case(
        lambda media_type=media_type: _layer_type(media_type),  # type: ignore[misc]
        7, phrase="layer of unsupported media type",
    )
    for media_type in _NO_LAYERS
} | {
    "a layer with urls": _legal(
        lambda: _layer_type(f"{_LAYER}.v1.tar+gzip", urls=["http://127.0.0.1:1/secret"]),
        unpublishable="docker-registry lets nobody name other hosts",
    ),
    "a foreign layer with urls": _legal(
        lambda: _layer_type(
            f"{_LAYER}.nondistributable.v1.tar+gzip",
            urls=["http://127.0.0.1:1/secret", "file:///etc/shadow"],
        ),
        unpublishable="docker-registry lets nobody name other hosts",
    ),
    "a layer with data that lies": _legal(
        lambda: _layer_type(f"{_LAYER}.v1.tar+gzip", data="bGllcw=="),
        unpublishable="docker-registry is older than that"),
    "a layer with annotations": _legal(
        lambda: _layer_type(f"{_LAYER}.v1.tar+gzip", annotations={"a": "b", "": ""})),
    "a layer with a platform": _legal(
        lambda: _layer_type(f"{_LAYER}.v1.tar+gzip",
                            platform={"os": "plan9", "architecture": "pdp11"})),
    **{
        f"a layer's media type is {value!r}": Case(
            lambda value=value: changed(_made(), "layer", mediaType=value),  # type: ignore[misc]
            7, phrase="mediaType is", unpublishable=_SCHEMA)
        for value in (None, 7, "", [])
    },
    **{
        f"an artifact: {what}": Case(
            lambda media_type=media_type: changed(_made(), "config", mediaType=media_type),  # type: ignore[misc]
            7, phrase="not an image but an artifact")
        for what, media_type in {
            "empty": "application/vnd.oci.empty.v1+json", "helm": "application/vnd.cncf.helm"
            ".config.v1+json", "cosign": "application/vnd.dev.cosign.simplesigning.v1+json",
            "wasm": "application/vnd.wasm.config.v0+json", "a layer": f"{_LAYER}.v1.tar+gzip",
            "JSON": "application/json", "a plugin": "application/vnd.docker.plugin.v1+json"}.items()
    },
}  # fmt: skip

# -- manifests -----------------------------------------------------------------------------------


def _docker(**more: Any) -> Image:
    made = changed(_made(), "config", mediaType=DOCKER_CONFIG)
    made = changed(
        made, "layer", mediaType="application/vnd.docker.image.rootfs.diff.tar.gzip"
    ).changed(mediaType=DOCKER_MANIFEST, **more)
    return Image(made.manifest, made.blobs, DOCKER_MANIFEST)


MANIFESTS: dict[str, Case] = {
    "Docker's": _legal(_docker, engines="umoci knows OCI's types only"),
    "no media type of its own": _legal(
        lambda: (made := _made()) and Image(
            dumps({k: v for k, v in made.document.items() if k != "mediaType"}), made.blobs)),
    "unknown members": _legal(
        lambda: _made().changed(artifactType=None, subject=None, x={"y": [1]}),
        unpublishable=""),
    "annotations of any text": _legal(
        lambda: _made().changed(annotations={"a\nb": "\u202e", "c": ""})),
    "the later of two members": Case(
        lambda: Image(_made().manifest.replace(
            b'"schemaVersion": 2', b'"schemaVersion": 1, "schemaVersion": 2'), _made().blobs),
        tree=TREE),
    "no layers": Case(lambda: image(), tree=complete({})),
    "500 layers": Case(
        lambda: image(*([file(f"f{n}", str(n))] for n in range(500)), compression="none"),
        tree=complete({f"f{n}": str(n) for n in range(500)})),
    "501 layers": Case(
        lambda: image(*([file(f"f{n}", str(n))] for n in range(501)), compression="none"),
        7, phrase="501 layers; the limit is 500"),
    "100 empty layers": Case(lambda: image(*[[]] * 100), tree=complete({})),
    **{
        f"{what}": Case(make, 7, phrase=phrase, unpublishable=_SCHEMA)
        for what, make, phrase in (
            ("not JSON", lambda: Image(b"<html>", {}), "not valid JSON"),
            ("nothing", lambda: Image(b"", {}), "not valid JSON"),
            ("a list", lambda: Image(b"[]", {}), "not a JSON object"),
            ("a text", lambda: Image(b'"x"', {}), "not a JSON object"),
            ("null", lambda: Image(b"null", {}), "not a JSON object"),
            ("not UTF-8", lambda: Image(b'{"a": "\xff"}', {}), "not valid JSON"),
            ("NaN", lambda: Image(b'{"schemaVersion": NaN}', {}), "not valid JSON"),
            ("brackets without end", lambda: Image(b"[" * 100_000, {}), "not valid JSON"),
            ("objects without end", lambda: Image(b'{"a":' * 100_000, {}), "not valid JSON"),
            ("a number of 5,000 digits", lambda: Image(b'{"schemaVersion": ' + b"1" * 5000 + b"}",
                                                       {}), "not valid JSON|schemaVersion"),
            ("JSON and more", lambda: Image(_made().manifest + b"{}", _made().blobs), "valid JSON"),
            ("schema 1", lambda: _made().changed(schemaVersion=1), "only 2 is supported"),
            ("schema '2'", lambda: _made().changed(schemaVersion="2"), "only 2 is supported"),
            ("no schema", lambda: _made().changed(schemaVersion=None), "only 2 is supported"),
            ("another document", lambda: _made().changed(mediaType="text/plain"), "served as"),
            ("an index's type", lambda: _made().changed(mediaType=OCI_INDEX), "served as"),
            ("layers and manifests", lambda: _made().changed(manifests=[]), "both layers and"),
            ("layers are an object", lambda: _made().changed(layers={}), "not a JSON array"),
            ("layers are missing", lambda: _made().changed(layers=None), "not a JSON array"),
            ("a layer is a text", lambda: _made().changed(layers=["x"]), "not a JSON object"),
            ("a layer is null", lambda: _made().changed(layers=[None]), "not a JSON object"),
            ("config is missing", lambda: _made().changed(config=None), "not a JSON object"),
            ("config is a list", lambda: _made().changed(config=[]), "not a JSON object"),
            ("annotations are a list", lambda: _made().changed(annotations=[]), "annotations is"),
            ("an annotation is a number", lambda: _made().changed(annotations={"a": 1}), "a text"),
            ("4 MiB and a byte", lambda: Image(
                _made().manifest.ljust((4 << 20) + 1), _made().blobs), "the limit is"),
        )
    },
}  # fmt: skip

# -- configurations ------------------------------------------------------------------------------

CONFIGS: dict[str, Case] = {
    **{
        what: _legal(lambda change=change: with_config(change))  # type: ignore[misc]
        for what, change in {
            "a history shorter than its layers": lambda c: c.update(history=[]),
            "a history longer than its layers": lambda c: c.update(
                history=[{"created_by": str(n), "empty_layer": n % 2 == 0} for n in range(50)]),
            "no history": lambda c: c.update(history=None),
            "no inner config": lambda c: c.update(config=None),
            "labels that are null": lambda c: c.update(config={"Labels": None}),
            "members in abundance": lambda c: c.update(x=list(range(1000)), y={"z": None}),
            "volumes and a command": lambda c: c.update(config={
                "Volumes": {"/": {}, "../..": {}}, "Cmd": ["/bin/sh", "-c", "id"], "User": "0"}),
            "an author of 1 MiB": lambda c: c.update(author="x" * (1 << 20)),
            "a label of any text": lambda c: c.update(config={"Labels": {"a\nb": "\u202e\x01"}}),
            "a time that is none": lambda c: c.update(created="yesterday"),
            "a time beyond time": lambda c: c.update(created="9999-12-31T23:59:60Z"),
        }.items()
    },
    **{
        what: Case(lambda change=change: with_config(change), 7, phrase=phrase)  # type: ignore[misc]
        for what, (change, phrase) in {
            "a config that is not JSON": (lambda c: b"<html>", "not valid JSON"),
            "a config of nothing": (lambda c: b"", "not valid JSON"),
            "a config that is {}": (lambda c: b"{}", "rootfs"),
            "a config that is a list": (lambda c: b"[]", "not a JSON object"),
            "a config without end": (lambda c: b"[" * 100_000, "not valid JSON"),
            "no rootfs": (lambda c: c.update(rootfs=None), "rootfs"),
            "a rootfs of another type": (lambda c: c["rootfs"].update(type="squashfs"), "rootfs"),
            "DiffIDs that are null": (lambda c: c["rootfs"].update(diff_ids=None), "0 DiffIDs"),
            "DiffIDs that are an object": (
                lambda c: c["rootfs"].update(diff_ids={"a": 1}), "array"),
            "DiffIDs that are numbers": (lambda c: c["rootfs"].update(diff_ids=[1]), "digest"),
            "no os": (lambda c: c.update(os=None), "os is"),
            "another os": (lambda c: c.update(os="windows"), "for windows"),
            "no architecture": (lambda c: c.update(architecture=""), "architecture is"),
            "another architecture": (lambda c: c.update(architecture="sparc64"), "sparc64, not"),
            "an architecture of a number": (lambda c: c.update(architecture=7), "architecture"),
            "labels that are a list": (lambda c: c.update(config={"Labels": ["a"]}), "Labels"),
            "a label that is a number": (lambda c: c.update(config={"Labels": {"a": 1}}), "Labels"),
            "an inner config that is a text": (lambda c: c.update(config="x"), "config's config"),
            "a history that is a text": (lambda c: c.update(history="x"), "history"),
            "a history of texts": (lambda c: c.update(history=["x"]), "history"),
            "a time that is a number": (lambda c: c.update(created=7), "created"),
        }.items()
    },
}  # fmt: skip

# -- indexes -------------------------------------------------------------------------------------

HOST, OTHER = Platform.host(), Platform("linux", "sparc64")
_ATTESTATION = Platform("unknown", "unknown")


def _index_of(change: Callable[[dict[str, Any]], Any]) -> Image:
    made = index((_made(), HOST))
    document = made.document
    change(document)
    return Image(dumps(document), made.blobs, OCI_INDEX)


def _docker_list() -> Image:
    made = _index_of(lambda d: d.update(mediaType=DOCKER_LIST))
    return Image(made.manifest, made.blobs, DOCKER_LIST)


def _other() -> Image:
    return image([file("wrong")], platform=OTHER)


INDEXES: dict[str, Case] = {
    **{
        what: _legal(make, engines="umoci reads no index")
        for what, make in {
            "an index": lambda: index((_made(), HOST)),
            "an index of many": lambda: index((_other(), OTHER), (_made(), HOST)),
            "an index with attestations": lambda: index(
                (image([file("wrong")], labels={}), _ATTESTATION), (_made(), HOST)),
            "an index that tells no platform": lambda: index((_made(), None)),
            "the first of two for one platform": lambda: index(
                (_made(), HOST), (image([file("wrong")]), HOST)),
            "an index with unknown members": lambda: _index_of(
                lambda d: d.update(x=1, subject=None)),
            "an entry with urls": lambda: _index_of(
                lambda d: d["manifests"][0].update(urls=["http://127.0.0.1:1/"])),
            "an entry with features": lambda: _index_of(
                lambda d: d["manifests"][0]["platform"].update({"os.features": ["x"]})),
            "Docker's list": _docker_list,
        }.items()
    },
    **{
        what: Case(make, 7, phrase=phrase)
        for what, make, phrase in (
            ("an index without this platform", lambda: index((_other(), OTHER)),
             "it has: linux/sparc64"),
            ("an index that lies about a platform", lambda: index((_other(), HOST)),
             "is an image for linux/sparc64"),
            ("an index of indexes", lambda: index((index((_made(), None)), HOST)),
             "another index"),
        )
    },
    **{
        what: Case(make, 7, phrase=phrase, unpublishable=_SCHEMA)
        for what, make, phrase in (
            ("an index of nothing", lambda: Image(dumps({
                "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}), {}, OCI_INDEX),
             "it has: none"),
            ("an index of 10,001", lambda: _index_of(
                lambda d: d.update(manifests=d["manifests"] * 10_001)), "the limit|entries"),
            ("an index without manifests", lambda: _index_of(
                lambda d: d.pop("manifests")), "not a JSON array"),
            ("an index with layers", lambda: _index_of(lambda d: d.update(layers=[])), "both"),
            ("an entry that is a text", lambda: _index_of(
                lambda d: d.update(manifests=["x"])), "not a JSON object"),
            ("a platform that is a text", lambda: _index_of(
                lambda d: d["manifests"][0].update(platform="linux")), "platform"),
            ("a platform without os", lambda: _index_of(
                lambda d: d["manifests"][0].update(platform={})), "os is"),
        )
    },
    "an entry whose size lies": Case(
        lambda: _index_of(lambda d: d["manifests"][0].update(size=d["manifests"][0]["size"] + 1)),
        6, phrase="descriptor gives", unpublishable="a registry does not look at it"),
    "an entry that is not there": Case(
        lambda: _index_of(lambda d: d["manifests"][0].update(digest="sha256:" + "0" * 64)),
        4, phrase="not in the layout", unpublishable="a registry wants the parts first"),
}  # fmt: skip

CASES: dict[str, Case] = MEDIA | MANIFESTS | CONFIGS | INDEXES
