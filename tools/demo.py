"""The demonstration: a real OS image, a real registry on loopback, and what an update costs.

`tools/demo.sh` runs it. Version 1 of the project's base image is pushed to Debian's
docker-registry and switched to; then the tag moves to version 2, with a year's security updates.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "registry-tests"))

from rig.push import push  # noqa: E402
from rig.registry import Registry, run_registry  # noqa: E402

from tools.images import build, cache  # noqa: E402
from tools.images.layout import Layout  # noqa: E402

REPOSITORY, TAG = "os/base", "stable"
EDIT = "# a change of mine\n"


def main() -> int:
    """Run all of it in a scratch directory; the exit code of the first command that fails."""
    say("Two versions of a bootable Debian (the first time this takes some minutes)")
    versions = {version: build.image("base", version, "zstd") for version in ("v1", "v2")}
    with (
        cache.scratch(cache.root() / "work") as work,
        run_registry(work / "storage") as registry,
    ):
        image = f"{registry.host}/{REPOSITORY}:{TAG}"
        sysroot = work / "sysroot"
        sysroot.mkdir()
        try:
            say(f"Version 1 becomes {image}")
            print(push(versions["v1"], registry, REPOSITORY, TAG))
            show(sysroot, registry, versions, image)
        except subprocess.CalledProcessError as error:
            return error.returncode
    return 0


def show(sysroot: Path, registry: Registry, versions: dict[str, Layout], image: str) -> None:
    """Take a machine from nothing to version 1, to version 2, and back."""
    host = ("--sysroot", str(sysroot))
    network = ("--tls-verify=false",)
    say("An empty directory becomes a host that boots it")
    bootc_py("switch", *host, *network, image)
    say("Once more: nothing is moved, nothing is written")
    bootc_py("switch", *host, *network, image)

    say("The owner of the machine edits a file, and the image's owner publishes version 2")
    (deployment,) = (sysroot / "ostree/deploy/default/deploy").glob("*.[0-9]")
    motd = deployment / "etc/motd"
    motd.write_text(motd.read_text() + EDIT if motd.exists() else EDIT)
    print(push(versions["v2"], registry, REPOSITORY, TAG))
    bootc_py("upgrade", "--check", *host, *network)
    bootc_py("upgrade", *host, *network)

    say("Both are there, the newer one first, with the edit; ostree agrees, and nothing is damaged")
    bootc_py("status", *host, "--format", "humanreadable")
    run("ostree", "admin", "status", f"--sysroot={sysroot}")
    newest = next(p for p in deployment.parent.glob("*.[0-9]") if p != deployment)
    kept = EDIT in (newest / "etc/motd").read_text()
    print(f"the edit of /etc/motd is {'kept' if kept else 'LOST'}")
    if not kept:
        raise subprocess.CalledProcessError(1, "the /etc merge")
    bootc_py("fsck", *host)

    say("And back")
    bootc_py("rollback", *host)
    run("ostree", "admin", "status", f"--sysroot={sysroot}")


def bootc_py(*arguments: str) -> None:
    """Run the command of this environment, and show how it was called."""
    print(f"$ bootc-py {shlex.join(arguments)}", flush=True)
    subprocess.run([sys.executable, "-m", "bridge", *arguments], check=True, cwd=ROOT)


def run(*command: str) -> None:
    print(f"$ {shlex.join(command)}", flush=True)
    subprocess.run(command, check=True)


def say(text: str) -> None:
    print(f"\n== {text}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
