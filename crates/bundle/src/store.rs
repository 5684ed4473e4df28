//! Bundles written down where isolates see them: `STORE/FINGERPRINT`.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{
    Bundle, BundleError,
    bundle::{BundleFile, Content},
    error::Wrong,
};

/// A folder that is being written; gone when dropped, unless it was named.
struct Draft {
    folder: PathBuf,
    folders: Vec<PathBuf>,
}

// === impl Bundle ===

impl Bundle {
    /// Writes the bundle under `store`, once: a folder that has its fingerprint for a name is whole,
    /// because it gets that name last. Files are readable by all and writable by nobody.
    ///
    /// Any number of callers, of any number of processes, may do this at the same time. `store` must
    /// belong to the host alone.
    ///
    /// # Errors
    /// [`Wrong::Changed`] when the contents are no longer those that were read, [`Wrong::Io`].
    pub fn unpack(&self, store: impl AsRef<Path>) -> Result<PathBuf, BundleError> {
        self.unpack_into(store.as_ref()).map_err(|why| BundleError::new(&self.path, why))
    }

    fn unpack_into(&self, store: &Path) -> Result<PathBuf, Wrong> {
        let target = store.join(self.fingerprint().to_string());
        if is_folder(&target) {
            return Ok(target);
        }
        let stored = |error| Wrong::io(&store.display().to_string(), error);
        let mut draft = Draft::new(store).map_err(stored)?;
        let mut written = 0;
        self.source.each(&self.limits, &mut |path, content| {
            let Ok(known) = self.files.binary_search_by(|file| file.path.as_str().cmp(path)) else {
                return Err(Wrong::Changed { path: path.into() });
            };
            written += 1;
            draft.write(&self.files[known], content)
        })?;
        if written != self.files.len() {
            return Err(Wrong::Changed { path: String::new() });
        }
        draft.close().map_err(stored)?;
        match fs::rename(&draft.folder, &target) {
            Ok(()) => draft.keep(),
            // Somebody else was faster, with the same contents.
            Err(_) if is_folder(&target) => {}
            Err(error) => return Err(stored(error)),
        }
        Ok(target)
    }
}

fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

// === impl Draft ===

impl Draft {
    fn new(store: &Path) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        loop {
            // A process with this id may have died here before.
            let chance = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
            let folder = store.join(format!(".draft-{}-{number}-{chance:x}", process::id()));
            match DirBuilder::new().mode(0o700).create(&folder) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => return made.map(|()| Self { folder, folders: Vec::new() }),
            }
        }
    }

    fn write(&mut self, known: &BundleFile, content: &mut Content<'_>) -> Result<(), Wrong> {
        let failed = |error| Wrong::io(&known.path, error);
        let mut file = self.create(&known.path).map_err(failed)?;
        let mut hasher = blake3::Hasher::new();
        content(&mut |piece| {
            hasher.update(piece);
            file.write_all(piece).map_err(failed)
        })?;
        if hasher.finalize() != known.hash {
            return Err(Wrong::Changed { path: known.path.clone() });
        }
        // The umask does not count here.
        file.set_permissions(Permissions::from_mode(0o444)).map_err(failed)
    }

    fn create(&mut self, path: &str) -> io::Result<File> {
        for (end, _) in path.match_indices('/') {
            let folder = self.folder.join(&path[..end]);
            match DirBuilder::new().mode(0o700).create(&folder) {
                Ok(()) => self.folders.push(folder),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        let path = self.folder.join(path);
        OpenOptions::new().write(true).create_new(true).mode(0o400).open(path)
    }

    /// Shuts the folders, the outermost last.
    fn close(&self) -> io::Result<()> {
        let all = self.folders.iter().rev().chain([&self.folder]);
        all.into_iter()
            .try_for_each(|folder| fs::set_permissions(folder, Permissions::from_mode(0o555)))
    }

    /// It has its name now.
    fn keep(mut self) {
        self.folder = PathBuf::new();
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.folder.as_os_str().is_empty() {
            // What cannot be removed now has a name that says what it is.
            let _ = discard(&self.folder);
        }
    }
}

/// Removes an unpacked bundle, or a whole store: folders that nobody may write to do not let their
/// entries go by themselves. Only for folders that [`Bundle::unpack`] made, and with no isolate
/// that uses them.
///
/// # Errors
/// What the file system says.
pub fn discard(folder: &Path) -> io::Result<()> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            // The entry's own kind: a link is not followed.
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    fs::remove_dir_all(folder)
}
