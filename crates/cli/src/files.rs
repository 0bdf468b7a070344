//! How many files a process may have open. Each connection is one.

use rustix::process::{Resource, getrlimit, setrlimit};

/// As many as are ever needed here: the server's connections, or a load's, and some.
const ENOUGH: u64 = 1 << 17;

/// Raises this process's own limit as far as the system lets it. Where it does not, connections beyond the limit wait
/// or fail, which is shown where it happens.
pub(crate) fn allow_many() {
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(ENOUGH, |maximum| maximum.min(ENOUGH));
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(wanted);
        // A refusal leaves the limit as it was.
        let _ = setrlimit(Resource::Nofile, limit);
    }
}
