"""The view of an image that is not stored: it is pulled into a repository of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bridge.contents.commit import of_commit
from bridge.contents.contents import Contents
from bridge.oci.model import Platform
from bridge.oci.reference import ImageReference
from bridge.ostree.repository import Repository
from bridge.pull import images
from bridge.pull.images import StoredImage
from bridge.pull.progress import Progress
from bridge.pull.pull import pull
from bridge.pull.spool import spool_directory
from bridge.registry.options import NetworkOptions


@dataclass(frozen=True, slots=True)
class Pulled:
    """An image in a repository, and the view of it."""

    repo: Repository
    image: StoredImage
    contents: Contents


@contextmanager
def pulled(
    reference: ImageReference,
    *,
    network: NetworkOptions | None = None,
    platform: Platform | None = None,
    labelled: bool = False,
    progress: Progress | None = None,
) -> Iterator[Pulled]:
    """Pull an image into a repository that lasts as long as the context, `labelled` by its SELinux
    policy or not.

    Raises what `pull` raises.
    """
    with (
        tempfile.TemporaryDirectory(prefix="bootc-py-", dir=spool_directory()) as path,
        Repository.create(path, "bare-user") as repo,
    ):
        pull(
            repo,
            reference,
            network=network,
            platform=platform,
            labelled=labelled,
            progress=progress,
        )
        image = images.find(repo, reference)
        yield Pulled(repo, image, of_commit(repo, image.checksum))
