//! Starting the interpreter, once for each process.

use std::{
    env,
    ffi::{CStr, OsStr, c_int},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use exuvia_env::{Environment, Request, find, probe};
use pyo3::{
    ffi,
    prelude::{PyAnyMethods, PyResult, Python},
};

use crate::StartError;

/// What [`Interpreter::start`] is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// A Python executable, or a virtual environment's folder. Else it is that of `VIRTUAL_ENV`,
    /// else the one the program was built with.
    pub python: Option<PathBuf>,
}

/// The interpreter of this process.
///
/// It runs until the process ends: Python cannot be started a second time. Dropping this writes
/// out what Python has printed; what it registered with `atexit` is not done.
#[derive(Debug)]
pub struct Interpreter {
    environment: Environment,
}

/// The libpython in this program.
struct Linked {
    version: (u8, u8),
    /// `3.13.0`, `3.14.0rc1`
    text: String,
    free_threaded: bool,
}

/// Held while one starts, so that of two threads one is told that the other was first.
static STARTING: Mutex<()> = Mutex::new(());

// === impl Interpreter ===

impl Interpreter {
    /// Starts the interpreter, in the virtual environment it was named by, if it was. The calling
    /// thread becomes what Python takes for the main one.
    ///
    /// Python installs no signal handlers, so Ctrl-C is the program's own affair (Python code that
    /// wants it says so with `signal.signal`, on this thread). Files are UTF-8 whatever the locale,
    /// as in Python 3.15. Python's variables (`PYTHONPATH` and others) count. One that makes a
    /// start impossible (a wrong `PYTHONHOME`) ends the process with CPython's message: it has no
    /// other way to say so.
    ///
    /// # Errors
    /// There is one already, or the named Python does not run here: see [`StartError`].
    pub fn start(options: &Options) -> Result<Self, StartError> {
        let _alone = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        if is_running() {
            return Err(StartError::AlreadyRunning);
        }
        let linked = Linked::look();
        if linked.free_threaded {
            return Err(StartError::FreeThreaded { linked: linked.text });
        }
        let environment = choose(options)?;
        let (major, minor, _) = environment.version;
        if (major, minor) != linked.version {
            return Err(StartError::OtherVersion {
                python: environment.executable,
                found: environment.version,
                linked: linked.text,
            });
        }
        initialise(&environment.executable);
        Python::attach(leave_interrupts_alone)
            .map_err(|error| StartError::Crippled { reason: error.to_string() })?;
        Ok(Self { environment })
    }

    /// Runs `work` attached to the interpreter. Any number of threads may call this; one of them
    /// runs at a time.
    pub fn attach<R>(&self, work: impl for<'py> FnOnce(Python<'py>) -> R) -> R {
        Python::attach(work)
    }

    /// The Python it was named by.
    #[must_use]
    pub fn environment(&self) -> &Environment {
        &self.environment
    }
}

impl Drop for Interpreter {
    fn drop(&mut self) {
        // A stream that somebody closed or replaced by `None` has nothing left to write.
        let _ = self.attach(flush);
    }
}

fn flush(py: Python<'_>) -> PyResult<()> {
    let sys = py.import("sys")?;
    let stdout = sys.getattr("stdout")?.call_method0("flush");
    sys.getattr("stderr")?.call_method0("flush")?;
    stdout.map(drop)
}

/// The first import of `signal`, whoever does it, catches Ctrl-C for Python where nobody else had
/// caught it, however the interpreter was started. So do it now, and take that back.
fn leave_interrupts_alone(py: Python<'_>) -> PyResult<()> {
    let signal = py.import("signal")?;
    let interrupt = signal.getattr("SIGINT")?;
    let handler = signal.call_method1("getsignal", (&interrupt,))?;
    if handler.is(&signal.getattr("default_int_handler")?) {
        signal.call_method1("signal", (&interrupt, signal.getattr("SIG_DFL")?))?;
    }
    Ok(())
}

// === which one ===

