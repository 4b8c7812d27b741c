//! The agent's executable: parse, run, map the end to an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    fieldpost_agent::run()
}
