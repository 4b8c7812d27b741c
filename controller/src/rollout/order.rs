//! The order in which a rollout takes its devices: random, drawn once, stratified by hardware class, and signed.
//!
//! Everything follows from a seed of 32 bytes, so that anybody who has the signed statement can draw the order again.
//! Algorithm `sha256-rank/1`: the rank of a name is the first eight bytes, big-endian, of
//! sha256("fieldpost order 1\0" + seed + name). Within a stratum devices stand by rank; the j-th of m gets the place
//! `(j + u) / m`, where `u` in [0, 1) is the stratum's own rank; all places sorted are the order. So every stratum is
//! spread evenly over it, and within a stratum every permutation is equally likely.
//!
//! Algorithm `sha256-rank/2` is the same where waves are for groups of devices: a group then is part of its devices'
//! strata, and the drawn order is rearranged in stretches. A stretch without a selector takes the first that are left of
//! what was drawn, one with a selector takes devices wherever they stand; all keep the order in which they were drawn.
//!
//! Algorithms `sha256-rank/3` and `sha256-rank/4` are these two with one step between: the last device of each stratum of several
//! moves to the end of what was drawn. So whoever is held out to the end is of each stratum before there are two of one.
//! Rollouts are drawn so since; signed orders of the first two are still verified.

use super::plan::ResolvedWave;
use fieldpost_shared::id::{DeviceId, Digest, FleetId, ReleaseRef, RolloutId};
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::trust::{Kind, PublicKey, SecretKey, Signature, envelope};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Schema of the signed statement.
pub const SCHEMA: &str = "fieldpost.order/1";
/// How the order follows from the seed.
pub const ALGORITHM: &str = "sha256-rank/3";
/// How it follows where waves are for groups of devices.
pub const GROUPED: &str = "sha256-rank/4";
/// How both followed before one of each stratum came last.
const BEFORE: [&str; 2] = ["sha256-rank/1", "sha256-rank/2"];

/// A device and the hardware class it was drawn in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    /// Who.
    pub device: DeviceId,
    /// In which stratum, such as `aarch64 Cortex-A72`.
    pub stratum: String,
}

fn rank(seed: &Digest, kind: &str, name: &str) -> u64 {
    let mut text = b"fieldpost order 1\0".to_vec();
    text.extend_from_slice(seed.as_bytes());
    text.extend_from_slice(kind.as_bytes());
    text.push(0);
    text.extend_from_slice(name.as_bytes());
    let digest = Digest::of(&text);
    let (head, _) = digest.as_bytes().split_at(8);
    head.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// The order of these devices. It depends on the seed and on the set, not on the sequence in which they are given.
#[must_use]
pub fn draw(seed: &Digest, devices: impl IntoIterator<Item = Seat>) -> Vec<Seat> {
    let mut strata: BTreeMap<String, Vec<(u64, DeviceId)>> = BTreeMap::new();
    for Seat { device, stratum } in devices {
        strata.entry(stratum).or_default().push((rank(seed, "device", device.as_str()), device));
    }
    let mut placed = Vec::new();
    for (stratum, mut devices) in strata {
        devices.sort();
        devices.dedup();
        let offset = u128::from(rank(seed, "stratum", &stratum));
        let count = devices.len().max(1) as u128;
        for (index, (rank, device)) in devices.into_iter().enumerate() {
            // 0 <= index < 2^32 in any fleet, so the shifted sum is far below 2^128.
            let place = (((index as u128) << 64) + offset) / count;
            placed.push((place, rank, Seat { device, stratum: stratum.clone() }));
        }
    }
    placed.sort_by(|a, b| (a.0, a.1, &a.2.device).cmp(&(b.0, b.1, &b.2.device)));
    placed.into_iter().map(|(_, _, seat)| seat).collect()
}

/// What was drawn, with the last device of each stratum of several at the end; all others, and these, keep their order.
#[must_use]
pub fn last_of_each_last(drawn: Vec<Seat>) -> Vec<Seat> {
    let mut left: BTreeMap<String, usize> = BTreeMap::new();
    drawn.iter().for_each(|seat| *left.entry(seat.stratum.clone()).or_default() += 1);
    let several: BTreeSet<String> = left.iter().filter(|(_, count)| **count > 1).map(|(s, _)| s.clone()).collect();
    let mut is_last = |seat: &Seat| {
        let left = left.entry(seat.stratum.clone()).or_default();
        *left = left.saturating_sub(1);
        *left == 0 && several.contains(&seat.stratum)
    };
    let (last, mut first): (Vec<Seat>, Vec<Seat>) = drawn.into_iter().partition(|seat| is_last(seat));
    first.extend(last);
    first
}

/// Where a device that was not there when the order was drawn stands in it: before the first of its stratum with a
/// higher rank, else behind the last of its stratum; one of a new stratum stands where its rank alone puts it.
///
/// The answer is an index into `order`, or its length. Nobody who is in the order moves.
#[must_use]
pub fn late_place(seed: &Digest, order: &[Seat], seat: &Seat) -> usize {
    let own = rank(seed, "device", seat.device.as_str());
    let mut behind = None;
    for (index, other) in order.iter().enumerate().filter(|(_, other)| other.stratum == seat.stratum) {
        if rank(seed, "device", other.device.as_str()) > own {
            return index;
        }
        behind = Some(index + 1);
    }
    behind.unwrap_or_else(|| {
        let place = (u128::from(own) * (order.len() as u128 + 1)) >> 64;
        usize::try_from(place).unwrap_or(order.len()).min(order.len())
    })
}

/// What the controller signs before the first device changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// [`SCHEMA`]; comes first.
    pub schema: String,
    /// [`ALGORITHM`].
    pub algorithm: String,
    /// The fleet.
    pub fleet: FleetId,
    /// The rollout.
    pub rollout: RolloutId,
    /// What is rolled out.
    pub release: ReleaseRef,
    /// When the order was drawn.
    pub drawn: Timestamp,
    /// 32 random bytes, hexadecimal.
    pub seed: Digest,
    /// The order.
    pub order: Vec<Seat>,
    /// How it is made of what was drawn, where waves are for groups of devices; else empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stretches: Vec<Stretch>,
}

