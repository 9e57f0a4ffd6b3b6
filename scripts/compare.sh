#!/usr/bin/env bash
# Compares scspd with Redis replication: alignment of a cold server and steady updates, every system in turn within
# each run. Prints Markdown for docs/performance.md; writes all results as JSON.
# Installs nothing; needs the Debian packages redis-server and redis-tools.
#
#     scripts/compare.sh [-r RUNS] [-s SECONDS] [-n "RECORDS ..."] [-b BACKEND] [-o FILE.json]
set -euo pipefail
cd "$(dirname "$0")/.."

RUNS=5
SECONDS_EACH=5
RECORDS="100000 1000000"
BACKEND=auto
OUTPUT=target/compare.json
TARGET=${CARGO_TARGET_DIR:-target}/release
# The largest datagram, and what fits into an Ethernet frame.
MTUS=(1500 65535)
PIPELINES=(64 1)

usage() {
    sed -n '2,6s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

while getopts r:s:n:b:o: option; do
    case $option in
        r) RUNS=$OPTARG ;;
        s) SECONDS_EACH=$OPTARG ;;
        n) RECORDS=$OPTARG ;;
        b) BACKEND=$OPTARG ;;
        o) OUTPUT=$OPTARG ;;
        *) usage ;;
    esac
done
[ "$OPTIND" -gt "$#" ] || usage

for program in redis-server redis-cli; do
    if ! command -v "$program" >/dev/null; then
        echo "$program is missing: apt-get install redis-server redis-tools" >&2
        exit 1
    fi
done
# Another server would take part of the machine.
if redis-cli -t 1 ping >/dev/null 2>&1; then
    echo "a Redis server runs on this machine already; stop it first (systemctl stop redis-server)" >&2
    exit 1
fi

cargo build --release -p scspd -p scsp-load
RESULTS=$(mktemp -d)
trap 'rm -r "$RESULTS"' EXIT
STEP=1000
FAILED=0

# measure COMMAND...: one run of one system. Its result keeps its place in the order of the tables.
measure() {
    STEP=$((STEP + 1))
    echo "$*" >&2
    "$TARGET/scsp-load" "$@" --json "$RESULTS/$STEP.json" >&2 || FAILED=1
}

align_once() {
    local records mtu
    for records in $RECORDS; do
        for mtu in "${MTUS[@]}"; do
            measure align --records "$records" --mtu "$mtu" --backend "$BACKEND"
        done
        measure redis-align --records "$records" --sync default
        measure redis-align --records "$records" --sync diskless
    done
}

flood_once() {
    local pipeline mtu
    for pipeline in "${PIPELINES[@]}"; do
        for mtu in "${MTUS[@]}"; do
            measure flood --seconds "$SECONDS_EACH" --pipeline "$pipeline" --mtu "$mtu" --backend "$BACKEND"
        done
        measure redis-flood --seconds "$SECONDS_EACH" --pipeline "$pipeline"
    done
}

for ((run = 1; run <= RUNS; run++)); do
    echo "--- run $run of $RUNS" >&2
    align_once
    flood_once
done

mkdir -p "$(dirname "$OUTPUT")"
echo "Machine: $(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores," \
    "Linux $(uname -r); $("$TARGET/scspd" --version); Redis $(redis-server --version | sed 's/.*v=\([^ ]*\).*/\1/')."
echo "Load average at the end: $(cut -d ' ' -f 1-3 /proc/loadavg)."
echo
"$TARGET/scsp-load" summary --json "$OUTPUT" "$RESULTS"/*.json || FAILED=1
exit "$FAILED"
