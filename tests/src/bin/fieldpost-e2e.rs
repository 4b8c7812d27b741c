//! The executable under test: the same code as `fieldpost`, built with the suite so that one command builds both.

use std::process::ExitCode;

fn main() -> ExitCode {
    fieldpost::run()
}
