from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest

from bridge.cli import options
from bridge.cli.units import count_text, size_text
from bridge.errors import UsageError

SIZES = {
    0: "0 B",
    1: "1 B",
    999: "999 B",
    1000: "1.0 kB",
    1049: "1.0 kB",
    1050: "1.1 kB",
    99_949: "99.9 kB",
    99_950: "100 kB",
    100_000: "100 kB",
    999_499: "999 kB",
    999_500: "1.0 MB",
    999_999: "1.0 MB",
    1_000_000: "1.0 MB",
    123_456_789: "123 MB",
    999_999_999: "1.0 GB",
    1_340_000_000: "1.3 GB",
    5 * 10**12: "5000 GB",
}


@pytest.mark.parametrize(("size", "text"), SIZES.items())
def test_sizes(size: int, text: str) -> None:
    assert size_text(size) == text


COUNTS = {
    (0, "layer"): "0 layers",
    (1, "layer"): "1 layer",
    (1, "entry"): "1 entry",
    (2, "entry"): "2 entries",
    (30000, "file"): "30,000 files",
}


@pytest.mark.parametrize(("count", "text"), COUNTS.items())
def test_counts(count: tuple[int, str], text: str) -> None:
    assert count_text(*count) == text


RATES = {
    "1024": 1024,
    "500k": 500_000,
    "500K": 500_000,
    "2M": 2_000_000,
    "1.5M": 1_500_000,
    "1G": 10**9,
    "4Ki": 4096,
    "1Mi": 1024**2,
    "1gi": 1024**3,
    "10MB": 10_000_000,
    "10MB/s": 10_000_000,
    "10MiB/s": 10 * 1024**2,
    "2000B": 2000,
    "2000B/s": 2000,
}
WRONG_RATES = [
    "",
    "k",
    "fast",
    "1T",
    "-5M",
    "1000",
    "0",
    "5 M x",
    "1kk",
    "nan",
    "inf",
    "1e400",
    "5/",
]


@pytest.mark.parametrize(("text", "rate"), RATES.items())
def test_rates(text: str, rate: int) -> None:
    assert options._rate(text) == rate


@pytest.mark.parametrize("text", WRONG_RATES)
def test_wrong_rates(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        options._rate(text)


@pytest.mark.parametrize("text", ["0", "3601", "-1", "1.5", "", "30s", "inf"])
def test_wrong_seconds(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        options._seconds(text)


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    options.add_network(parser)
    return parser.parse_args(arguments)


def test_network_options() -> None:
    given = options.network_options(
        parsed(
            "--authfile=a", "--creds=u:p", "--tls-verify=false", "--cert-dir=c",
            "--retry-times=7", "--limit-rate=2k", "--idle-timeout=9",
        )
    )  # fmt: skip
    assert (given.authfile, given.creds, given.tls_verify) == ("a", "u:p", False)
    assert (given.cert_dir, given.retry_times, given.limit_rate) == ("c", 7, 2000)
    default = options.network_options(parsed())
    assert (given.timeouts.idle, default.timeouts.idle) == (9, 30)
    assert (default.tls_verify, default.retry_times, default.limit_rate) == (None, 3, None)
    assert default.authfile is default.creds is default.cert_dir is None


@pytest.mark.parametrize(
    ("words", "verify"),
    [
        ([], None), (["--tls-verify"], True), (["--tls-verify=true"], True),
        (["--tls-verify=0"], False), (["--tls-verify", "False"], False),
        (["--tls-verify=no"], False),
    ],
)  # fmt: skip
def test_tls_verify_is_a_boolean(words: list[str], verify: bool | None) -> None:
    assert options.network_options(parsed(*words)).tls_verify is verify


def test_the_paths_of_layouts_become_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "w").mkdir()
    monkeypatch.chdir(tmp_path / "w")
    table = {
        "oci:os": f"oci:{tmp_path}/w/os",
        "oci:os:v1": f"oci:{tmp_path}/w/os:v1",
        "oci:./os//x:v1": f"oci:{tmp_path}/w/os/x:v1",
        "oci:../os:v1": f"oci:{tmp_path}/os:v1",
        "oci:.": f"oci:{tmp_path}/w",
        "oci-archive:os.tar:quay.io/a/b:t": f"oci-archive:{tmp_path}/w/os.tar:quay.io/a/b:t",
        "oci:/srv/os:v1": "oci:/srv/os:v1",
        "ostree-unverified-image:oci:os": f"oci:{tmp_path}/w/os",
        "quay.io/a/b:t": "docker://quay.io/a/b:t",
        "registry:quay.io/a/b:t": "docker://quay.io/a/b:t",
    }
    assert {text: str(options.image_reference(text)) for text in table} == table
    assert str(options.image_reference("os:v1", "oci")) == f"oci:{tmp_path}/w/os:v1"
    signed = options.image_reference("ostree-image-signed:oci:os")
    assert signed.signature.value == "ostree-image-signed"


def test_a_link_on_the_way_to_a_layout_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "real/deep").mkdir(parents=True)
    os.symlink("real/deep", tmp_path / "current")
    assert str(options.image_reference("oci:current")) == f"oci:{tmp_path}/current"
    # Where the path goes up from a link, only its target says where that is.
    assert str(options.image_reference("oci:current/../x")) == f"oci:{tmp_path}/real/x"


def test_a_directory_with_a_colon_cannot_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a:b").mkdir()
    monkeypatch.chdir(tmp_path / "a:b")
    with pytest.raises(UsageError, match="has a colon"):
        options.image_reference("oci:os")
    assert str(options.image_reference("oci:/srv/os")) == "oci:/srv/os"
