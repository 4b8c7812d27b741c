//! The store from async code: its waits for the disk, which on a worn card take seconds, stay off the reactor.

use super::{Store, StoreError};
use std::sync::Arc;

impl Store {
    /// Runs blocking work on the store on a thread for such work. A panic in it goes on here. Work that has begun is done,
    /// also when this future is dropped.
    ///
    /// # Errors
    /// Those of the work.
    pub async fn background<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = Arc::clone(self);
        match tokio::task::spawn_blocking(move || work(&store)).await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down, and this task with it.
                Err(_cancelled) => std::future::pending().await,
            },
        }
    }
}
