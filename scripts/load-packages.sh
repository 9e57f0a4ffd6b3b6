#!/usr/bin/env bash
# Loads the package index of this Debian or Ubuntu machine, every name and version, into one hub through the
# client interface and reads it all back from another, octet for octet. Prints counts and rates; exits 1 on any
# difference. Needs python3 and a package index (apt-get update).
#
#     scripts/load-packages.sh                                    starts hubs A - B - C; writes to A, reads from C
#     scripts/load-packages.sh --from HOST:PORT --to HOST:PORT    uses hubs that are running
set -euo pipefail

usage() {
    echo "usage: ${0##*/} [--from HOST:PORT --to HOST:PORT]" >&2
    exit 2
}

from=
to=
while [ $# -gt 0 ]; do
    case $1 in
    --from) from=${2-} ;;
    --to) to=${2-} ;;
    *) usage ;;
    esac
    [ -n "${2-}" ] || usage
    shift 2
done
# Both or neither.
[ "${from:+given}" = "${to:+given}" ] || usage

cd "$(dirname "$0")/.."
for command in apt-cache python3; do
    if ! command -v "$command" >/dev/null; then
        echo "${0##*/}: $command is not installed" >&2
        exit 1
    fi
done

if [ -z "$from" ]; then
    . scripts/hubs.sh
    build scspd
    start_hubs
    from=127.0.0.1:6391
    to=127.0.0.1:6393
fi
apt-cache dumpavail | python3 scripts/packages.py --from "$from" --to "$to"
