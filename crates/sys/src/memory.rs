//! How much memory a process has, as the kernel counts it.

use std::{fs, fs::File, io, os::unix::fs::FileExt};

/// A process's memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// Resident: all pages it has in memory, shared or not.
    pub rss: u64,
    /// Proportional: shared pages count in part, so that the sum over processes is right.
    pub pss: u64,
    /// Pages that no other process has: what would be free if it ended.
    pub private: u64,
}

/// Reads a process's resident memory again and again, cheaply (a few microseconds).
#[derive(Debug)]
pub struct RssMeter(File);

// === impl Memory ===

impl Memory {
    /// Looks at a process; `None` when it is gone or not ours to look at. Takes up to milliseconds,
    /// growing with the process.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut memory = Self::default();
        let mut seen = false;
        for line in text.lines() {
            let Some((name, rest)) = line.split_once(':') else { continue };
            let field: &mut u64 = match name {
                "Rss" => &mut memory.rss,
                "Pss" => &mut memory.pss,
                "Private_Clean" | "Private_Dirty" => &mut memory.private,
                _ => continue,
            };
            let kib: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
            *field += kib << 10;
            seen = true;
        }
        seen.then_some(memory)
    }
}

// === impl RssMeter ===

impl RssMeter {
    /// For a process that runs.
    ///
    /// # Errors
    /// It does not.
    pub fn open(pid: u32) -> io::Result<Self> {
        File::open(format!("/proc/{pid}/statm")).map(Self)
    }

    /// Resident bytes now; `None` once the process is gone.
    #[must_use]
    pub fn read(&self) -> Option<u64> {
        let mut buffer = [0; 128];
        let read = self.0.read_at(&mut buffer, 0).ok()?;
        let text = std::str::from_utf8(&buffer[..read]).ok()?;
        let pages: u64 = text.split(' ').nth(1)?.trim().parse().ok()?;
        Some(pages * rustix::param::page_size() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_looking_agree_about_this_process() {
        let pid = std::process::id();
        let memory = Memory::of(pid).expect("it runs");
        let rss = RssMeter::open(pid).expect("it runs").read().expect("it runs");
        assert!(memory.pss <= memory.rss && memory.private <= memory.rss, "{memory:?}");
        // Other tests of this process run meanwhile.
        let near = rss.abs_diff(memory.rss);
        assert!(near < 64 << 20, "{rss} and {memory:?}");
    }

    #[test]
    fn anything_may_be_in_the_file() {
        for text in ["", "Rss:", "Rss: x kB", "Rss: 5", "\u{0}", "Pss:\t-1 kB"] {
            assert_eq!(Memory::parse(text), None, "{text:?}");
        }
        let text = "00400000 ---p [rollup]\nRss:  8 kB\nPrivate_Clean: 1 kB\nPrivate_Dirty: 2 kB\n";
        let expected = Memory { rss: 8 << 10, pss: 0, private: 3 << 10 };
        assert_eq!(Memory::parse(text), Some(expected));
    }

    #[test]
    fn a_process_that_is_gone_has_no_memory() {
        assert_eq!(Memory::of(u32::MAX), None);
        assert!(RssMeter::open(u32::MAX).is_err());
    }
}
