"""Every crafted image through a whole pull: the exact tree, or one clear error and no trace."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.crafted import LEGAL, REFUSED
from support.crafted.case import Case, count_layers
from support.images import write_layout
from support.trees import nodes, objects

from bridge.errors import BridgeError
from bridge.oci.digest import Digest
from bridge.oci.reference import parse_reference
from bridge.ostree import refs
from bridge.ostree.repository import Repository
from bridge.pull import images
from bridge.pull.pull import pull
from bridge.pull.refnames import LAYERS
from bridge.push.export import export


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """One repository for all good images: what the others left there must not matter."""
    with Repository.create(tmp_path_factory.mktemp("shared") / "repo", "bare-user") as made:
        yield made


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """One repository for all bad ones: it is empty after each."""
    with Repository.create(tmp_path_factory.mktemp("empty") / "repo", "bare-user") as made:
        yield made


@pytest.fixture(autouse=True)
def apart(shared: Repository, empty: Repository) -> Iterator[None]:
    """Have no case find another's layers, and one that failed spoil no other."""
    yield
    for repo in (shared, empty):
        for name in refs.listing(repo):
            refs.delete(repo, name)
    if next(empty.objects(), None):
        images.prune(empty)


@pytest.mark.parametrize("case", LEGAL.values(), ids=LEGAL)
def test_legal(shared: Repository, tmp_path: Path, case: Case) -> None:
    report = pull(shared, parse_reference(f"oci:{write_layout(tmp_path, case.make())}"))
    found = nodes(shared, report.commit)
    assert found == case.tree
    assert sorted((each.path, each.reason) for each in report.dropped) == list(case.dropped)
    for layer in report.layers:  # and each layer can be written out again, to the last byte
        diff_id = layer.plan.diff_id
        stream = b"".join(export(shared, diff_id))
        assert Digest.of(stream, diff_id.algorithm) == diff_id


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_refused(empty: Repository, tmp_path: Path, case: Case) -> None:
    made = case.make()
    with pytest.raises(BridgeError) as caught:
        pull(empty, parse_reference(f"oci:{write_layout(tmp_path, made)}"))
    error = str(caught.value)
    assert caught.value.exit_code == case.code, error
    assert re.search(case.phrase, error), error
    assert "\n" not in error and len(error) < 2000
    # No image; of its layers, those that were in order, and not an object more.
    names = refs.listing(empty)
    assert all(name.startswith(LAYERS) for name in names)
    layers = count_layers(made)
    assert len(names) == layers if case.verified else len(names) < max(1, layers)
    if names:
        images.prune(empty)
    assert objects(empty) == set()
    assert [path.name for path in (Path(empty.path) / "tmp").iterdir()] == ["cache"]
