//! What a batch of messages would change. Messages of one batch see what those before them would change.

use super::{Inbound, Ingest};
use crate::fleet::accept::{self, Refusal};
use crate::fleet::heard::{Heard, ack_row, alive_row, lost_row, report_row};
use crate::fleet::windows;
use crate::link::outbox::Item;
use crate::rollout::gates::fits;
use crate::store::Write;
use fieldpost_shared::id::DeviceId;
use fieldpost_shared::stats::WindowStats;
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::wire::v1::{Ack, Alive, Body, Report, Sequence, Stats, Window};
use fieldpost_shared::wire::{OpenError, Topic, open_device};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Windows of a device between two looks at whether there are too many.
const PRUNE_EVERY: u64 = 64;

/// What to write, and what to do when it is written.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) writes: Vec<Write>,
    pub(super) heard: HashMap<DeviceId, Heard>,
    pub(super) received: HashMap<&'static str, u64>,
    pub(super) windows: u64,
    /// Windows taken for lost.
    pub(super) lost: u64,
    /// Births of sessions after newer ones.
    pub(super) old_births: u64,
    pub(super) tell: Vec<Item>,
    /// Devices that reported.
    pub(super) reported: BTreeSet<DeviceId>,
    /// Devices whose windows should be looked at.
    pub(super) full: Vec<DeviceId>,
}

/// A message that changes nothing.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) kind: &'static str,
    pub(super) reason: &'static str,
    pub(super) device: String,
}

