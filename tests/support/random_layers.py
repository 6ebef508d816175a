"""Random layers: a few names in a few directories, some of which links lead to."""

from __future__ import annotations

from hypothesis import strategies as st

from support.images import directory, file, hardlink, opaque, symlink, whiteout

DIRECTORIES = ["a", "a/b", "a/b/c", "d"]
LINKS = ["l", "m"]
NAMES = [".x", "-y", "b"]
_paths = st.builds(
    lambda parent, name: f"{parent}/{name}" if parent else name,
    st.sampled_from(["", *DIRECTORIES]),
    st.sampled_from(NAMES),
)
_anywhere = st.builds(
    lambda parent, name: f"{parent}/{name}" if parent else name,
    st.sampled_from(["", *DIRECTORIES, *LINKS, "l/e"]),
    st.sampled_from(NAMES),
)
_members = st.one_of(
    st.builds(file, _anywhere, st.sampled_from(["1", "2", "3"])),
    st.builds(file, st.sampled_from(DIRECTORIES + LINKS), st.just("in a directory's place")),
    st.builds(directory, st.sampled_from(DIRECTORIES + LINKS), st.sampled_from([0o755, 0o700])),
    st.builds(directory, _anywhere),
    st.builds(
        symlink,
        st.sampled_from(LINKS),
        st.sampled_from(["a", "/a/b", "d/../a", "../../d", "m", "l", "missing/x", "/"]),
    ),
    st.builds(hardlink, _paths, _paths),
    st.builds(whiteout, _paths),
    st.builds(whiteout, st.sampled_from(DIRECTORIES + LINKS)),
    st.builds(opaque, st.sampled_from(["", *DIRECTORIES])),
)
LAYERS = st.lists(st.lists(_members, max_size=7), min_size=1, max_size=4)
