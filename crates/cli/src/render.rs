//! Failures in words for people who don't write Python.

use std::path::Path;

use exuvia_core::{
    Diagnostics, Failure, Frame, HandlerInfo, InputFault, Resource,
    outcome::render_frames,
    units::{duration_text, size_text},
};
use exuvia_env::Environment;

use crate::{
    exit::{Exit, Stop},
    targets::shown,
};

/// Packages whose name to install is not the name to import.
const PACKAGES: [(&str, &str); 12] = [
    ("PIL", "pillow"),
    ("attr", "attrs"),
    ("bs4", "beautifulsoup4"),
    ("cv2", "opencv-python"),
    ("dateutil", "python-dateutil"),
    ("dotenv", "python-dotenv"),
    ("fitz", "pymupdf"),
    ("google.protobuf", "protobuf"),
    ("serial", "pyserial"),
    ("skimage", "scikit-image"),
    ("sklearn", "scikit-learn"),
    ("yaml", "pyyaml"),
];

/// What is known around a failure.
pub(crate) struct Around<'a> {
    /// The targets as typed.
    pub(crate) targets: &'a [String],
    pub(crate) handler: Option<&'a HandlerInfo>,
    pub(crate) environment: &'a Environment,
    /// Where the command was typed: paths under it are shown short.
    pub(crate) cwd: &'a Path,
    /// Where modules are looked for.
    pub(crate) modules: &'a Path,
    pub(crate) traceback: bool,
    /// The flag that gives a call more time, if that is all it needs.
    pub(crate) time_flag: Option<&'static str>,
}

// === impl Around ===

impl Around<'_> {
    /// What to call the handler.
    fn name(&self) -> &str {
        match (self.handler, self.targets) {
            (Some(handler), _) => &handler.name,
            (None, [target, ..]) => target,
            (None, []) => "the handler",
        }
    }

    /// Whether `module`, which is missing, is one that was asked for.
    fn asks_for(&self, module: &str) -> bool {
        self.targets.iter().any(|target| {
            let asked = target.split(':').next().unwrap_or(target);
            asked == module || asked.starts_with(&format!("{module}."))
        })
    }
}

/// The error to show for `failure`.
pub(crate) fn stop(
    failure: Failure,
    diagnostics: Option<Diagnostics>,
    around: &Around<'_>,
) -> Stop {
    let mut lines = vec![headline(&failure, around)];
    lines.extend(details(&failure, around));
    if around.traceback {
        lines.extend(traceback(&failure));
    }
    Stop {
        exit: exit(&failure),
        message: lines.join("\n"),
        failure: Some(Box::new(failure)),
        diagnostics: diagnostics.map(Box::new),
    }
}

/// The code a failed call ends in.
pub(crate) fn exit(failure: &Failure) -> Exit {
    match failure {
        Failure::Exception { .. } | Failure::Result { .. } => Exit::Raised,
        Failure::Malformed { .. } | Failure::Input { .. } | Failure::Refused { .. } => Exit::Input,
        Failure::Load { .. } => Exit::NotFound,
        Failure::Timeout { .. } => Exit::TimedOut,
        Failure::Limit { .. } => Exit::OverLimit,
        Failure::Denied { .. } => Exit::Denied,
        Failure::Crash { .. }
        | Failure::Exited { .. }
        | Failure::WorkerLost { .. }
        | Failure::Rejected { .. } => Exit::WorkerLost,
        Failure::Cancelled => Exit::Interrupted,
        Failure::Host { .. } => Exit::Internal,
    }
}

