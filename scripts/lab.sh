#!/usr/bin/env bash
# Real hubs in network namespaces: veth pairs and bridges, losses by nftables, cuts, crashes. Every hub must end
# up with the same records, and an independent decoder must accept every frame that was sent. Nothing leaves the
# namespaces. Needs root, iproute2, nftables, tcpdump and python3.
#
#     scripts/lab.sh                    builds release binaries and runs every scenario
#     scripts/lab.sh SCENARIO...        runs these; --list names them, --help shows the options
#     SCSPD=PATH scripts/lab.sh         uses this scspd
set -euo pipefail
cd "$(dirname "$0")/.."

for word in "$@"; do
    case $word in
    -h | --help | --list) exec env PYTHONPATH=scripts python3 -B -m lab "$@" ;;
    esac
done
if [ "$(id -u)" -ne 0 ]; then
    echo "${0##*/}: needs root for network namespaces; everything it does stays inside them" >&2
    exit 1
fi
PATH=$PATH:/usr/sbin:/sbin
for command in ip nft tcpdump setpriv python3; do
    if ! command -v "$command" >/dev/null; then
        echo "${0##*/}: $command is not installed" >&2
        exit 1
    fi
done
if [ -z "${SCSPD:-}" ]; then
    . scripts/hubs.sh
    build scspd
    SCSPD=$TARGET/scspd
fi
export SCSPD
exec env PYTHONPATH=scripts python3 -B -m lab "$@"
