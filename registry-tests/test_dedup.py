"""Files are stored once, whatever layers they come in."""

from __future__ import annotations

from pathlib import Path

import pytest
from rig import store
from rig.command import pull
from rig.twopkg import PACKAGE_BYTES, TwoImages


def test_two_images_with_the_same_packages(two_packages: TwoImages, scratch: Path) -> None:
    """150 MB of packages in the layers are 100 MB in the store, and the report says so."""
    repo = scratch / "repo"
    one = pull(two_packages.one.reference, repo)
    before = store.disk_bytes(repo)
    assert one["store"]["newBytes"] == pytest.approx(PACKAGE_BYTES, rel=0.05)
    assert before == pytest.approx(one["store"]["newBytes"], rel=0.02)

    two = pull(two_packages.two.reference, repo)
    # Base and app are the same layers; the packages' layer has pkg1 again, which is here.
    assert [layer["mode"] for layer in two["layers"]] == ["present", "whole", "present"]
    assert two["store"]["reusedBytes"] == PACKAGE_BYTES
    assert two["store"]["newBytes"] == PACKAGE_BYTES
    added = store.disk_bytes(repo) - before
    assert added == pytest.approx(PACKAGE_BYTES, rel=0.02)

    layers = {
        layer["digest"]: layer["size"]
        for layer in two_packages.one.layers + two_packages.two.layers
    }
    packages = sum(sorted(layers.values())[-2:])
    assert packages == pytest.approx(3 * PACKAGE_BYTES, rel=0.01)
    assert before + added == pytest.approx(2 * PACKAGE_BYTES, rel=0.05)
    store.fsck(repo)
