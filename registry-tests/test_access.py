"""Credentials and certificates: from where bootc's and containers' users keep them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from rig.certificates import Authority
from rig.command import PLAIN_HTTP, Done, bootc_py
from rig.credentials import Credentials
from rig.push import push
from rig.registry import Registry, run_registry
from rig.small import small
from rig.tokens import run_token_server
from test_failures import RETRY, check_clean

from tools.images.layout import Layout

RIGHT = Credentials("user", "pass:word")
WRONG = Credentials("user", "guess")


@dataclass(frozen=True)
class Client:
    """A user with a home of their own and nothing in it."""

    home: Path
    image: str

    @property
    def env(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": str(self.home / ".config"),
            "XDG_RUNTIME_DIR": str(self.home / "run"),
        }

    def write(self, name: str, document: object) -> Path:
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document))
        return path

    def pull(self, *options: str, env: Mapping[str, str] | None = None) -> Done:
        env = {**self.env, **(env or {})}
        return bootc_py(
            "image", "pull", self.image, "--repo", self.home / "repo", *options, env=env
        )

    def pulls(self, *options: str, env: Mapping[str, str] | None = None) -> None:
        done = self.pull(*options, env=env)
        assert done.code == 0, done.err

    def refused(self, code: int, *options: str, env: Mapping[str, str] | None = None) -> str:
        done = self.pull(*options, env=env)
        assert done.code == code, f"{done.code}: {done.err}"
        check_clean(self.home / "repo")
        return done.error


def auths(host: str, credentials: Credentials) -> dict[str, object]:
    return {"auths": {host: {"auth": credentials.basic}}}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return small(tmp_path_factory.mktemp("image") / "layout")


@pytest.fixture(scope="module", params=("htpasswd", "token"))
def guarded(
    request: pytest.FixtureRequest, image: Layout, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Registry]:
    """A registry that lets nobody in without credentials."""
    if request.param == "htpasswd":
        with run_registry(basic=RIGHT) as registry:
            push(image, registry, "a/b", "v1")
            yield registry
        return
    work = tmp_path_factory.mktemp("tokens")
    with run_token_server(work, RIGHT) as tokens, run_registry(tokens=tokens) as registry:
        push(image, registry, "a/b", "v1")
        yield registry


@pytest.fixture
def client(guarded: Registry, tmp_path: Path) -> Client:
    return Client(tmp_path, f"{guarded.host}/a/b:v1")


def test_no_credentials(client: Client, guarded: Registry) -> None:
    line = client.refused(3, PLAIN_HTTP)
    assert f"{guarded.host}/a/b" in line
    assert "--authfile" in line
    client.pulls(PLAIN_HTTP, f"--creds={RIGHT.user}:{RIGHT.password}")


def test_wrong_credentials(client: Client, guarded: Registry) -> None:
    line = client.refused(3, PLAIN_HTTP, f"--creds={WRONG.user}:{WRONG.password}")
    assert WRONG.user in line and "--creds" in line
    assert WRONG.password not in line
    file = client.write("auth.json", auths(guarded.host, WRONG))
    line = client.refused(3, PLAIN_HTTP, f"--authfile={file}")
    assert str(file) in line
    client.write("auth.json", auths(guarded.host, RIGHT))
    client.pulls(PLAIN_HTTP, f"--authfile={file}")


def test_order_of_auth_files(client: Client, guarded: Registry) -> None:
    """Each file, with the wrong credentials in all that come after it."""
    places = [
        "run/containers/auth.json",
        ".config/containers/auth.json",
        ".docker/config.json",
    ]
    client.write(".dockercfg", auths(guarded.host, RIGHT)["auths"])
    client.pulls(PLAIN_HTTP)
    better: Path | None = None
    for place in reversed(places):
        client.write(place, auths(guarded.host, WRONG))
        assert place in client.pull(PLAIN_HTTP).error
        better = client.write(place, auths(guarded.host, RIGHT))
        client.pulls(PLAIN_HTTP)
    assert better is not None
    client.write("run/containers/auth.json", auths(guarded.host, WRONG))
    named = client.write("named.json", auths(guarded.host, RIGHT))
    client.pulls(PLAIN_HTTP, env={"REGISTRY_AUTH_FILE": str(named)})
    client.write("named.json", auths(guarded.host, WRONG))
    assert "named.json" in client.pull(PLAIN_HTTP, env={"REGISTRY_AUTH_FILE": str(named)}).error
    given = client.write("given.json", auths(guarded.host, RIGHT))
    env = {"REGISTRY_AUTH_FILE": str(named)}
    client.pulls(PLAIN_HTTP, f"--authfile={given}", env=env)
    client.write("given.json", auths(guarded.host, WRONG))
    creds = f"--creds={RIGHT.user}:{RIGHT.password}"
    client.pulls(PLAIN_HTTP, f"--authfile={given}", creds, env=env)


def test_the_most_specific_entry_counts(client: Client, guarded: Registry) -> None:
    entries = {
        guarded.host: {"auth": WRONG.basic},
        f"{guarded.host}/a": {"auth": WRONG.basic},
        f"{guarded.host}/a/b": {"auth": RIGHT.basic},
        f"{guarded.host}/a/bc": {"auth": WRONG.basic},
    }
    file = client.write("auth.json", {"auths": entries})
    client.pulls(PLAIN_HTTP, f"--authfile={file}")


@pytest.mark.parametrize("key", ("credHelpers", "credsStore"))
def test_credential_helper_from_path(client: Client, guarded: Registry, key: str) -> None:
    """A program that knows one host, asked in the helpers' protocol."""
    answer = {"ServerURL": guarded.host, "Username": RIGHT.user, "Secret": RIGHT.password}
    helper = client.home / "bin/docker-credential-test"
    helper.parent.mkdir()
    helper.write_text(
        "#!/bin/sh\n"
        'read -r host; echo "$1 $host" >>"$HOME/asked"\n'
        f'if [ "$1 $host" = "get {guarded.host}" ]; then echo \'{json.dumps(answer)}\'; exit; fi\n'
        "echo 'credentials not found in native keychain'; exit 1\n"
    )
    helper.chmod(0o755)
    document = {key: {guarded.host: "test"} if key == "credHelpers" else "test"}
    file = client.write("auth.json", document)
    path = {"PATH": f"{helper.parent}:/usr/bin:/bin"}
    client.pulls(PLAIN_HTTP, f"--authfile={file}", env=path)
    assert (client.home / "asked").read_text() == f"get {guarded.host}\n"
    missing = client.pull(PLAIN_HTTP, f"--authfile={file}", env={"PATH": "/usr/bin:/bin"})
    assert "docker-credential-test" in missing.error


