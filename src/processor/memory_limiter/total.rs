//! How much memory this process may use: the machine's, or less where a control group of version 1 or 2 says so.

use std::{fs, path::Path};

/// Memory in bytes that the system has for this process; `None` where it does not tell.
pub(super) fn total_memory() -> Option<u64> {
    below(Path::new("/"))
}

/// With the file system's root at `root`.
fn below(root: &Path) -> Option<u64> {
    let read = |path: &Path| fs::read_to_string(root.join(path)).ok();
    let machine = read(Path::new("proc/meminfo")).and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    });
    let groups = read(Path::new("proc/self/cgroup")).unwrap_or_default();
    let bounds = groups.lines().filter_map(group).flat_map(|(mount, file, path)| {
        // A bound of any group around ours holds for ours. In a container the path may be the host's, of which only
        // the mount itself can be seen.
        let ancestors: Vec<_> = Path::new(path).ancestors().map(Path::to_owned).collect();
        ancestors.into_iter().filter_map(move |group| {
            let group = group.strip_prefix("/").unwrap_or(&group).to_owned();
            read(&Path::new(mount).join(group).join(file))
        })
    });
    // `max`, and the page-aligned largest number of version 1, are no bound: not a number, or above the machine's.
    machine.into_iter().chain(bounds.filter_map(|text| text.trim().parse::<u64>().ok())).min()
}

/// The memory hierarchy a line of `/proc/self/cgroup` names: where it is mounted, the file with the bound, and the
/// group's path.
fn group(line: &str) -> Option<(&'static str, &'static str, &str)> {
    let (hierarchy, rest) = line.split_once(':')?;
    let (controllers, path) = rest.split_once(':')?;
    if hierarchy == "0" && controllers.is_empty() {
        return Some(("sys/fs/cgroup", "memory.max", path));
    }
    let memory = controllers.split(',').any(|controller| controller == "memory");
    memory.then_some(("sys/fs/cgroup/memory", "memory.limit_in_bytes", path))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// A file system of its own, gone afterwards.
    struct Root(PathBuf);

    impl Root {
        fn with(name: &str, files: &[(&str, &str)]) -> Root {
            let root = std::env::temp_dir().join(format!("tracegate-total-{}-{name}", std::process::id()));
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Root(root)
        }

        fn total(&self) -> Option<u64> {
            below(&self.0)
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _best_effort = fs::remove_dir_all(&self.0);
        }
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:        1024 kB\nMemFree:  1 kB\n");

    #[test]
    fn version_2_has_the_smallest_bound_of_all_groups_around() {
        let root = Root::with(
            "v2",
            &[
                MEMINFO,
                ("proc/self/cgroup", "0::/system.slice/gate.service\n"),
                ("sys/fs/cgroup/system.slice/memory.max", "70000\n"),
                ("sys/fs/cgroup/system.slice/gate.service/memory.max", "max\n"),
            ],
        );
        assert_eq!(root.total(), Some(70_000));
    }

    #[test]
    fn in_a_container_only_the_mount_is_seen() {
        let files = [MEMINFO, ("proc/self/cgroup", "0::/../../host/path\n"), ("sys/fs/cgroup/memory.max", "50000")];
        assert_eq!(Root::with("container", &files).total(), Some(50_000));
    }

    #[test]
    fn version_1_has_its_own_mount_and_file() {
        let groups = "12:cpu,cpuacct:/docker/x\n7:memory:/docker/x\n1:name=systemd:/docker/x\n";
        let unlimited = "9223372036854771712\n";
        let files = [
            MEMINFO,
            ("proc/self/cgroup", groups),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", unlimited),
            ("sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes", "60000\n"),
        ];
        assert_eq!(Root::with("v1", &files).total(), Some(60_000));
        assert_eq!(Root::with("v1-unlimited", &files[..3]).total(), Some(1024 * 1024));
    }

    #[test]
    fn without_groups_it_is_the_machine_and_without_that_nobody_knows() {
        assert_eq!(Root::with("machine", &[MEMINFO]).total(), Some(1024 * 1024));
        assert_eq!(Root::with("nothing", &[("etc/none", "")]).total(), None);
    }
}