/// Some devices that follow each other in an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// How many.
    pub devices: usize,
    /// Which group they are; none is the next of those that were left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
}

impl Stretch {
    /// The stretches that waves come to; none where no wave is for a group.
    #[must_use]
    pub fn of(waves: &[ResolvedWave], devices: usize) -> Vec<Self> {
        if waves.iter().all(|wave| wave.selector.is_none()) {
            return Vec::new();
        }
        let mut reached = 0;
        let mut stretches = Vec::with_capacity(waves.len() + 1);
        for wave in waves {
            let selector = wave.selector.clone();
            stretches.push(Self { devices: wave.reaches.saturating_sub(reached), selector });
            reached = wave.reaches;
        }
        if reached < devices {
            stretches.push(Self { devices: devices - reached, selector: None });
        }
        stretches
    }
}

/// Whether an order is what was drawn, rearranged in these stretches and in no other way.
fn follows(drawn: Vec<Seat>, order: &[Seat], stretches: &[Stretch]) -> bool {
    let (mut left, mut rest) = (drawn, order);
    for stretch in stretches {
        let Some((these, others)) = rest.split_at_checked(stretch.devices) else { return false };
        rest = others;
        let mut wanted = these.iter().peekable();
        let mut kept = Vec::with_capacity(left.len());
        for seat in left {
            if wanted.next_if(|next| **next == seat).is_none() {
                // Only a group passes over those that do not belong to it.
                if stretch.selector.is_none() && wanted.peek().is_some() {
                    return false;
                }
                kept.push(seat);
            }
        }
        if wanted.next().is_some() {
            return false;
        }
        left = kept;
    }
    rest.is_empty() && left.is_empty()
}

/// A statement and the controller's signature over its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedOrder {
    /// The statement's JSON, byte by byte as it was signed.
    pub statement: String,
    /// The controller's signature over it ([`Kind::Order`]).
    pub signature: Signature,
}

/// A signed order that does not hold.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// No JSON of this schema.
    #[error("cannot read the order's statement")]
    Json(#[source] serde_json::Error),
    /// Another schema or algorithm.
    #[error(
        "the order is of schema `{schema}`, algorithm `{algorithm}`; this program knows `{SCHEMA}`, up to `{GROUPED}`"
    )]
    Form {
        /// The schema found.
        schema: String,
        /// The algorithm found.
        algorithm: String,
    },
    /// Not signed by this key.
    #[error("the order is not signed by the controller's key")]
    Signature,
    /// Somebody chose the order.
    #[error("the order does not follow from its seed")]
    Drawn,
}

impl Statement {
    /// Signs the statement.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn sign(&self, key: &SecretKey) -> Result<SignedOrder, OrderError> {
        let statement = serde_json::to_string(self).map_err(OrderError::Json)?;
        let signature = envelope::sign(Kind::Order, statement.as_bytes(), key);
        Ok(SignedOrder { statement, signature })
    }
}

impl SignedOrder {
    /// Checks the signature, and draws the order again from its seed.
    ///
    /// # Errors
    /// When either does not hold.
    pub fn verify(&self, key: &PublicKey) -> Result<Statement, OrderError> {
        if !envelope::verifies(Kind::Order, self.statement.as_bytes(), &self.signature, key) {
            return Err(OrderError::Signature);
        }
        let statement: Statement = serde_json::from_str(&self.statement).map_err(OrderError::Json)?;
        let grouped = !statement.stretches.is_empty();
        let [now, before] = if grouped { [GROUPED, BEFORE[1]] } else { [ALGORITHM, BEFORE[0]] };
        if statement.schema != SCHEMA || (statement.algorithm != now && statement.algorithm != before) {
            return Err(OrderError::Form { schema: statement.schema, algorithm: statement.algorithm });
        }
        let drawn = draw(&statement.seed, statement.order.iter().cloned());
        let drawn = if statement.algorithm == now { last_of_each_last(drawn) } else { drawn };
        let holds =
            if grouped { follows(drawn, &statement.order, &statement.stretches) } else { drawn == statement.order };
        if !holds {
            return Err(OrderError::Drawn);
        }
        Ok(statement)
    }
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
