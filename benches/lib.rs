//! Benchmarks of the parts of scspd; each file in `benches/` is one criterion target.

#![forbid(unsafe_code)]

pub mod pair;
