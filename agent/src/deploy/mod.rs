//! Which release of each model runs on this box, and how that changes: fetch, verify, self-test, swap, probation, and back.
//!
//! [`machine`] decides and is pure; `driver` journals each transition before its effect begins and performs it through
//! [`Effects`]. [`slot::State`] carries the diagram.

mod accept;
pub mod beside;
mod driver;
mod effects;
pub mod event;
mod handle;
mod jobs;
mod journal;
pub mod machine;
mod memory;
pub mod probation;
pub mod slot;
mod status;
#[cfg(test)]
pub(crate) mod testing;

pub use accept::{Believed, Refusal, accept};
pub use beside::Compared;
pub use driver::{Driver, DriverError, DriverSettings};
pub use effects::{Effects, Failure};
pub use handle::{CommandError, DriverHandle};
pub use journal::{Journal, RootView};
pub use probation::{Harm, Observed};
pub use slot::{Installed, Slot, State};
pub use status::DeployStatus;
