//! What link, CLI and app ask of the driver.

use super::Driver;
use crate::deploy::accept::{Refusal, accept};
use crate::deploy::driver::DriverError;
use crate::deploy::effects::Effects;
use crate::deploy::event::Event;
use crate::deploy::handle::{Command, CommandError};
use crate::deploy::machine::rollback_target;
use crate::store::{Hold, StoreError};
use fieldpost_shared::error_chain::Chain;
use fieldpost_shared::id::{ModelName, ReleaseRef};
use fieldpost_shared::wire::v2::Desired;

impl<E: Effects> Driver<E> {
    pub(super) async fn command(&mut self, command: Command) -> Result<(), DriverError> {
        // A caller that has gone away loses its answer, and nothing else.
        match command {
            Command::Desired(desired, reply) => drop(reply.send(self.desired(*desired).await?)),
            Command::Rollback(model, reply) => drop(reply.send(self.rollback(&model).await?)),
            Command::Hold(hold, reply) => drop(reply.send(self.set_hold(hold).await?)),
            Command::RootChanged => {
                if let Err(error) = self.refresh().await {
                    self.write_failed(error)?;
                }
                self.settle_all().await?;
            }
        }
        Ok(())
    }

    async fn desired(&mut self, desired: Desired) -> Result<Result<(), Refusal>, DriverError> {
        match self.refresh().await {
            Ok(true) => self.settle_all().await?,
            Ok(false) => {}
            Err(error) => return self.not_stored(error).map(Err),
        }
        let believed = self.root.believed(&self.known);
        if let Err(refusal) = accept(&desired, &believed, self.clock.now()) {
            return Ok(Err(refusal));
        }
        let stored = desired.clone();
        if let Err(error) = self.blocking(move |journal| journal.accept(&stored)).await {
            return self.not_stored(error).map(Err);
        }
        tracing::info!(sequence = desired.sequence, models = desired.assignments.len(), "desired state accepted");
        self.known.latest_signed = self.known.latest_signed.max(desired.issued);
        self.known.desired = Some(desired);
        self.settle_all().await?;
        Ok(Ok(()))
    }

    /// Reads again what others write: the link witnesses later times and brings roots. And a desired state whose storing
    /// failed may be on the disk all the same: then it counts. Gives whether anything is new.
    async fn refresh(&mut self) -> Result<bool, StoreError> {
        let (known, root) = self.blocking(|journal| Ok((journal.known()?, journal.root()?))).await?;
        let news = known.desired != self.known.desired || root != self.root;
        (self.known, self.root) = (known, root);
        Ok(news)
    }

    fn not_stored(&mut self, error: StoreError) -> Result<Refusal, DriverError> {
        let refusal = Refusal::NotStored(Chain(&error).to_string());
        self.write_failed(error)?;
        Ok(refusal)
    }

    async fn rollback(&mut self, model: &ModelName) -> Result<Result<ReleaseRef, CommandError>, DriverError> {
        let Some(run) = self.runs.get(model).filter(|run| run.slot.live.is_some()) else {
            return Ok(Err(CommandError::NoModel(model.clone())));
        };
        let Some(target) = rollback_target(&run.slot).filter(|_| run.waiting.is_empty()) else {
            let busy = run.slot.previous.is_some();
            let error = if busy { CommandError::Busy(model.clone()) } else { CommandError::NoPrevious(model.clone()) };
            return Ok(Err(error));
        };
        let target = target.release.clone();
        Ok(match self.apply(model, Event::LocalRollback).await {
            Ok(()) => Ok(target),
            Err(error) => {
                let refused = CommandError::NotStored(Chain(&error).to_string());
                self.write_failed(error)?;
                Err(refused)
            }
        })
    }

    async fn set_hold(&mut self, hold: Option<Hold>) -> Result<Result<(), CommandError>, DriverError> {
        let stored = hold.clone();
        if let Err(error) = self.blocking(move |journal| journal.set_hold(stored.as_ref())).await {
            let refused = CommandError::NotStored(Chain(&error).to_string());
            self.write_failed(error)?;
            return Ok(Err(refused));
        }
        tracing::info!(held = hold.is_some(), "hold changed");
        self.hold = hold;
        self.settle_all().await?;
        Ok(Ok(()))
    }
}
