#!/usr/bin/env bash
# Three hubs on this machine in a line, A - B - C: writes a key at A, reads it at C, and leaves them running
# until Ctrl-C.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/hubs.sh

ALIGN_SECS=30
ARRIVE_SECS=10

scspctl() {
    local port=$1
    shift
    "$TARGET/scspctl" --connect "127.0.0.1:$port" "$@"
}

# aligned PORT: whether the hub has neighbours and every one is Aligned.
aligned() {
    scspctl "$1" peers 2>/dev/null |
        awk 'NR > 1 { peers++; if ($5 != "aligned") open++ } END { exit !(peers > 0 && open == 0) }'
}

build scspd scspctl
echo "Starting hubs A, B and C from deploy/examples ..."
start_hubs

deadline=$((SECONDS + ALIGN_SECS))
for port in 6391 6392 6393; do
    until aligned "$port"; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            echo "the hub on port $port did not align within $ALIGN_SECS s:" >&2
            scspctl "$port" peers >&2
            exit 1
        fi
        sleep 0.1
    done
done
echo "All neighbours are aligned. Hub B sees both:"
echo
scspctl 6392 peers
echo

scspctl 6391 put greeting "hello from A" >/dev/null
echo "Written at A: greeting"
deadline=$((SECONDS + ARRIVE_SECS))
until value=$(scspctl 6393 get greeting 2>/dev/null); do
    if [ "$SECONDS" -ge "$deadline" ]; then
        echo "the key did not reach C within $ARRIVE_SECS s" >&2
        exit 1
    fi
    sleep 0.1
done
echo "Read at C:    $value"

cat <<END

Try next, in another terminal:
  redis-cli -p 6391 set color green     # write at A
  redis-cli -p 6393 get color           # read at C, two hops away
  redis-cli -p 6393 del color           # delete at C: gone at A and B as well
  curl http://127.0.0.1:9142/metrics    # metrics of B
  kill -9 ${HUB_PIDS[1]}   # lose B: A and C keep what they have
  $TARGET/scspctl --connect 127.0.0.1:6391 peers      # neighbours of A
  $TARGET/scspctl --connect 127.0.0.1:6391 records    # raw entries

Ctrl-C stops the hubs.
END
trap 'echo; exit 0' INT
wait
