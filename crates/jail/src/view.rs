//! The root of an image: a tmpfs with what may be seen bound into it, read-only.
//!
//! ```text
//! /               read-only; what the view names, at the same paths
//! /dev            null, full, random, urandom. No zero: mapped shared, it is memory nobody counts
//! /etc            passwd, group, nsswitch.conf, hosts of our own, where the view has none
//! /sys/devices/system/cpu   which processors there are, copied
//! /proc           the machine's, for the image alone
//! /.bundles       the store, for the image alone
//! /app /session   empty, for isolates to mount on
//! /tmp            a link to /session, unless the view has something there
//! /.empty         empty, to be bound over what an isolate may not see
//! ```

use std::{
    collections::{BTreeSet, VecDeque},
    ffi::{CString, OsString},
    fs, io,
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::Mode,
    mount::{
        MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change,
        unmount,
    },
};

use crate::{
    error::{JailError, Step},
    image::Image,
    kernel::{self, NO_DEVICES, NO_EXEC, NO_SET_UID, READ_ONLY},
};

/// Where the bundles are for the image.
pub(crate) const STORE: &str = "/.bundles";
/// A folder without anything in it.
pub(crate) const EMPTY: &str = "/.empty";
/// Where a session's files are.
pub(crate) const SESSION: &str = "/session";
/// Where a bundle is.
pub(crate) const APP: &str = "/app";

/// Where the machine's root is, while the view is being made.
const OLD: &str = "/.old";
const DEVICES: [&str; 4] = ["null", "full", "random", "urandom"];
const PROCESSORS: &str = "sys/devices/system/cpu";
/// More links than this on the way to a path are a circle to the kernel too.
const MOST_LINKS: usize = 40;
/// For names, links, folders and our own small files.
const ROOT_OPTIONS: &std::ffi::CStr = c"size=4m,nr_inodes=16384,mode=0755";

/// A view that is being made. All paths are relative to the root.
#[derive(Debug, Default)]
struct View {
    /// What is bound, with all below it.
    bound: BTreeSet<PathBuf>,
}

/// What lies at a path in the machine's root, all links on the way followed.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    is_folder: bool,
}

/// Makes the view and moves into it. The namespaces are there already.
pub(crate) fn build(image: &Image, owner: (u32, u32)) -> Result<(), JailError> {
    let mask = rustix::process::umask(Mode::from_raw_mode(0o022));
    move_into_new_root()?;
    let mut view = View::default();
    let mut paths = image.view.clone();
    paths.sort();
    for path in &paths {
        view.show(path)?;
    }
    view.devices()?;
    view.own_files(owner).step("files of the view")?;
    view.folders(image.store.as_deref())?;
    unmount(OLD, UnmountFlags::DETACH).step("the old root")?;
    fs::remove_dir(OLD).step("the old root")?;
    let flags = READ_ONLY | NO_SET_UID | NO_DEVICES | NO_EXEC;
    kernel::restrict_mount(c"/", flags, false).step("read-only root")?;
    rustix::process::umask(mask);
    Ok(())
}

/// The machine's root is then at [`OLD`].
fn move_into_new_root() -> Result<(), JailError> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", flags).step("private mounts")?;
    // What it hides is back when it has become the root.
    let places = ["/tmp", "/mnt", "/usr"];
    let place = places.into_iter().find(|place| Path::new(place).is_dir());
    let place = place.ok_or(io::ErrorKind::NotFound).step("a place for the root")?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("root", place, "tmpfs", flags, ROOT_OPTIONS).step("a new root")?;
    let old = format!("{place}{OLD}");
    fs::create_dir(&old).step("a new root")?;
    rustix::process::pivot_root(place, old.as_str()).step("pivot_root")?;
    rustix::process::chdir("/").step("the new root")
}

// === impl View ===

impl View {
    /// Makes a path of the machine visible, if it is there.
    fn show(&mut self, path: &Path) -> Result<(), JailError> {
        let step = || format!("the view of {}", path.display());
        if !path.is_absolute() {
            return Err(io::ErrorKind::InvalidInput).step_with(step);
        }
        let Some(place) = self.resolve(path).step_with(step)? else { return Ok(()) };
        if place.path.as_os_str().is_empty() {
            return Err(io::Error::other("the whole root is no view")).step_with(step);
        }
        if self.covers(&place.path) {
            return Ok(());
        }
        bind(&place.path, place.is_folder, READ_ONLY | NO_SET_UID | NO_DEVICES).step_with(step)?;
        self.bound.insert(place.path);
        Ok(())
    }

