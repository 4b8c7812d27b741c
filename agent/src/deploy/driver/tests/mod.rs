use super::*;
use crate::deploy::machine::MAX_DETAIL_BYTES;
use crate::deploy::testing::{assignment, desired, release};
use crate::deploy::{CommandError, DeployStatus, Failure, Refusal};
use fieldpost_shared::wire::v1::{Assignment, Desired, FailureKind, Phase};
use fieldpost_shared::wire::v2;
use tokio::task::JoinSet;
use world::{Fault, PausedClock, Reply, World, world};

mod beside;
mod crashes;
mod facts;
mod world;

const FOREVER: u64 = u64::MAX;

/// A desired state by which `m` stands beside its live release, as a shadow.
fn beside(sequence: u64, assignments: &[Assignment]) -> v2::Desired {
    let mode = v2::Mode::Shadow { portion: v2::WHOLE };
    let beside = vec![v2::Beside { model: "m".parse().unwrap(), mode }];
    v2::Desired { beside, ..desired(sequence, FOREVER, assignments).into() }
}

/// One run of the agent on a box.
struct Agent {
    handle: DriverHandle,
    shutdown: CancellationToken,
    task: JoinSet<Result<(), DriverError>>,
}

fn start(world: &Arc<World>, clock: &Arc<PausedClock>) -> Agent {
    let journal: Arc<dyn Journal> = Arc::<World>::clone(world);
    let clock: Arc<dyn Clock> = Arc::<PausedClock>::clone(clock);
    let (driver, handle) = Driver::open(journal, Arc::clone(world), clock, DriverSettings::default()).unwrap();
    let shutdown = CancellationToken::new();
    let mut task = JoinSet::new();
    task.spawn(driver.run(shutdown.clone()));
    Agent { handle, shutdown, task }
}

impl Agent {
    /// SIGKILL.
    async fn kill(mut self, world: &World) {
        self.task.shutdown().await;
        world.bury();
    }

    /// SIGTERM, and the end of the process after it.
    async fn stop(mut self, world: &World) {
        self.shutdown.cancel();
        self.task.join_next().await.unwrap().unwrap().unwrap();
        world.bury();
    }

    async fn desired(&self, sequence: u64, assignments: &[Assignment]) {
        self.handle.desired(desired(sequence, FOREVER, assignments)).await.unwrap();
    }

    /// Waits, in paused time, for what a status must show at last.
    async fn until(&self, what: &str, holds: impl Fn(&DeployStatus) -> bool) -> DeployStatus {
        let mut status = self.handle.status();
        let reached = tokio::time::timeout(Duration::from_secs(3_600), status.wait_for(|status| holds(status))).await;
        reached.unwrap_or_else(|_| panic!("never: {what}")).unwrap().clone()
    }

    async fn live(&self, model: &str, n: u64) -> DeployStatus {
        self.until(&format!("{model} {n} live and at rest"), |status| {
            status.models.iter().any(|m| {
                m.model.as_str() == model && m.live.as_ref() == Some(&release(model, n)) && m.candidate.is_none()
            })
        })
        .await
    }
}

/// A box on which release 1 of `m` is live, proven and wanted.
async fn box_with_release_1() -> (Arc<World>, Arc<PausedClock>, Agent) {
    let (world, clock) = (world(), Arc::new(PausedClock::new()));
    let agent = start(&world, &clock);
    agent.desired(1, &[assignment("m", 1, 1)]).await;
    agent.live("m", 1).await;
    world.take_log();
    (world, clock, agent)
}

async fn seconds(n: u64) {
    tokio::time::sleep(Duration::from_secs(n)).await;
}
