//! The parts of the agent as tasks with names: one that ends before it was told to ends the agent, for a restart to put
//! it right. An agent without one of its parts would look well and do half of its work.

use anyhow::anyhow;
use std::collections::HashMap;
use std::time::Duration;
use tokio::task::{Id, JoinError, JoinSet};

/// Tasks that must all run until they are told to stop.
#[derive(Debug, Default)]
pub(super) struct Parts {
    tasks: JoinSet<anyhow::Result<()>>,
    names: HashMap<Id, &'static str>,
}

impl Parts {
    /// Adds a part that says why it cannot go on.
    pub(super) fn spawn(
        &mut self,
        name: &'static str,
        part: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        let id = self.tasks.spawn(part).id();
        self.names.insert(id, name);
    }

    /// Adds a part that ends when it is told to and at no other time.
    pub(super) fn spawn_plain(&mut self, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
        self.spawn(name, async move {
            part.await;
            Ok(())
        });
    }

    /// Waits for the first part that ends by itself: that is an error, however it ends. Pending while there are none.
    /// Cancel-safe, since `JoinSet::join_next_with_id` is.
    pub(super) async fn ended(&mut self) -> anyhow::Error {
        match self.tasks.join_next_with_id().await {
            Some(Ok((_, Err(error)))) => error,
            Some(Ok((id, Ok(())))) => anyhow!("`{}` ended by itself", self.name(id)),
            Some(Err(error)) => self.broken(&error),
            None => std::future::pending().await,
        }
    }

    /// Waits until all have ended, after they were told to.
    ///
    /// # Errors
    /// When some do not within `deadline`, or one breaks on its way out.
    pub(super) async fn stop(&mut self, deadline: Duration) -> anyhow::Result<()> {
        let mut worst = Ok(());
        let all = async {
            while let Some(ended) = self.tasks.join_next_with_id().await {
                let id = match &ended {
                    Ok((id, _)) => *id,
                    Err(error) => error.id(),
                };
                match ended {
                    Ok((_, Ok(()))) => {}
                    Ok((_, Err(error))) => worst = Err(error),
                    Err(error) => worst = Err(self.broken(&error)),
                }
                self.names.remove(&id);
            }
        };
        if tokio::time::timeout(deadline, all).await.is_err() {
            let mut late: Vec<_> = self.names.values().copied().collect();
            late.sort_unstable();
            return Err(anyhow!("did not stop within {deadline:?}: {}", late.join(", ")));
        }
        worst
    }

    fn name(&self, id: Id) -> &'static str {
        self.names.get(&id).copied().unwrap_or("a part")
    }

    /// The panic's own words are on standard error already.
    fn broken(&self, error: &JoinError) -> anyhow::Error {
        anyhow!("`{}` broke off: {error}", self.name(error.id()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    fn parts() -> Parts {
        let mut parts = Parts::default();
        parts.spawn_plain("that runs on", pending());
        parts
    }

    async fn first_end(parts: &mut Parts) -> String {
        tokio::time::timeout(Duration::from_secs(60), parts.ended()).await.unwrap().to_string()
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_in_one_part_ends_the_agent() {
        let mut parts = parts();
        parts.spawn_plain("deployments", async { panic!("a bug") });
        let end = first_end(&mut parts).await;
        assert!(end.starts_with("`deployments` broke off"), "{end}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_ends_by_itself_ends_the_agent() {
        let mut parts = parts();
        parts.spawn_plain("line", async {});
        assert_eq!(first_end(&mut parts).await, "`line` ended by itself");
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_cannot_go_on_says_why() {
        let mut parts = parts();
        parts.spawn("deployments", async { Err(anyhow!("no journal")) });
        assert_eq!(first_end(&mut parts).await, "no journal");
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_stop_in_time_is_named() {
        let mut parts = parts();
        parts.spawn_plain("line", async {});
        let late = parts.stop(Duration::from_secs(10)).await.unwrap_err();
        assert_eq!(late.to_string(), "did not stop within 10s: that runs on");
    }

    #[tokio::test(start_paused = true)]
    async fn an_orderly_stop_is_no_error() {
        let mut parts = Parts::default();
        parts.spawn_plain("line", async {});
        parts.spawn("deployments", async { Ok(()) });
        parts.stop(Duration::from_secs(10)).await.unwrap();
    }
}
