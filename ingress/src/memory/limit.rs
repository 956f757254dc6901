//! How much memory the process may have.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

/// `--memory-limit`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemoryLimit {
    /// Three quarters of what the control group of the process may have; no limit where it has none.
    Auto,
    /// No limit.
    None,
    /// So many bytes.
    Bytes(u64),
}

/// A text is no limit.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{0:?} is no amount of memory; write auto, 0 for no limit, or bytes as in 268435456, 256Mi or 1Gi")]
pub struct LimitError(String);

/// The suffixes of Kubernetes' quantities that amounts of memory have.
const SUFFIXES: [(&str, u64); 9] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("k", 1_000),
    ("K", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
];

impl FromStr for MemoryLimit {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, LimitError> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let suffix = SUFFIXES.iter().find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit)));
        let (number, unit) = suffix.unwrap_or((text, 1));
        let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
        match bytes {
            Some(0) => Ok(Self::None),
            Some(bytes) => Ok(Self::Bytes(bytes)),
            None => Err(LimitError(text.to_owned())),
        }
    }
}

impl std::fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::None => f.write_str("0"),
            Self::Bytes(bytes) => write!(f, "{bytes}"),
        }
    }
}

impl MemoryLimit {
    /// The limit in bytes.
    pub(crate) fn bytes(self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Bytes(bytes) => Some(bytes),
            Self::Auto => cgroup::limit(Path::new("/")).map(|limit| limit / 4 * 3),
        }
    }
}

/// The control group of this process.
pub(crate) mod cgroup {
    use super::{Path, PathBuf};

    /// Where the files of version 2, and those of version 1 for memory, are mounted.
    const VERSION_2: &str = "sys/fs/cgroup";
    const VERSION_1: &str = "sys/fs/cgroup/memory";
    /// Version 1 says "no limit" by the largest multiple of a page; more than this is no limit of anybody's.
    const NO_LIMIT: u64 = 1 << 60;

    /// The least limit of the group of this process and those around it; `root` is `/` but in tests.
    pub(crate) fn limit(root: &Path) -> Option<u64> {
        let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
        let least = |mount: &str, path: &str, file: &str| {
            let mount = root.join(mount);
            // In a container the path is that of the host, while the mount begins at the group itself.
            around(&mount, path).filter_map(|folder| number(&folder.join(file))).min()
        };
        groups
            .lines()
            .filter_map(|line| {
                let mut parts = line.splitn(3, ':');
                let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
                match controllers {
                    "" => least(VERSION_2, path, "memory.max"),
                    _ if controllers.split(',').any(|name| name == "memory") => {
                        least(VERSION_1, path, "memory.limit_in_bytes")
                    }
                    _ => None,
                }
            })
            .min()
    }

    /// The folder of a group and those of the groups around it, as far as they can be seen.
    fn around(mount: &Path, path: &str) -> impl Iterator<Item = PathBuf> {
        let own = Path::new(path.trim_start_matches('/')).to_owned();
        let mount = mount.to_owned();
        let ancestors: Vec<PathBuf> = own.ancestors().map(Path::to_owned).collect();
        ancestors.into_iter().map(move |folder| mount.join(folder))
    }

    fn number(path: &Path) -> Option<u64> {
        let bytes = std::fs::read_to_string(path).ok()?.trim().parse().ok()?;
        (bytes < NO_LIMIT).then_some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_as_in_kubernetes() {
        let read = |text: &str| text.parse::<MemoryLimit>();
        assert_eq!(read("auto"), Ok(MemoryLimit::Auto));
        assert_eq!(read("0"), Ok(MemoryLimit::None));
        assert_eq!(read("1000"), Ok(MemoryLimit::Bytes(1000)));
        assert_eq!(read("256Mi"), Ok(MemoryLimit::Bytes(256 << 20)));
        assert_eq!(read("1G"), Ok(MemoryLimit::Bytes(1_000_000_000)));
        for text in ["", "Mi", "-1", "1.5Gi", "256MB", "99999999999Ti", "none"] {
            assert_eq!(read(text), Err(LimitError(text.to_owned())));
        }
    }

    /// A root with these files.
    fn root(files: &[(&str, &str)]) -> std::path::PathBuf {
        let root =
            std::env::temp_dir().join(format!("landfall-cgroup-{}-{}", std::process::id(), rand::random::<u64>()));
        for (path, text) in files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    fn limit(files: &[(&str, &str)]) -> Option<u64> {
        let root = root(files);
        let limit = cgroup::limit(&root);
        // Without files there is no folder.
        let _ = std::fs::remove_dir_all(root);
        limit
    }

    #[test]
    fn the_least_limit_around_the_process_counts() {
        // Version 2, in a container: the group is its own root.
        let own = ("proc/self/cgroup", "0::/\n");
        assert_eq!(limit(&[own, ("sys/fs/cgroup/memory.max", "268435456\n")]), Some(268_435_456));
        assert_eq!(limit(&[own, ("sys/fs/cgroup/memory.max", "max\n")]), None);
        // On a machine: a service within a slice.
        let nested = ("proc/self/cgroup", "0::/a.slice/b.service\n");
        let (outer, inner) = ("sys/fs/cgroup/a.slice/memory.max", "sys/fs/cgroup/a.slice/b.service/memory.max");
        assert_eq!(limit(&[nested, (outer, "1000\n"), (inner, "max\n")]), Some(1000));
        assert_eq!(limit(&[nested, (outer, "1000\n"), (inner, "500\n")]), Some(500));
        // Version 1, whose path is that of the host.
        let first = ("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/kubepods/pod1/c1\n0::/\n");
        let file = "sys/fs/cgroup/memory/memory.limit_in_bytes";
        assert_eq!(limit(&[first, (file, "134217728\n")]), Some(134_217_728));
        assert_eq!(limit(&[first, (file, "9223372036854771712\n")]), None);
        assert_eq!(limit(&[]), None);
    }
}
