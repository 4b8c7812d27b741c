//! Why the store did not do what it was asked.

use fieldpost_shared::durable::DurableError;
use std::io;
use std::path::{Path, PathBuf};

/// A failed operation of the store. After any of these nothing is lost that was acknowledged before; whether the
/// failed write itself is there is unknown, so callers repeat it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the database, and did not let go in time.
    #[error("the database `{}` is in use by another process", path.display())]
    Locked {
        /// The database.
        path: PathBuf,
    },
    /// No space left. Works again by itself once there is space.
    #[error("the disk is full: cannot {operation} in `{}`", path.display())]
    DiskFull {
        /// What was being done.
        operation: &'static str,
        /// The database, or a file beside it.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The database was damaged while it was in use. The next start sets it aside and begins a new one.
    #[error("the database `{}` is damaged: cannot {operation}; restart the agent, it will set it aside", path.display())]
    Corrupt {
        /// What was being done.
        operation: &'static str,
        /// The database.
        path: PathBuf,
        /// The reason.
        #[source]
        source: sled::Error,
    },
    /// Anything else that the database said.
    #[error("cannot {operation} in the database `{}`", path.display())]
    Database {
        /// What was being done.
        operation: &'static str,
        /// The database.
        path: PathBuf,
        /// The reason.
        #[source]
        source: sled::Error,
    },
    /// A file or directory beside the database.
    #[error("cannot {operation} `{}`", path.display())]
    File {
        /// What was being done.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// A file beside the database that did not become durable.
    #[error("cannot keep the state of `{}`", path.display())]
    Durable {
        /// The database.
        path: PathBuf,
        /// The reason.
        #[source]
        source: DurableError,
    },
    /// A window that no message could carry.
    #[error("a window of statistics has {bytes} bytes, at most {max} can be sent")]
    WindowTooLarge {
        /// Its bytes, encoded.
        bytes: usize,
        /// The most allowed.
        max: usize,
    },
    /// A record that does not read back.
    #[error("cannot {operation} in the database `{}`", path.display())]
    Record {
        /// What was being done.
        operation: &'static str,
        /// The database.
        path: PathBuf,
        /// The reason.
        #[source]
        source: RecordError,
    },
}

/// What is wrong with a record's bytes.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Written by a newer agent. It is left as it is.
    #[error("the {what} has form {found}, this agent reads form {known}: install the newer agent again")]
    Newer {
        /// Which record.
        what: &'static str,
        /// Its form.
        found: u8,
        /// The newest form this agent reads.
        known: u8,
    },
    /// Not what it should be.
    #[error("the {what} is malformed")]
    Malformed {
        /// Which record.
        what: &'static str,
        /// The reason.
        #[source]
        source: postcard::Error,
    },
}

impl StoreError {
    /// Whether space on the disk would help.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::DiskFull { .. })
    }

    /// A file beside the database that did not become durable.
    pub(super) fn durable(operation: &'static str, path: &Path, source: DurableError) -> Self {
        let path = path.to_owned();
        match source {
            DurableError::Write { source, .. } if is_out_of_space(&source) => {
                Self::DiskFull { operation, path, source }
            }
            source => Self::Durable { path, source },
        }
    }

    /// Whether only a restart helps.
    #[must_use]
    pub fn needs_restart(&self) -> bool {
        matches!(self, Self::Corrupt { .. } | Self::Record { source: RecordError::Malformed { .. }, .. })
    }
}

/// What an operation inside the store can run into; the store adds operation and path.
#[derive(Debug)]
pub(super) enum Cause {
    Sled(sled::Error),
    Record(RecordError),
}

impl From<sled::Error> for Cause {
    fn from(error: sled::Error) -> Self {
        Self::Sled(error)
    }
}

impl From<RecordError> for Cause {
    fn from(error: RecordError) -> Self {
        Self::Record(error)
    }
}

fn is_out_of_space(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

impl Cause {
    pub(super) fn at(self, operation: &'static str, path: &Path) -> StoreError {
        let path = path.to_owned();
        match self {
            Self::Record(source) => StoreError::Record { operation, path, source },
            Self::Sled(sled::Error::Io(source)) if is_out_of_space(&source) => {
                StoreError::DiskFull { operation, path, source }
            }
            Self::Sled(source @ sled::Error::Corruption { .. }) => StoreError::Corrupt { operation, path, source },
            Self::Sled(source) => StoreError::Database { operation, path, source },
        }
    }
}
