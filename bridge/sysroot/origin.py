"""Origin files: where a deployment comes from.

A key file `CHECKSUM.SERIAL.origin` beside the deployment's directory. The group `[origin]` holds
`container-image-reference`, whose text `bridge.oci.reference` parses.
"""

from __future__ import annotations

from dataclasses import dataclass

from bridge.ostree.keyfile import KeyFile

_REFERENCE = ("origin", "container-image-reference")
_SELINUX = ("bootc-py", "selinux")
TRANSIENT = "libostree-transient"
_PINNED = (TRANSIENT, "pinned")
_KEPT = (TRANSIENT, "bootc-py-kept")
_NAME = (TRANSIENT, "bootc-py-name")
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
    def kept(self) -> bool:
        """Whether it is pinned by us alone: libostree would drop what the settings keep."""
        return self.pinned and self.get_boolean(*_KEPT)

    @property
    def name(self) -> str | None:
        """The name that somebody gave the deployment."""
        return self.get(*_NAME)

    @property
    def incompatible(self) -> bool:
        """Whether rpm-ostree has changed the deployment in ways that an image cannot have."""
        return not self.groups.isdisjoint(_FOREIGN_GROUPS)

    def with_pinned(self, pinned: bool) -> Origin:
        """Return the origin with the deployment pinned or not."""
        origin = self.with_value(*_PINNED, "true" if pinned else None)
        return origin.with_value(*_KEPT, None)

    def with_kept(self, kept: bool) -> Origin:
        """Return the origin with the deployment kept for the settings' sake, or no longer."""
        return self.with_pinned(kept).with_value(*_KEPT, "true" if kept else None)

    def with_name(self, name: str | None) -> Origin:
        """Return the origin with a name for the deployment."""
        return self.with_value(*_NAME, name)

    def without_transient(self) -> Origin:
        """Return the origin without what holds for one deployment only, for its successor."""
        return self.without_group(TRANSIENT)
