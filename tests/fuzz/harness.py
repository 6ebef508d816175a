"""What holds for every parser, and the loop that tries to break it.

Whatever the bytes: a value, or one of the errors that the parser's description names, in one
bounded line; the same each time; soon. Each target adds what holds for its values: a second
reader that agrees, a writer that gives the bytes back.
"""

from __future__ import annotations

import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import bridge
from bridge.errors import BridgeError

MESSAGE_MAX = 2000
"""Characters of one error's line: a terminal full, however long the input."""
SECONDS_MAX = 10.0
"""Processor time for one input: a guard against loops that would never end."""

Mutate = Callable[[bytes, random.Random], bytes]


class Broken(AssertionError):
    """A parser did what none may do."""


class _TooSlow(Broken):
    pass


@dataclass(frozen=True)
class Target:
    """One parser."""

    name: str
    seeds: Callable[[], Sequence[bytes]]
    """Good inputs of every form, for mutations to stay near to."""
    parse: Callable[[bytes], Any]
    """Return something that can be compared: what the parser made of the input."""
    refusals: tuple[type[BridgeError], ...] = ()
    """The errors that it may raise."""
    holds: Callable[[bytes, Any], None] = lambda _data, _value: None
    """Asserts what is true of an input and the value that was read from it."""
    words: Sequence[bytes] = ()
    """What means something in this format, for mutations to put in."""
    mutate: Mutate | None = None
    """Mutations that know the format; by default `mutated` with `words`."""

    def mutation(self, data: bytes, chance: random.Random) -> bytes:
        if self.mutate is not None:
            return self.mutate(data, chance)
        return mutated(data, chance, self.words)


# -- one input -------------------------------------------------------------------------------


def judge(target: Target, data: bytes) -> bool:
    """Hold the parser to its rules; return whether it took the input. Raises what is wrong."""
    with _in_time():
        first = _outcome(target, data)
        if _outcome(target, data) != first:
            raise Broken("twice the same input, two results")
        accepted, value = first
        if accepted:
            target.holds(data, value)
        return accepted


def _outcome(target: Target, data: bytes) -> tuple[bool, Any]:
    try:
        return True, target.parse(data)
    except target.refusals as error:
        text = str(error)
        if not text.isprintable() or not 0 < len(text) <= MESSAGE_MAX:
            raise Broken(f"not one bounded line: {text!r:.300} ({len(text)})") from error
        return False, text


@contextmanager
def _in_time() -> Iterator[None]:
    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise _TooSlow(f"more than {SECONDS_MAX} seconds")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS_MAX)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


# -- many inputs -----------------------------------------------------------------------------


@dataclass
class Tally:
    """What became of the inputs."""

    accepted: int = 0
    refused: int = 0
    broken: dict[str, bytes] = field(default_factory=dict)
    """The shortest input for each place that failed."""
    times: Counter[str] = field(default_factory=Counter)
    """How often each place failed."""


def fuzz(target: Target, rounds: int, seed: int, *, guided: bool = False) -> Tally:
    """Judge the seeds and `rounds` mutations. Guided, what reaches new lines becomes a seed too."""
    chance = random.Random(f"{target.name} {seed}")
    corpus = list(target.seeds())
    tally = Tally()
    reached = _Reached() if guided else None
    for number in range(-len(corpus), rounds):
        data = corpus[number] if number < 0 else target.mutation(chance.choice(corpus), chance)
        try:
            if reached is None:
                accepted = judge(target, data)
            else:
                accepted, news = reached.during(lambda data=data: judge(target, data))
                if news and len(corpus) < 5000 and number >= 0:
                    corpus.append(data)
        except Exception as error:  # noqa: BLE001 - every kind is a finding
            where = place(error)
            tally.times[where] += 1
            known = tally.broken.get(where)
            if known is None or len(data) < len(known):
                tally.broken[where] = data
        else:
            tally.accepted += accepted
            tally.refused += not accepted
    return tally


