//! What the operating system says of this process, read when somebody asks.

use std::{fs, time::Duration};

/// Linux reports process times in hundredths of a second, whatever the kernel's own tick is.
const TICKS_PER_SECOND: f64 = 100.0;

/// User and system time; none where the system has no `/proc`.
pub fn cpu_time() -> Option<Duration> {
    parse_cpu_time(&fs::read_to_string("/proc/self/stat").ok()?)
}

/// Resident memory in bytes; none where the system has no `/proc`.
pub fn resident_bytes() -> Option<u64> {
    parse_resident_bytes(&fs::read_to_string("/proc/self/status").ok()?)
}

/// Resident anonymous memory in bytes: heap and stacks, without mapped files; none where the system has no `/proc`.
pub fn anonymous_bytes() -> Option<u64> {
    parse_kibibytes(&fs::read_to_string("/proc/self/status").ok()?, "RssAnon:")
}

/// Writable private memory in bytes, resident or not; none where the system has no `/proc`.
pub fn mapped_bytes() -> Option<u64> {
    parse_kibibytes(&fs::read_to_string("/proc/self/status").ok()?, "VmData:")
}

/// `/proc/pid/stat`: the second field is the name in parentheses and may hold anything; utime and stime are the 14th
/// and 15th.
fn parse_cpu_time(stat: &str) -> Option<Duration> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Duration::try_from_secs_f64((user + system) / TICKS_PER_SECOND).ok()
}

fn parse_resident_bytes(status: &str) -> Option<u64> {
    parse_kibibytes(status, "VmRSS:")
}

fn parse_kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_linux_writes() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 1 2 3 4 150 25 7 8 20 0 5 0 100 1000 200";
        assert_eq!(parse_cpu_time(stat), Some(Duration::from_millis(1750)));
        assert_eq!(parse_cpu_time("42 (a) S 1"), None);
        assert_eq!(parse_cpu_time(""), None);
        assert_eq!(parse_resident_bytes("Name:\ta\nVmRSS:\t    5120 kB\nThreads: 1\n"), Some(5 << 20));
        assert_eq!(parse_resident_bytes("Name:\ta\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn reads_this_process() {
        assert!(cpu_time().is_some());
        assert!(resident_bytes().is_some_and(|bytes| bytes > 1 << 20));
        let (anonymous, resident) = (anonymous_bytes().unwrap_or(0), resident_bytes().unwrap_or(0));
        assert!(anonymous > 0 && anonymous <= resident, "{anonymous} {resident}");
        assert!(mapped_bytes().is_some_and(|bytes| bytes > 0));
    }
}
