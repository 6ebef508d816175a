"""Debian's docker-registry as a child process on loopback."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rig.certificates import Authority
from rig.credentials import Credentials
from rig.peers import require
from rig.ports import LOOPBACK, free_port, wait_until_open
from rig.tokens import TokenServer


@dataclass(frozen=True)
class Registry:
    """A registry that runs: where it listens, where it stores, what it asks of clients."""

    port: int
    storage: Path
    log: Path
    credentials: Credentials | None = None
    ca_file: Path | None = None

    @property
    def host(self) -> str:
        """`127.0.0.1:PORT`, as it stands in an image reference."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.ca_file else 'http'}://{self.host}"

    def write_auth_file(self, path: Path) -> Path:
        """Writes an auth file (`{"auths": ...}`) with this registry's credentials."""
        auths = {self.host: {"auth": self.credentials.basic}} if self.credentials else {}
        path.write_text(json.dumps({"auths": auths}))
        path.chmod(0o600)
        return path

    def write_certs_dir(self, path: Path) -> Path:
        """Makes a `--cert-dir` with the CA that this registry's certificate is from."""
        path.mkdir(parents=True, exist_ok=True)
        if self.ca_file:
            (path / "ca.crt").write_bytes(self.ca_file.read_bytes())
        return path

    def skopeo_options(self, directory: Path) -> list[str]:
        """What `skopeo copy` needs to push here; its files are written to `directory`."""
        options = [f"--dest-authfile={self.write_auth_file(directory / 'auth.json')}"]
        if self.ca_file:
            options.append(f"--dest-cert-dir={self.write_certs_dir(directory / 'certs')}")
        else:
            options.append("--dest-tls-verify=false")
        return options

    def blob_file(self, digest: str) -> Path:
        """Where the registry keeps a blob. It may be a hard link: not to be written to."""
        algorithm, _, value = digest.partition(":")
        return self.storage / "docker/registry/v2/blobs" / algorithm / value[:2] / value / "data"

    def replace_blob(self, digest: str, data: bytes) -> None:
        """Damages a blob: from now on the registry answers with `data` for it."""
        file = self.blob_file(digest)
        damaged = file.with_name("damaged")
        damaged.write_bytes(data)
        damaged.replace(file)


@contextmanager
def run_registry(
    storage: Path | None = None,
    *,
    basic: Credentials | None = None,
    tokens: TokenServer | None = None,
    tls: Authority | None = None,
    read_only: bool = False,
) -> Iterator[Registry]:
    """A registry on a free port until the context ends.

    `storage` is kept (default: a temporary directory). It answers anonymously, or to `basic`
    credentials, or to bearer tokens of `tokens`; over TLS with a certificate of `tls`.
    """
    program = require("docker-registry")
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="registry-")))
        place = storage or work / "storage"
        place.mkdir(parents=True, exist_ok=True)
        port = free_port()
        config: dict[str, object] = {
            "version": "0.1",
            "log": {"level": "info", "accesslog": {"disabled": True}},
            "storage": {
                "filesystem": {"rootdirectory": str(place)},
                "delete": {"enabled": True},
                "maintenance": {
                    "uploadpurging": {"enabled": False},
                    "readonly": {"enabled": read_only},
                },
            },
            "http": {"addr": f"{LOOPBACK}:{port}", "relativeurls": True},
        }
        if tls:
            identity = tls.issue("registry")
            config["http"] = {
                "addr": f"{LOOPBACK}:{port}",
                "relativeurls": True,
                "tls": {
                    "certificate": str(identity.certificate_file),
                    "key": str(identity.key_file),
                },
            }
        if basic:
            passwords = _write_passwords(work / "htpasswd", basic)
            config["auth"] = {"htpasswd": {"realm": "registry", "path": str(passwords)}}
        if tokens:
            config["auth"] = {
                "token": {
                    "realm": tokens.realm,
                    "service": tokens.service,
                    "issuer": tokens.issuer,
                    "rootcertbundle": str(tokens.certificate_file),
                }
            }
        # JSON is YAML.
        config_file = work / "config.yml"
        config_file.write_text(json.dumps(config))
        log = work / "log"
        process = subprocess.Popen(
            [program, "serve", str(config_file)],
            stdin=subprocess.DEVNULL,
            stdout=stack.enter_context(log.open("wb")),
            stderr=subprocess.STDOUT,
        )
        stack.callback(_stop, process)
        wait_until_open(port, process)
        yield Registry(
            port,
            place,
            log,
            credentials=basic or (tokens.credentials if tokens else None),
            ca_file=tls.identity.certificate_file if tls else None,
        )


def _write_passwords(path: Path, credentials: Credentials) -> Path:
    """An htpasswd file with one user; docker-registry knows bcrypt only."""
    line = subprocess.run(
        [require("htpasswd"), "-niB", credentials.user],
        input=credentials.password.encode(),
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    path.write_bytes(line)
    return path


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
