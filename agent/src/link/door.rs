//! What is heard on the line: believed or refused, once, with a reason that is counted.

use crate::clock::TrustedClock;
use crate::deploy::{DriverHandle, Refusal};
use crate::fetch::BlobExchange;
use crate::identity::Identity;
use crate::link::rivals::{ADVICE, Finding, Rivals};
use crate::store::{Acknowledged, Store};
use bytes::Bytes;
use fieldpost_shared::error_chain::Chain;
use fieldpost_shared::time::{Clock, Timestamp};
use fieldpost_shared::trust::{RootMetadata, SignedRoot};
use fieldpost_shared::wire::v1::{self, Ack};
use fieldpost_shared::wire::v2::Desired;
use fieldpost_shared::wire::{OpenError, Topic, Topics, open_controller};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// What a message led to, as far as the session must act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Statistics were acknowledged, or got other numbers: more may be sent.
    Acknowledged,
    /// The controller takes nothing of this session, whose epoch is over there: connect anew, in a later one.
    Overtaken,
    /// The root of trust moved on: listen for the version after it.
    NewRoot,
    /// The disk did not take it: connect anew after a while, and be told again.
    NotKept,
    /// Nothing that the session must act on.
    Other,
}

/// Judges messages. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Door {
    identity: Identity,
    root: Arc<RwLock<Arc<RootMetadata>>>,
    store: Arc<Store>,
    driver: DriverHandle,
    clock: Arc<TrustedClock>,
    refused: Arc<Mutex<BTreeMap<String, u64>>>,
    /// A desired state that a newer root, or a clock put right, may make acceptable; and its sequence.
    deferred: Arc<Mutex<Option<(u64, Bytes)>>>,
    login_offset_ms: Arc<AtomicI64>,
    rivals: Arc<Rivals>,
    http: reqwest::Client,
}

impl Door {
    /// A door that believes `root`.
    #[must_use]
    pub fn new(
        identity: Identity,
        root: Arc<RwLock<Arc<RootMetadata>>>,
        store: Arc<Store>,
        driver: DriverHandle,
        clock: Arc<TrustedClock>,
        http: reqwest::Client,
    ) -> Self {
        let (refused, deferred, login_offset_ms, rivals) = Default::default();
        Self { identity, root, store, driver, clock, refused, deferred, login_offset_ms, rivals, http }
    }

    /// Whose door this is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether another agent runs with this identity.
    #[must_use]
    pub fn rivals(&self) -> &Arc<Rivals> {
        &self.rivals
    }

