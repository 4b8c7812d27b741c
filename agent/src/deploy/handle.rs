//! The driver's front: what link, CLI and app ask of it.

use super::accept::Refusal;
use super::status::DeployStatus;
use crate::store::Hold;
use fieldpost_shared::id::{ModelName, ReleaseRef};
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::wire::v2::Desired;
use tokio::sync::{mpsc, oneshot, watch};

/// Why a local command was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// No slot of this name.
    #[error("there is no model `{0}` on this box")]
    NoModel(ModelName),
    /// Nothing to go back to.
    #[error("`{0}` has no previous release to go back to")]
    NoPrevious(ModelName),
    /// A swap is under way; it takes seconds.
    #[error("`{0}` is being swapped at this moment: try again in a few seconds")]
    Busy(ModelName),
    /// It could not be written down, so it was not begun.
    #[error("the command could not be stored, nothing has changed: {0}")]
    NotStored(String),
    /// The driver has ended.
    #[error("the agent is stopping")]
    Stopping,
}

/// What the driver is asked.
#[derive(Debug)]
pub(super) enum Command {
    Desired(Box<Desired>, oneshot::Sender<Result<(), Refusal>>),
    Rollback(ModelName, oneshot::Sender<Result<ReleaseRef, CommandError>>),
    Hold(Option<Hold>, oneshot::Sender<Result<(), CommandError>>),
    RootChanged,
}

/// Speaks with the driver. Cheap to clone; all methods are cancel-safe (a command that was sent is done).
#[derive(Debug, Clone)]
pub struct DriverHandle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) status: watch::Receiver<DeployStatus>,
}

impl DriverHandle {
    /// Presents a desired state whose signature and addressee hold. When this returns Ok it is on the disk, and will be
    /// acted on whatever happens to the agent.
    ///
    /// # Errors
    /// Why it changes nothing; [`Refusal::again`] tells whether to present it again later.
    pub async fn desired(&self, desired: impl Into<Desired>) -> Result<(), Refusal> {
        let (reply, answer) = oneshot::channel();
        let sent = self.commands.send(Command::Desired(Box::new(desired.into()), reply)).await;
        sent.map_err(|_ended| Refusal::Stopping)?;
        answer.await.map_err(|_ended| Refusal::Stopping)?
    }

    /// Takes the live release of a model back, offline: it is quarantined, and the previous one answers. Gives the release
    /// that is gone back to; watch [`DriverHandle::status`] for the end of it.
    ///
    /// # Errors
    /// When there is nothing to go back to, or a swap is under way.
    pub async fn rollback(&self, model: ModelName) -> Result<ReleaseRef, CommandError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Rollback(model, reply)).await?;
        answer.await.map_err(|_ended| CommandError::Stopping)?
    }

    /// Refuses changes from now on; what is accepted meanwhile is acted on when the hold is over. Probation goes on, and
    /// may still take a release back. Durable when this returns.
    ///
    /// # Errors
    /// When it could not be stored.
    pub async fn hold(&self, reason: String, until: Option<Timestamp>) -> Result<(), CommandError> {
        self.set_hold(Some(Hold { reason, until })).await
    }

    /// Allows changes again.
    ///
    /// # Errors
    /// When it could not be stored.
    pub async fn release_hold(&self) -> Result<(), CommandError> {
        self.set_hold(None).await
    }

    /// Says that the store has a newer root: what it revoked stops.
    ///
    /// # Errors
    /// When the driver has ended.
    pub async fn root_changed(&self) -> Result<(), CommandError> {
        self.send(Command::RootChanged).await
    }

    /// The state of all slots, now and whenever it changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<DeployStatus> {
        self.status.clone()
    }

    async fn set_hold(&self, hold: Option<Hold>) -> Result<(), CommandError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Hold(hold, reply)).await?;
        answer.await.map_err(|_ended| CommandError::Stopping)?
    }

    async fn send(&self, command: Command) -> Result<(), CommandError> {
        self.commands.send(command).await.map_err(|_ended| CommandError::Stopping)
    }
}
