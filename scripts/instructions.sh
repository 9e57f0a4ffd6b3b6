#!/usr/bin/env bash
# Instructions per record of each step of the engine, counted by valgrind: the same on every machine with
# the same compiler, however busy it is. Needs valgrind.
set -euo pipefail
cd "$(dirname "$0")/.."

held=${1:-10000}  # records that both hubs hold at first
moved=${2:-20000} # records that then go from one to the other

cargo build --quiet --release -p scsp-benches --bench instructions
program=$(cargo build --quiet --release -p scsp-benches --bench instructions --message-format=json |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1)

# Instructions within one step of a run that moves $3 records that are new or known.
count() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null \
        --toggle-collect="scsp_benches::pair::Pair::$1" "$program" "$held" "$3" "$2" 2>&1 |
        sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}

printf '%-12s %12s %12s\n' 'per record' 'new' 'known'
for step in originate encode insert duplicate reply acknowledge; do
    line=$(printf '%-12s' "$step")
    for kind in new known; do
        # What it took to get the first ones there does not count.
        counted=$(($(count "$step" "$kind" "$moved") - $(count "$step" "$kind" 0)))
        line+=$(printf ' %12d' $((counted / moved)))
    done
    echo "$line"
done
for step in summarize compare; do
    printf '%-12s %12s %12d\n' "$step" '' $(($(count "$step" known 0) / held))
done
