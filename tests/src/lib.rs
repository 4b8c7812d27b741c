//! The harness of the end-to-end suite: real processes, real brokers, real faults.

pub mod broker;
pub mod field;
pub mod foe;
pub mod harms;
pub mod python;

pub use broker::Broker;
pub use field::Field;

use std::sync::OnceLock;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Scenarios that run at once. Each starts several processes; more would only time each other out on small machines.
const AT_ONCE: usize = 2;

/// A place to run a scenario in.
///
/// # Panics
/// Never: the semaphore is not closed.
pub async fn place() -> SemaphorePermit<'static> {
    static PLACES: OnceLock<Semaphore> = OnceLock::new();
    PLACES.get_or_init(|| Semaphore::new(AT_ONCE)).acquire().await.expect("nobody closes the semaphore")
}
