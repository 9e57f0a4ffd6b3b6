//! Any text as a configuration: it is read or refused without a panic, every finding is one line,
//! and what was read prints to a text that reads back equal.
//!
//! The module is compiled in directly: the daemon's other dependencies are of no use here.

#![no_main]
#![forbid(unsafe_code)]

#[allow(
    dead_code,
    unused_imports,
    reason = "only reading and printing are exercised"
)]
#[path = "../../scspd/src/config/mod.rs"]
mod config;

use config::Config;
use libfuzzer_sys::fuzz_target;
use scsp_wire::ServerId;

fuzz_target!(|text: &str| {
    let id = || ServerId::from_bytes(&[10, 0, 0, 1]).expect("4 octets are an id");
    match Config::parse("fuzz", text, id) {
        Ok(config) => {
            let printed = config.to_toml();
            let again = Config::parse("printed", &printed, || panic!("the id is printed"));
            assert_eq!(again.as_ref(), Ok(&config), "{printed}");
        }
        Err(errors) => {
            assert!(errors.iter().count() <= config::ERRORS_MAX);
            assert_eq!(errors.to_string().lines().count(), errors.iter().count());
        }
    }
});
