"""Origin files: where a deployment comes from.

A key file `CHECKSUM.SERIAL.origin` beside the deployment's directory. The group `[origin]` holds
`container-image-reference`, whose text `bridge.oci.reference` parses.
"""

from __future__ import annotations

from dataclasses import dataclass

from bridge.ostree.keyfile import KeyFile

_REFERENCE = ("origin", "container-image-reference")
_SELINUX = ("bootc-py", "selinux")
_TRANSIENT = "libostree-transient"
_PINNED = (_TRANSIENT, "pinned")
_FOREIGN_GROUPS = frozenset({"rpmostree", "packages", "overrides", "modules"})


@dataclass(frozen=True, slots=True)
class Origin(KeyFile):
    """An origin file; made by `parse` or `for_image`."""

    @classmethod
    def for_image(cls, reference: str, *, labelled: bool = True) -> Origin:
        """Return a fresh origin of an image, `reference` in the form that ostree-ext writes.

        Where it is not `labelled`, SELinux labels are left out, of what comes after it too.
        """
        origin = cls("").with_value(*_REFERENCE, reference)
        return origin if labelled else origin.with_value(*_SELINUX, "disabled")

    @property
    def image_reference(self) -> str | None:
        """The image that the deployment was made from, as ostree-ext writes it."""
        return self.get(*_REFERENCE)

    @property
    def labelled(self) -> bool:
        """Whether files get the labels of the image's SELinux policy, if it has one."""
        return self.get(*_SELINUX) != "disabled"

    @property
    def pinned(self) -> bool:
        """Whether the deployment is kept whatever comes after it (`ostree admin pin`)."""
        return self.get_boolean(*_PINNED)

    @property
    def incompatible(self) -> bool:
        """Whether rpm-ostree has changed the deployment in ways that an image cannot have."""
        return not self.groups.isdisjoint(_FOREIGN_GROUPS)

    def with_pinned(self, pinned: bool) -> Origin:
        """Return the origin with the deployment pinned or not."""
        return self.with_value(*_PINNED, "true" if pinned else None)

    def without_transient(self) -> Origin:
        """Return the origin without what holds for one deployment only, for its successor."""
        return self.without_group(_TRANSIENT)
