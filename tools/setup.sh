# What the project's own tools need on a Debian machine: packages, and a virtual environment.
# Sourced by demo.sh and test.sh, with the project's root as the working directory.

need_packages() {
    missing=
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
            missing="$missing $package"
    done
    [ -z "$missing" ] && return
    echo "installing:$missing"
    as_root=
    [ "$(id -u)" -eq 0 ] || as_root=sudo
    # Services that packages bring are not wanted running: everything here starts its own.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
        $as_root chmod 755 "$policy"
        trap '$as_root rm -f "$policy"' EXIT
    fi
    $as_root apt-get -qq update
    # shellcheck disable=SC2086 # a list of words
    $as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq -y --no-install-recommends install $missing >/dev/null
    if [ -e "$policy" ] && grep -q 'exit 101' "$policy"; then
        $as_root rm -f "$policy"
        trap - EXIT
    fi
}

need_environment() {
    stamp=.venv/.made-from
    wanted=$(cat pyproject.toml tools/setup.sh | sha256sum)
    [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && return
    echo "making the virtual environment .venv"
    python3 -m venv --clear .venv
    .venv/bin/pip install --quiet --editable ".[$1]"
    echo "$wanted" >"$stamp"
}
