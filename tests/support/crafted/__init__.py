"""Images that are malformed, and images that only look it: one module for each kind.

Every case has a name, an image (made block by block where a tar writer would refuse to), and the
outcome it must have: the exact tree and what was left out, or an exit code and the error's words.
`tests/pull/test_crafted.py` runs all of them in this process; `registry-tests/test_crafted.py`
runs them through a registry, the command line, `ostree` and `umoci`.
"""

from __future__ import annotations

from support.crafted import (
    compression,
    devices,
    digests,
    documents,
    headers,
    links,
    merging,
    owners,
    paths,
    pax,
    sizes,
    sparse,
    whiteouts,
    xattrs,
)
from support.crafted.case import Case

KINDS: dict[str, dict[str, Case]] = {
    module.__name__.rpartition(".")[2]: module.CASES
    for module in (
        paths,
        links,
        whiteouts,
        merging,
        devices,
        owners,
        xattrs,
        headers,
        sizes,
        pax,
        sparse,
        compression,
        digests,
        documents,
    )
}

CASES: dict[str, Case] = {
    f"{kind}: {name}": case for kind, cases in KINDS.items() for name, case in cases.items()
}
LEGAL = {name: case for name, case in CASES.items() if case.legal}
REFUSED = {name: case for name, case in CASES.items() if not case.legal}
