//! Whether a box may take a release, decided before the first byte is fetched. Pure.

use fieldpost_shared::bundle::Manifest;
use fieldpost_shared::wire::v1::Inventory;

/// What the box allows and has.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Free bytes on the data disk, when known.
    pub free_disk_bytes: Option<u64>,
    /// Bytes that one release may fetch, when the operator of the box limited it.
    pub budget_bytes: Option<u64>,
}

/// What bringing a release in takes; what is there already is not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Bytes of chunks that would be fetched.
    pub fetch_bytes: u64,
    /// Bytes of files that are still to be written.
    pub write_bytes: u64,
}

/// Why the box does not take the release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It never will: the hardware or the agent is wrong.
    #[error("{0}")]
    Rejected(String),
    /// It may later: something must be freed or allowed first.
    #[error("{0}")]
    Blocked(String),
}

const MIB: u64 = 1 << 20;
/// What must stay free beside a release, so that a full disk never stops the agent itself.
const RESERVE_BYTES: u64 = 16 * MIB;

/// Checks requirements, disk and byte budget. What is whole already needs no space.
///
/// # Errors
/// With the reason in numbers.
pub fn check(manifest: &Manifest, inventory: &Inventory, room: Room, bring: Needs) -> Result<(), Unfit> {
    let needs = &manifest.requirements;
    let reject = |text: String| Err(Unfit::Rejected(text));
    if !needs.arch.is_empty() && !needs.arch.contains(&inventory.arch) {
        return reject(format!("needs arch {}, this box is {}", needs.arch.join(" or "), inventory.arch));
    }
    if needs.ram_mib > inventory.ram_mib {
        return reject(format!("needs {} MiB of memory, this box has {}", needs.ram_mib, inventory.ram_mib));
    }
    if let (Some(agent), Ok(version)) = (&needs.agent, semver::Version::parse(&inventory.agent_version))
        && !agent.matches(&version)
    {
        return reject(format!("needs agent {agent}, this is {version}"));
    }
    if let Some(budget) = room.budget_bytes.filter(|budget| bring.fetch_bytes > *budget) {
        return Err(Unfit::Blocked(format!("needs {} to fetch, budget {}", mib(bring.fetch_bytes), mib(budget))));
    }
    if bring.write_bytes == 0 {
        return Ok(());
    }
    // Chunks and the assembled file stand beside each other for a moment.
    let disk = bring
        .write_bytes
        .saturating_add(bring.fetch_bytes)
        .saturating_add(needs.disk_mib.saturating_mul(MIB))
        .saturating_add(RESERVE_BYTES);
    match room.free_disk_bytes.filter(|free| disk > *free) {
        Some(free) => Err(Unfit::Blocked(format!("needs {} of free disk, {} are free", mib(disk), mib(free)))),
        None => Ok(()),
    }
}

/// CPU features that are required and not there.
#[must_use]
pub fn missing_cpu_features(manifest: &Manifest, present: &str) -> Vec<String> {
    let present: std::collections::HashSet<&str> = present.split_whitespace().collect();
    manifest.requirements.cpu_features.iter().filter(|feature| !present.contains(feature.as_str())).cloned().collect()
}

fn mib(bytes: u64) -> String {
    format!("{}.{} MiB", bytes / MIB, bytes % MIB * 10 / MIB)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::testing;

    fn check(fetch_bytes: u64, write_bytes: u64, free_disk_bytes: u64) -> bool {
        let room = Room { free_disk_bytes: Some(free_disk_bytes), budget_bytes: None };
        super::check(&testing::manifest(), &Inventory::default(), room, Needs { fetch_bytes, write_bytes }).is_ok()
    }

    #[test]
    fn a_whole_release_needs_no_space() {
        assert!(check(0, 0, 0));
    }

    #[test]
    fn chunks_that_wait_are_not_counted_again() {
        assert!(!check(10 * MIB, 10 * MIB, 35 * MIB));
        assert!(check(MIB, 10 * MIB, 35 * MIB));
        assert!(!check(MIB, 10 * MIB, 26 * MIB), "the reserve stays free");
    }
}
