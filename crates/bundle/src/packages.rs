//! The packages a bundle needs, and those that are installed.

use std::{
    fmt,
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    str::FromStr,
};

use pep440_rs::{Version, VersionSpecifiers};

use crate::{Manifest, show::Shown};

/// A package by the name `pip install` takes, with versions that will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    text: String,
    /// By the rules of PEP 503.
    name: String,
    versions: VersionSpecifiers,
}

/// A package that is not there, or not in a version that will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What the bundle asks for.
    pub requirement: Requirement,
    /// The version that is there.
    pub installed: Option<String>,
}

/// The longest requirement that is read.
const LONGEST: usize = 200;

/// Bytes of a METADATA file that are looked at; name and version are in its first lines.
const METADATA: u64 = 64 << 10;

/// Entries of a folder of packages that are looked at.
const ENTRIES: usize = 100_000;

// === impl Requirement ===

impl Requirement {
    /// As the bundle has it, trimmed.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The package's name by the rules of PEP 503: lower case, `-` for any run of `-`, `_`, `.`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a version will do. One that is not by PEP 440 does if any will.
    #[must_use]
    pub fn takes(&self, version: &str) -> bool {
        match Version::from_str(version) {
            Ok(version) => self.versions.contains(&version),
            Err(_) => self.versions.is_empty(),
        }
    }
}

impl FromStr for Requirement {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let wrong = |why: &str| format!("`{}` {why}", Shown(text));
        if text.is_empty() {
            return Err("is empty: name a package, like numpy".into());
        }
        if text.chars().count() > LONGEST {
            return Err(wrong("is too long for a package"));
        }
        let end = text
            .find(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c))
            .unwrap_or(text.len());
        let (name, rest) = (&text[..end], text[end..].trim());
        let outer = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        if !outer(name.chars().next()) || !outer(name.chars().next_back()) {
            return Err(wrong("does not begin with the name of a package, like numpy"));
        }
        match rest.chars().next() {
            Some('[') => return Err(wrong("has extras: name the packages they stand for")),
            Some('@') => return Err(wrong("has an address: name the package alone")),
            _ if rest.contains(';') => {
                return Err(wrong("has a marker: leave out what follows `;`"));
            }
            Some(c) if !"<>=!~".contains(c) => {
                return Err(wrong("is no package with versions, like pandas>=3,<4"));
            }
            _ => {}
        }
        let versions = VersionSpecifiers::from_str(rest)
            .map_err(|_| wrong("has no versions as PEP 440 writes them, like pandas>=3,<4"))?;
        Ok(Self { text: text.into(), name: normal(name), versions })
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A name by the rules of PEP 503.
fn normal(name: &str) -> String {
    let parts = name.split(['-', '_', '.']).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("-").to_ascii_lowercase()
}

// === impl Missing ===

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.requirement)?;
        match &self.installed {
            Some(version) => write!(f, " ({} is installed)", Shown(version)),
            None => Ok(()),
        }
    }
}

/// What the manifest asks for and the environment does not have. `installed` are names and versions,
/// as [`installed`] gives them; the first of a name counts.
#[must_use]
pub fn check_packages(manifest: &Manifest, installed: &[(String, String)]) -> Vec<Missing> {
    let missing = manifest.packages.iter().filter_map(|requirement| {
        let found = installed.iter().find(|(name, _)| normal(name) == requirement.name);
        let version = found.map(|(_, version)| version);
        match version {
            Some(version) if requirement.takes(version) => None,
            _ => Some(Missing { requirement: requirement.clone(), installed: version.cloned() }),
        }
    });
    missing.collect()
}

/// The command that installs what is missing, fit for a shell.
#[must_use]
pub fn install_command(python: &Path, missing: &[Missing]) -> String {
    let python = quoted(&python.display().to_string());
    missing.iter().fold(format!("{python} -m pip install"), |command, missing| {
        format!("{command} {}", quoted(missing.requirement.text()))
    })
}

/// A word as a POSIX shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Names and versions of what is installed in folders of packages (`site-packages`), in the order of
/// these, by reading metadata: no Python runs. What cannot be read is left out.
#[must_use]
pub fn installed(folders: &[PathBuf]) -> Vec<(String, String)> {
    let found = folders.iter().filter_map(|folder| fs::read_dir(folder).ok());
    let entries = found.flat_map(|entries| entries.take(ENTRIES).flatten());
    entries.filter_map(|entry| metadata(&entry.path())).collect()
}

