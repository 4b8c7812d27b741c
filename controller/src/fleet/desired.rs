//! What each device should run: signed, with a sequence that only counts up and an expiry, stored before it is told.

use crate::rollout::fleet::AssignTo;
use crate::store::{Store, StoreError, Table, Write};
use crate::trust_dir::Trust;
use fieldpost_shared::bundle::chunk::MAX_PAYLOAD_BYTES;
use fieldpost_shared::id::{DeviceId, Digest, ModelName};
use fieldpost_shared::time::{Clock, Timestamp};
use fieldpost_shared::trust::{Envelope, EnvelopeError, Signature};
use fieldpost_shared::wire::v1::{self, Assignment, Body as _, MAX_ASSIGNMENTS};
use fieldpost_shared::wire::v2::{Beside, Desired};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

/// Why a desired state cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum DesiredError {
    /// More models than a device takes.
    #[error("device `{0}` would run more than {MAX_ASSIGNMENTS} models")]
    TooMany(DeviceId),
    /// By this machine's clock nobody would believe it, and it would carry the boxes' time there.
    #[error(
        "the root metadata expired at {expires}, and this machine's clock says {now}: set the clock right, or renew it with \
         `fieldpost trust renew`"
    )]
    RootExpired {
        /// When the root expired.
        expires: Timestamp,
        /// The time.
        now: Timestamp,
    },
    /// It would not fit a message.
    #[error("the desired state of `{device}` has {found} bytes, at most {MAX_PAYLOAD_BYTES} fit one message")]
    TooLarge {
        /// Whose.
        device: DeviceId,
        /// Its size.
        found: usize,
    },
    /// It cannot be encoded.
    #[error("cannot encode the desired state of `{device}`")]
    Encode {
        /// Whose.
        device: DeviceId,
        /// The reason.
        #[source]
        source: postcard::Error,
    },
    /// A stored one that is none.
    #[error("the stored desired state of `{device}` is damaged")]
    Envelope {
        /// Whose.
        device: String,
        /// The reason.
        #[source]
        source: EnvelopeError,
    },
    /// A stored one that cannot be decoded.
    #[error("the stored desired state of `{device}` is damaged")]
    Decode {
        /// Whose.
        device: String,
        /// The reason.
        #[source]
        source: postcard::Error,
    },
    /// The store would not.
    #[error("cannot keep the desired state")]
    Store(#[from] StoreError),
}

/// A desired state and the bytes that say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// What was said.
    pub desired: Desired,
    /// The signed envelope, as it is published.
    pub sealed: Vec<u8>,
}

impl Signed {
    /// Whether the device may have been told this. What was changed before the device was heard has the number that was
    /// told last, and a later time: see [`Number::Kept`].
    #[must_use]
    pub fn told(&self) -> bool {
        self.desired.sequence >= self.desired.issued.as_millis()
    }
}

/// Which number a desired state gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    /// The next one, and above this.
    Above(u64),
    /// The one that was told last. The state is not published so; when the device has been heard it is signed anew.
    /// Until then the number says how far this store knows, whatever was decided meanwhile.
    Kept,
}

/// Puts rows on disk.
type Commit<'a> = &'a dyn Fn(Vec<Write>) -> Result<(), StoreError>;

/// Which releases began or ceased to be wanted by any device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Whether anything was signed.
    pub signed: bool,
    /// Manifests that no device wanted before.
    pub began: Vec<Digest>,
    /// Manifests that no device wants any more.
    pub ceased: Vec<Digest>,
}

/// The desired states of all devices.
#[derive(Debug)]
pub struct DesiredStates {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    trust: Arc<Trust>,
    lifetime: Duration,
    /// One signature at a time, so that a sequence is never used twice. Guards the number of devices per manifest.
    wanted: Mutex<HashMap<Digest, usize>>,
    states: RwLock<BTreeMap<DeviceId, Arc<Signed>>>,
}

impl DesiredStates {
    /// Opens the desired states of a store.
    ///
    /// # Errors
    /// When the store cannot be read, or holds what it should not.
    pub fn open(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        trust: Arc<Trust>,
        lifetime: Duration,
    ) -> Result<Self, DesiredError> {
        let mut states = BTreeMap::new();
        let mut wanted = HashMap::new();
        for (key, sealed) in store.scan(Table::Desired, b"")? {
            let device = String::from_utf8_lossy(&key).into_owned();
            let envelope = Envelope::from_bytes(&sealed)
                .map_err(|source| DesiredError::Envelope { device: device.clone(), source })?;
            let desired = read(&envelope.body).map_err(|source| DesiredError::Decode { device, source })?;
            count(&mut wanted, &[], &desired.assignments);
            states.insert(desired.device.clone(), Arc::new(Signed { desired, sealed }));
        }
        Ok(Self { store, clock, trust, lifetime, wanted: Mutex::new(wanted), states: RwLock::new(states) })
    }