def place(error: BaseException) -> str:
    """Return what tells one defect from another: the error's kind and the line it came from."""
    trace = error.__traceback__
    where = ""
    while trace is not None:
        path = trace.tb_frame.f_code.co_filename
        if not where or path.startswith((_BRIDGE, _HERE)):
            where = f"{Path(path).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__} at {where}"


def failure(target: Target, data: bytes) -> Exception | None:
    """Return what the input breaks, None when all is well with it."""
    try:
        judge(target, data)
    except Exception as error:  # noqa: BLE001 - every kind is a finding
        return error
    return None


def shrunk(target: Target, data: bytes, seconds: float = 5.0) -> bytes:
    """Return a shorter input that fails in the same place, found by leaving parts out."""

    def fails(part: bytes) -> bool:
        error = failure(target, part)
        return error is not None and place(error) == wanted

    found = failure(target, data)
    wanted = "" if found is None else place(found)
    end = time.monotonic() + seconds
    step = max(1, len(data) // 2)
    while step and time.monotonic() < end:
        start = 0
        while start < len(data) and time.monotonic() < end:
            shorter = data[:start] + data[start + step :]
            if fails(shorter):
                data = shorter
            else:
                start += step
        step //= 2
    return data


_BRIDGE = str(Path(bridge.__file__).parent)
_HERE = str(Path(__file__).parent)


class _Reached:
    """Which lines of `bridge` were reached at all. Slow, and worth it for deep parsers."""

    def __init__(self) -> None:
        self._lines: set[tuple[CodeType, int]] = set()

    def during(self, run: Callable[[], bool]) -> tuple[bool, bool]:
        before = len(self._lines)
        sys.settrace(self._call)
        try:
            result = run()
        finally:
            sys.settrace(None)
        return result, len(self._lines) > before

    def _call(self, frame: FrameType, _event: str, _arg: object) -> Any:
        return self._line if frame.f_code.co_filename.startswith(_BRIDGE) else None

    def _line(self, frame: FrameType, _event: str, _arg: object) -> Any:
        self._lines.add((frame.f_code, frame.f_lineno))
        return self._line


# -- mutations -------------------------------------------------------------------------------

EDGES = (b"\0", b"\xff", b"\x80", b"\n", b" ", b'"', b"\\", b"\xed\xa0\x80", b"\xc3\xa9", b"\x1b")
NUMBERS = (b"0", b"-1", b"255", b"256", b"4294967296", b"9223372036854775808", b"9" * 400)
LONG = (300, 5000, 70_000)
"""Repetitions: beyond a name's length, beyond what int() reads, beyond most buffers."""


def mutated(data: bytes, chance: random.Random, words: Sequence[bytes] = ()) -> bytes:
    """Return a copy with one to four small damages, now and then a large one."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 4))):
        at = chance.randint(0, len(out))
        end = min(len(out), at + chance.choice((1, 1, 2, 4, 8, 16, 64)))
        match chance.randrange(10):
            case 0 if out:
                out[chance.randrange(len(out))] ^= 1 << chance.randrange(8)
            case 1 if out:
                out[chance.randrange(len(out))] = chance.randrange(256)
            case 2:
                del out[at:end]
            case 3:
                out[at:at] = out[at:end]
            case 4:
                other = chance.randint(0, len(out))
                out[other:other] = out[at:end]
            case 5 | 6 if words:
                word = chance.choice(words)
                out[at : at + chance.choice((0, 0, len(word)))] = word
            case 7:
                out[at:end] = chance.choice(EDGES)
            case 8:
                out[at:end] = chance.choice(NUMBERS)
            case _ if chance.random() < 0.05:
                out[at:end] = bytes(out[at:end] or b"(") * chance.choice(LONG)
            case _:
                del out[chance.randint(len(out) // 2, len(out)) :]
    return bytes(out)