    /// The root of trust now.
    #[must_use]
    pub fn root(&self) -> Arc<RootMetadata> {
        Arc::clone(&self.root.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The topic on which the next root version would stand.
    #[must_use]
    pub fn next_root(&self) -> Topic {
        Topic::Trust(self.root().version.saturating_add(1))
    }

    /// The time to judge by.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The time to put into a login. Unsigned hints from the controller's HTTP count here, and only here.
    #[must_use]
    pub fn login_time(&self) -> Timestamp {
        let offset = self.login_offset_ms.load(Ordering::Relaxed);
        Timestamp::from_millis(self.now().as_millis().saturating_add_signed(offset))
    }

    /// A refused login may only mean that this box's clock is wrong, behind or ahead: asks the controller what time it is.
    pub async fn login_refused(&self) {
        let url = format!("{}/v1/time", self.identity.controller);
        let answer = async { self.http.get(&url).send().await?.json::<serde_json::Value>().await }.await;
        let time = answer.ok().and_then(|answer| serde_json::from_value::<Timestamp>(answer.get("now")?.clone()).ok());
        if let Some(time) = time {
            let offset = time.as_millis().checked_signed_diff(self.now().as_millis()).unwrap_or(0);
            self.login_offset_ms.store(offset, Ordering::Relaxed);
        }
    }

    /// Messages refused since the start, by reason.
    #[must_use]
    pub fn refused(&self) -> Vec<(String, u64)> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.iter().map(|(reason, count)| (reason.clone(), *count)).collect()
    }

    /// Judges one message and acts on it. One task calls this, one message after the other.
    pub async fn hear(&self, topics: &Topics, name: &str, payload: Bytes, blobs: &BlobExchange) -> Heard {
        if payload.is_empty() {
            // A cleared retained message says nothing.
            return Heard::Other;
        }
        match topics.parse(name) {
            Ok(Topic::Blob(digest)) => {
                blobs.deliver(digest, &payload);
                Heard::Other
            }
            Ok(Topic::Desired(device)) if device == self.identity.device => self.desired(&payload, false).await,
            Ok(Topic::Ack(device)) if device == self.identity.device => self.ack(&payload).await,
            Ok(Topic::Trust(_)) => match self.trust(&payload).await {
                Heard::NewRoot => self.root_moved().await,
                other => other,
            },
            _ => self.refuse("topic", &"a message on a topic that this device never asked for"),
        }
    }

    /// Presents the desired state again that was refused for a reason that time may mend: no broker sends it again on this
    /// connection. A refusal was counted when it came.
    pub async fn present_again(&self) -> Heard {
        let deferred = self.deferred().take();
        match deferred {
            Some((_, payload)) => self.desired(&payload, true).await,
            None => Heard::Other,
        }
    }

    fn deferred(&self) -> MutexGuard<'_, Option<(u64, Bytes)>> {
        self.deferred.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn desired(&self, payload: &[u8], again: bool) -> Heard {
        let (root, device) = (self.root(), &self.identity.device);
        let desired = match open_controller::<v1::Desired>(payload, &root, device) {
            // A signature of one kind is none of another: it may be the newer kind.
            Err(OpenError::Signature(_)) => open_controller::<Desired>(payload, &root, device),
            other => other.map(Desired::from),
        };
        let desired = match desired {
            Ok(desired) => desired,
            Err(error) => return self.refuse_open(&error),
        };
        let (sequence, issued) = (desired.sequence, desired.issued);
        match self.driver.desired(desired).await {
            Ok(()) => {
                self.deferred().take_if(|(deferred, _)| *deferred <= sequence);
                self.signed_time(issued).await;
                Heard::Other
            }
            // Every connection brings it again.
            Err(Refusal::Known(_)) => Heard::Other,
            Err(error @ Refusal::NotStored(_)) => {
                tracing::error!(error = %Chain(&error), "cannot keep the desired state");
                Heard::NotKept
            }
            Err(error) => {
                if error.again() {
                    // An older one that somebody plays back must not take the place of the newest.
                    let mut deferred = self.deferred();
                    if deferred.as_ref().is_none_or(|(held, _)| *held <= sequence) {
                        *deferred = Some((sequence, Bytes::copy_from_slice(payload)));
                    }
                }
                if again { Heard::Other } else { self.refuse(error.reason(), &Chain(&error)) }
            }
        }
    }

    /// A new root may be what a desired state was waiting for.
    async fn root_moved(&self) -> Heard {
        if let Err(error) = self.driver.root_changed().await {
            tracing::warn!(error = %Chain(&error), "the deployments did not hear of the new root");
        }
        match self.present_again().await {
            Heard::NotKept => Heard::NotKept,
            _ => Heard::NewRoot,
        }
    }

    async fn ack(&self, payload: &[u8]) -> Heard {
        let ack: Ack = match open_controller(payload, &self.root(), &self.identity.device) {
            Ok(ack) => ack,
            Err(error) => return self.refuse_open(&error),
        };
        self.signed_time(ack.issued).await;
        let (stored, now) = (ack.stored, self.now());
        let told = match self.store.background(move |store| store.acknowledge(stored, now)).await {
            Ok(told) => told,
            Err(error) => {
                tracing::error!(error = %Chain(&error), "cannot apply an acknowledgement");
                return Heard::Other;
            }
        };
        if told.foreign {
            self.rival(stored.epoch);
        }
        if told.renumbered > 0 {
            tracing::warn!(
                windows = told.renumbered,
                "statistics that the controller no longer takes get other numbers"
            );
        }
        match told {
            Acknowledged { overtaken: true, .. } => Heard::Overtaken,
            // One that covers nothing new, perhaps played back by somebody, must not make this box send anything.
            Acknowledged { gone: 0, renumbered: 0, .. } => Heard::Other,
            _ => Heard::Acknowledged,
        }
    }

    /// The controller heard this identity in an epoch that this state does not know.
    fn rival(&self, epoch: u64) {
        match self.rivals.note(epoch, self.clock.monotonic()) {
            Finding::Known => {}
            Finding::PutBack => tracing::warn!(
                epoch,
                "the controller has heard this box later than its state knows: an older copy of the state was put back, \
                 or another agent runs with it; a later epoch begins"
            ),
            Finding::Rival => tracing::error!(epoch, "{ADVICE}"),
        }
    }

    async fn trust(&self, payload: &[u8]) -> Heard {
        let offered = match SignedRoot::parse(payload) {
            Ok(offered) => offered,
            Err(error) => return self.refuse("root", &Chain(&error)),
        };
        let root = self.root();
        if offered.metadata.version <= root.version {
            return Heard::Other;
        }
        if let Err(error) = offered.verify_after(&root) {
            return self.refuse("root", &Chain(&error));
        }
        // A thief of the old controller key may have signed far into the future: its sequence and time go with it.
        let controller_changed = offered.metadata.controller != root.controller;
        // On disk before it is believed: a version never goes back.
        let (version, bytes) = (offered.metadata.version, payload.to_vec());
        let kept = self.store.background(move |store| store.add_root(version, &bytes, controller_changed)).await;
        if let Err(error) = kept {
            tracing::error!(error = %Chain(&error), "cannot keep a new root");
            return Heard::NotKept;
        }
        tracing::info!(version, "root of trust moved on");
        if controller_changed {
            self.clock.forget_signed();
        }
        *self.root.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(offered.metadata);
        Heard::NewRoot
    }

    async fn signed_time(&self, time: Timestamp) {
        self.clock.witness(time);
        if let Err(error) = self.store.background(move |store| store.witness(time)).await {
            tracing::error!(error = %Chain(&error), "cannot keep the latest signed time");
        }
    }

    fn refuse_open(&self, error: &OpenError) -> Heard {
        self.refuse(error.reason(), &Chain(error))
    }

    fn refuse(&self, reason: &str, detail: &dyn std::fmt::Display) -> Heard {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let count = refused.entry(reason.to_owned()).or_default();
        *count = count.saturating_add(1);
        // Counted always, logged at powers of two: a flood of forgeries must not fill the disk with log lines.
        if count.is_power_of_two() {
            tracing::warn!(reason, count, detail = %detail, "message refused");
        }
        Heard::Other
    }
}

#[cfg(test)]
#[path = "door_tests.rs"]
mod tests;
