//! The rollout machine: pure and deterministic. State is the fold of events; a decision reads state and what was
//! observed, and answers with events; effects follow from events alone.
//!
//! ```text
//! Draft -> [AwaitingApproval] -> Running{wave, Deploying -> Soaking -> Passed} -> ... -> Completed
//!                                  |    ^
//!                                  v    | resume
//!                                Paused --------------------------> Aborted(keep)
//!                                  |
//!          any of these, Completed and Aborted(keep) too -> RollingBack -> RolledBack | Aborted(revert)
//! ```
//! A completed rollout still gives its release to devices that come later (`late`); nobody waits for those.

mod ab;
pub mod command;
pub mod decide;
mod experiment;
pub(crate) mod late;
pub mod observe;
mod past;
pub mod progress;
pub mod revert;
pub mod sample;
mod shadow;
pub mod state;
pub mod step;
pub(crate) mod turn;

pub use command::{Command, Refusal};
pub use decide::{Assessment, Decision, before_judging, decide, judged};
pub(super) use experiment::next_look;
pub(super) use progress::longest_dwell;
pub use revert::taken_over;
pub use sample::{Observation, Query, Samples, queries};
pub use state::{AbortMode, Member, Phase, Progress, Stage, State};
pub use step::{Effect, FoldError, fold, outstanding, step};
