//! The names in a bundle: which are allowed, and which cannot be there together.

use std::collections::HashMap;

use crate::{
    Limits,
    error::{LimitKind, Wrong},
    show::Shown,
};

/// Names that are no part of a bundle, wherever they stand.
pub(crate) const IGNORED: [&str; 10] = [
    "__pycache__",
    ".git",
    ".hg",
    ".svn",
    ".venv",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".DS_Store",
    "__MACOSX",
];

/// The longest name of a file that file systems take.
const NAME_MAX: usize = 255;

/// All names of a bundle seen so far, folders included.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// By the name without its case.
    known: HashMap<String, Known>,
}

#[derive(Debug)]
struct Known {
    path: String,
    is_file: bool,
}

/// Whether `path` is no part of a bundle.
pub(crate) fn is_ignored(path: &str) -> bool {
    path.split('/').any(|part| IGNORED.contains(&part))
}

/// `path` as text, if a bundle may have it. It has no slash at its end.
pub(crate) fn checked<'a>(path: &'a [u8], limits: &Limits) -> Result<&'a str, Wrong> {
    let text = std::str::from_utf8(path)
        .map_err(|_| Wrong::entry(&String::from_utf8_lossy(path), "its name is not UTF-8"))?;
    if path.len() as u64 > limits.path {
        return Err(Wrong::limit(LimitKind::Path, text, path.len() as u64, limits.path));
    }
    let depth = text.split('/').count() as u64;
    if depth > limits.depth {
        return Err(Wrong::limit(LimitKind::Depth, text, depth, limits.depth));
    }
    match fault(text) {
        Some(why) => Err(Wrong::entry(text, why)),
        None => Ok(text),
    }
}

fn fault(path: &str) -> Option<&'static str> {
    if path.is_empty() {
        return Some("an entry has no name");
    }
    if path.starts_with('/') {
        return Some("its path is absolute: paths begin at the bundle's top");
    }
    if path.contains('\\') {
        return Some("its path has a backslash: write `/` between folders");
    }
    if path.chars().any(char::is_control) {
        return Some("its name has a control character");
    }
    path.split('/').find_map(|part| match part {
        "" => Some("its path has an empty part"),
        "." | ".." => Some("its path has `.` or `..`: write it without"),
        part if part.len() > NAME_MAX => Some("its name has more than 255 bytes"),
        _ => None,
    })
}

// === impl Tree ===

impl Tree {
    /// Takes in a file, with the folders it is in.
    pub(crate) fn file(&mut self, path: &str) -> Result<(), Wrong> {
        if let Some((folder, _)) = path.rsplit_once('/') {
            self.folder(folder)?;
        }
        self.insert(path, true)
    }

    /// Takes in a folder, with those it is in.
    pub(crate) fn folder(&mut self, path: &str) -> Result<(), Wrong> {
        for (end, _) in path.match_indices('/') {
            self.insert(&path[..end], false)?;
        }
        self.insert(path, false)
    }

    /// How many files and folders there are.
    pub(crate) fn len(&self) -> u64 {
        self.known.len() as u64
    }

    fn insert(&mut self, path: &str, is_file: bool) -> Result<(), Wrong> {
        let known = Known { path: path.into(), is_file };
        let Some(other) = self.known.get(&path.to_lowercase()) else {
            self.known.insert(path.to_lowercase(), known);
            return Ok(());
        };
        let why = if other.path != path {
            format!("it differs from `{}` in case only", Shown(&other.path))
        } else if other.is_file != is_file {
            "it is a file and also a folder".into()
        } else if is_file {
            "it is there twice".into()
        } else {
            return Ok(());
        };
        Err(Wrong::entry(path, why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_bundle_or_mislead_are_refused() {
        let limits = Limits::default();
        for good in ["main.py", "a/b/c.py", "größe.py", "a b/..c/d..", ".hidden", "C:/x"] {
            assert_eq!(checked(good.as_bytes(), &limits).expect(good), good);
        }
        for (bad, why) in [
            ("/etc/passwd", "absolute"),
            ("../x", "`..`"),
            ("a/../../x", "`..`"),
            ("./x", "`.`"),
            ("a//b", "empty part"),
            ("a\\b", "backslash"),
            ("a\0b", "control"),
            ("a\nb", "control"),
            ("", "no name"),
            (&"x".repeat(256), "255"),
        ] {
            let error = checked(bad.as_bytes(), &limits).expect_err(bad).to_string();
            assert!(error.contains(why), "{bad:?}: {error}");
        }
        let error = checked(b"\xff\xfe", &limits).expect_err("no text").to_string();
        assert!(error.contains("not UTF-8"), "{error}");
        let error = checked("x/".repeat(40).as_bytes(), &limits).expect_err("deep").to_string();
        assert!(error.contains("folders in one another"), "{error}");
        let error = checked("x".repeat(513).as_bytes(), &limits).expect_err("long").to_string();
        assert!(error.contains("too long"), "{error}");
    }

    #[test]
    fn names_that_cannot_stand_side_by_side_are_refused() {
        for (names, why) in [
            (&["a.py", "a.py"][..], "there twice"),
            (&["a.py", "A.py"], "case only"),
            (&["pkg/a.py", "PKG/b.py"], "case only"),
            (&["straße/a", "STRASSE/b", "Straße/c"], "case only"),
            (&["a", "a/b"], "also a folder"),
            (&["a/b", "a"], "also a folder"),
        ] {
            let mut tree = Tree::default();
            let result: Result<(), Wrong> = names.iter().try_for_each(|name| tree.file(name));
            let error = result.expect_err(why).to_string();
            assert!(error.contains(why), "{names:?}: {error}");
        }
        let mut tree = Tree::default();
        for name in ["a/b/c", "a/b/d", "a/e"] {
            tree.file(name).expect(name);
        }
        tree.folder("a/b").expect("known");
        assert_eq!(tree.len(), 5);
    }
}
