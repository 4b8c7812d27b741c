//! What every command is given: where the controller is, who asks, and how to print.

use super::output::{Format, Sink};
use super::{Exit, Failure, GlobalArgs};
use crate::client::{Client, ClientSettings, Token, is_loopback};
use fieldpost_shared::time::{Clock, SystemClock};
use serde::Serialize;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file below the data directory that holds the controller's first token.
const ADMIN_TOKEN: &str = "admin.token";
/// The directory below it with root metadata and keys.
const TRUST_DIR: &str = "trust";

/// What a command runs with.
#[derive(Debug, Clone)]
pub struct Context {
    global: GlobalArgs,
    data_dir: PathBuf,
    clock: Arc<dyn Clock>,
    sink: Sink,
}

impl Context {
    /// From the command line; `data_dir` is where a controller on this machine keeps its files.
    #[must_use]
    pub fn new(global: GlobalArgs, data_dir: PathBuf) -> Self {
        Self { global, data_dir, clock: Arc::new(SystemClock::new()), sink: Sink::Terminal }
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Where a controller on this machine keeps its files.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Where its trust is.
    #[must_use]
    pub fn trust_dir(&self) -> PathBuf {
        self.data_dir.join(TRUST_DIR)
    }

    /// The data directory that the command line or the environment names, if one does.
    #[must_use]
    pub fn given_data_dir(&self) -> Option<&Path> {
        self.global.data_dir.as_deref()
    }

    /// Whether a person watches: then progress is shown on stderr.
    #[must_use]
    pub fn watched(&self) -> bool {
        self.global.output == Format::Table && std::io::stderr().is_terminal()
    }

    /// Whether a person is there to be asked something.
    #[must_use]
    pub fn can_ask(&self) -> bool {
        matches!(self.sink, Sink::Terminal) && self.watched() && std::io::stdin().is_terminal()
    }

    /// Table or JSON.
    #[must_use]
    pub fn format(&self) -> Format {
        self.global.output
    }

    /// A client for the controller that the command line names.
    ///
    /// # Errors
    /// When the address or a certificate cannot be used; exit code 2.
    pub fn client(&self) -> Result<Client, Failure> {
        let server = self.global.server.clone();
        let token = match self.global.token.as_ref().and_then(|given| given.0.as_ref()) {
            Some(token) => Some(token.clone()),
            // The token beside the data is for the controller on this machine; no other server gets to see it.
            None if is_loopback(&server) => self.local_token()?,
            None => None,
        };
        let ca_pem = self.global.ca.as_deref().map(|path| {
            std::fs::read(path)
                .map_err(|e| Failure::usage(format!("cannot read the authorities in `{}`", path.display())).because(&e))
        });
        Ok(Client::new(&ClientSettings { server, token, ca_pem: ca_pem.transpose()? })?)
    }

    fn local_token(&self) -> Result<Option<Token>, Failure> {
        let path = self.data_dir.join(ADMIN_TOKEN);
        let refuse = || Failure::usage(format!("cannot use the token in `{}`", path.display()));
        match std::fs::read_to_string(&path) {
            Ok(text) => text.parse().map(Some).map_err(|error| refuse().because(&error)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(refuse().because(&error).hint("pass --token, or run as the controller's user")),
        }
    }

    /// Prints a result: as JSON, or as the text that `table` makes of it.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn show<T: Serialize + ?Sized>(&self, value: &T, table: impl FnOnce(&T) -> String) -> Result<Exit, Failure> {
        let text = match self.global.output {
            Format::Table => table(value),
            Format::Json => serde_json::to_string_pretty(value)
                .map_err(|error| Failure::new("cannot write the result as JSON").because(&error))?,
        };
        self.sink.result(&text)?;
        Ok(Exit::Done)
    }

    /// Ends a command that changed something: a line for people on stderr, or what is now there as JSON.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn done<T: Serialize + ?Sized>(&self, value: &T, text: &str) -> Result<Exit, Failure> {
        match self.global.output {
            Format::Table => self.note(text),
            Format::Json => {
                self.show(value, |_| String::new())?;
            }
        }
        Ok(Exit::Done)
    }

    /// Says on stderr what is going on, when a person reads.
    pub fn note(&self, text: &str) {
        if self.global.output == Format::Table {
            self.sink.note(text);
        }
    }

    /// Prints a result that has one form only, such as a script.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn print(&self, text: &str) -> Result<Exit, Failure> {
        self.sink.result(text)?;
        Ok(Exit::Done)
    }
}

#[cfg(test)]
impl Context {
    /// A context that keeps what it prints.
    pub(crate) fn in_memory(global: GlobalArgs, data_dir: &Path) -> Self {
        Self { sink: Sink::Memory(Arc::default()), ..Self::new(global, data_dir.to_owned()) }
    }

    /// All that was printed.
    pub(crate) fn printed(&self) -> String {
        self.sink.kept()
    }
}
