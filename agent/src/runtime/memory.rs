//! Resident memory of this process.

/// Resident memory in bytes as the kernel counts it (`VmRSS` of `/proc/self/status`, whatever the page size); `None`
/// where there is no such file.
pub(crate) fn resident_bytes() -> Option<u64> {
    parse(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn parse(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_read_in_kib() {
        assert_eq!(parse("Name:\tagent\nVmHWM:\t  9 kB\nVmRSS:\t    2048 kB\n"), Some(2048 * 1024));
    }

    #[test]
    fn a_status_without_it_is_no_number() {
        assert_eq!(parse("Name:\tkthread\n"), None);
    }
}
