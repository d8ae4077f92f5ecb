#!/usr/bin/env bash
# Installs Debian packages that are missing:
#
#   tests/slurm/install.sh [PACKAGE...]    untold: all that the tests need
#
# With apt-get, where this is allowed: as root, or where sudo asks for no password.
# Elsewhere it says what is missing, and fails.

set -u -o pipefail

TESTS=(slurmctld slurmd slurm-client munge slurm-wlm-basic-plugins slurmdbd
    mariadb-server iproute2 bindfs gcc libc6-dev python3)

main() {
    local package wanted=("$@") missing=()
    [ $# -gt 0 ] || wanted=("${TESTS[@]}" "$(suite)")
    for package in "${wanted[@]}"; do
        is_installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    install "${missing[@]}" && return
    echo "Install what is missing: apt-get install ${missing[*]}" >&2
    return 1
}

# CPython's own tests of executors, of the Python that Debian has.
suite() {
    local version
    version=$(/usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    echo "libpython${version:-3}-testsuite"
}

is_installed() {
    dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null |
        grep -qx installed
}

install() {
    as_root=()
    command -v apt-get >/dev/null || return 1
    if [ "$(id -u)" != 0 ]; then
        sudo -n true 2>/dev/null || return 1
        as_root=(sudo -n)
    fi
    echo "Installing Debian packages: $*"
    apt_get install "$@" || { apt_get update && apt_get install "$@"; }
}

apt_get() {
    # Another apt-get may be at work, as on a machine that has just started.
    local options=(-qq -o DPkg::Lock::Timeout=300)
    [ "$1" = update ] || options+=(-y --no-install-recommends)
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get "${options[@]}" "$@" </dev/null >/dev/null
}

main "$@"
