"""Origin files: where a deployment comes from. Key files as GLib's GKeyFile has them.

`CHECKSUM.SERIAL.origin` beside the deployment directory; the group `[origin]` holds
`container-image-reference`, whose text `bridge.oci.reference` parses. Groups and comments of
others are kept as they are. Format: https://docs.gtk.org/glib/struct.KeyFile.html
"""

from __future__ import annotations

from dataclasses import dataclass

from bridge.errors import BridgeError

_GROUP = "origin"
_REFERENCE = "container-image-reference"
_TRANSIENT = "libostree-transient"
_PINNED = "pinned"
_FOREIGN_GROUPS = frozenset({"rpmostree", "packages", "overrides", "modules"})
_SPACE = " \t\r\f\v"
_ESCAPES = {"s": " ", "n": "\n", "t": "\t", "r": "\r", "\\": "\\"}


@dataclass(frozen=True, slots=True)
class Origin:
    """An origin file as text; made by `parse` or `for_image`, changed by making another one."""

    text: str

    @classmethod
    def parse(cls, text: str) -> Origin:
        """Check the text of an origin file; `BridgeError` when it is no key file."""
        group = None
        for line in text.split("\n"):
            stripped = line.strip(_SPACE)
            if not stripped or stripped.startswith("#"):
                continue
            if stripped.startswith("[") and stripped.endswith("]") and len(stripped) > 2:
                group = stripped[1:-1]
            elif (
                group is None or not stripped.partition("=")[0].strip(_SPACE) or "=" not in stripped
            ):
                raise BridgeError(f"origin file has a line that is no key and value: {line!r:.80}")
        return cls(text)

    @classmethod
    def for_image(cls, reference: str) -> Origin:
        """Return a fresh origin of an image, `reference` in the form that ostree-ext writes."""
        return cls("").with_value(_GROUP, _REFERENCE, reference)

    @property
    def image_reference(self) -> str | None:
        """The image that the deployment was made from, as ostree-ext writes it."""
        return self.get(_GROUP, _REFERENCE)

    @property
    def pinned(self) -> bool:
        """Whether the deployment is kept whatever comes after it (`ostree admin pin`)."""
        return (self.get(_TRANSIENT, _PINNED) or "").strip(_SPACE) in ("true", "1")

    @property
    def incompatible(self) -> bool:
        """Whether rpm-ostree has changed the deployment in ways that an image cannot have."""
        return any(group in _FOREIGN_GROUPS for group, _ in self._lines() if group is not None)

    def with_pinned(self, pinned: bool) -> Origin:
        """Return the origin with the deployment pinned or not."""
        return self.with_value(_TRANSIENT, _PINNED, "true" if pinned else None)

    def without_transient(self) -> Origin:
        """Return the origin without what holds for one deployment only, for its successor."""
        kept = [line for group, line in self._lines() if group != _TRANSIENT]
        return Origin("\n".join(kept).strip("\n") + "\n" if any(kept) else "")

    def get(self, group: str, key: str) -> str | None:
        """Return a value, unescaped; the last one when there are several."""
        found = None
        for where, line in self._lines():
            name, equals, value = line.partition("=")
            if where == group and equals and name.strip(_SPACE) == key:
                found = _unescape(value.strip(_SPACE))
        return found

    def with_value(self, group: str, key: str, value: str | None) -> Origin:
        """Return the origin with `key` set to `value`, or taken out when that is `None`."""
        lines: list[str] = []
        last_of_group = None
        for where, line in self._lines():
            name, equals, _ = line.partition("=")
            if where == group and equals and name.strip(_SPACE) == key:
                continue
            lines.append(line)
            if where == group and line.strip(_SPACE):
                last_of_group = len(lines)
        if value is not None:
            new = f"{key}={_escape(value)}"
            if last_of_group is None:
                while lines and not lines[-1].strip(_SPACE):
                    lines.pop()
                lines += ["", f"[{group}]", new] if lines else [f"[{group}]", new]
            else:
                lines.insert(last_of_group, new)
        text = "\n".join(lines)
        return Origin(text if text.endswith("\n") or not text else text + "\n")

    def _lines(self) -> list[tuple[str | None, str]]:
        result: list[tuple[str | None, str]] = []
        group = None
        for line in self.text.split("\n"):
            stripped = line.strip(_SPACE)
            if stripped.startswith("[") and stripped.endswith("]"):
                group = stripped[1:-1]
            result.append((group, line))
        return result


def _escape(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    escaped = escaped.replace("\t", "\\t")
    # GKeyFile drops spaces around a value: those that belong to it are written as \\s.
    rest = escaped.lstrip(" ")
    body = rest.rstrip(" ")
    return "\\s" * (len(escaped) - len(rest)) + body + "\\s" * (len(rest) - len(body))


def _unescape(value: str) -> str:
    result: list[str] = []
    characters = iter(value)
    for character in characters:
        if character != "\\":
            result.append(character)
            continue
        following = next(characters, "")
        result.append(_ESCAPES.get(following, "\\" + following))
    return "".join(result)