    fn signing(&self) -> MutexGuard<'_, HashMap<Digest, usize>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was last signed for a device.
    #[must_use]
    pub fn find(&self, device: &DeviceId) -> Option<Arc<Signed>> {
        self.states.read().unwrap_or_else(PoisonError::into_inner).get(device).cloned()
    }

    /// All of them.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Signed>> {
        self.states.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The manifests that some device should run, and how many devices.
    #[must_use]
    pub fn wanted(&self) -> HashMap<Digest, usize> {
        self.signing().clone()
    }

    /// Says what a device should run of a model; the same again changes nothing.
    ///
    /// # Errors
    /// When it cannot be said in one message, or not be stored.
    pub fn assign(
        &self,
        device: &DeviceId,
        model: &ModelName,
        to: Option<(&AssignTo, &[Signature])>,
        number: Number,
    ) -> Result<Change, DesiredError> {
        let mut wanted = self.signing();
        let known = self.find(device);
        let before = known.as_ref().map(|known| known.desired.assignments.as_slice()).unwrap_or_default();
        let mut after: Vec<_> = before.iter().filter(|other| other.release.model != *model).cloned().collect();
        after.extend(to.map(|(to, signatures)| Assignment {
            release: to.release.clone(),
            signatures: signatures.to_vec(),
            rollout: to.rollout.clone(),
            attempt: to.attempt,
            probation_s: to.probation_s,
        }));
        after.sort_by(|a, b| a.release.model.cmp(&b.release.model));
        let stood = known.as_ref().map(|known| known.desired.beside.as_slice()).unwrap_or_default();
        let mut beside: Vec<Beside> = stood.iter().filter(|other| other.model != *model).cloned().collect();
        beside.extend(to.and_then(|(to, _)| Some(Beside { model: model.clone(), mode: to.beside.clone()? })));
        beside.sort_by(|a, b| a.model.cmp(&b.model));
        if after == before && beside == stood {
            return Ok(Change::default());
        }
        let commit = |writes| self.store.commit(writes);
        self.sign(&mut wanted, device, known.as_deref(), (after, beside), number, &commit)
    }