    /// Follows a path in the machine's root, and makes the links on the way. None: not there.
    fn resolve(&self, path: &Path) -> io::Result<Option<Place>> {
        let mut here = PathBuf::new();
        let mut ahead: VecDeque<OsString> = names(path);
        let mut links = 0;
        let mut is_folder = true;
        while let Some(name) = ahead.pop_front() {
            if name == ".." {
                here.pop();
                continue;
            }
            here.push(&name);
            let metadata = match fs::symlink_metadata(Path::new(OLD).join(&here)) {
                Ok(metadata) => metadata,
                Err(error) if is_missing(&error) => return Ok(None),
                Err(error) => return Err(error),
            };
            is_folder = metadata.is_dir();
            if !metadata.is_symlink() {
                continue;
            }
            links += 1;
            if links > MOST_LINKS {
                return Ok(None);
            }
            let target = fs::read_link(Path::new(OLD).join(&here))?;
            self.link(&here, &target)?;
            here.pop();
            if target.is_absolute() {
                here.clear();
            }
            for name in names(&target).into_iter().rev() {
                ahead.push_front(name);
            }
            is_folder = true;
        }
        Ok(Some(Place { path: here, is_folder }))
    }

    /// What is bound has its links already.
    fn link(&self, path: &Path, target: &Path) -> io::Result<()> {
        if self.covers(path) {
            return Ok(());
        }
        make_parents(path)?;
        match symlink(target, in_root(path)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    fn covers(&self, path: &Path) -> bool {
        path.ancestors().any(|above| self.bound.contains(above))
    }

    fn devices(&mut self) -> Result<(), JailError> {
        for name in DEVICES {
            let path = Path::new("dev").join(name);
            if !self.covers(&path) {
                bind(&path, false, READ_ONLY | NO_SET_UID | NO_EXEC)
                    .step_with(|| format!("/dev/{name}"))?;
            }
        }
        Ok(())
    }

    fn own_files(&self, (user, group): (u32, u32)) -> io::Result<()> {
        let passwd = format!(
            "root:x:0:0:root:/:/usr/sbin/nologin\n\
             isolate:x:{user}:{group}:isolate:{SESSION}:/usr/sbin/nologin\n"
        );
        let groups = format!("root:x:0:\nisolate:x:{group}:\n");
        self.write("etc/passwd", passwd.as_bytes())?;
        self.write("etc/group", groups.as_bytes())?;
        self.write("etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files\n")?;
        self.write("etc/hosts", b"127.0.0.1 localhost\n::1 localhost\n")?;
        for name in ["online", "possible", "present"] {
            let path = format!("{PROCESSORS}/{name}");
            if let Ok(processors) = fs::read(Path::new(OLD).join(&path)) {
                self.write(&path, &processors)?;
            }
        }
        Ok(())
    }

    /// Writes a file where the view has none.
    fn write(&self, path: &str, content: &[u8]) -> io::Result<()> {
        let path = Path::new(path);
        if self.covers(path) || in_root(path).symlink_metadata().is_ok() {
            return Ok(());
        }
        make_parents(path)?;
        fs::write(in_root(path), content)
    }

    fn folders(&self, store: Option<&Path>) -> Result<(), JailError> {
        for folder in [SESSION, APP, EMPTY] {
            fs::create_dir(folder).step_with(|| folder.to_owned())?;
        }
        // Left as it is where the view has something below it.
        if fs::symlink_metadata("/tmp").is_err() {
            symlink("session", "/tmp").step("/tmp")?;
        }
        let flags = NO_SET_UID | NO_DEVICES | NO_EXEC;
        bind(Path::new("proc"), true, flags).step("/proc")?;
        if let Some(store) = store {
            let place = self.resolve(store).step("the store")?;
            let place = place.ok_or(io::ErrorKind::NotFound).step("the store")?;
            fs::create_dir(STORE).step("the store")?;
            let flags = READ_ONLY | NO_SET_UID | NO_DEVICES;
            bind_at(&place.path, STORE, flags).step("the store")?;
        }
        Ok(())
    }
}

/// Shows a path, relative to the machine's root, at the same path.
fn bind(path: &Path, is_folder: bool, flags: u64) -> io::Result<()> {
    make_parents(path)?;
    let target = in_root(path);
    let made =
        if is_folder { fs::create_dir(&target) } else { fs::File::create_new(&target).map(drop) };
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    bind_at(path, &target, flags)
}

/// With everything mounted below it: to leave that out would show what it hides.
fn bind_at(path: &Path, target: impl AsRef<Path>, flags: u64) -> io::Result<()> {
    let target = target.as_ref();
    mount_bind_recursive(Path::new(OLD).join(path), target)?;
    let target = CString::new(target.as_os_str().as_bytes())?;
    kernel::restrict_mount(&target, flags, true)
}

fn in_root(path: &Path) -> PathBuf {
    Path::new("/").join(path)
}

fn make_parents(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |above| fs::create_dir_all(in_root(above)))
}

fn names(path: &Path) -> VecDeque<OsString> {
    let name = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().filter_map(name).collect()
}

fn is_missing(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | NotADirectory | PermissionDenied)
}
