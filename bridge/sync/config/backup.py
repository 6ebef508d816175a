"""What an image is called once its tag means another: `Job.backup`, expanded.

A template has `.Ref`, the target (`.Ref.Tag`, `.Ref.Registry`, `.Ref.Repository`, `.Ref.Digest`,
`.Ref.Path` of a directory, `.Ref.CommonName`), and `.Sync` with the job (`.Sync.Source`,
`.Sync.Target`, `.Sync.Type`); `.Step` is the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from bridge.errors import UsageError
from bridge.oci.reference import is_tag, parse_registry_reference
from bridge.sync.config import templates
from bridge.sync.config.secrets import from_file
from bridge.sync.config.template_functions import Outside
from bridge.sync.model import REGISTRIES, Job, Kind, Place


def outside(now: Callable[[], datetime]) -> Outside:
    """Return what templates reach on this machine: its environment and its files."""
    return Outside(lambda name: os.environ.get(name, ""), _content, now)


def _content(path: str) -> str:
    """Return a file's content; nothing, if it cannot be had, as regsync has it."""
    try:
        return from_file(path)
    except UsageError:
        return ""


def checked(text: str) -> str:
    """Return the template if it is one that can be expanded for a tag; raises `UsageError`."""
    sample = Place(Kind.IMAGE, "registry.example/path/name", "tag")
    job = Job("sample", sample, sample, backup=text, variables=variables(sample, sample))
    place(job, sample, lambda: datetime.now().astimezone())
    return text


def variables(source: Place, target: Place) -> dict[str, object]:
    """Return what `.Sync` has, unless a format has more."""
    kinds = {Kind.REGISTRY: "registry", Kind.REPOSITORY: "repository"}
    return {
        "Source": str(source),
        "Target": str(target),
        "Type": kinds.get(source.kind, "image"),
    }


def place(job: Job, target: Place, now: Callable[[], datetime]) -> Place | None:
    """Return where the image that `target` names now is kept before the tag is moved.

    `target` is an image in a registry, or one in a layout with its tag. None: the job wants no
    backup. Raises `UsageError` if what the template makes is no name.
    """
    if job.backup is None:
        return None
    sync = job.variables or variables(job.source, job.target)
    data = {"Ref": _reference(target), "Sync": sync, "Step": sync}
    text = templates.parse(job.backup).expand(data, outside(now)).strip()
    if ":" in text or "/" in text:
        if target.kind not in REGISTRIES:
            raise UsageError(f"the backup {text!r:.200}: one in the same directory has a tag alone")
        reference = parse_registry_reference(text)
        if reference.digest or reference.tag is None:
            raise UsageError(f"the backup {text!r:.200}: a tag is wanted, not a digest")
        return Place(Kind.IMAGE, reference.name, reference.tag)
    if not is_tag(text):
        raise UsageError(f"the backup {text!r:.200} is not a tag")
    return replace(target, tag=text, digest=None)


def _reference(target: Place) -> dict[str, object]:
    in_registry = target.kind in REGISTRIES
    host, _, repository = target.name.partition("/") if in_registry else ("", "", "")
    return {
        "Scheme": "reg" if in_registry else "ocidir",
        "Registry": host,
        "Repository": repository,
        "Path": "" if in_registry else target.name,
        "Tag": target.tag or "",
        "Digest": target.digest or "",
        "Reference": str(target),
        "CommonName": str(target),
    }