fn headline(failure: &Failure, around: &Around<'_>) -> String {
    let name = around.name();
    match failure {
        Failure::Malformed { message } => format!("the input cannot be read: {message}"),
        Failure::Input { .. } => format!("the input does not fit {name}"),
        Failure::Refused { .. } => format!("{name} refused the input: {failure}"),
        Failure::Exception { class, message, .. } => match (class.as_str(), message.trim()) {
            (class, "") => format!("{name} failed with {class}"),
            // Python shows only the key.
            ("KeyError", key) => format!("{name} failed: there is no entry {key} (KeyError)"),
            (class, message) => format!("{name} failed: {message} ({class})"),
        },
        Failure::Result { path, message } => {
            format!("what {name} returned cannot be written: {path}: {message}")
        }
        Failure::Timeout { limit_ms, started, .. } => {
            let limit = duration_text(std::time::Duration::from_millis(*limit_ms));
            if *started {
                format!("{name} ran longer than its limit of {limit} and was stopped")
            } else {
                format!("{name} was not begun within its limit of {limit}")
            }
        }
        Failure::Crash { signal, .. } => {
            format!("{name} crashed its Python process ({signal})")
        }
        Failure::Exited { status, .. } => {
            format!("{name} ended its Python process with status {status}")
        }
        Failure::Limit { resource, limit, .. } => {
            let limit = match resource {
                Resource::Cpu => duration_text(std::time::Duration::from_millis(*limit)),
                Resource::Threads => limit.to_string(),
                _ => size_text(*limit),
            };
            format!("{name} took more {} than its limit of {limit}", resource.noun())
        }
        Failure::Denied { .. } => format!("{name}: {failure}"),
        Failure::Load { message, .. } => match missing_module(failure) {
            Some(module) if around.asks_for(&module) => format!("there is no module {module}"),
            Some(module) => format!("the package {module} is not installed"),
            None => message.replace(&format!("{}/", around.cwd.display()), ""),
        },
        Failure::WorkerLost { .. } | Failure::Rejected { .. } => format!("{name}: {failure}"),
        Failure::Cancelled => "stopped".into(),
        Failure::Host { message } => format!("a fault in Exuvia: {message}"),
    }
}

/// The lines below the first.
fn details(failure: &Failure, around: &Around<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    if let Failure::Input { faults } = failure {
        lines.extend(faults.iter().map(|fault| format!("  {}", fault_line(fault))));
    }
    if matches!(failure, Failure::Input { .. } | Failure::Malformed { .. })
        && let Some(handler) = around.handler
    {
        lines.push(format!("function: {}", handler.signature()));
    }
    if let Some(frame) = innermost(failure) {
        let file = shown(Path::new(&frame.file), around.cwd);
        lines.push(match frame.function.as_str() {
            "<module>" => format!("where: {file}:{}", frame.line),
            function => format!("where: {file}:{} in {function}", frame.line),
        });
    }
    if let Some(module) = missing_module(failure) {
        lines.extend(missing_module_lines(&module, around));
    }
    if matches!(failure, Failure::Timeout { .. })
        && let Some(flag) = around.time_flag
    {
        lines.push(format!("hint: allow more time with --{flag}"));
    }
    let has_more = match failure {
        Failure::Exception { traceback, .. } | Failure::Load { traceback, .. } => {
            !traceback.trim().is_empty()
        }
        other => other.frames().len() > 1,
    };
    if has_more && !around.traceback {
        lines.push("hint: --traceback shows how it came to this".into());
    }
    lines
}

/// The name by which an installed package is imported, where that is another one.
pub(crate) fn import_name(package: &str) -> Option<&'static str> {
    PACKAGES.iter().find(|(_, known)| *known == package).map(|(import, _)| *import)
}

fn missing_module_lines(module: &str, around: &Around<'_>) -> Vec<String> {
    if around.asks_for(module) {
        let folder = around.modules.display();
        return vec![format!("hint: modules are looked for in {folder} and in the environment")];
    }
    let environment = around.environment;
    let package = PACKAGES
        .iter()
        .find(|(import, _)| *import == module)
        .map_or_else(|| module.split('.').next().unwrap_or(module), |(_, package)| *package);
    vec![
        format!("python: {environment}"),
        format!("hint: {} -m pip install {package}", quoted(&environment.executable)),
    ]
}

/// One thing wrong with the input: `days/3: must be a number`.
fn fault_line(fault: &InputFault) -> String {
    match fault.pointer.strip_prefix('/') {
        // A JSON Pointer writes `~` and `/` inside a name as `~0` and `~1`.
        Some(path) => {
            format!("{}: {}", path.replace("~1", "/").replace("~0", "~"), fault.message)
        }
        None => fault.message.clone(),
    }
}

