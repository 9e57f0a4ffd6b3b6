//! The engine's requirements, tested through its public API with packets built and read by
//! `scsp-wire`. Tests are named after the ids of `docs/conformance.md`.

mod alignment;
mod authentication;
mod decisions;
mod families;
mod golden;
mod hello;
mod kv;
mod limit;
mod memory;
mod multipoint;
mod nhrp;
mod pipeline;
mod properties;
mod purge;
mod script;
mod segments;
mod smoke;
mod steered;
mod support;
mod tables;
mod update;