fn choose(options: &Options) -> Result<Environment, StartError> {
    let active = || env::var_os("VIRTUAL_ENV").filter(|folder| !folder.is_empty());
    let explicit = if let Some(python) = &options.python {
        (python.clone(), "`Options::python`")
    } else if let Some(folder) = active() {
        (folder.into(), "VIRTUAL_ENV")
    } else if let Some(python) = option_env!("EXUVIA_EMBED_BUILT_WITH") {
        (python.into(), "the build of this program")
    } else {
        return Err(StartError::NotNamed);
    };
    let request = Request {
        explicit: Some((explicit.0, explicit.1.into())),
        running: None,
        installed: None,
        targets: &[],
        // Without a working folder an absolute path still works.
        cwd: env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
        env: &|name| env::var_os(name),
        limit: probe::LIMIT,
    };
    Ok(find(&request)?)
}

// === impl Linked ===

impl Linked {
    fn look() -> Self {
        // JUSTIFICATION: which libpython was loaded is known to itself alone.
        // SAFETY: Py_GetVersion may be called before the interpreter is there, and returns a text
        // that is never freed.
        let text = unsafe { CStr::from_ptr(ffi::Py_GetVersion()) }.to_string_lossy();
        Self::parse(&text)
    }

    /// `3.13.0 (main, May  9 2026, 07:36:57) [GCC 12.2.0]`
    fn parse(text: &str) -> Self {
        let version = text.split_whitespace().next().unwrap_or_default();
        let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
        Self {
            version: (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)),
            text: version.into(),
            free_threaded: text.contains("free-threading build"),
        }
    }
}

// === the start itself ===

fn is_running() -> bool {
    // JUSTIFICATION: pyo3 asserts it, but does not tell.
    // SAFETY: Py_IsInitialized may be called at any time, attached or not.
    unsafe { ffi::Py_IsInitialized() != 0 }
}

unsafe extern "C" {
    /// Part of the stable ABI since 3.8; pyo3 leaves it out.
    static mut Py_UTF8Mode: c_int;
}

/// Starts the interpreter as `executable` would, and detaches this thread from it.
///
/// The program name is what leads CPython to `pyvenv.cfg` and thus to a virtual environment's
/// packages. (`PYTHONHOME` would lead it away from the standard library.) The function that sets it
/// has left the headers of newer versions, but stays in the stable ABI.
fn initialise(executable: &Path) {
    // The manual asks for static storage.
    let name: &'static [u32] = wide(executable.as_os_str()).leak();
    // JUSTIFICATION: pyo3 starts an interpreter, but not a virtual environment's, nor in UTF-8.
    // SAFETY: the name ends in 0, is never freed, and is of 32-bit characters, which wchar_t is
    // wherever exuvia-sys compiles. No interpreter runs that could read the mode meanwhile, and
    // STARTING keeps other callers of ours out. Py_InitializeEx returns with this thread attached,
    // which PyEval_SaveThread needs and undoes; the state it returns stays with the interpreter,
    // for the next attach to find.
    #[allow(deprecated, reason = "the struct that replaces it is not part of the stable ABI")]
    unsafe {
        // `python` does so by itself in the C locale, which a container mostly has; an embedded one
        // would take it for ASCII, and not find an environment whose path is not.
        (&raw mut Py_UTF8Mode).write(1);
        ffi::Py_SetProgramName(name.as_ptr().cast());
        ffi::Py_InitializeEx(0);
        ffi::PyEval_SaveThread();
    }
}

/// `text` as CPython decodes file names in UTF-8 mode: what is not UTF-8 as lone surrogates. Ended
/// by 0.
fn wide(text: &OsStr) -> Vec<u32> {
    let mut wide = Vec::with_capacity(text.len() + 1);
    for chunk in text.as_bytes().utf8_chunks() {
        wide.extend(chunk.valid().chars().map(u32::from));
        wide.extend(chunk.invalid().iter().map(|byte| 0xdc00 + u32::from(*byte)));
    }
    wide.push(0);
    wide
}
