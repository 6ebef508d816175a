from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import MalformedImage, VerificationFailed
from bridge.oci.digest import Digest, Verifier

GRAMMAR = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
ALGORITHMS = st.sampled_from(["sha256", "sha512"])


@given(
    st.one_of(
        st.from_regex(r"sha(256|512|1):[0-9a-fA-F]*", fullmatch=True),
        st.from_regex(GRAMMAR, fullmatch=True),
        st.from_regex(GRAMMAR),
        st.text(),
    )
)
def test_a_digest_is_what_the_grammar_says(text: str) -> None:
    if GRAMMAR.fullmatch(text):
        parsed = Digest.parse(text)
        assert parsed == text and f"{parsed.algorithm}:{parsed.hex}" == text
    else:
        with pytest.raises(MalformedImage, match="is not a sha256 or sha512 digest"):
            Digest.parse(text)


@given(st.lists(st.binary(max_size=20), max_size=5), ALGORITHMS, st.integers(-1, 1), st.booleans())
def test_exactly_the_announced_bytes_are_verified(
    chunks: list[bytes], algorithm: str, more: int, known: bool
) -> None:
    data = b"".join(chunks)
    digest = Digest.of(data, algorithm)
    assert digest.hex == hashlib.new(algorithm, data).hexdigest()
    sizes = {True: len(data) + more, False: None}
    verifier = Verifier("it", digest, sizes[known])

    def run() -> None:
        for chunk in chunks:
            verifier.update(chunk)
        verifier.finish()

    if known and more:
        with pytest.raises(VerificationFailed, match="its descriptor gives"):
            run()
    else:
        run()
