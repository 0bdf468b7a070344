//! Memory nodes: machines whose processors reach some of the memory faster than the rest.
//!
//! All threads read all weights, so these are spread over the nodes page by page, and the workers over the nodes too; other
//! memory lies where the worker is that zeroed it. A
//! worker is kept on the processors of its node that this process may use, not on one of them: it must be able to leave
//! one that another process takes. Where there is one node nothing is done.

// System calls.
#![allow(unsafe_code)]

use std::fs;
use std::path::Path;

/// Where Linux describes the nodes.
const NODES: &str = "/sys/devices/system/node";

/// Most nodes that are told apart: the bits of a word.
const MOST_NODES: usize = 64;

/// Memory nodes with processors that this process may use, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Nodes(Vec<Node>);

/// A memory node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    id: usize,
    processors: Vec<usize>,
}

impl Nodes {
    /// Those of this machine; one where the operating system does not say.
    pub(crate) fn detect() -> Self {
        Self::described_in(Path::new(NODES), may_use).unwrap_or_else(|| Self(vec![Node::default()]))
    }

    fn described_in(folder: &Path, may_use: impl Fn(usize) -> bool) -> Option<Self> {
        let online = list(&fs::read_to_string(folder.join("online")).ok()?)?;
        let node = |id| {
            let text = fs::read_to_string(folder.join(format!("node{id}/cpulist"))).ok()?;
            let mut processors = list(&text)?;
            processors.retain(|&processor| may_use(processor));
            Some(Node { id, processors })
        };
        let mut nodes = online.into_iter().map(node).collect::<Option<Vec<_>>>()?;
        nodes.retain(|node| !node.processors.is_empty() && node.id < MOST_NODES);
        (!nodes.is_empty()).then_some(Self(nodes))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Spreads memory that nothing was written to over the nodes. What the operating system refuses stays as it is.
    pub(crate) fn spread(&self, memory: &mut [u8]) {
        if self.count() > 1 {
            let _ = interleave(memory, self.mask());
        }
    }

    /// Keeps the calling thread on the processors of a node; threads take the nodes in turn. What the operating system
    /// refuses stays as it is.
    pub(crate) fn keep_thread(&self, thread: usize) {
        if self.count() > 1 {
            let _ = keep_on(&self.0[thread % self.count()].processors);
        }
    }

    fn mask(&self) -> u64 {
        self.0.iter().fold(0, |mask, node| mask | 1 << node.id)
    }
}

/// Numbers of a list such as `0-3,8`; `None` where it is none.
fn list(text: &str) -> Option<Vec<usize>> {
    let mut numbers = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        numbers.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
    }
    Some(numbers)
}

/// Pages of `memory` will come from the nodes of `mask` in turn.
#[cfg(target_os = "linux")]
fn interleave(memory: &mut [u8], mask: u64) -> std::io::Result<()> {
    const BITS: usize = MOST_NODES + 1;
    // SAFETY: the memory is a mapping's, borrowed uniquely; where its pages come from changes none of its bytes. The mask
    // is a word, as long as said.
    let result = unsafe {
        let (address, policy) = (memory.as_mut_ptr(), libc::MPOL_INTERLEAVE);
        libc::syscall(
            libc::SYS_mbind,
            address,
            memory.len(),
            libc::c_long::from(policy),
            &raw const mask,
            BITS,
            0_usize,
        )
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[cfg(not(target_os = "linux"))]
fn interleave(_: &mut [u8], _: u64) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// Whether the calling thread may run on a processor; yes, where the operating system does not say.
#[cfg(target_os = "linux")]
fn may_use(processor: usize) -> bool {
    // SAFETY: all bits 0 is the empty set, which the call fills.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        let unknown = libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) != 0;
        unknown || processor < 8 * size_of::<libc::cpu_set_t>() && libc::CPU_ISSET(processor, &set)
    }
}

#[cfg(not(target_os = "linux"))]
fn may_use(_: usize) -> bool {
    true
}

/// Keeps the calling thread on some processors.
#[cfg(target_os = "linux")]
fn keep_on(processors: &[usize]) -> std::io::Result<()> {
    // SAFETY: all bits 0 is the empty set; the set is read during the call alone.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        let most = 8 * size_of::<libc::cpu_set_t>();
        for &processor in processors.iter().filter(|&&processor| processor < most) {
            libc::CPU_SET(processor, &mut set);
        }
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[cfg(not(target_os = "linux"))]
fn keep_on(_: &[usize]) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_numbers_are_read() {
        assert_eq!(list("0-3,8,10-11\n"), Some(vec![0, 1, 2, 3, 8, 10, 11]));
        assert_eq!(list("\n"), Some(vec![]));
        assert_eq!(list("0-x"), None);
    }

    #[test]
    fn nodes_with_processors_are_found() {
        let folder = std::env::temp_dir().join(format!("sostenuto-nodes-{}", std::process::id()));
        for (node, processors) in [(0, "0-1,4\n"), (1, "\n"), (3, "2-3\n")] {
            fs::create_dir_all(folder.join(format!("node{node}"))).unwrap();
            fs::write(folder.join(format!("node{node}/cpulist")), processors).unwrap();
        }
        fs::write(folder.join("online"), "0-1,3\n").unwrap();
        let nodes = Nodes::described_in(&folder, |_| true);
        let allowed = Nodes::described_in(&folder, |processor| processor < 2);
        fs::remove_dir_all(&folder).unwrap();
        let node = |id, processors: &[usize]| Node { id, processors: processors.to_vec() };
        let nodes = nodes.unwrap();
        assert_eq!(nodes, Nodes(vec![node(0, &[0, 1, 4]), node(3, &[2, 3])]));
        assert_eq!(nodes.mask(), 0b1001);
        assert_eq!(allowed, Some(Nodes(vec![node(0, &[0, 1])])));
        assert_eq!(Nodes::described_in(&folder, |_| true), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn operating_system_takes_both_wishes() {
        let nodes = Nodes::detect();
        let mut memory = memmap2::MmapMut::map_anon(1 << 20).unwrap();
        let refused = interleave(&mut memory, nodes.mask()).err();
        if refused.is_some() || nodes.0[0].processors.is_empty() {
            return println!("skipped: memory nodes are out of reach here ({refused:?})");
        }
        memory.fill(1);
        assert!(interleave(&mut memory, 1 << 63).is_err(), "there is no such node");
        // On a thread of its own, which may then be kept.
        let processors = nodes.0[0].processors.clone();
        std::thread::spawn(move || {
            keep_on(&processors).unwrap();
            assert!(keep_on(&[]).is_err(), "no processor to run on");
        })
        .join()
        .unwrap();
    }
}