/// Why, in a word.
struct Reason(&'static str);

impl From<OpenError> for Reason {
    fn from(error: OpenError) -> Self {
        Self(error.reason())
    }
}

impl From<Refusal> for Reason {
    fn from(refusal: Refusal) -> Self {
        Self(refusal.reason())
    }
}

impl Batch {
    pub(super) fn weigh(&mut self, ingest: &Ingest, message: &Inbound) -> Result<(), Refused> {
        if message.payload.is_empty() {
            // A cleared retained message says nothing.
            return Ok(());
        }
        let topic = ingest.topics.parse(&message.topic);
        let (kind, device) = match topic {
            Ok(Topic::Report(device)) => ("report", device),
            Ok(Topic::Stats(device)) => ("stats", device),
            Ok(Topic::Alive(device)) => ("alive", device),
            Ok(_) | Err(_) => return Err(Refused { kind: "unknown", reason: "topic", device: String::new() }),
        };
        let weighed = match kind {
            "report" => self.report(ingest, &device, message),
            "stats" => self.stats(ingest, &device, message),
            _ => self.alive(ingest, &device, message),
        };
        weighed.map_err(|Reason(reason)| Refused { kind, reason, device: device.to_string() })
    }

    fn open<B: Body>(ingest: &Ingest, device: &DeviceId, message: &Inbound) -> Result<B, Reason> {
        let key = ingest.fleet.devices().active_key(device).ok_or(Reason("unknown-device"))?;
        let fleet = &ingest.fleet.trust().root().fleet;
        Ok(open_device(&message.payload, fleet, device, &key)?)
    }

    /// What is known of a device, with what this batch would change.
    fn heard(&self, ingest: &Ingest, device: &DeviceId) -> Heard {
        match self.heard.get(device) {
            Some(heard) => heard.clone(),
            None => ingest.fleet.heard().find(device).as_ref().clone(),
        }
    }

    fn believed(&mut self, kind: &'static str, device: &DeviceId, heard: Heard) {
        let count = self.received.entry(kind).or_default();
        *count = count.saturating_add(1);
        self.heard.insert(device.clone(), heard);
    }

    fn report(&mut self, ingest: &Ingest, device: &DeviceId, message: &Inbound) -> Result<(), Reason> {
        let report: Report = Self::open(ingest, device, message)?;
        let mut heard = self.heard(ingest, device);
        let known = heard.report.as_ref().map(|known| known.sequence);
        if message.retained && known == Some(report.sequence) {
            // The broker says again what it kept: not news, and no offence. It has said nothing since.
            self.has_reported(device, heard);
            return Ok(());
        }
        if let Err(refusal) = accept::report(known, report.sequence) {
            if !message.retained {
                if self.raise(ingest, device, &mut heard, report.sequence) {
                    self.heard.insert(device.clone(), heard.clone());
                }
                // A box that was restored from an older copy of itself has to be told where it should be.
                self.has_reported(device, heard);
            }
            return Err(refusal.into());
        }
        let now = ingest.clock.now();
        self.writes.push(report_row(device, now, &message.payload));
        heard.seen(now);
        heard.report = Some(Arc::new(report));
        heard.reported = true;
        self.reported.insert(device.clone());
        self.believed("report", device, heard);
        Ok(())
    }

    /// Notes that a device is there, where its report says nothing new.
    fn has_reported(&mut self, device: &DeviceId, mut heard: Heard) {
        if !heard.reported {
            heard.reported = true;
            self.heard.insert(device.clone(), heard);
            self.reported.insert(device.clone());
        }
    }

    fn alive(&mut self, ingest: &Ingest, device: &DeviceId, message: &Inbound) -> Result<(), Reason> {
        let alive: Alive = Self::open(ingest, device, message)?;
        let mut heard = self.heard(ingest, device);
        let session = match accept::alive(heard.session, &alive) {
            Ok(session) => session,
            Err(refusal) => {
                // What the broker kept is old news, and so is a will.
                let newer = heard.session.is_some_and(|known| known.number > alive.session);
                if alive.alive && newer && !message.retained {
                    self.old_births = self.old_births.saturating_add(1);
                    if heard.rivals.note(alive.session, ingest.clock.now()) {
                        tracing::warn!(
                            %device,
                            "two agents run under this device's name, or somebody plays back what it said: stop one of \
                             them and enrol it anew"
                        );
                    }
                    self.raise(ingest, device, &mut heard, alive.session);
                    self.heard.insert(device.clone(), heard);
                }
                return Err(refusal.into());
            }
        };
        let news = heard.session != Some(session);
        if !news && heard.confirmed {
            return Ok(());
        }
        if news {
            let now = ingest.clock.now();
            self.writes.push(alive_row(device, now, &message.payload));
            if !session.dead {
                heard.seen(now);
            }
        }
        heard.session = Some(session);
        heard.confirmed = true;
        self.believed("alive", device, heard);
        Ok(())
    }

    /// A device says things of an epoch that is over: an older copy of its state was put back. It is told the highest
    /// epoch that was heard, once, and goes on above it. To the box itself that is nothing new, should somebody play back
    /// its old messages. Says whether something changed.
    fn raise(&mut self, ingest: &Ingest, device: &DeviceId, heard: &mut Heard, said: Sequence) -> bool {
        let epoch = heard.epoch();
        if said.epoch >= epoch || heard.raised.as_ref().is_some_and(|(raised, _)| *raised >= epoch) {
            return false;
        }
        let stored = Sequence { epoch, number: 0 };
        let Some(sealed) = acknowledge(ingest, device, stored, ingest.clock.now()) else { return false };
        heard.raised = Some((epoch, Arc::new(sealed)));
        self.tell.push(Item::Ack(device.clone()));
        true
    }

    fn stats(&mut self, ingest: &Ingest, device: &DeviceId, message: &Inbound) -> Result<(), Reason> {
        let stats: Stats = Self::open(ingest, device, message)?;
        let mut heard = self.heard(ingest, device);
        let accepted = match accept::stats(heard.stored, &mut heard.gap, stats.epoch, &stats.windows) {
            Ok(accepted) => accepted,
            Err(refusal) => {
                if refusal == Refusal::Gap {
                    // Remembered, so that a gap that stays can be told from one that a retry fills.
                    self.heard.insert(device.clone(), heard);
                } else if refusal == Refusal::Replayed && heard.ack.is_some() {
                    // The device has not seen the acknowledgement: it is told again.
                    if heard.raised.take().is_some() {
                        self.heard.insert(device.clone(), heard);
                    }
                    self.tell.push(Item::Ack(device.clone()));
                }
                return Err(refusal.into());
            }
        };
        if accepted.lost > 0 {
            tracing::warn!(%device, lost = accepted.lost, "windows of statistics that this store never saw are lost");
            heard.lost = heard.lost.saturating_add(accepted.lost);
            self.lost = self.lost.saturating_add(accepted.lost);
            self.writes.push(lost_row(device, heard.lost));
        }
        let now = ingest.clock.now();
        let before = heard.stored;
        for window in &accepted.windows {
            match sound(ingest, window) {
                Ok(()) => {
                    let (manifest, content) = (&window.release.manifest, &window.content);
                    self.writes.push(windows::row(device, manifest, now, stats.epoch, window.first, content));
                    self.windows = self.windows.saturating_add(1);
                }
                // Acknowledged all the same: a window that nobody can read must not hold up those behind it.
                Err(reason) => ingest.metrics.refuse("window", reason),
            }
        }
        let sealed = acknowledge(ingest, device, accepted.stored, now).ok_or(Reason("ack"))?;
        self.writes.push(ack_row(device, now, &sealed));
        self.tell.push(Item::Ack(device.clone()));
        heard.seen(now);
        heard.stored = accepted.stored;
        heard.ack = Some(Arc::new(sealed));
        heard.raised = None;
        if before.epoch != heard.stored.epoch || before.number / PRUNE_EVERY != heard.stored.number / PRUNE_EVERY {
            self.full.push(device.clone());
        }
        self.believed("stats", device, heard);
        Ok(())
    }
}

/// Whether a window is worth keeping: readable, of the release that it says, and that release is one that was pushed
/// here and whose baseline it was counted over. A digest is the device's word: without this, one device could fill the
/// disk with windows of releases that it makes up.
fn sound(ingest: &Ingest, window: &Window) -> Result<(), &'static str> {
    let content = WindowStats::decode(&window.content).map_err(|_malformed| "content")?;
    let release = &window.release;
    if content.model != release.model.as_str() || content.version != release.version.to_string() {
        return Err("release");
    }
    let releases = ingest.fleet.releases();
    let known = releases.find(&release.model, &release.version);
    known.filter(|known| known.release == *release).ok_or("unknown-release")?;
    match releases.manifest(release.manifest) {
        Ok(manifest) if !fits(&manifest, &content) => Err("baseline"),
        // A manifest that the disk lost says nothing against the window.
        Ok(_) | Err(_) => Ok(()),
    }
}

fn acknowledge(ingest: &Ingest, device: &DeviceId, stored: Sequence, now: Timestamp) -> Option<Vec<u8>> {
    let trust = ingest.fleet.trust();
    let ack = Ack { fleet: trust.root().fleet.clone(), device: device.clone(), stored, issued: now };
    // Numbers and names always have a form; a device without an acknowledgement would send again for ever.
    trust.seal(&ack).inspect_err(|error| tracing::error!(%device, %error, "an acknowledgement cannot be made")).ok()
}
