//! What an isolate does to itself before there is anything foreign in it.

use std::{
    ffi::CString,
    fs,
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, open},
    mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change},
    process::{
        DumpableBehavior, Resource, Rlimit, Signal, chdir, getrlimit, set_dumpable_behavior,
        set_parent_process_death_signal, setrlimit,
    },
};

use crate::{
    error::{JailError, Step},
    fence::Fence,
    filter::rules::{MOST_STACK, Setting, main_stack, policy},
    image::Sealed,
    kernel,
    tier::Tier,
    view::{APP, EMPTY, SESSION, STORE},
};

/// What one isolate gets, for all of its life.
#[derive(Debug, Clone)]
pub struct Isolate {
    /// The name of its bundle's folder in the store. It is at `/app`; in [`Tier::Reduced`] it is in
    /// the store.
    pub bundle: Option<String>,
    /// Its files.
    pub session: Session,
    /// Bytes of private writable memory beyond the image's.
    pub memory: u64,
    /// Threads, the first one included. Where there are no namespaces, memory alone limits them.
    pub threads: u32,
    /// Where `/session` is a folder of the host's, in [`Tier::Reduced`].
    pub session_folder: Option<PathBuf>,
    /// All. Only to find out what each of them keeps away some are left out.
    pub layers: Layers,
}

/// What an isolate may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Whether anything. If not, `/session` is there and empty.
    pub writable: bool,
    /// Bytes in all files together; in [`Tier::Reduced`], in each.
    pub bytes: u64,
    /// Files, folders and links.
    pub inodes: u64,
}

/// Layers of an isolate that can be left out, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layers(u32);

/// A process that is closed in.
#[derive(Debug)]
pub struct Confined {
    /// The session's folder, if it may be written: to measure it and to read what is left.
    pub session: Option<OwnedFd>,
    /// Where refused system calls are heard of; none without that layer.
    pub listener: Option<OwnedFd>,
    /// Bytes of private writable memory that the image had.
    pub baseline: u64,
}

/// Descriptors there may be. Those of each other kind of thing, in pipes and sockets, follow from it.
const DESCRIPTORS: u64 = 256;
/// Signals that may wait, in a user namespace of its own.
const SIGNALS: u64 = 128;
/// Address space beyond memory: libraries, stacks and heaps of threads that are only reserved. It
/// bounds page tables, which nothing else does.
const ADDRESSES: u64 = 16 << 30;

// === impl Layers ===

impl Layers {
    /// `RLIMIT_*`.
    pub const LIMITS: Self = Self(1);
    /// Giving up capabilities.
    pub const CAPABILITIES: Self = Self(1 << 1);
    /// Landlock.
    pub const LANDLOCK: Self = Self(1 << 2);
    /// The system call filter.
    pub const SECCOMP: Self = Self(1 << 3);
    /// A user namespace. Without it there are no others.
    pub const USER: Self = Self(1 << 4);
    /// A pid namespace.
    pub const PID: Self = Self(1 << 5);
    /// A mount namespace.
    pub const MOUNTS: Self = Self(1 << 6);
    /// An ipc namespace.
    pub const IPC: Self = Self(1 << 7);
    /// A uts namespace.
    pub const UTS: Self = Self(1 << 8);
    /// Every one of them.
    pub const ALL: Self = Self((1 << 9) - 1);

    /// Those of these bits that are layers.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// As numbers.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// All but these.
    #[must_use]
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Whether all of these are in.
    pub const fn has(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }
}

/// Closes this process in: a copy of the image with one thread, just cloned with
/// [`Sealed::clone_flags_with`] the isolate's layers. Leaves no descriptor open but those it gives.
///
/// # Errors
/// The first step that failed; the process must end.
pub fn confine(sealed: &Sealed, isolate: &Isolate) -> Result<Confined, JailError> {
    let layers = match sealed.tier {
        Tier::None => Layers::LIMITS,
        _ => isolate.layers,
    };
    let namespaces = sealed.clone_flags_with(layers) as i32;
    set_parent_process_death_signal(Some(Signal::KILL)).step("PR_SET_PDEATHSIG")?;
    if namespaces & libc::CLONE_NEWUSER != 0 {
        kernel::map_ids(sealed.owner.0, sealed.owner.1).step("map of users")?;
    }
    let has_mounts = namespaces & libc::CLONE_NEWNS != 0;
    if has_mounts {
        make_mounts(isolate, sealed.store.is_some())?;
    }
    let place = Place::of(sealed, isolate, has_mounts)?;
    chdir(&place.home).step("the session's folder")?;
    let session = place.writable.as_ref().map(|path| {
        open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    });
    let session = session.transpose().step("the session's folder")?;
    if layers.has(Layers::LIMITS) {
        set_limits(sealed, isolate, namespaces != 0)?;
    }
    if layers.has(Layers::CAPABILITIES) {
        kernel::drop_capabilities().step("capabilities")?;
    }
    if sealed.of_root {
        // Where the host is an ordinary user it could then not read the paths of refused calls.
        // What keeps guests away from each other's memory is Landlock, and not to see each other.
        set_dumpable_behavior(DumpableBehavior::NotDumpable).step("PR_SET_DUMPABLE")?;
    }
    if layers.has(Layers::LANDLOCK) {
        place.fence(sealed).shut()?;
    }
    let listener = layers.has(Layers::SECCOMP).then(|| filter(sealed, namespaces)).transpose()?;
    Ok(Confined { session, listener, baseline: sealed.data })
}

