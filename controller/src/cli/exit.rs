//! Exit codes: an interface that pipelines rely on.

use std::process::ExitCode;

/// How a command ended. The numbers are documented and stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: refused or failed.
    Failed,
    /// 2: the command line or the configuration cannot be used.
    Usage,
    /// 3: a rollout was rolled back.
    RolledBack,
    /// 4: paused, timed out, or the controller cannot be reached: nothing is decided, try again.
    Undecided,
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::RolledBack => 3,
            Self::Undecided => 4,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
