//! `scspctl`, the operator's command line of `scspd`.
//!
//! It is a plain client of the hub's Redis-protocol interface. `cli` reads the command line, `client` talks to
//! the hub, `model` gives the replies names and types, `render` and `json` print them, and `commands` holds one
//! file per group of commands.
#![forbid(unsafe_code)]

mod cli;
mod client;
mod commands;
mod error;
mod json;
mod model;
mod render;

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;
use crate::error::Error;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut out = BufWriter::new(io::stdout().lock());
    let result =
        commands::run(&cli, &mut out).and_then(|outcome| Ok(out.flush().map(|()| outcome)?));
    match result {
        Ok(outcome) => ExitCode::from(outcome.status()),
        // The reader of a pipe had enough: nothing failed.
        Err(Error::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            // What was found before the failure comes first; the failure itself is what counts.
            drop(out.flush());
            eprintln!("scspctl: {error}");
            ExitCode::from(error.status())
        }
    }
}
