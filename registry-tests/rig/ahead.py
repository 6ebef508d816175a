"""Cases that mostly wait, run several at once and before their tests ask for the outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

_AT_ONCE = 4


@contextmanager
def running(
    request: pytest.FixtureRequest,
    factory: pytest.TempPathFactory,
    argument: str,
    run: Callable[[str, Path], None],
) -> Iterator[Callable[[str], None]]:
    """Runs `run(case, directory)` for the cases that selected tests of this module are given as
    `argument`; what is yielded raises what one of them raised.
    """
    work = factory.mktemp(argument)
    cases = [
        item.callspec.params[argument]
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.module is request.module
        and hasattr(item, "callspec")
        and argument in item.callspec.params
    ]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        futures = {case: pool.submit(run, case, work / str(n)) for n, case in enumerate(cases)}
        yield lambda case: futures[case].result()
