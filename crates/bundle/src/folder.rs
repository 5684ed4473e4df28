//! A bundle in a folder. Whoever writes to it meanwhile cannot lead the reader out of it: the kernel
//! resolves every path beneath the folder (`openat2`).

use std::{fs::File, io, os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{self, AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};

use crate::{
    Limits,
    error::{LimitKind, Wrong},
    tree::{self, Tree},
};

/// An open folder.
#[derive(Debug)]
pub(crate) struct Folder(OwnedFd);

/// The files found so far.
struct Walk<'a> {
    root: &'a Folder,
    limits: &'a Limits,
    tree: Tree,
    files: Vec<String>,
}

// A pipe or device is opened before it is known to be one; it must not make us wait.
const READ: OFlags =
    OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

// === impl Folder ===

impl Folder {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(fs::open(path, FOLDER, Mode::empty())?))
    }

    /// The paths of all files.
    pub(crate) fn files(&self, limits: &Limits) -> Result<Vec<String>, Wrong> {
        let mut walk = Walk { root: self, limits, tree: Tree::default(), files: Vec::new() };
        walk.folder(&self.0, "")?;
        Ok(walk.files)
    }

    /// The content of a file.
    pub(crate) fn content(&self, path: &str) -> Result<File, Wrong> {
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let file = fs::openat2(&self.0, path, READ, Mode::empty(), beneath);
        let file = file.map_err(|error| match error {
            Errno::XDEV => Wrong::entry(path, "it is a link that leaves the bundle"),
            Errno::LOOP => Wrong::entry(path, "it is a link that leads to itself, or out"),
            Errno::NOENT => Wrong::entry(path, "it is a link to nothing, or was just removed"),
            Errno::NXIO => Wrong::entry(path, "it is a socket or a pipe: bundles have files only"),
            error => Wrong::io(path, error),
        })?;
        match FileType::from_raw_mode(stat(&file, path)?.st_mode) {
            FileType::RegularFile => Ok(File::from(file)),
            FileType::Directory => Err(Wrong::entry(path, "it is a link to a folder: copy it")),
            _ => Err(Wrong::entry(path, "it is a device, a socket or a pipe, or leads to one")),
        }
    }
}

fn stat(file: &OwnedFd, path: &str) -> Result<fs::Stat, Wrong> {
    fs::fstat(file).map_err(|error| Wrong::io(path, error))
}

// === impl Walk ===

impl Walk<'_> {
    fn folder(&mut self, folder: &OwnedFd, path: &str) -> Result<(), Wrong> {
        let entries = Dir::read_from(folder).map_err(|error| Wrong::io(path, error))?;
        for entry in entries {
            let entry = entry.map_err(|error| Wrong::io(path, error))?;
            let name = entry.file_name().to_bytes();
            if name == b"."
                || name == b".."
                || std::str::from_utf8(name).is_ok_and(tree::is_ignored)
            {
                continue;
            }
            let within = match path {
                "" => name.to_vec(),
                path => [path.as_bytes(), b"/", name].concat(),
            };
            self.entry(folder, name, tree::checked(&within, self.limits)?)?;
            let (found, limit) = (self.tree.len(), self.limits.entries);
            if found > limit {
                return Err(Wrong::limit(LimitKind::Entries, "", found, limit));
            }
        }
        Ok(())
    }

    fn entry(&mut self, folder: &OwnedFd, name: &[u8], path: &str) -> Result<(), Wrong> {
        let found = fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| Wrong::io(path, error))?;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => {
                self.tree.folder(path)?;
                let inner =
                    fs::openat2(folder, name, FOLDER, Mode::empty(), ResolveFlags::NO_SYMLINKS)
                        .map_err(|error| Wrong::io(path, error))?;
                self.folder(&inner, path)
            }
            FileType::RegularFile => self.file(path),
            FileType::Symlink => {
                self.root.content(path)?;
                self.file(path)
            }
            _ => Err(Wrong::entry(
                path,
                "it is a device, a socket or a pipe: bundles have files only",
            )),
        }
    }

    fn file(&mut self, path: &str) -> Result<(), Wrong> {
        self.tree.file(path)?;
        self.files.push(path.into());
        Ok(())
    }
}
