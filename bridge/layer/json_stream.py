"""Reading a large JSON object member by member, and a list in it element by element.

No more of the text is held than the element at hand and a chunk. Source: RFC 8259.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

from bridge import limits
from bridge.errors import MalformedImage

_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBERS = (int, float)
_NUMBER_REST = re.compile(r"[0-9.eE+-]*")


class Scanner:
    """Reads one JSON object from chunks, and a list in it value by value."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._text = ""
        self._at = 0
        self._ended = False
        self._singly = False
        """What is at hand cannot be read several elements at once."""
        self._decode = codecs.getincrementaldecoder("utf-8")("strict").decode
        self._decoder = json.JSONDecoder(parse_constant=_refuse_constant)
        self._scan = self._decoder.raw_decode

    def members(self) -> Iterator[str]:
        """Yield the names of the object's members; each value is to be taken before the next."""
        self._expect("{")
        if self._skip() == "}":
            self._at += 1
            return
        while True:
            key = self.value()
            if not isinstance(key, str):
                self._fail()
            self._expect(":")
            yield key
            if self._skip() == "}":
                self._at += 1
                return
            self._expect(",")

    def elements(self) -> Iterator[Any]:
        """Yield the elements of the list that comes next."""
        self._expect("[")
        if self._skip() == "]":
            self._at += 1
            return
        while True:
            yield from self._several()
            yield self.value()
            if self._skip() == "]":
                self._at += 1
                return
            self._expect(",")

    def _several(self) -> Iterator[Any]:
        """Yield as many elements as can be seen to end in the text at hand, all but the last.

        `},{"` has a quotation mark that within a string would have a backslash before it, so it is
        between two objects: of this list, or of one in it, which is no JSON when cut off there. So
        is a string that ends with the first three.
        """
        cut = -1 if self._singly else self._text.rfind('},{"', self._at)
        if not 0 <= cut - self._at < limits.TOC_VALUE_MAX:
            return
        try:
            values = self._decoder.decode(f"[{self._text[self._at : cut + 1]}]")
        except (ValueError, RecursionError):
            self._singly = True  # one by one it will be seen what is wrong
            return
        self._at = cut + 2
        yield from values

    def value(self) -> Any:
        """Return the value that comes next."""
        self._skip()
        while True:
            problem = ""
            try:
                value, end = self._scan(self._text, self._at)
            except (ValueError, RecursionError) as error:
                problem = f": {error}"
            else:
                if type(value) not in _NUMBERS or not _NUMBER_REST.fullmatch(self._text, end):
                    break
            # It may be cut off here, or be another number with what is in the next chunk.
            if len(self._text) - self._at > limits.TOC_VALUE_MAX or not self._more():
                if problem:
                    raise MalformedImage(f"its table of contents is no JSON{problem}")
                break
        # By its own length, not by that of what is at hand: that is as the text was cut.
        if end - self._at > limits.TOC_VALUE_MAX:
            raise MalformedImage(
                f"its table of contents has a value of more than {limits.TOC_VALUE_MAX} characters"
            )
        self._at = end
        return value

    def finish(self) -> None:
        """Raise `MalformedImage` unless all is read."""
        if self._skip():
            self._fail()

    def _skip(self) -> str:
        """Pass over white space; return the character that comes next, empty at the end."""
        while True:
            space = _SPACE.match(self._text, self._at)
            assert space is not None
            self._at = space.end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _expect(self, character: str) -> None:
        if self._skip() != character:
            self._fail()
        self._at += 1

    def _more(self) -> bool:
        while not self._ended:
            chunk = next(self._chunks, None)
            self._ended = chunk is None
            try:
                text = self._decode(chunk or b"", self._ended)
            except UnicodeDecodeError:
                raise MalformedImage("its table of contents is not in UTF-8") from None
            if text:
                self._text = self._text[self._at :] + text
                self._at = 0
                self._singly = False
                return True
        return False

    def _fail(self) -> NoReturn:
        raise MalformedImage("its table of contents is not a JSON object of the form it must have")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