/// The innermost frame in the user's own code, else the innermost one.
fn innermost(failure: &Failure) -> Option<Frame> {
    let own = |frame: &&Frame| !is_library(&frame.file);
    // Tracebacks have the innermost frame last, stacks first.
    let last = |frames: &[Frame]| frames.iter().rev().find(own).or(frames.last()).cloned();
    match failure {
        Failure::Exception { frames, .. } => last(frames),
        // An import that fails at our own doing has no place in anyone's file.
        Failure::Load { traceback, .. } => last(&frames_of(traceback)).filter(|frame| own(&frame)),
        _ => {
            let frames = failure.frames();
            frames.iter().find(own).or(frames.first()).cloned()
        }
    }
}

/// The frames in a traceback as Python prints it: `  File "weather.py", line 3, in <module>`. That
/// of a syntax error ends without `in`.
fn frames_of(traceback: &str) -> Vec<Frame> {
    let frame = |line: &str| {
        let (file, rest) = line.trim_start().strip_prefix("File \"")?.split_once("\", line ")?;
        let (number, function) = rest.split_once(", in ").unwrap_or((rest, "<module>"));
        let line = number.trim().parse().ok()?;
        Some(Frame { file: file.into(), line, function: function.into() })
    };
    traceback.lines().filter_map(frame).collect()
}

fn is_library(file: &str) -> bool {
    file.starts_with('<')
        || ["/site-packages/", "/dist-packages/", "/lib/python3."]
            .iter()
            .any(|part| file.contains(part))
}

fn traceback(failure: &Failure) -> Option<String> {
    let text = match failure {
        Failure::Exception { traceback, .. } | Failure::Load { traceback, .. } => traceback.clone(),
        other => render_frames(other.frames()),
    };
    let text = text.trim_end();
    (!text.is_empty()).then(|| text.to_owned())
}