fn metadata(path: &Path) -> Option<(String, String)> {
    let file = match path.extension()?.to_str()? {
        "dist-info" => path.join("METADATA"),
        // What distributions install, and old versions of setuptools: a folder or a file.
        "egg-info" if path.is_dir() => path.join("PKG-INFO"),
        "egg-info" => path.to_owned(),
        _ => return None,
    };
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut lines = BufReader::new(File::open(file).ok()?.take(METADATA)).lines();
    let (mut name, mut version) = (None, None);
    while let Some(Ok(line)) = lines.next() {
        // The description follows an empty line, and may say anything.
        let Some((key, value)) = line.split_once(':') else { break };
        match key.to_ascii_lowercase().as_str() {
            "name" => name = name.or(Some(value.trim().to_owned())),
            "version" => version = version.or(Some(value.trim().to_owned())),
            _ => {}
        }
        if let (Some(name), Some(version)) = (&name, &version) {
            return Some((name.clone(), version.clone()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(text: &str) -> Requirement {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn versions_are_compared_by_pep_440_and_names_by_pep_503() {
        for (text, version, takes) in [
            ("numpy", "2.4.6", true),
            ("numpy>=2", "2.4.6", true),
            ("numpy >=2, <2.4", "2.4.6", false),
            ("numpy==2.4.*", "2.4.6", true),
            ("numpy==2.4", "2.4.0", true),
            ("numpy!=2.4.6", "2.4.6", false),
            ("numpy~=2.1", "2.4.6", true),
            ("numpy~=2.1.0", "2.4.6", false),
            ("numpy>2.4", "2.10", true),
            ("numpy<=2.10", "2.9", true),
            ("numpy>=2.5", "2.5.0rc1", false),
            ("torch==2.1", "2.1.0+cu121", true),
            ("odd", "not a version", true),
            ("odd>=1", "not a version", false),
        ] {
            assert_eq!(need(text).takes(version), takes, "{text} and {version}");
        }
        assert_eq!(need("Scikit_Learn").name(), "scikit-learn");
        assert_eq!(need("zope.Interface--x").name(), "zope-interface-x");
        for bad in [
            "",
            " ",
            "-x",
            "x-",
            "nümpy",
            "numpy 2",
            "numpy>=",
            "numpy>=x",
            "numpy[all]",
            "numpy @ https://x",
            "numpy; python_version > '3'",
            "numpy>=1; x",
            "numpy>=1,",
            "../x",
            "--index-url=x",
        ] {
            assert!(bad.parse::<Requirement>().is_err(), "{bad}");
        }
        assert!("x".repeat(201).parse::<Requirement>().is_err());
    }

    #[test]
    fn what_is_missing_comes_with_the_command_that_installs_it() {
        let manifest = Manifest {
            packages: vec![need("numpy"), need("pandas>=3"), need("Scikit-Learn"), need("nope")],
            ..Manifest::default()
        };
        let known = [("NumPy", "2.4.6"), ("pandas", "2.3.1"), ("scikit_learn", "1.9.1")]
            .map(|(name, version)| (name.to_owned(), version.to_owned()));
        let missing = check_packages(&manifest, &known);
        let shown: Vec<String> = missing.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["pandas>=3 (2.3.1 is installed)", "nope"]);
        assert_eq!(
            install_command(Path::new("/srv/my venv/bin/python"), &missing),
            "'/srv/my venv/bin/python' -m pip install 'pandas>=3' nope"
        );
    }

    #[test]
    fn installed_packages_are_read_from_their_metadata() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, text).expect("a file");
        };
        write(
            "numpy-2.4.6.dist-info/METADATA",
            "Metadata-Version: 2.4\nName: numpy\nVersion: 2.4.6\n",
        );
        write("six.egg-info", "Metadata-Version: 1.0\nName: six\nVersion: 1.17\n");
        write("old-1.egg-info/PKG-INFO", "name: old\nversion: 1\n");
        write("liar-1.dist-info/METADATA", "Name: liar\n\nVersion: 9\n");
        write("empty-1.dist-info/RECORD", "");
        write("numpy/METADATA", "Name: other\nVersion: 1\n");
        let mut found = installed(&[folder.path().into(), "/nowhere".into()]);
        found.sort();
        let expected = [("numpy", "2.4.6"), ("old", "1"), ("six", "1.17")]
            .map(|(name, version)| (name.to_owned(), version.to_owned()));
        assert_eq!(found, expected);
    }
}
