#!/bin/sh
# All tests: lint, types, the fast tests, and those against real registries and real peers.
# Run as root on Debian; installs what it needs. Arguments go to pytest.
set -eu
cd "$(dirname "$0")/.."
. tools/setup.sh
need_packages python3 python3-venv mmdebstrap buildah skopeo umoci docker-registry ostree zstd \
    crun podman apache2-utils acl attr netavark uidmap gcc libc6-dev strace e2fsprogs btrfs-progs \
    xfsprogs dosfstools mtools fdisk grub-common qemu-system-x86 ovmf libselinux1 selinux-utils \
    erofs-utils cpio lz4 rpm
need_environment test,dev
python=.venv/bin/python
$python -m ruff check .
$python -m ruff format --check .
$python -m mypy
# Thousands of tests start the program: read its sources once.
$python -m compileall -q bridge
jobs=${BOOTC_PY_TEST_JOBS:-2}
# The fast tests sync all the time and write little: in memory they wait for no disk. Where that has
# no user's attributes (Linux before 6.6) or no room, they are where temporary files are.
if memory=$(mktemp -d /dev/shm/bootc-py-tests.XXXXXX 2>/dev/null); then
    trap 'rm -rf "$memory"' EXIT
    if setfattr -n user.test -v 1 "$memory" 2>/dev/null &&
        [ "$(df --output=avail --block-size=1M "$memory" | tail -n 1)" -ge 8192 ]; then
        export PYTEST_DEBUG_TEMPROOT="$memory"
    fi
fi
$python -m pytest tests -n "$jobs" "$@"
unset PYTEST_DEBUG_TEMPROOT
# A file's tests share what they have started, so each file is one process's. Which starts first is
# in conftest.py.
$python -m pytest registry-tests -n "$jobs" --dist loadfile --no-loadscope-reorder "$@"