/// `/session`, `/app`, and nothing in `/proc` and the store.
fn make_mounts(isolate: &Isolate, has_store: bool) -> Result<(), JailError> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).step("private mounts")?;
    if isolate.session.writable {
        let Session { bytes, inodes, .. } = isolate.session;
        // The kernel takes 0 for no limit; the folder itself is one of the names.
        let (bytes, inodes) = (bytes.max(1), inodes.saturating_add(1));
        let options =
            CString::new(format!("size={bytes},nr_inodes={inodes},mode=0700")).step("/session")?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("session", SESSION, "tmpfs", flags, options.as_c_str()).step("/session")?;
    }
    if let Some(bundle) = &isolate.bundle {
        let path = Path::new(STORE).join(name_only(bundle)?);
        mount_bind(&path, APP).step_with(|| format!("the bundle {bundle}"))?;
    }
    mount_bind(EMPTY, "/proc").step("/proc")?;
    if has_store {
        mount_bind(EMPTY, STORE).step("the store")?;
    }
    Ok(())
}

/// A bundle's name is one of a folder, and nothing else.
fn name_only(bundle: &str) -> Result<&Path, JailError> {
    let path = Path::new(bundle);
    let mut parts = path.components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(name)), None) if name == bundle => Ok(path),
        _ => Err(JailError::refused("the bundle", "its name is not that of a folder")),
    }
}

fn filter(sealed: &Sealed, namespaces: i32) -> Result<OwnedFd, JailError> {
    let own;
    let program = if namespaces & libc::CLONE_NEWPID != 0 {
        &sealed.filter
    } else {
        let pid = std::process::id();
        let mounts = sealed.tier == Tier::Full;
        own = policy(Setting { pid, mounts, stack: main_stack() }).compile();
        &own
    };
    kernel::install_filter(program).step("seccomp")
}

fn set_limits(sealed: &Sealed, isolate: &Isolate, has_user: bool) -> Result<(), JailError> {
    let memory = sealed.data.saturating_add(isolate.memory);
    let addresses = sealed.size.saturating_add(isolate.memory).saturating_add(ADDRESSES);
    // Memory that the host gives for a result is a file too.
    let file = match sealed.tier {
        Tier::Reduced if isolate.session.writable => isolate.session.bytes,
        _ => isolate.session.bytes.max(isolate.memory),
    };
    let mut limits = vec![
        (Resource::As, addresses),
        (Resource::Fsize, file),
        (Resource::Core, 0),
        (Resource::Nofile, DESCRIPTORS),
        (Resource::Memlock, 0),
        (Resource::Msgqueue, 0),
        (Resource::Nice, 0),
        (Resource::Rtprio, 0),
    ];
    if has_user {
        // Linux 5.14 counts these for each user namespace; elsewhere they are the host's as well.
        limits.push((Resource::Nproc, isolate.threads.into()));
        limits.push((Resource::Sigpending, SIGNALS));
    }
    for (resource, most) in limits {
        let most = getrlimit(resource).maximum.map_or(most, |old| old.min(most));
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        setrlimit(resource, limit).step_with(|| format!("{resource:?}"))?;
    }
    for (resource, most) in [(Resource::Data, memory), (Resource::Stack, MOST_STACK)] {
        // The host may grant more memory for one call: the hard limit stays.
        let old = getrlimit(resource);
        let least = [old.maximum, if resource == Resource::Stack { old.current } else { None }];
        let most = least.into_iter().flatten().fold(most, u64::min);
        let limit = Rlimit { current: Some(most), ..old };
        setrlimit(resource, limit).step_with(|| format!("{resource:?}"))?;
    }
    Ok(())
}

/// Where an isolate's things are, as it sees them.
#[derive(Debug)]
struct Place {
    /// Where it starts.
    home: PathBuf,
    writable: Option<PathBuf>,
    /// Its bundle, where that is not bound to `/app`.
    bundle: Option<PathBuf>,
}

// === impl Place ===

impl Place {
    fn of(sealed: &Sealed, isolate: &Isolate, has_mounts: bool) -> Result<Self, JailError> {
        let folder = match sealed.tier {
            Tier::Full => Some(SESSION.into()),
            _ => isolate.session_folder.clone(),
        };
        let may_write = isolate.session.writable && (has_mounts || sealed.tier != Tier::Full);
        let mut bundle = None;
        if let (Some(name), Some(store), false) = (&isolate.bundle, &sealed.store, has_mounts) {
            let path = store.join(name_only(name)?);
            fs::metadata(&path).step_with(|| format!("the bundle {name}"))?;
            bundle = Some(path);
        }
        Ok(Self {
            home: folder.clone().unwrap_or_else(|| "/".into()),
            writable: folder.filter(|_| may_write),
            bundle,
        })
    }

    fn fence<'a>(&'a self, sealed: &'a Sealed) -> Fence<'a> {
        let mut folders: Vec<&Path> = self.bundle.iter().map(PathBuf::as_path).collect();
        if self.home != Path::new("/") {
            folders.push(&self.home);
        }
        // As they are now: what was mounted on them is another folder to Landlock.
        if sealed.tier == Tier::Full {
            folders.push(Path::new(APP));
        }
        Fence {
            readable: sealed.readable.iter().collect(),
            folders,
            writable: self.writable.as_deref(),
        }
    }
}
