#!/usr/bin/env bash
# Instructions per record of each step of the engine, counted by valgrind: the same on every machine with
# the same compiler, however busy it is. Needs valgrind.
set -euo pipefail
cd "$(dirname "$0")/.."

held=${1:-10000}  # records that both hubs hold at first
moved=${2:-20000} # records that then go from one to the other

cargo build --quiet --release -p scsp-benches --bench instructions
program=${INSTRUCTIONS_PROGRAM:-$(cargo build --quiet --release -p scsp-benches --bench instructions \
    --message-format=json | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1)}

total=$((held + moved))
declare -A records=(
    [originate]=$total [encode]=$total [insert]=$total [duplicate]=$moved [reply]=$((total + moved))
    [acknowledge]=$total [summarize]=$total [compare]=$total
)
printf '%-12s %s\n' step instructions/record
for step in originate encode insert duplicate reply acknowledge summarize compare; do
    counted=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null \
        --toggle-collect="scsp_benches::pair::Pair::$step" "$program" "$held" "$moved" 2>&1 |
        sed -n 's/.*Collected : \([0-9]*\).*/\1/p')
    printf '%-12s %d\n' "$step" $((counted / records[$step]))
done
