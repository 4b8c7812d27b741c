//! Reads the box: processors, this process's memory, the hottest sensor, free space where the models lie.

use fieldpost_shared::stats::Reading;
use std::path::{Path, PathBuf};
use sysinfo::{
    Components, CpuRefreshKind, DiskRefreshKind, Disks, Pid, ProcessRefreshKind, ProcessesToUpdate, RefreshKind, System,
};

/// Reads the box through the operating system. What it cannot read stays `None`, for ever if need be.
#[derive(Debug)]
pub struct Resources {
    system: Option<System>,
    sensors: Option<Components>,
    disks: Option<Disks>,
    data: PathBuf,
    pid: Option<Pid>,
    /// Whether the processors were read before, so that there is a time to speak of.
    primed: bool,
}

impl Resources {
    /// A reader; `data` is where the models lie. Blocking, milliseconds.
    #[must_use]
    pub fn new(data: &Path) -> Self {
        let kinds = RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing().with_usage());
        Self {
            system: System::new_with_specifics(kinds).ok(),
            sensors: Components::new_with_refreshed_list().ok(),
            disks: Disks::new_with_refreshed_list_specifics(DiskRefreshKind::nothing().with_storage()).ok(),
            data: std::fs::canonicalize(data).unwrap_or_else(|_unresolved| data.to_owned()),
            pid: sysinfo::get_current_pid().ok(),
            primed: false,
        }
    }

    /// One reading. Blocking, usually below a millisecond. The processors' use is over the time since the last reading;
    /// the first one has none.
    pub fn read(&mut self) -> Reading {
        Reading {
            cpu_percent: self.cpu_percent(),
            rss_bytes: self.rss_bytes(),
            temperature_celsius: self.temperature(),
            disk_free_bytes: self.disk_free(),
        }
    }

    fn cpu_percent(&mut self) -> Option<f32> {
        let system = self.system.as_mut()?;
        system.refresh_cpu_usage();
        let percent = system.global_cpu_usage();
        (std::mem::replace(&mut self.primed, true) && percent.is_finite()).then_some(percent)
    }

    fn rss_bytes(&mut self) -> Option<u64> {
        let (system, pid) = (self.system.as_mut()?, self.pid?);
        let memory = ProcessRefreshKind::nothing().with_memory();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, memory);
        system.process(pid).map(sysinfo::Process::memory)
    }

    fn temperature(&mut self) -> Option<f32> {
        let sensors = self.sensors.as_mut()?;
        sensors.refresh(false);
        sensors.iter().filter_map(sysinfo::Component::temperature).filter(|t| t.is_finite()).reduce(f32::max)
    }

    fn disk_free(&mut self) -> Option<u64> {
        let disks = self.disks.as_mut()?;
        // The disk is the one whose mount point is the longest prefix of the path.
        let holds = |disk: &&mut sysinfo::Disk| self.data.starts_with(disk.mount_point());
        let disk = disks.iter_mut().filter(holds).max_by_key(|disk| disk.mount_point().components().count())?;
        disk.refresh_specifics(DiskRefreshKind::nothing().with_storage());
        Some(disk.available_space())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reading_has_memory_and_the_second_the_processors_too() {
        let dir = tempfile::tempdir().unwrap();
        let mut resources = Resources::new(dir.path());
        let first = resources.read();
        assert!(first.rss_bytes.unwrap() > 1 << 20 && first.cpu_percent.is_none());
        let reading = resources.read();
        assert!(reading.rss_bytes.unwrap() > 1 << 20);
        assert!(reading.cpu_percent.unwrap() >= 0.0);
    }
}
