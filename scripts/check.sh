#!/usr/bin/env bash
# What every commit passes: formatting, lints, tests, documentation, dependencies.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo fmt --all -- --check
cargo clippy --workspace --all-targets -- -D warnings
cargo test --workspace
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
if cargo deny --version >/dev/null 2>&1; then
    cargo deny check bans licenses sources
else
    echo "cargo-deny is not installed: dependencies not checked (cargo install --locked cargo-deny)" >&2
fi
