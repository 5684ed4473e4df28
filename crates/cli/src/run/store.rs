//! A folder with unpacked bundles, for as long as one command runs.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

/// Private to this user and, where root runs the command, to the group of isolates. Gone when
/// dropped.
pub(crate) struct Store {
    private: TempDir,
}

// === impl Store ===

impl Store {
    /// `group` is that of isolates where it is not our own.
    pub(crate) fn new(group: Option<u32>) -> io::Result<Self> {
        let private = tempfile::Builder::new()
            .prefix("exuvia-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()?;
        if group.is_some() {
            std::os::unix::fs::chown(private.path(), None, group)?;
            fs::set_permissions(private.path(), Permissions::from_mode(0o750))?;
        }
        let store = Self { private };
        fs::create_dir(store.path())?;
        // What is around it is private; isolates see it from inside.
        fs::set_permissions(store.path(), Permissions::from_mode(0o755))?;
        Ok(store)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.private.path().join("bundles")
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Only the super-user can remove what lies in folders that nobody may write.
        open(self.private.path());
    }
}

/// Lets the entries of all folders go. What cannot be opened stays.
fn open(folder: &Path) {
    let _ = fs::set_permissions(folder, Permissions::from_mode(0o700));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_it() {
        let store = Store::new(None).expect("a store");
        let private = store.private.path().to_path_buf();
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&private), mode(&store.path())), (0o700, 0o755));
        let inner = store.path().join("f/g");
        fs::create_dir_all(&inner).expect("folders");
        fs::write(inner.join("x"), "").expect("a file");
        for folder in [&inner, &store.path().join("f")] {
            fs::set_permissions(folder, Permissions::from_mode(0o555)).expect("permissions");
        }
        drop(store);
        assert!(!private.exists());
    }
}
