//! What an image does to itself before it imports anything.

use std::{fs, io, path::PathBuf};

use libc::sock_filter;
use rustix::{
    process::{
        DumpableBehavior, Signal, getegid, geteuid, getppid, set_dumpable_behavior,
        set_parent_process_death_signal,
    },
    thread::UnshareFlags,
};

use crate::{
    error::{JailError, Step},
    fence::{self, Readable},
    filter::rules::{Setting, main_stack, policy},
    isolate::Layers,
    kernel,
    tier::Tier,
    view,
};

/// What an image is closed into.
#[derive(Debug, Clone)]
pub struct Image {
    /// What the machine has: with [`Tier::None`] nothing is done.
    pub tier: Tier,
    /// Files and folders that can be read, by absolute path. What is not there is left out. In
    /// [`Tier::Full`] there is nothing else, and links on the way to them are links there too.
    pub view: Vec<PathBuf>,
    /// The folder with unpacked bundles. An isolate sees one of them.
    pub store: Option<PathBuf>,
    /// Who to become, if this is root.
    pub user: Option<(u32, u32)>,
}

/// An image in its place: what its isolates close themselves in with.
#[derive(Debug)]
pub struct Sealed {
    pub(crate) tier: Tier,
    /// Whether the host has all rights over isolates, whoever they belong to.
    pub(crate) of_root: bool,
    /// User and group of the image and its isolates. Not asked for after the fork: in a user
    /// namespace without a map everybody is nobody.
    pub(crate) owner: (u32, u32),
    pub(crate) readable: Vec<Readable>,
    pub(crate) store: Option<PathBuf>,
    /// For a process that is the first one of its namespace.
    pub(crate) filter: Vec<sock_filter>,
    /// Private writable memory, and all memory.
    pub(crate) data: u64,
    pub(crate) size: u64,
}

/// Moves this process, which has one thread, into a root and a network of its own, without any
/// rights. In [`Tier::Reduced`] it only gives up rights.
///
/// # Errors
/// The first step that failed; the process must end.
pub fn enter(image: &Image) -> Result<Sealed, JailError> {
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    let is_root = user == 0 && image.tier != Tier::None;
    let owner = match image.user {
        Some((0, _)) => return Err(JailError::refused("user", "an image is never root's")),
        Some(owner) if is_root => owner,
        _ if is_root => return Err(JailError::refused("user", "root must become another")),
        _ => (user, group),
    };
    let mut sealed = Sealed {
        tier: image.tier,
        of_root: is_root,
        owner,
        readable: Vec::new(),
        store: image.store.clone(),
        filter: Vec::new(),
        data: 0,
        size: 0,
    };
    if image.tier == Tier::None {
        return Ok(sealed);
    }
    let parent = getppid();
    if image.tier == Tier::Full {
        enter_namespaces(is_root, owner)?;
        view::build(image, owner)?;
        sealed.store = image.store.as_ref().map(|_| view::STORE.into());
        sealed.filter = policy(Setting { pid: 1, mounts: true, stack: main_stack() }).compile();
    }
    if is_root {
        become_user(owner)?;
    }
    give_up(parent)?;
    fence::keep_apart()?;
    sealed.readable = readable(image);
    sealed.settle()?;
    Ok(sealed)
}

fn enter_namespaces(is_root: bool, owner: (u32, u32)) -> Result<(), JailError> {
    let mut flags =
        UnshareFlags::NEWNS | UnshareFlags::NEWNET | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    if !is_root {
        flags |= UnshareFlags::NEWUSER;
    }
    kernel::unshare(flags).step("namespaces")?;
    if !is_root {
        kernel::map_ids(owner.0, owner.1).step("map of users")?;
    }
    rustix::system::sethostname(b"isolate").step("host name")
}

/// Gives up being root: for good, since neither id is kept anywhere.
fn become_user((user, group): (u32, u32)) -> Result<(), JailError> {
    use rustix::{
        fs::{Gid, Uid},
        thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
    };
    let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
    set_thread_groups(&[]).step("groups")?;
    set_thread_res_gid(group, group, group).step("group")?;
    set_thread_res_uid(user, user, user).step("user")
}

/// No rights from here on; isolates make their namespaces without any.
fn give_up(parent: Option<rustix::process::Pid>) -> Result<(), JailError> {
    kernel::drop_capabilities().step("capabilities")?;
    rustix::thread::set_no_new_privs(true).step("no_new_privs")?;
    // The kernel takes both away with a change of users. Without the first, a process's files in
    // /proc are root's, and nobody else can write the maps of isolates.
    set_dumpable_behavior(DumpableBehavior::Dumpable).step("PR_SET_DUMPABLE")?;
    set_parent_process_death_signal(Some(Signal::KILL)).step("PR_SET_PDEATHSIG")?;
    if getppid() != parent {
        return Err(JailError::refused("PR_SET_PDEATHSIG", "the host is gone"));
    }
    Ok(())
}

/// What isolates may read, as it is now: an isolate looks for nothing any more.
fn readable(image: &Image) -> Vec<Readable> {
    let mut paths = image.view.clone();
    if image.tier == Tier::Full {
        // Our own files. What else is in these folders the view put there.
        paths.extend(["/etc", "/sys"].map(PathBuf::from));
    }
    let mut paths: Vec<_> = paths.iter().filter_map(|path| fs::canonicalize(path).ok()).collect();
    paths.sort();
    paths.dedup_by(|below, above| below.starts_with(above));
    paths.iter().filter_map(|path| Readable::find(path)).collect()
}

// === impl Sealed ===

impl Sealed {
    /// Says that the image has imported everything: what memory it has now is not its isolates'.
    ///
    /// # Errors
    /// `/proc` is not there.
    pub fn settle(&mut self) -> Result<(), JailError> {
        let status = fs::read_to_string("/proc/self/status").step("/proc/self/status")?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
            number.map(|kib| kib * 1024).ok_or(io::ErrorKind::InvalidData).step(name)
        };
        self.data = field("VmData:")?;
        self.size = field("VmSize:")?;
        Ok(())
    }

    /// The namespaces that isolates are to be cloned with.
    pub fn clone_flags(&self) -> u64 {
        self.clone_flags_with(Layers::ALL)
    }

    /// The same, without those of layers that are off. Without a user namespace there are no others.
    pub fn clone_flags_with(&self, layers: Layers) -> u64 {
        if self.tier != Tier::Full || !layers.has(Layers::USER) {
            return 0;
        }
        let mut flags = libc::CLONE_NEWUSER;
        for (layer, flag) in [
            (Layers::PID, libc::CLONE_NEWPID),
            (Layers::MOUNTS, libc::CLONE_NEWNS),
            (Layers::IPC, libc::CLONE_NEWIPC),
            (Layers::UTS, libc::CLONE_NEWUTS),
        ] {
            if layers.has(layer) {
                flags |= flag;
            }
        }
        flags as u64
    }
}
