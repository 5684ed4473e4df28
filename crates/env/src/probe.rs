//! Asking an interpreter what it is, by running it.

use std::{
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use serde::Deserialize;

/// How long an interpreter may take to say what it is.
pub const LIMIT: Duration = Duration::from_secs(20);

/// The most that is read of what an interpreter prints.
const MOST_OUTPUT: u64 = 64 << 10;

/// Written to be read by any Python 3, so that an old one is told apart from a broken one.
const PROGRAM: &str = "\
import json, struct, sys, sysconfig
print(json.dumps({
    'version': list(sys.version_info[:3]),
    'implementation': sys.implementation.name,
    'executable': sys.executable or '',
    'prefix': sys.prefix,
    'base_prefix': sys.base_prefix,
    'free_threaded': bool(sysconfig.get_config_var('Py_GIL_DISABLED')),
    'pointer_size': struct.calcsize('P'),
    'packages': [p for p in sys.path if p.endswith('-packages') and p.isprintable()],
}))";

/// What an interpreter says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Facts {
    /// `sys.version_info`, the first three.
    pub version: (u8, u8, u8),
    /// `sys.implementation.name`: `cpython`.
    pub implementation: String,
    /// `sys.executable`, or empty.
    pub executable: PathBuf,
    /// `sys.prefix`: the virtual environment, if it is one.
    pub prefix: PathBuf,
    /// `sys.base_prefix`: the installation it was made from.
    pub base_prefix: PathBuf,
    /// Whether the build has no global interpreter lock.
    pub free_threaded: bool,
    /// Bytes in a pointer.
    pub pointer_size: u8,
    /// The folders of `sys.path` that packages are installed in.
    #[serde(default)]
    pub packages: Vec<PathBuf>,
}

/// Runs `executable` in `folder` and asks it what it is.
///
/// # Errors
/// A phrase that says why it does not answer, fit to follow "does not run:".
pub fn probe(executable: &Path, folder: &Path, limit: Duration) -> Result<Facts, String> {
    let mut child = Command::new(executable)
        .args(["-I", "-c", PROGRAM])
        // A version manager's shim chooses by the folder it is started in.
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| spawn_reason(executable, &error))?;
    let stdout = read_aside(child.stdout.take());
    let stderr = read_aside(child.stderr.take());
    let deadline = Instant::now() + limit;
    let status = wait(&mut child, deadline).map_err(|reason| {
        reason.unwrap_or_else(|| format!("it gave no answer within {limit:?}"))
    })?;
    let text = |pipe: &mpsc::Receiver<Vec<u8>>| {
        // A grandchild may hold the pipe open for longer than the interpreter lives.
        let left = deadline.saturating_duration_since(Instant::now());
        let bytes = pipe.recv_timeout(left.min(Duration::from_secs(2))).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    if !status.success() {
        return Err(exit_reason(&status.to_string(), &text(&stderr)));
    }
    let answer = text(&stdout);
    // A site customisation may print lines of its own before ours.
    let line = answer.lines().rev().find(|line| line.starts_with('{')).unwrap_or_default();
    serde_json::from_str(line).map_err(|_| {
        let shown: String = answer.trim().chars().take(80).collect();
        format!("it does not answer as a Python does (it printed `{shown}`)")
    })
}

/// Waits for the end of `child`, and kills it at `deadline`: then the error is `None`.
fn wait(child: &mut Child, deadline: Instant) -> Result<ExitStatus, Option<String>> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if Instant::now() >= deadline => {
                // Both fail only if it has ended meanwhile.
                let _ = child.kill();
                let _ = child.wait();
                return Err(None);
            }
            Ok(None) => thread::sleep(Duration::from_millis(3)),
            Err(error) => return Err(Some(error.to_string())),
        }
    }
}

/// Reads a pipe on a thread of its own, so that a full one never blocks the child.
fn read_aside(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            let mut pipe = pipe.take(MOST_OUTPUT);
            // What was read before an error is still worth showing.
            let _ = pipe.read_to_end(&mut bytes);
            let _ = std::io::copy(&mut pipe.into_inner(), &mut std::io::sink());
        }
        let _ = sender.send(bytes);
    });
    receiver
}

fn spawn_reason(executable: &Path, error: &std::io::Error) -> String {
    match std::fs::read_link(executable) {
        // The usual end of a virtual environment whose base was upgraded away.
        Ok(base) if !executable.exists() => {
            format!("it points to {}, which is not there any more", base.display())
        }
        _ => error.to_string(),
    }
}

fn exit_reason(status: &str, stderr: &str) -> String {
    if stderr.contains("Unknown option: -I") {
        return "it is Python 2".into();
    }
    match stderr.lines().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => {
            let line: String = line.trim().chars().take(200).collect();
            format!("{line} ({status})")
        }
        None => format!("it ended with {status}"),
    }
}
