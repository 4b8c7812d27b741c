//! The `fieldpost` executable: the controller's daemon and its command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    fieldpost::run()
}
