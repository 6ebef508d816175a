"""Digest tags of what indexes list: looked for last, and only while it is not known whose they are.

Nearly all digest tags name the digest that a tag leads to, and are found without a request. Those
of a platform's image are known once its index was copied here. Of an index that was at the target
before that, it costs a request to know what it lists: so none is read without need.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from bridge import limits
from bridge.oci.digest import Digest
from bridge.oci.model import INDEX_TYPES, Descriptor, Index, Manifest
from bridge.push.origin import Origin
from bridge.registry.meter import Meter
from bridge.sync.context import Context, Repository, Stopped, Unread, flat
from bridge.sync.follow import Followers
from bridge.sync.image import moved_of
from bridge.sync.narrow import narrow
from bridge.sync.report import Failure, TagOutcome, TagReport


def bring_below(context: Context, repository: Repository, meter: Meter) -> Iterator[TagReport]:
    """Bring the digest tags of what a repository's indexes list, all of whose tags are done.

    Yields a report for each index of which something was brought, or failed. Requests are counted
    by `meter`.
    """
    for index in repository.unread:
        if context.stop.is_set() or not repository.has_unclaimed:
            return
        started = time.monotonic()
        followers = Followers(context, repository, meter)
        failure = None
        try:
            _bring(context, repository, index, followers, meter)
        except Stopped:
            return
        except Exception as error:  # noqa: BLE001 - one image must not end the others
            name = f"{context.source.full(repository.source)}@{index.digest}"
            failure = Failure.of(name, flat(error))
        if followers.count or failure is not None:
            yield TagReport(
                repository=context.target.full(repository.target),
                tag=index.key,
                digest=index.digest,
                outcome=TagOutcome.COPIED if failure is None else TagOutcome.FAILED,
                moved=moved_of(followers.blobs, Meter()),
                followers=followers.count,
                seconds=time.monotonic() - started,
                failure=failure,
            )


def _bring(
    context: Context, repository: Repository, index: Unread, followers: Followers, meter: Meter
) -> None:
    origin = context.source.open(repository.source, index.digest, meter)
    wanted = narrow(context.job, origin, origin.top())
    # With itself, for then it is known that it was read, though it may list nothing that is wanted.
    below = (*_listed(origin, wanted.top, wanted.wants), wanted.top.digest)
    known = context.state.tag(repository.target, index.key)
    if known is not None and not context.dry:
        context.state.put(replace(known, below=below))
    for each in below:
        followers.bring(each, tags_only=True)


def _listed(
    origin: Origin, index: Manifest | Index, wants: Callable[[Descriptor], bool], depth: int = 0
) -> Iterator[Digest]:
    """Yield the digests of what an index lists, and of what that lists; images are not read."""
    if isinstance(index, Manifest) or depth >= limits.INDEX_DEPTH_MAX:
        return
    for entry in filter(wants, index.manifests):
        if entry.media_type in INDEX_TYPES:
            yield from _listed(origin, origin.document(entry), wants, depth + 1)
        yield entry.digest
