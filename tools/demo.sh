#!/bin/sh
# The main job, shown on a real image and a real registry on loopback: switch, upgrade, report.
# Run as root on Debian; installs what it needs.
set -eu
cd "$(dirname "$0")/.."
. tools/setup.sh
need_packages python3 python3-venv mmdebstrap buildah skopeo umoci docker-registry ostree zstd crun
need_environment test,dev
exec .venv/bin/python -m tools.demo "$@"
