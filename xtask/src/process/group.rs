//! Tells whether anything of a process group still runs.

use std::fs;

use rustix::process::{Pid, test_kill_process_group};

/// Whether a process of the group runs: one that has ended, and that nobody has waited for, does not.
///
/// Such a one counts for the system, and stays for ever where the first process of a container waits for nobody.
pub(super) fn runs(group: Pid) -> bool {
    test_kill_process_group(group).is_ok() && listed(group).unwrap_or(true)
}

/// The same as Linux lists it; `None` on other systems.
fn listed(group: Pid) -> Option<bool> {
    let processes = fs::read_dir("/proc").ok().filter(|_| cfg!(target_os = "linux"))?;
    // A process may end while the list is read.
    let mut stats = processes.flatten().filter_map(|process| fs::read(process.path().join("stat")).ok());
    Some(stats.any(|stat| is_running_member(&String::from_utf8_lossy(&stat), group)))
}

/// Reads what Linux says of a process: its number, its name in brackets, its state, its parent and its group.
fn is_running_member(stat: &str, group: Pid) -> bool {
    let Some((_, rest)) = stat.rsplit_once(") ") else { return false };
    let mut fields = rest.split(' ');
    let ended = fields.next().is_none_or(|state| matches!(state, "Z" | "X"));
    !ended && fields.nth(1).and_then(|number| number.parse().ok()) == Some(group.as_raw_nonzero().get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_counts_while_it_runs() {
        let group = Pid::from_raw(77).unwrap();
        assert!(is_running_member("90 (sh) S 1 77 77 0 -1", group));
        assert!(is_running_member("90 (a ) R 1 78) R 1 77 77 0 -1", group));
        assert!(!is_running_member("90 (sh) Z 1 77 77 0 -1", group));
        assert!(!is_running_member("77 (sh) S 77 78 77 0 -1", group));
        assert!(!is_running_member("", group));
    }
}
