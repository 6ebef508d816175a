from __future__ import annotations

import base64
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oras.auth.utils import load_configs

from bridge.errors import UsageError
from bridge.registry.authfile import CredentialStore, auth_files
from bridge.registry.options import NetworkOptions


def entry(user: str, password: str = "p") -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def store(path: Path, document: object, **more: Any) -> CredentialStore:
    path.write_text(json.dumps(document))
    return CredentialStore(NetworkOptions(authfile=str(path)), environ=more.get("environ", {}))


def user(found: Any) -> str | None:
    return found.username if found else None


def test_the_order_of_files_for_root_and_others() -> None:
    environ = {"HOME": "/home/u", "XDG_RUNTIME_DIR": "/run/user/7"}
    assert [file.path for file in auth_files(NetworkOptions(), environ, 0)] == [
        "/run/ostree/auth.json",
        "/etc/ostree/auth.json",
        "/usr/lib/ostree/auth.json",
        "/run/user/7/containers/auth.json",
        "/home/u/.config/containers/auth.json",
        "/home/u/.docker/config.json",
        "/home/u/.dockercfg",
    ]
    bare = {"HOME": "/h", "XDG_CONFIG_HOME": "/c", "DOCKER_CONFIG": "/d"}
    assert [file.path for file in auth_files(NetworkOptions(), bare, 7)] == [
        "/c/ostree/auth.json",
        "/run/containers/7/auth.json",
        "/c/containers/auth.json",
        "/d/config.json",
        "/h/.dockercfg",
    ]


def test_a_named_file_is_the_only_one() -> None:
    environ = {"REGISTRY_AUTH_FILE": "/env", "HOME": "/h"}
    assert [f.path for f in auth_files(NetworkOptions(), environ, 0)] == ["/env"]
    assert [f.path for f in auth_files(NetworkOptions(authfile="/a"), environ, 0)] == ["/a"]


@pytest.mark.parametrize(
    ("repository", "expected"),
    [("ns/repo", "repo"), ("ns/repo/deep", "repo"), ("ns/other", "ns"), ("nsx/r", "host")],
)
def test_the_most_specific_key_wins(tmp_path: Path, repository: str, expected: str) -> None:
    auths = {"h:5000": entry("host"), "h:5000/ns/repo": entry("repo"), "h:5000/ns": entry("ns")}
    found = store(tmp_path / "a", {"auths": auths}).find("h:5000", repository)
    assert user(found) == expected
    assert found is not None and found.source == str(tmp_path / "a")
    assert store(tmp_path / "a", {"auths": auths}).find("h", repository) is None


@pytest.mark.parametrize(
    ("key", "host"),
    [
        ("https://index.docker.io/v1/", "docker.io"),
        ("index.docker.io", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
        ("docker.io", "docker.io"),
        ("https://quay.io", "quay.io"),
        ("http://quay.io/v1/", "quay.io"),
    ],
)
def test_old_keys(tmp_path: Path, key: str, host: str) -> None:
    auths = {"auths": {"other.io": entry("no"), key: entry("me")}}
    assert user(store(tmp_path / "a", auths).find(host, "a/b")) == "me"


def test_creds_win_over_everything(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("not even JSON")
    options = NetworkOptions(authfile=str(tmp_path / "a"), creds="ann:a:b")
    found = CredentialStore(options, environ={}).find("h", "r")
    assert found is not None and (found.username, found.password) == ("ann", "a:b")
    assert found.basic == "Basic " + base64.b64encode(b"ann:a:b").decode()


def test_the_search_goes_on_to_the_next_file(tmp_path: Path) -> None:
    for place, host in ((".config/containers/auth.json", "one"), (".docker/config.json", "two")):
        path = tmp_path / place
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"auths": {host: entry(host), "empty": {}}}))
    (tmp_path / ".dockercfg").write_text(json.dumps({"https://three/v1/": entry("three")}))
    found = CredentialStore(NetworkOptions(), environ={"HOME": str(tmp_path)}, uid=987654)
    names = ("one", "two", "three", "empty", "four")
    assert [user(found.find(host, "r")) for host in names] == ["one", "two", "three", None, None]


def test_identity_tokens_and_plain_fields(tmp_path: Path) -> None:
    auths = {
        "a": {**entry("<ignored>", ""), "identitytoken": "t"},
        "b": {"username": "u", "password": "p"},
        "c": {"auth": base64.b64encode(b"nocolon").decode()},
        "d": entry("u", "p\0\0"),
    }
    found = store(tmp_path / "f", {"auths": auths})
    assert found.find("a", "r").identity_token == "t"  # type: ignore[union-attr]
    assert user(found.find("b", "r")) == "u" and found.find("c", "r") is None
    assert found.find("d", "r").password == "p"  # type: ignore[union-attr]


@pytest.fixture
def helper(tmp_path: Path) -> dict[str, str]:
    """A credential helper that knows two servers, fails for one and not the others."""
    script = tmp_path / "docker-credential-test"
    script.write_text(
        f"#!{sys.executable}\n"
        "import json, sys\n"
        "server = sys.stdin.read()\n"
        "known = {'h': ['u', 's'], 'idp': ['<token>', 't'],"
        " 'https://index.docker.io/v1/': ['hub', 's']}\n"
        "if sys.argv[1:] != ['get']: sys.exit('bad call')\n"
        "if server == 'broken': sys.exit('keyring is locked')\n"
        "if server == 'junk': print('junk'); sys.exit()\n"
        "if server not in known:\n"
        "    print('credentials not found in native keychain'); sys.exit(1)\n"
        "print(json.dumps(dict(zip(('Username', 'Secret'), known[server]), ServerURL=server)))\n"
    )
    script.chmod(0o755)
    return {"PATH": str(tmp_path)}


