//! Memory that this process may take without swapping (Linux).
//!
//! Two bounds hold, and the smaller counts: what the machine has (`MemAvailable`), and what the control groups of this
//! process may still take. Both count clean pages of files as available, because the kernel drops them when memory is
//! asked for. So weights that are in the page cache already, from an earlier run or another process, take nothing away
//! from what is available, and to map them takes nothing from it either: a plan is compared with it whole, weights
//! included, whether they are cached or not. Files of a memory file system are the exception, see [`lies_in_memory`].

use std::fmt;
use std::fs;
use std::path::Path;

use super::field_bytes;
use super::resident::anonymous_bytes;

/// Memory that may be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Available {
    /// How much.
    pub(crate) bytes: u64,
    /// What bounds it.
    pub(crate) bound: Bound,
}

/// What bounds memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    /// The machine.
    Machine,
    /// A control group's limit, such as a container's.
    ControlGroup {
        /// The limit in bytes.
        limit: u64,
    },
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::Machine => f.write_str("of this machine's memory"),
            Bound::ControlGroup { limit } => {
                write!(f, "of the {} that its control group may have", crate::output::bytes(*limit))
            }
        }
    }
}

/// Memory that this process may have, where the operating system says: what it may still take, and what it holds
/// already, since a plan counts that.
pub(crate) fn available_to_this_process() -> Option<Available> {
    let found = available_under(Path::new("/"))?;
    Some(Available { bytes: found.bytes + anonymous_bytes().unwrap_or(0), ..found })
}

fn available_under(root: &Path) -> Option<Available> {
    let machine = field_bytes(&fs::read_to_string(root.join("proc/meminfo")).ok()?, "MemAvailable")?;
    let machine = Available { bytes: machine, bound: Bound::Machine };
    Some(
        of_control_groups(root)
            .fold(machine, |least, group| if group.bytes < least.bytes { group } else { least }),
    )
}

/// Names of a memory controller's files.
struct Controller {
    /// Folder that its groups lie in.
    mount: &'static str,
    limit: &'static str,
    usage: &'static str,
    /// Lines of `memory.stat` that count clean or writable pages of files.
    file_pages: [&'static str; 2],
}

const VERSION_2: Controller = Controller {
    mount: "sys/fs/cgroup",
    limit: "memory.max",
    usage: "memory.current",
    file_pages: ["active_file", "inactive_file"],
};

const VERSION_1: Controller = Controller {
    mount: "sys/fs/cgroup/memory",
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    file_pages: ["total_active_file", "total_inactive_file"],
};

/// The control groups of this process that have a limit, each with those above it: every one bounds.
fn of_control_groups(root: &Path) -> impl Iterator<Item = Available> {
    let text = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let groups: Vec<Available> = text
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let controller = match controllers {
                "" => VERSION_2,
                list if list.split(',').any(|name| name == "memory") => VERSION_1,
                _ => return None,
            };
            Some((controller, path.to_owned()))
        })
        .flat_map(|(controller, path)| {
            let mount = root.join(controller.mount);
            // In a container the path may be the host's; then only the mount itself exists.
            let groups = Path::new(path.trim_start_matches('/')).ancestors();
            groups.filter_map(|group| controller.available(&mount.join(group))).collect::<Vec<_>>()
        })
        .collect();
    groups.into_iter()
}

impl Controller {
    fn available(&self, group: &Path) -> Option<Available> {
        let number = |name: &str| fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
        let limit = number(self.limit)?;
        let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
        let pages = |name: &str| -> Option<u64> {
            stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?.trim().parse().ok()
        };
        let files: u64 = self.file_pages.iter().filter_map(|name| pages(name)).sum();
        let used = number(self.usage)?.saturating_sub(files);
        Some(Available { bytes: limit.saturating_sub(used), bound: Bound::ControlGroup { limit } })
    }
}

/// Whether a folder lies in a memory file system (tmpfs, ramfs): its files take memory that is not available, and
/// mapping them takes no more.
pub(crate) fn lies_in_memory(folder: &Path) -> bool {
    let Ok(folder) = folder.canonicalize() else { return false };
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    file_system(&mounts, &folder).is_some_and(|kind| matches!(kind, "tmpfs" | "ramfs"))
}

/// The type of the file system that `folder` lies in, by the lines of `mountinfo`: of the mount points above the folder
/// the longest, and of several there the last.
fn file_system<'a>(mounts: &'a str, folder: &Path) -> Option<&'a str> {
    let mount = |line: &'a str| {
        let point = line.split(' ').nth(4)?;
        let kind = line.split_once(" - ")?.1.split(' ').next()?;
        folder.starts_with(point).then_some((point.len(), kind))
    };
    mounts.lines().filter_map(mount).max_by_key(|(len, _)| *len).map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file tree with these files.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal: 9000 kB\nMemAvailable:    8000 kB\n");

    fn found(files: &[(&str, &str)]) -> Option<Available> {
        available_under(tree(files).path())
    }

    #[test]
    fn without_control_groups_the_machine_bounds() {
        let machine = Some(Available { bytes: 8000 * 1024, bound: Bound::Machine });
        assert_eq!(found(&[MEMINFO]), machine);
        let unlimited = ("sys/fs/cgroup/memory.max", "max\n");
        assert_eq!(found(&[MEMINFO, ("proc/self/cgroup", "0::/\n"), unlimited]), machine);
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn pages_of_files_count_as_available_within_a_group() {
        let files = [
            MEMINFO,
            ("proc/self/cgroup", "1:cpu:/x\n0::/a/b\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/memory.max", "5000000\n"),
            ("sys/fs/cgroup/a/memory.current", "4000000\n"),
            ("sys/fs/cgroup/a/memory.stat", "anon 1\nactive_file 1000000\ninactive_file 500000\n"),
        ];
        let bound = Bound::ControlGroup { limit: 5_000_000 };
        assert_eq!(found(&files), Some(Available { bytes: 2_500_000, bound }));
    }

    #[test]
    fn version_1_groups_bound_too_also_where_the_path_is_of_the_host() {
        let files = [
            MEMINFO,
            ("proc/self/cgroup", "9:cpu,cpuacct:/x\n4:memory:/docker/abc\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "1000000\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "900000\n"),
            (
                "sys/fs/cgroup/memory/memory.stat",
                "active_file 7\ntotal_active_file 100000\ntotal_inactive_file 5\n",
            ),
        ];
        let bound = Bound::ControlGroup { limit: 1_000_000 };
        assert_eq!(found(&files), Some(Available { bytes: 200_005, bound }));
    }

    #[test]
    fn group_that_took_more_than_its_limit_has_nothing_left() {
        let files = [
            MEMINFO,
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "1000\n"),
            ("sys/fs/cgroup/memory.current", "2000\n"),
        ];
        assert_eq!(found(&files).unwrap().bytes, 0);
    }

    #[test]
    fn nearest_mount_says_the_file_system() {
        let mounts =
            "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:5 / /dev/shm rw,x shared:2 - tmpfs tmpfs rw\n";
        assert_eq!(file_system(mounts, Path::new("/dev/shm/model")), Some("tmpfs"));
        assert_eq!(file_system(mounts, Path::new("/dev/shmodel")), Some("ext4"));
        assert_eq!(file_system("", Path::new("/x")), None);
    }
}