# -- TLS ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encrypted(image: Layout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry whose certificate is from an authority that nobody knows."""
    authority = Authority.create(tmp_path_factory.mktemp("ca"))
    with run_registry(tls=authority) as registry:
        push(image, registry, "a/b", "v1")
        yield registry


@pytest.fixture
def stranger(encrypted: Registry, tmp_path: Path) -> Client:
    return Client(tmp_path, f"{encrypted.host}/a/b:v1")


def test_an_unknown_authority_is_refused(stranger: Client, encrypted: Registry) -> None:
    line = stranger.refused(5, RETRY)
    assert encrypted.host in line
    assert "certificate" in line and "--cert-dir" in line


def test_an_authority_from_cert_dir(stranger: Client, encrypted: Registry, tmp_path: Path) -> None:
    stranger.pulls(f"--cert-dir={encrypted.write_certs_dir(tmp_path / 'certs')}")
    (tmp_path / "empty").mkdir()
    assert stranger.pull(f"--cert-dir={tmp_path / 'empty'}", RETRY).code == 5


def test_no_verification(stranger: Client) -> None:
    stranger.pulls("--tls-verify=false")


def test_certs_d(stranger: Client, encrypted: Registry) -> None:
    place = stranger.home / ".config/containers/certs.d"
    encrypted.write_certs_dir(place / "127.0.0.1:1")
    assert stranger.pull(RETRY).code == 5
    encrypted.write_certs_dir(place / encrypted.host)
    stranger.pulls()


def test_plain_http_is_not_spoken_unasked(image: Layout, tmp_path: Path) -> None:
    with run_registry() as registry:
        push(image, registry, "a/b", "v1")
        client = Client(tmp_path, f"{registry.host}/a/b:v1")
        assert registry.host in client.refused(5, RETRY)
        client.pulls(PLAIN_HTTP)