def test_credential_helpers(tmp_path: Path, helper: dict[str, str], monkeypatch: Any) -> None:
    monkeypatch.setenv("PATH", helper["PATH"])
    hosts = ("h", "idp", "unknown", "broken", "junk")
    document = {"auths": {"h": entry("stale")}, "credHelpers": dict.fromkeys(hosts, "test")}
    found = store(tmp_path / "f", document, environ=helper)
    first = found.find("h", "r")
    assert first is not None and (first.username, first.source) == ("u", "docker-credential-test")
    assert found.find("idp", "r").identity_token == "t"  # type: ignore[union-attr]
    assert found.find("unknown", "r") is None
    for host, words in (("broken", "keyring is locked"), ("junk", "JSON")):
        with pytest.raises(UsageError, match=words):
            found.find(host, "r")


def test_helpers_of_registries_conf(
    tmp_path: Path, helper: dict[str, str], monkeypatch: Any
) -> None:
    monkeypatch.setenv("PATH", helper["PATH"])
    file = tmp_path / "f"
    file.write_text(json.dumps({"auths": {"h": entry("file"), "x": entry("file")}}))

    def users(*helpers: str) -> list[str | None]:
        options = NetworkOptions(authfile=str(file))
        found = CredentialStore(options, helper, 0, helpers)
        return [user(found.find(host, "r")) for host in ("h", "x", "y")]

    assert users() == users("containers-auth.json") == ["file", "file", None]
    assert users("test") == ["u", None, None]
    assert users("test", "containers-auth.json") == ["u", "file", None]
    assert users("containers-auth.json", "test") == ["file", "file", None]
    with pytest.raises(UsageError, match=r"registries\.conf: '\.\./evil' is no name"):
        users("../evil")


def test_creds_are_not_for_hosts_that_nobody_named(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text(json.dumps({"auths": {"mirror": entry("file")}}))
    found = CredentialStore(NetworkOptions(authfile=str(file), creds="given:p"), {}, 0)
    assert [user(found.find(host, "r")) for host in ("h", "mirror")] == ["given", "given"]
    assert user(found.find("h", "r", named=False)) is None
    assert user(found.find("mirror", "r", named=False)) == "file"


def test_the_store_of_docker_is_asked_last(
    tmp_path: Path, helper: dict[str, str], monkeypatch: Any
) -> None:
    monkeypatch.setenv("PATH", helper["PATH"])
    document = {"auths": {"h": {}, "x": entry("inline")}, "credsStore": "test"}
    found = store(tmp_path / "f", document, environ=helper)
    hosts = ("h", "x", "docker.io", "y")
    assert [user(found.find(host, "r")) for host in hosts] == ["u", "inline", "hub", None]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("{", "auth file"),
        ("[]", "not a JSON object"),
        ('{"auths": []}', ""),
        ('{"auths": [1]}', "auths is not"),
        ('{"auths": {"h": 1}}', "not a JSON object"),
        ('{"auths": {"h": {"auth": "%%%"}}}', "base64"),
        ('{"credHelpers": {"h": "../evil"}}', "no name of a credential helper"),
        ('{"credHelpers": {"h": "is-not-there"}}', "not installed"),
        ("[" * 100_000, "auth file"),
    ],
)
def test_broken_files(tmp_path: Path, document: str, words: str) -> None:
    path = tmp_path / "auth.json"
    path.write_text(document)
    found = CredentialStore(NetworkOptions(authfile=str(path)), environ={"PATH": "/nonexistent"})
    if not words:
        assert found.find("h", "r") is None
        return
    with pytest.raises(UsageError, match=words) as caught:
        found.find("h", "r")
    assert "\n" not in str(caught.value)


def test_a_named_file_must_be_there_and_creds_be_whole(tmp_path: Path) -> None:
    options = NetworkOptions(authfile=str(tmp_path / "no"))
    with pytest.raises(UsageError, match="No such file"):
        CredentialStore(options, environ={}).find("h", "r")
    for creds in ("", "user", ":p"):
        with pytest.raises(UsageError, match="USER:PASSWORD"):
            CredentialStore(NetworkOptions(creds=creds), environ={})


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(max_size=5),
        lambda inner: st.dictionaries(
            st.sampled_from(["auths", "credHelpers", "credsStore", "h", "auth", "identitytoken"]),
            inner,
        ),
    )
)
def test_any_document_is_survived(tmp_path_factory: Any, document: object) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(document))
    options = NetworkOptions(authfile=str(path))
    with contextlib.suppress(UsageError):
        CredentialStore(options, environ={"PATH": "/nonexistent"}).find("h", "r")


def test_oras_py_reads_the_same_login(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    found = store(tmp_path / "f", {"auths": {"h": entry("u"), "empty": {}}}).find("h", "r")
    assert found is not None
    theirs = load_configs([str(tmp_path / "f")])["auths"]
    assert "Basic " + theirs["h"]["auth"] == found.basic
