//! Makes room: pairs of unsent windows of one release become one, evenly, the oldest of the finest first.

use super::MAX_WINDOW_BYTES;
use super::change::{Change, State, Unsent, level_prefix, order_of, read_unsent, size, unsent_key};
use crate::store::database::Trees;
use crate::store::error::Cause;
use fieldpost_shared::id::Digest;
use fieldpost_shared::stats::WindowStats;
use std::collections::HashMap;

/// A window of this level would hold 2^63 windows.
const MAX_LEVEL: u8 = 63;
/// Merges that one write makes durable, so that a large outbox does not become one large write.
const MERGES_PER_WRITE: usize = 64;

/// Merges until at most `target` bytes are left, or nothing fits together any more.
pub(super) fn coarsen(trees: &Trees, mut state: State, target: u64) -> Result<State, Cause> {
    for level in 0..MAX_LEVEL {
        if state.bytes <= target {
            break;
        }
        state = coarsen_level(trees, state, level, target)?;
    }
    Ok(state)
}

fn coarsen_level(trees: &Trees, mut state: State, level: u8, target: u64) -> Result<State, Cause> {
    // The older one of each release's next pair: order, bytes, window.
    let mut older: HashMap<Digest, (u64, u64, Unsent)> = HashMap::new();
    let (mut change, mut merges) = (Change::new(state), 0_usize);
    for entry in trees.outbox.scan_prefix(level_prefix(level)) {
        if change.state.bytes <= target {
            break;
        }
        let (key, bytes) = entry?;
        let Some(order) = order_of(&key) else { continue };
        let newer = read_unsent(&bytes)?;
        let release = newer.release.manifest;
        let sum = older.get(&release).and_then(|(order, bytes, older)| Some((*order, *bytes, merge(older, &newer)?)));
        let Some((older_order, older_bytes, sum)) = sum else {
            older.insert(release, (order, size(&bytes), newer));
            continue;
        };
        older.remove(&release);
        change.remove(&key, size(&bytes));
        change.remove(&unsent_key(level, older_order), older_bytes);
        change.put_unsent(level.saturating_add(1), older_order, &sum)?;
        change.state.merged = change.state.merged.saturating_add(1);
        merges = merges.saturating_add(1);
        if merges == MERGES_PER_WRITE {
            state = change.apply(trees)?;
            (change, merges) = (Change::new(state), 0);
        }
    }
    if merges > 0 {
        state = change.apply(trees)?;
    }
    Ok(state)
}

/// Both in one, when they are of one release and their statistics fit together.
fn merge(older: &Unsent, newer: &Unsent) -> Option<Unsent> {
    let mut sum = WindowStats::decode(&older.content).ok()?;
    sum.merge(&WindowStats::decode(&newer.content).ok()?).ok()?;
    let content = sum.encode();
    let count = older.count.saturating_add(newer.count);
    let fits = older.release == newer.release && content.len() <= MAX_WINDOW_BYTES;
    fits.then(|| Unsent { release: older.release.clone(), count, content })
}
