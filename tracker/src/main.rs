//! Entry point of the `tracker` command.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
use tracker::{cli::Cli, commands};

/// 0 when done, 1 on an error; clap ends wrong usage with 2.
fn main() -> ExitCode {
    match commands::run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has seen enough.
        Err(error) if commands::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Where stderr is closed too there is nobody left to tell.
            match writeln!(io::stderr(), "error: {error:#}") {
                Ok(()) | Err(_) => ExitCode::FAILURE,
            }
        }
    }
}
