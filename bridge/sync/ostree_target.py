"""An OSTree repository as a target: each image is imported as it lands, with `bridge.pull`.

The repository is made in archive mode if there is none, so that any web server gives it to a plain
`ostree pull`. Beside the refs that ostree-ext uses, the commit of each tag has one that people can
type: `sync/REPOSITORY/TAG`, the repository being the source's.
"""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack

from bridge.errors import NotFound, UsageError
from bridge.oci.digest import Digest
from bridge.oci.model import Platform
from bridge.oci.reference import ImageReference
from bridge.ostree import refs
from bridge.ostree.repository import Repository
from bridge.ostree.transaction import Transaction
from bridge.pull import images
from bridge.pull.progress import Progress
from bridge.pull.pull import pull
from bridge.pull.refnames import IMAGES, unescape
from bridge.pull.report import TransferReport
from bridge.push.destination import Destination
from bridge.registry.client import FetchedManifest
from bridge.registry.connection import Connection
from bridge.registry.meter import Meter
from bridge.registry.options import NetworkOptions
from bridge.sync.model import Place

PREFIX = "sync"


class OstreeTarget:
    """An OSTree repository. Safe for several threads, of which one writes at a time."""

    host: str | None = None
    connection: Connection | None = None
    takes_images_only = True

    def __init__(self, place: Place) -> None:
        self._place = place
        self._lock = threading.Lock()
        self._repo: Repository | None = None
        self._stack = ExitStack()
        self._leftovers = False

    def tags(self, repository: str, meter: Meter) -> frozenset[str] | None:
        with self._lock:
            repo = self._opened(make=False)
            if repo is None:
                return frozenset()
            prefix = f"{PREFIX}/{repository}/"
            names = (name.removeprefix(prefix) for name in refs.listing(repo, prefix))
            return frozenset(name for name in names if "/" not in name)

    def head(self, repository: str, name: str, meter: Meter) -> Digest | None:
        """Return None: what an index became cannot be told from the image that was taken of it, and
        a pull moves nothing that is there."""
        return None

    def still(self, repository: str, tag: str, digest: str, meter: Meter) -> bool:
        """Tell whether the tag's ref leads to the commit that it was written with."""
        with self._lock:
            repo = self._opened(make=False)
            found = None if repo is None else refs.current(repo, f"{PREFIX}/{repository}/{tag}")
            return found is not None and digest == f"commit:{found}"

    def land(
        self,
        repository: str,
        tag: str,
        reference: ImageReference,
        network: NetworkOptions | None,
        platform: Platform | None,
        progress: Progress,
    ) -> TransferReport:
        """Import an image, and have the tag's ref lead to it. Raises what `pull` raises."""
        with self._lock:
            repo = self._opened(make=True)
            assert repo is not None
            ref = f"{PREFIX}/{repository}/{tag}"
            refs.check_ref(ref)
            before = refs.current(repo, ref)
            done = pull(repo, reference, network=network, platform=platform, progress=progress)
            if done.commit != before:
                self._leftovers = self._leftovers or before is not None
                with Transaction(repo) as transaction:
                    transaction.set_ref(ref, done.commit)
                    transaction.publish()
            return done

    def delete(self, repository: str, tag: str, meter: Meter) -> None:
        with self._lock:
            repo = self._opened(make=False)
            if repo is None:
                return
            ref = f"{PREFIX}/{repository}/{tag}"
            commit = refs.current(repo, ref)
            if commit is None:
                return
            refs.delete(repo, ref)
            for name, checksum in refs.listing(repo, IMAGES).items():
                # The image's own ref is the source's name, escaped: it ends like this.
                if checksum == commit and unescape(name).endswith(f"/{repository}:{tag}"):
                    refs.delete(repo, name)
            self._leftovers = True

    def open(
        self, repository: str, name: str | None, meter: Meter, stack: ExitStack, lender: str | None
    ) -> Destination:
        raise UsageError(f"{self._place}: an OSTree repository takes images only")

    def rehearse(self, repository: str, meter: Meter) -> Destination:
        raise UsageError(f"{self._place}: an OSTree repository takes images only")

    def read(self, repository: str, digest: str, meter: Meter) -> FetchedManifest:
        raise NotFound(f"{self._place}: an OSTree repository has no manifests of its own")

    def lists_referrers(self, repository: str, subject: Digest, meter: Meter) -> bool:
        return False

    def full(self, repository: str) -> str:
        return f"{self._place}:{PREFIX}/{repository}"

    def close(self) -> None:
        try:
            if self._leftovers and self._repo is not None:
                images.prune(self._repo)
        finally:
            self._stack.close()

    def _opened(self, *, make: bool) -> Repository | None:
        if self._repo is None:
            path = self._place.name
            if os.path.exists(os.path.join(path, "config")):
                repo = Repository.open(path)
            elif make:
                repo = Repository.create(path, "archive")
            else:
                return None
            self._repo = self._stack.enter_context(repo)
        return self._repo
