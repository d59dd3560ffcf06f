//! The command line. Every command lives in [`apprentice::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    apprentice::cli::main()
}
