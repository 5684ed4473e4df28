//! Reads what `faulthandler` writes into the crash pipe.

use exuvia_core::Frame;

/// The name our own Python code is compiled under: its frames say nothing to a user.
const OURS: &str = "<exuvia";
/// Frames kept per report.
const MOST: usize = 100;

/// One thread of a report.
#[derive(Debug, Default, PartialEq, Eq)]
struct Thread {
    current: bool,
    frames: Vec<Frame>,
}

/// The stack of the thread that crashed, innermost first.
pub(crate) fn crashed(report: &[u8]) -> Vec<Frame> {
    let mut threads = threads(report);
    let place = threads.iter().position(|thread| thread.current).unwrap_or(0);
    if place < threads.len() { threads.swap_remove(place).frames } else { Vec::new() }
}

/// The stack of the main thread, which runs handlers, innermost first. Threads are listed newest
/// first, so it is the last one.
pub(crate) fn main_thread(report: &[u8]) -> Vec<Frame> {
    threads(report).pop().map_or(Vec::new(), |thread| thread.frames)
}

fn threads(report: &[u8]) -> Vec<Thread> {
    let mut threads: Vec<Thread> = Vec::new();
    for line in String::from_utf8_lossy(report).lines() {
        let is_head = line.ends_with("(most recent call first):");
        if is_head && (line.starts_with("Current thread") || line.starts_with("Thread")) {
            threads.push(Thread { current: line.starts_with('C'), frames: Vec::new() });
        } else if let (Some(frame), Some(thread)) = (frame(line), threads.last_mut())
            && thread.frames.len() < MOST
            && !frame.file.starts_with(OURS)
        {
            thread.frames.push(frame);
        }
    }
    for thread in &mut threads {
        // What the host started the worker with is its outermost frame.
        let is_bootstrap = |frame: &Frame| frame.file == "<string>" && frame.function == "<module>";
        if thread.frames.last().is_some_and(is_bootstrap) {
            thread.frames.pop();
        }
    }
    threads
}

/// `  File "weather.py", line 12 in spread`
fn frame(line: &str) -> Option<Frame> {
    let rest = line.strip_prefix("  File \"")?;
    let (file, rest) = rest.rsplit_once("\", line ")?;
    let (line, function) = rest.split_once(" in ")?;
    Some(Frame { file: file.into(), line: line.parse().unwrap_or(0), function: function.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "Fatal Python error: Segmentation fault\n\n\
        Thread 0x00007f0001 (most recent call first):\n  File \"t.py\", line 9 in wait\n\n\
        Current thread 0x00007f0000 (most recent call first):\n  \
        File \"/a \"b/w.py\", line 12 in spread\n  File \"<exuvia worker>\", line 3 in main\n\n\
        Extension modules: numpy (total: 1)\n";

    #[test]
    fn the_crashed_thread_is_named_without_our_own_frames() {
        let frames = crashed(REPORT.as_bytes());
        let expected = Frame { file: "/a \"b/w.py".into(), line: 12, function: "spread".into() };
        assert_eq!(frames, [expected]);
        assert_eq!(main_thread(REPORT.as_bytes()).len(), 1);
    }

    #[test]
    fn anything_may_be_in_the_pipe() {
        for report in [&b""[..], b"\xff\xfe", b"Current thread", b"  File \"", b"\n\n"] {
            assert_eq!(crashed(report), []);
            assert_eq!(main_thread(report), []);
        }
    }
}
