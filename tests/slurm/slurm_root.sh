#!/usr/bin/env bash
# Makes a folder with another release of Slurm, for ClusterOptions.root:
#
#   tests/slurm/slurm_root.sh RELEASE FOLDER    such as: 24.11 build/slurm-24.11
#
# The packages of the Debian suite with that release are unpacked, not installed: its
# programs run on this host, with the suite's own ld.so and libraries, which patchelf
# writes into them. A folder that is complete is left as it is.

set -eu -o pipefail

PACKAGES=slurmctld,slurmd,slurm-client,slurm-wlm-basic-plugins,slurmdbd
COMMANDS=(sacct sacctmgr salloc sbatch scancel scontrol sinfo squeue srun)

main() {
    local release=$1 suite
    root=$(readlink -m "$2")
    is_complete "$release" && return 0
    suite=$(suite_of "$release")
    echo "Making $root with Slurm $release from Debian $suite"
    rm -rf --one-file-system "$root"
    mkdir -p "$root"
    unpack "$suite"
    patch_programs
    offer_commands
    is_complete "$release" && return 0
    echo "Debian $suite has another Slurm: $("$root/usr/sbin/slurmctld" -V)" >&2
    return 1
}

# The paths in the programs are absolute: a folder that was moved is made anew.
is_complete() {
    [ -d "$root/slurm/bin" ] &&
        [[ $("$root/usr/sbin/slurmctld" -V 2>&1) == "slurm-wlm $1."* ]]
}

suite_of() {
    case $1 in
        20.11) echo bullseye ;;
        24.11) echo trixie ;;
        26.05) echo forky ;;
        *) echo "no Debian suite is known for Slurm $1" >&2 && return 1 ;;
    esac
}

# The signatures are checked; but the lists of a suite that is not released yet, or no
# longer cared for, may be older than they should be.
unpack() {
    mmdebstrap --quiet --variant=extract --include="$PACKAGES" \
        --aptopt='Acquire::Check-Valid-Until "false"' \
        --aptopt='Apt::Install-Recommends "false"' \
        "$1" "$root" http://deb.debian.org/debian
}

patch_programs() {
    local plugins libraries loader path file
    plugins=$(echo "$root"/usr/lib/*/slurm-wlm)
    libraries=${plugins%/*}
    loader=$(find "$root" -path '*/lib/*/ld-linux-*.so.*')
    path=$plugins:$libraries:$root/lib/${libraries##*/}
    for file in "$plugins"/*.so; do
        [ -L "$file" ] || patchelf --force-rpath --set-rpath "$path" "$file"
    done
    for file in "$root"/usr/sbin/slurm* "${COMMANDS[@]/#/$root/usr/bin/}"; do
        [ -L "$file" ] || patchelf --set-interpreter "$loader" \
            --force-rpath --set-rpath "$path" "$file"
    done
    # Debian's packages make these links when they are installed.
    for file in slurmctld slurmd slurmstepd; do
        ln -s "$file-wlm" "$root/usr/sbin/$file"
    done
}

# Slurm's commands alone go on PATH: the other programs would not find their libraries.
offer_commands() {
    mkdir -p "$root/slurm/bin"
    ln -s "${COMMANDS[@]/#/../../usr/bin/}" "$root/slurm/bin"
}

main "$@"
