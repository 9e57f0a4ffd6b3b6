#!/usr/bin/env bash
# Measures scspd on both I/O backends against Redis replication and BIRD (iBGP and OSPF) in one run: rounds in
# which every system has its turn, then medians, ratios, and the table of the project's targets, as Markdown and JSON.
# Installs nothing; what is missing is told, and its rows stay empty. Debian's packages: redis-server redis-tools
# bird2 strace iproute2. OSPF needs root, for network namespaces.
#
#     scripts/compare.sh [--rounds N] [--records N] [--lsas N] [--updates N] [--commands N] [--workers N]
#                        [--backends "io_uring poll"] [--only align,flood,clients,calls,growth] [--growth N]
#                        [--lock-step SECTION.KEY=VALUE] [--output FILE.json] [--quick]
#
# --records: of alignments with Redis and iBGP; --lsas: with OSPF. --growth: most records of the growth row, whose
# steps are powers of ten from 10,000 on; 10,000,000 take some 4 GiB of memory. --lock-step: the key of the
# configuration that keeps two hubs to the exchange of RFC 2334. --quick: one round with a few records, to see that
# everything works.
set -euo pipefail
cd "$(dirname "$0")/.."

ROUNDS=5
RECORDS=1000000
LSAS=100000
UPDATES=1000000
COMMANDS=500000
PROBES=2000
WORKERS=1
BACKENDS="io_uring poll"
ONLY=align,flood,clients,calls,growth
GROWTH=1000000
LOCK_STEP=
BUSY_POLL=50us
OUTPUT=target/compare.json
TARGET=${CARGO_TARGET_DIR:-target}/release

usage() {
    sed -n '2,15s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case $1 in
        --quick)
            ROUNDS=1 RECORDS=10000 LSAS=1000 UPDATES=20000 COMMANDS=20000 PROBES=100 GROWTH=10000
            shift
            continue
            ;;
        --rounds | --records | --lsas | --updates | --commands | --workers | --backends | --only | --growth | \
            --lock-step | --output)
            [ $# -ge 2 ] || usage
            ;;
        *) usage ;;
    esac
    case $1 in
        --rounds) ROUNDS=$2 ;;
        --records) RECORDS=$2 ;;
        --lsas) LSAS=$2 ;;
        --updates) UPDATES=$2 ;;
        --commands) COMMANDS=$2 ;;
        --workers) WORKERS=$2 ;;
        --backends) BACKENDS=$2 ;;
        --only) ONLY=$2 ;;
        --growth) GROWTH=$2 ;;
        --lock-step) LOCK_STEP=$2 ;;
        --output) OUTPUT=$2 ;;
    esac
    shift 2
done
for part in ${ONLY//,/ }; do
    case $part in
        align | flood | clients | calls | growth) ;;
        *) usage ;;
    esac
done

# wanted PART: whether it is to be measured.
wanted() {
    [[ ",$ONLY," == *",$1,"* ]]
}

# have PROGRAM PACKAGE ROWS: whether the program is there; says what is lost without it.
have() {
    if ! command -v "$1" >/dev/null; then
        echo "$1 is missing, so $3 is not measured: apt-get install $2" >&2
        return 1
    fi
}

HAVE_REDIS=no HAVE_BIRD=no HAVE_OSPF=no HAVE_STRACE=no
if have redis-server redis-server "everything against Redis"; then
    HAVE_REDIS=yes
fi
if have bird bird2 "everything against BIRD"; then
    HAVE_BIRD=yes
    if ! have ip iproute2 "OSPF"; then
        :
    elif [ "$(id -u)" -ne 0 ]; then
        echo "not root, so OSPF is not measured: it needs two network namespaces" >&2
    else
        HAVE_OSPF=yes
    fi
fi
if have strace strace "the number of system calls"; then
    HAVE_STRACE=yes
fi
# Another server would take part of the machine.
if command -v redis-cli >/dev/null && redis-cli -t 1 ping >/dev/null 2>&1; then
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

# accepts SECTION KEY=VALUE: whether scspd knows a key.
accepts() {
    printf '[%s]\n%s\n' "$1" "$2" >"$RESULTS/try.toml"
    "$TARGET/scspd" --config "$RESULTS/try.toml" --check >/dev/null 2>&1
}

HAVE_BUSY_POLL=no
if accepts io "busy_poll = \"$BUSY_POLL\""; then
    HAVE_BUSY_POLL=yes