/// The module that an import did not find.
fn missing_module(failure: &Failure) -> Option<String> {
    let (text, before, quote) = match failure {
        // The target itself, in the words of the worker.
        Failure::Load { message, traceback } if traceback.is_empty() => {
            (message.as_str(), "there is no module ", '`')
        }
        // What the target imports, in those of Python.
        Failure::Load { traceback, .. } => {
            let last = traceback.lines().rev().find(|line| !line.trim().is_empty())?;
            (last.strip_prefix("ModuleNotFoundError: ")?, "No module named ", '\'')
        }
        Failure::Exception { class, message, .. } if class == "ModuleNotFoundError" => {
            (message.as_str(), "No module named ", '\'')
        }
        _ => return None,
    };
    let name = text.strip_prefix(before)?.split(quote).nth(1)?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// `path` as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+~@%".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use exuvia_core::{HandlerKind, Param};
    use exuvia_env::Origin;

    use super::*;

    fn frame(file: &str, line: u32, function: &str) -> Frame {
        Frame { file: file.into(), line, function: function.into() }
    }

    #[track_caller]
    fn check(failure: Failure, traceback: bool, code: i32, expected: &str) {
        let param =
            Param { name: "n".into(), annotation: "int".into(), required: true, default: None };
        let handler = HandlerInfo {
            module: "weather".into(),
            name: "spread".into(),
            kind: HandlerKind::Sync,
            streams: false,
            reads: false,
            params: vec![param],
            doc: String::new(),
            open: false,
            returns: String::new(),
            routes: Vec::new(),
        };
        let environment = Environment {
            executable: "/srv/my app/.venv/bin/python".into(),
            version: (3, 13, 0),
            prefix: "/srv/my app/.venv".into(),
            implementation: "cpython".into(),
            is_virtual: true,
            packages: Vec::new(),
            origin: Origin::VirtualEnv,
        };
        let around = Around {
            targets: &["weather.py:spread".into(), "pkg.mod:f".into()],
            handler: Some(&handler),
            environment: &environment,
            cwd: Path::new("/srv"),
            modules: Path::new("/srv/app"),
            traceback,
            time_flag: Some("timeout"),
        };
        let stop = stop(failure, None, &around);
        assert_eq!((stop.exit.code(), stop.message.as_str()), (code, expected));
    }

    fn exception(class: &str, message: &str) -> Failure {
        Failure::Exception {
            class: class.into(),
            message: message.into(),
            traceback: "Traceback (most recent call last):\n  ...\n".into(),
            frames: vec![
                frame("/srv/weather.py", 12, "spread"),
                frame("/srv/my app/.venv/lib/python3.13/site-packages/pandas/x.py", 99, "loc"),
            ],
        }
    }

    #[test]
    fn what_a_function_raises_is_told_in_words_with_its_place() {
        check(
            exception("ValueError", "no such unit"),
            false,
            1,
            "spread failed: no such unit (ValueError)\nwhere: weather.py:12 in spread\n\
             hint: --traceback shows how it came to this",
        );
        check(
            exception("KeyError", "'temp'"),
            true,
            1,
            "spread failed: there is no entry 'temp' (KeyError)\nwhere: weather.py:12 in spread\n\
             Traceback (most recent call last):\n  ...",
        );
        check(
            exception("MemoryError", ""),
            false,
            1,
            "spread failed with MemoryError\nwhere: weather.py:12 in spread\n\
             hint: --traceback shows how it came to this",
        );
    }

    #[test]
    fn a_limit_is_told_as_people_write_it() {
        for (resource, limit, expected) in [
            (Resource::Cpu, 1500, "spread took more CPU time than its limit of 1500ms"),
            (Resource::Memory, 128 << 20, "spread took more memory than its limit of 128MiB"),
            (Resource::Threads, 32, "spread took more threads than its limit of 32"),
        ] {
            check(Failure::Limit { resource, limit, used: None }, false, 8, expected);
        }
    }

    #[test]
    fn each_fault_of_the_input_has_a_line() {
        let faults = vec![
            InputFault { pointer: "/n".into(), message: "must be a whole number".into() },
            InputFault { pointer: "/days/3/a~1b".into(), message: "must be text".into() },
            InputFault { pointer: String::new(), message: "must be an object".into() },
        ];
        check(
            Failure::Input { faults },
            false,
            4,
            "the input does not fit spread\n  n: must be a whole number\n  \
             days/3/a/b: must be text\n  must be an object\nfunction: spread(n: int)",
        );
    }

    #[test]
    fn a_missing_package_is_named_with_the_command_that_installs_it() {
        let hint = "hint: --traceback shows how it came to this";
        let load = |module: &str| Failure::Load {
            message: "weather.py does not import".into(),
            traceback: format!(
                "Traceback (most recent call last):\n  File \"/srv/weather.py\", line 3, in <module>\n    \
                 import x\n  File \"<frozen importlib._bootstrap>\", line 1, in f\n\
                 ModuleNotFoundError: No module named '{module}'\n"
            ),
        };
        check(
            load("sklearn"),
            false,
            3,
            &format!(
                "the package sklearn is not installed\nwhere: weather.py:3\n\
                 python: 3.13.0 (/srv/my app/.venv/bin/python, from VIRTUAL_ENV)\n\
                 hint: '/srv/my app/.venv/bin/python' -m pip install scikit-learn\n{hint}"
            ),
        );
        let message = "cannot import /srv/weather.py: ValueError: x".to_owned();
        check(
            Failure::Load { message, traceback: "x\n".into() },
            false,
            3,
            &format!("cannot import weather.py: ValueError: x\n{hint}"),
        );
        check(
            Failure::Load { message: "there is no module `pkg`".into(), traceback: String::new() },
            false,
            3,
            "there is no module pkg\nhint: modules are looked for in /srv/app and in the environment",
        );
    }

    #[test]
    fn ends_of_the_worker_are_told_apart() {
        let frames = vec![frame("<frozen x>", 1, "y"), frame("/srv/weather.py", 7, "spin")];
        check(
            Failure::Timeout { limit_ms: 1500, started: true, frames: frames.clone() },
            true,
            5,
            "spread ran longer than its limit of 1500ms and was stopped\n\
             where: weather.py:7 in spin\nhint: allow more time with --timeout\n  \
             <frozen x>:1 in y\n  /srv/weather.py:7 in spin",
        );
        check(
            Failure::Crash { signal: "SIGSEGV".into(), number: 11, running: 1, frames },
            false,
            6,
            "spread crashed its Python process (SIGSEGV)\nwhere: weather.py:7 in spin\n\
             hint: --traceback shows how it came to this",
        );
        check(
            Failure::Exited { status: 3, running: 1 },
            false,
            6,
            "spread ended its Python process with status 3",
        );
        check(Failure::Host { message: "x".into() }, false, 70, "a fault in Exuvia: x");
    }
}
