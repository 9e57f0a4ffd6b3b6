//! The house rules as tests: the conformance table, the arrows between crates, where `unsafe`
//! may stand, how long a file may be, and that documents name files that exist.
//!
//! They read the working tree and need no privileges. After adding a test named after a
//! requirement, `UPDATE_CONFORMANCE=1 cargo test -p scspd --test house` fills its row of
//! `docs/conformance.md`.
#![forbid(unsafe_code)]

mod conformance;
mod documents;
mod source;
mod workspace;
