"""Stored images: what the refs under `ostree/container/image` say, and removing them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from bridge.errors import BridgeError, DamagedRepository, NotFound
from bridge.oci.digest import Digest
from bridge.oci.model import Descriptor, ImageConfig, Manifest, parse_config, parse_document
from bridge.oci.reference import ImageReference
from bridge.ostree import durable, lock, refs
from bridge.ostree import prune as store_prune
from bridge.ostree.objects import Commit
from bridge.ostree.repository import Repository
from bridge.pull import kept, skeleton, verified_commits
from bridge.pull.content_index import ContentIndex
from bridge.pull.encapsulation import Role
from bridge.pull.refnames import IMAGES, LAYERS, image_ref, layer_ref, unescape
from bridge.pull.stored_layers import stored_layers

MANIFEST_DIGEST_KEY = "ostree.manifest-digest"
MANIFEST_KEY = "ostree.manifest"
CONFIG_KEY = "ostree.container.image-config"


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image in the store: where its ref says it is from, and what its commit says it is."""

    reference: str
    checksum: str
    commit: Commit
    manifest: Manifest
    config: ImageConfig

    @property
    def manifest_digest(self) -> str:
        return str(self.commit.metadata[MANIFEST_DIGEST_KEY])

    @property
    def version(self) -> str | None:
        """The image's own version, from its labels."""
        labels = self.config.labels
        return labels.get("org.opencontainers.image.version") or labels.get("version")


def load(repo: Repository, reference: str, checksum: str) -> StoredImage:
    """Return the image that a merge commit was made from; `DamagedRepository` if it has none."""
    commit = repo.read_commit(checksum)
    try:
        manifest = parse_document(commit.metadata[MANIFEST_KEY].encode())
        config = parse_config(commit.metadata[CONFIG_KEY].encode())
        Digest.parse(commit.metadata[MANIFEST_DIGEST_KEY])
    except (KeyError, AttributeError, BridgeError) as error:
        raise DamagedRepository(f"commit {checksum} is not an image's: {error}") from None
    if not isinstance(manifest, Manifest):
        raise DamagedRepository(f"commit {checksum} is not an image's: it holds an index")
    return StoredImage(reference, checksum, commit, manifest, config)


@dataclass(frozen=True, slots=True)
class DamagedImage:
    """An image of which no more can be read than its ref's name."""

    reference: str
    checksum: str | None
    problem: str


def listing(repo: Repository) -> tuple[list[StoredImage], list[DamagedImage]]:
    """Return all stored images by reference: those that can be read, and those that cannot."""
    found: list[StoredImage] = []
    damaged: list[DamagedImage] = []
    for name, checksum in refs.listing(repo, IMAGES).items():
        reference = _unescaped(name)
        try:
            found.append(load(repo, reference, checksum))
        except BridgeError as error:
            # One that was removed since we saw its ref is not damaged.
            if refs.current(repo, name) is not None:
                damaged.append(DamagedImage(reference, checksum, str(error)))
    prefix = f"{refs.HEADS}/{IMAGES}"
    damaged += [
        DamagedImage(_unescaped(name.removeprefix(f"{refs.HEADS}/")), None, reason)
        for name, reason in refs.broken(repo).items()
        if name.startswith(prefix)
    ]
    return found, damaged


def _unescaped(name: str) -> str:
    try:
        return unescape(name.removeprefix(IMAGES))
    except BridgeError:
        return name


def find(repo: Repository, reference: ImageReference) -> StoredImage:
    """Return the stored image of that reference; `NotFound` if there is none."""
    checksum = refs.resolve(repo, image_ref(reference))
    if checksum is None:
        raise NotFound(f"no image {reference} in {repo.path}; `image list` shows those it has")
    return load(repo, str(reference), checksum)


def find_config(repo: Repository, descriptor: Descriptor) -> bytes | None:
    """Return an image configuration that some stored or deployed image has, verified, or None."""
    for name, checksum in refs.listing(repo).items():
        if name.startswith(LAYERS):
            continue
        try:
            raw = load(repo, name, checksum).config.raw
        except BridgeError:
            continue
        if Digest.of(raw, descriptor.digest.algorithm) == descriptor.digest:
            return raw
    return None


def remove(repo: Repository, reference: ImageReference) -> None:
    """Remove the image's ref; `NotFound` if there is none. Its layers stay until `prune`."""
    require(repo, reference)
    refs.delete(repo, image_ref(reference))


def require(repo: Repository, reference: ImageReference) -> None:
    """Raise `NotFound` unless the image has a ref, were it a broken one."""
    name = image_ref(reference)
    if refs.current(repo, name) is None and f"{refs.HEADS}/{name}" not in refs.broken(repo):
        raise NotFound(f"no image {reference} in {repo.path}; `image list` shows those it has")


def prune(repo: Repository, spare: Collection[str] = ()) -> tuple[int, store_prune.PruneResult]:
    """Drop the layers that no image and no deployment needs, then all unreferenced objects.

    Returns the number of layer refs that went, and what went with them. A commit that a ref of
    another kind keeps (a deployment's, say) keeps its image's layers too. Unfinished downloads go
    as well. `Busy` while a pull is under way: its layers are nobody's yet.

    `spare` are refs of layers that stay all the same, with unfinished downloads: those of an image
    for which this makes room.
    """
    with lock.writing(repo):
        if not spare:
            durable.remove_tree(kept.DIRECTORY, repo.fd)
        layers, result = _prune(repo, spare)
        if ContentIndex.exists(repo):
            with ContentIndex.open(repo) as index:
                index.retain()
        return layers, result


def _prune(repo: Repository, spare: Collection[str]) -> tuple[int, store_prune.PruneResult]:
    needed = set(spare)
    refs.roots(repo)  # raises where a ref does not say what it keeps
    for name, checksum in refs.listing(repo).items():
        if name.startswith(LAYERS):
            continue
        try:
            image = load(repo, name, checksum)
        except DamagedRepository as error:
            if name.startswith(IMAGES) or not _is_readable(repo, checksum):
                # Its layers are unknown, and they must not be taken for nobody's.
                raise DamagedRepository(
                    f"{error}; nothing is pruned while it is not known what {name} needs: "
                    "`fsck --repair` may heal it"
                ) from None
            continue
        needed |= {layer_ref(layer.digest) for layer in image.manifest.layers}
    gone = [name for name in refs.listing(repo, LAYERS) if name not in needed]
    for name in gone:
        refs.delete(repo, name)
    result = store_prune.prune(repo)
    left = stored_layers(repo, refs.listing(repo, LAYERS).values())
    skeleton.remove_others(repo, [Digest.parse(diff_id) for _role, diff_id in left])
    verified_commits.remove_others(repo, {diff_id for role, diff_id in left if role is Role.COMMIT})
    return len(gone), result


def _is_readable(repo: Repository, commit: str) -> bool:
    try:
        repo.read_commit(commit)
    except DamagedRepository:
        return False
    return True
