"""What a commit holds, as plain values to compare with."""

from __future__ import annotations

from bridge.ostree.objects import DirMeta, FileMeta
from bridge.ostree.repository import Repository

Node = FileMeta | DirMeta


def nodes(repo: Repository, checksum: str) -> dict[str, tuple[Node, bytes]]:
    """Return metadata and content of everything in a commit by path; the root is ""."""
    commit = repo.read_commit(checksum)
    found: dict[str, tuple[Node, bytes]] = {}

    def visit(tree: str, meta: str, path: str) -> None:
        found[path] = repo.read_dirmeta(meta), b""
        below = repo.read_dirtree(tree)
        for name, each in below.files.items():
            file_meta, payload = repo.open_file(each)
            content = b""
            if payload is not None:
                with payload:
                    content = payload.read()
            found[f"{path}/{name}" if path else name] = file_meta, content
        for name, pair in below.dirs.items():
            visit(*pair, f"{path}/{name}" if path else name)

    visit(commit.tree, commit.meta, "")
    return found


def listing(repo: Repository, checksum: str) -> dict[str, str]:
    """Return files as their text, links as `-> target`, directories as `dir`; no root."""
    shown = {}
    for path, (meta, content) in nodes(repo, checksum).items():
        if isinstance(meta, DirMeta):
            shown[path] = "dir"
        else:
            shown[path] = f"-> {meta.target}" if meta.is_symlink else content.decode()
    del shown[""]
    return shown


def objects(repo: Repository) -> set[str]:
    """Return all objects as `CHECKSUM.KIND`."""
    return {f"{checksum}.{kind.value}" for checksum, kind in repo.objects()}