fi

align_once() {
    local backend
    for backend in $BACKENDS; do
        local hubs=(--backend "$backend" --workers "$WORKERS")
        measure align --records "$RECORDS" --mtu 65535 "${hubs[@]}"
        measure align --records "$RECORDS" --mtu 1500 "${hubs[@]}"
        if [ -n "$LOCK_STEP" ]; then
            measure align --records "$RECORDS" --mtu 1500 --label "lock step" --set "$LOCK_STEP" "${hubs[@]}"
        fi
        if [ "$LSAS" -ne "$RECORDS" ]; then
            measure align --records "$LSAS" --mtu 65535 "${hubs[@]}"
        fi
    done
    if [ $HAVE_REDIS = yes ]; then
        measure align --server redis --redis-sync diskless --records "$RECORDS"
        measure align --server redis --redis-sync default --records "$RECORDS"
    fi
    if [ $HAVE_BIRD = yes ]; then
        measure align --server bird-bgp --records "$RECORDS"
    fi
    if [ $HAVE_OSPF = yes ]; then
        measure align --server bird-ospf --records "$LSAS"
    fi
}

flood_once() {
    local backend algorithm
    for backend in $BACKENDS; do
        local flood=(flood --updates "$UPDATES" --backend "$backend" --workers "$WORKERS")
        measure "${flood[@]}"
        measure "${flood[@]}" --hubs 3
        for algorithm in hmac-md5-128 hmac-sha-256-128 blake3-256; do
            measure "${flood[@]}" --auth "$algorithm"
        done
        measure "${flood[@]}" --receiver-workers 1
        measure "${flood[@]}" --receiver-workers 2
    done
}

clients_once() {
    local backend
    local clients=(clients --commands "$COMMANDS" --probes "$PROBES" --kinds set)
    for backend in $BACKENDS; do
        local hubs=(--backend "$backend" --workers "$WORKERS")
        measure "${clients[@]}" "${hubs[@]}"
        if [ $HAVE_BUSY_POLL = yes ]; then
            measure "${clients[@]}" "${hubs[@]}" --label "busy poll" --set "io.busy_poll=\"$BUSY_POLL\""
        fi
    done
    if [ $HAVE_REDIS = yes ]; then
        measure "${clients[@]}" --server redis
    fi
}

# Traced hubs are slow, and how slow does not matter.
calls_once() {
    local backend
    for backend in $BACKENDS; do
        measure flood --updates "$UPDATES" --strace --backend "$backend" --workers "$WORKERS"
    done
}

growth_once() {
    local backend records
    for backend in $BACKENDS; do
        for ((records = 10000; records <= GROWTH; records *= 10)); do
            measure align --records "$records" --label growth --backend "$backend" --workers "$WORKERS"
        done
    done
}

for ((round = 1; round <= ROUNDS; round++)); do
    echo "--- round $round of $ROUNDS" >&2
    if wanted align; then align_once; fi
    # The ratios of updates are those to clients of Redis in the same round.
    if wanted flood; then flood_once; fi
    if wanted clients; then clients_once; fi
    if wanted calls && [ $HAVE_STRACE = yes ]; then calls_once; fi
    if wanted growth; then growth_once; fi
done

# version PROGRAM ARGUMENT: its version, or that it is missing.
version() {
    if command -v "$1" >/dev/null; then
        "$@" 2>&1 | sed -n '1s/.*\(v=\|version \)\([^ ]*\).*/\2/p'
    else
        echo none
    fi
}

mkdir -p "$(dirname "$OUTPUT")"
echo "Machine: $(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores," \
    "Linux $(uname -r); $("$TARGET/scspd" --version), $WORKERS worker(s) for each hub;" \
    "Redis $(version redis-server --version); BIRD $(version bird --version)."
echo "Load average at the end: $(cut -d ' ' -f 1-3 /proc/loadavg)."
echo
echo "## Targets"
echo
echo "Ratios of medians of $ROUNDS round(s)."
echo
"$TARGET/scsp-load" targets --json "${OUTPUT%.json}-targets.json" "$RESULTS"/1*.json || FAILED=1
echo
echo "## Results"
echo
"$TARGET/scsp-load" summary --json "$OUTPUT" "$RESULTS"/1*.json || FAILED=1
exit "$FAILED"
