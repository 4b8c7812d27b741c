//! What the box is, as sysinfo sees it.

use crate::fetch::Disk;
use fieldpost_shared::wire::v1::Inventory;
use fieldpost_shared::wire::v2::CAPABILITY;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

const MIB: u64 = 1 << 20;

/// Reads the inventory; blocking, some milliseconds. What cannot be read is empty or 0.
#[must_use]
pub(crate) fn read(disk: &Disk, serving: String) -> Inventory {
    let kinds =
        RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing()).with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(kinds).ok();
    let cpus = system.as_ref().map(System::cpus).unwrap_or_default();
    Inventory {
        agent_version: format!("{}+{CAPABILITY}", env!("CARGO_PKG_VERSION")),
        arch: std::env::consts::ARCH.to_owned(),
        os: System::long_os_version().unwrap_or_default(),
        cpu_model: cpus.first().map(|cpu| cpu.brand().trim().to_owned()).unwrap_or_default(),
        cpus: u32::try_from(cpus.len()).unwrap_or(u32::MAX),
        ram_mib: system.as_ref().map_or(0, |system| system.total_memory() / MIB),
        free_disk_mib: disk.free_bytes().unwrap_or(0) / MIB,
        hostname: System::host_name().unwrap_or_default(),
        serving,
    }
}

/// The processor's features, as the kernel names them; empty where there is no `/proc/cpuinfo`.
#[must_use]
pub(crate) fn cpu_features() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("flags") || line.starts_with("Features"));
    line.and_then(|line| line.split_once(':')).map(|(_, features)| features.trim().to_owned()).unwrap_or_default()
}
