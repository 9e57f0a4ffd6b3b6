# Three hubs in a line, A - B - C, from deploy/examples. Sourced by the scripts beside it, with the repository
# as working directory. Their client ports are 6391 to 6393, their admin ports 9141 to 9143.

HUBS=(a b c)
READY_SECS=30
STOP_SECS=10
HUB_PIDS=()
HUB_LOGS=
TARGET=${CARGO_TARGET_DIR:-target}/release

# build PACKAGE...: builds release binaries, so that never an old one is tried.
build() {
    local package
    for package in "$@"; do
        cargo build --release -p "$package"
    done
}

# start_hubs: starts the three and waits until each says that it is ready.
start_hubs() {
    local hub
    HUB_LOGS=$(mktemp -d)
    trap stop_hubs EXIT
    # Turned into an ordinary exit, so that the hubs are stopped.
    trap 'exit 130' INT
    trap 'exit 143' TERM
    for hub in "${HUBS[@]}"; do
        "$TARGET/scspd" --config "deploy/examples/hub-$hub.toml" >"$HUB_LOGS/$hub.log" 2>&1 &
        HUB_PIDS+=($!)
    done
    wait_ready 0 9141
    wait_ready 1 9142
    wait_ready 2 9143
    # Ready might have been the answer of another program on these ports.
    for hub in "${!HUBS[@]}"; do
        if ! kill -0 "${HUB_PIDS[hub]}" 2>/dev/null; then
            echo "hub ${HUBS[hub]} ended:" >&2
            tail -n 20 "$HUB_LOGS/${HUBS[hub]}.log" >&2
            exit 1
        fi
    done
}

# wait_ready INDEX ADMIN_PORT: waits for 200 from /readyz, at most READY_SECS; shows the log when it fails.
wait_ready() {
    local index=$1 port=$2 hub=${HUBS[$1]} deadline=$((SECONDS + READY_SECS))
    until [ "$(http_status "$port" /readyz)" = 200 ]; do
        if ! kill -0 "${HUB_PIDS[index]}" 2>/dev/null; then
            echo "hub $hub ended:" >&2
        elif [ "$SECONDS" -ge "$deadline" ]; then
            echo "hub $hub was not ready within $READY_SECS s:" >&2
        else
            sleep 0.1
            continue
        fi
        tail -n 20 "$HUB_LOGS/$hub.log" >&2
        exit 1
    done
}

# http_status PORT PATH: prints the status code of GET on 127.0.0.1, or nothing.
http_status() {
    local version code rest
    {
        exec 9<>"/dev/tcp/127.0.0.1/$1" &&
            printf 'GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n' "$2" >&9 &&
            read -r -t 2 version code rest <&9 &&
            printf '%s' "$code"
        exec 9>&-
    } 2>/dev/null || true
}

# stop_hubs: ends the hubs, the hard way after STOP_SECS, and removes their logs. Keeps the exit status.
stop_hubs() {
    local status=$? pid deadline=$((SECONDS + STOP_SECS))
    trap - EXIT INT TERM
    if [ "${#HUB_PIDS[@]}" -gt 0 ]; then
        kill "${HUB_PIDS[@]}" 2>/dev/null || true
        for pid in "${HUB_PIDS[@]}"; do
            while kill -0 "$pid" 2>/dev/null && [ "$SECONDS" -lt "$deadline" ]; do
                sleep 0.1
            done
            kill -9 "$pid" 2>/dev/null || true
            wait "$pid" 2>/dev/null || true
        done
    fi
    if [ -n "$HUB_LOGS" ]; then
        rm -r "$HUB_LOGS"
    fi
    exit "$status"
}