    /// Signs the same anew, with a sequence above `above` and a new expiry.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub fn renew(&self, device: &DeviceId, above: u64) -> Result<Change, DesiredError> {
        let mut wanted = self.signing();
        let Some(known) = self.find(device) else { return Ok(Change::default()) };
        let same = (known.desired.assignments.clone(), known.desired.beside.clone());
        let commit = |writes| self.store.commit(writes);
        self.sign(&mut wanted, device, Some(&known), same, Number::Above(above), &commit)
    }

    /// Says the whole of what a device should run, with a sequence above `above`: these, or what was said before. The
    /// row goes to `commit`.
    ///
    /// # Errors
    /// When it cannot be said in one message, or not be stored.
    pub fn replace(
        &self,
        device: &DeviceId,
        with: Option<Vec<Assignment>>,
        above: u64,
        commit: Commit<'_>,
    ) -> Result<Change, DesiredError> {
        let mut wanted = self.signing();
        let known = self.find(device);
        let before = known.as_ref().map(|known| (known.desired.assignments.clone(), known.desired.beside.clone()));
        let all = with.map_or_else(|| before.unwrap_or_default(), |with| (with, Vec::new()));
        self.sign(&mut wanted, device, known.as_deref(), all, Number::Above(above), commit)
    }

    fn sign(
        &self,
        wanted: &mut HashMap<Digest, usize>,
        device: &DeviceId,
        known: Option<&Signed>,
        (assignments, beside): (Vec<Assignment>, Vec<Beside>),
        number: Number,
        commit: Commit<'_>,
    ) -> Result<Change, DesiredError> {
        let root = self.trust.root();
        let before = known.map(|known| &known.desired);
        // Neither the sequence nor the time of signing ever goes back, whatever the clock does.
        let mut issued = self.clock.now().max(before.map_or(Timestamp::EPOCH, |before| before.issued));
        let last = before.map_or(0, |before| before.sequence);
        let sequence = match number {
            Number::Above(above) => next_sequence(last.max(above), issued),
            Number::Kept => {
                issued = issued.max(Timestamp::from_millis(last.saturating_add(1)));
                last
            }
        };
        if issued > root.expires {
            return Err(DesiredError::RootExpired { expires: root.expires, now: issued });
        }
        let state = v1::Desired {
            fleet: root.fleet.clone(),
            device: device.clone(),
            sequence,
            issued,
            expires: issued.plus(self.lifetime),
            root_version: root.version,
            assignments,
        };
        let desired = Desired { state, beside };
        if !desired.bounded() {
            return Err(DesiredError::TooMany(device.clone()));
        }
        // What an older agent understands is said so that it does.
        let sealed = match desired.beside.is_empty() {
            true => self.trust.seal(&desired.state),
            false => self.trust.seal(&desired),
        };
        let sealed = sealed.map_err(|source| DesiredError::Encode { device: device.clone(), source })?;
        if sealed.len() > MAX_PAYLOAD_BYTES {
            return Err(DesiredError::TooLarge { device: device.clone(), found: sealed.len() });
        }
        commit(vec![Write::put(Table::Desired, device.as_str(), sealed.clone())])?;
        let old = before.map(|before| before.assignments.as_slice()).unwrap_or_default();
        let (began, ceased) = count(wanted, old, &desired.assignments);
        let mut states = self.states.write().unwrap_or_else(PoisonError::into_inner);
        states.insert(device.clone(), Arc::new(Signed { desired, sealed }));
        Ok(Change { signed: true, began, ceased })
    }

    /// Forgets what a device should run; the caller has deleted the row.
    pub fn forget(&self, device: &DeviceId) -> Change {
        let mut wanted = self.signing();
        let known = self.states.write().unwrap_or_else(PoisonError::into_inner).remove(device);
        let Some(known) = known else { return Change::default() };
        let (began, ceased) = count(&mut wanted, &known.desired.assignments, &[]);
        Change { signed: false, began, ceased }
    }

    /// The row to delete with a device.
    #[must_use]
    pub fn deletion(device: &DeviceId) -> Write {
        Write::delete(Table::Desired, device.as_str())
    }

    /// Devices whose desired state is past half its time, or names an older root than the newest.
    #[must_use]
    pub fn due(&self) -> Vec<DeviceId> {
        let (now, version) = (self.clock.now(), self.trust.root().version);
        let due = |signed: &Arc<Signed>| is_due(&signed.desired, now, version);
        self.list().into_iter().filter(due).map(|signed| signed.desired.device.clone()).collect()
    }
}

/// Reads a body of either version: the second is the first with more behind it.
fn read(body: &[u8]) -> Result<Desired, postcard::Error> {
    match postcard::take_from_bytes::<v1::Desired>(body)? {
        (state, []) => Ok(state.into()),
        _ => postcard::from_bytes(body),
    }
}

/// Above all that is known, and not below the clock: a store that was restored from a backup does not give a number
/// again that was given after the backup, and a box that takes over a name is told more than its predecessor was.
fn next_sequence(known: u64, issued: Timestamp) -> u64 {
    known.saturating_add(1).max(issued.as_millis())
}

/// Whether a desired state should be signed anew.
fn is_due(desired: &Desired, now: Timestamp, root_version: u64) -> bool {
    let half = desired.expires.since(desired.issued) / 2;
    now >= desired.issued.plus(half) || desired.root_version < root_version
}

/// Moves a device from one set of manifests to another; says which manifests came to be wanted, and which no more are.
fn count(wanted: &mut HashMap<Digest, usize>, from: &[Assignment], to: &[Assignment]) -> (Vec<Digest>, Vec<Digest>) {
    let mut began = Vec::new();
    for assignment in to {
        let devices = wanted.entry(assignment.release.manifest).or_insert(0);
        if *devices == 0 {
            began.push(assignment.release.manifest);
        }
        *devices = devices.saturating_add(1);
    }
    let mut ceased = Vec::new();
    for assignment in from {
        let manifest = assignment.release.manifest;
        if let Some(devices) = wanted.get_mut(&manifest) {
            *devices = devices.saturating_sub(1);
            if *devices == 0 {
                wanted.remove(&manifest);
                ceased.push(manifest);
            }
        }
    }
    (began, ceased)
}

#[cfg(test)]
#[path = "desired_tests.rs"]
mod tests;
