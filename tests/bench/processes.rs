//! What processes cost: CPU time and memory, of a process and of all that it started.

use std::{collections::HashMap, fs};

/// Processes that belong together, by the ids of those that started the others.
#[derive(Debug, Clone, Default)]
pub(crate) struct Group(pub(crate) Vec<u32>);

impl Group {
    /// CPU seconds that they and all below them have used, user and system; also of those that have ended and were
    /// waited for.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let ticks = |id: &u32| Stat::of(*id).map_or(0, |stat| stat.ticks);
        self.all().iter().map(ticks).sum::<u64>() as f64 / TICKS_PER_SECOND
    }

    /// Resident memory of all, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        self.all().iter().filter_map(|id| status(*id, "VmRSS:")).sum()
    }

    /// Ends all at once, without warning.
    pub(crate) fn kill(&self) {
        let ids: Vec<String> = self.all().iter().map(u32::to_string).collect();
        if !ids.is_empty() {
            // One that ended meanwhile is as good as killed.
            let _ = std::process::Command::new("kill").arg("-KILL").args(ids).output();
        }
    }

    /// These and all below them.
    fn all(&self) -> Vec<u32> {
        let mut children = HashMap::<u32, Vec<u32>>::new();
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        for id in entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
            if let Some(stat) = Stat::of(id) {
                children.entry(stat.parent).or_default().push(id);
            }
        }
        let mut all = self.0.clone();
        let mut at = 0;
        while at < all.len() {
            all.extend(children.remove(&all[at]).unwrap_or_default());
            at += 1;
        }
        all
    }
}

struct Stat {
    parent: u32,
    ticks: u64,
}

impl Stat {
    /// `None` of a process that has ended.
    fn of(id: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // After the command's name, which may itself hold spaces: field 4 of proc(5) is the parent, 14 to 17 are ticks
        // in user and system mode, of itself and of children that were waited for.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = fields.get(11..15)?.iter().map(|field| field.parse::<u64>().unwrap_or(0)).sum();
        Some(Self { parent: fields.get(1)?.parse().ok()?, ticks })
    }
}

fn status(id: u32, name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// USER_HZ, which Linux has fixed for programs.
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_counts_what_its_members_started() {
        let mut shell = std::process::Command::new("sh").args(["-c", "sleep 60 & wait"]).spawn().unwrap();
        let group = Group(vec![shell.id()]);
        let begin = tokio::time::Instant::now();
        while group.all().len() < 2 {
            assert!(begin.elapsed().as_secs() < 10, "the shell starts a child: {:?}", group.all());
            std::thread::yield_now();
        }
        assert!(group.resident_kib() > 0);
        let members = group.all();
        group.kill();
        shell.wait().unwrap();
        let is_gone = |id: &u32| Stat::of(*id).is_none_or(|_| status(*id, "VmRSS:").is_none());
        while !members.iter().all(is_gone) {
            assert!(begin.elapsed().as_secs() < 10, "all ended: {members:?}");
            std::thread::yield_now();
        }
    }
}
