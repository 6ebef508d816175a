"""Which of several processes does a repository, without any of them asking another.

A repository, by its name with host and path, belongs to shard `sha256(name) mod N`, of the digest's
first eight bytes as a big-endian number. It stays there as long as N does, whatever else comes or
goes; each of N shards gets about as many. Which of its two names, the source's or the target's,
is the caller's choice, and has to be the same one everywhere.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping

from bridge import limits
from bridge.errors import UsageError

INDEX_VARIABLE = "JOB_COMPLETION_INDEX"
"""What Kubernetes numbers the pods of an Indexed Job in, from 0."""
COUNT_VARIABLE = "JOB_COMPLETIONS"
"""How many they are: Kubernetes itself does not say, our manifests do."""
_NUMBER = re.compile(r"[0-9]{1,6}")

Shard = tuple[int, int]
"""Number, from 0, and count."""


def has(shard: Shard | None, repository: str) -> bool:
    """Tell whether a repository, `HOST/PATH`, is in a shard; without one, all are."""
    return shard is None or shard_of(repository, shard[1]) == shard[0]


def shard_of(repository: str, count: int) -> int:
    """Return which of `count` shards a repository is in."""
    return int.from_bytes(hashlib.sha256(repository.encode()).digest()[:8], "big") % count


def parse(text: str | None, environment: Mapping[str, str] = os.environ) -> Shard | None:
    """Return the shard that `I/N` names, or, without a text, the environment.

    None: neither says anything, so this process does it all. `JOB_COMPLETION_INDEX` without
    `JOB_COMPLETIONS` is an error: each pod would do everything. Raises `UsageError`.
    """
    if text is not None:
        index, slash, count = text.partition("/")
        if not slash:
            raise UsageError(f"--shard {text!r:.50}: I/N is wanted, such as 0/4")
        return _checked(f"--shard {text!r:.50}", index, count)
    index = environment.get(INDEX_VARIABLE, "")
    count = environment.get(COUNT_VARIABLE, "")
    if not index:
        return None
    if not count:
        raise UsageError(
            f"{INDEX_VARIABLE} is set, but not how many shards there are: set {COUNT_VARIABLE} to "
            "the job's completions, or use --shard"
        )
    return _checked(f"{INDEX_VARIABLE} {index!r:.20} of {count!r:.20}", index, count)


def _checked(told: str, index: str, count: str) -> Shard:
    if not _NUMBER.fullmatch(count) or not 1 <= int(count) <= limits.SYNC_SHARDS_MAX:
        raise UsageError(f"{told}: there are from 1 to {limits.SYNC_SHARDS_MAX} shards")
    if not _NUMBER.fullmatch(index) or int(index) >= int(count):
        raise UsageError(f"{told}: shards have the numbers from 0 to {int(count) - 1}")
    return int(index), int(count)
