//! What a bundle says of itself.

mod own;
mod schema;
mod theirs;

use std::{fmt, str::FromStr, time::Duration};

use exuvia_core::FileMode;

pub use self::schema::schema;
use crate::{bundle::BundleFile, error::Wrong, packages::Requirement, show::Shown};

/// The name of our manifest.
pub const OWN_NAME: &str = "exuvia.bundle.json";
/// The name of Aardvark's manifest.
pub const THEIR_NAME: &str = "aardvark.manifest.json";

/// What a bundle says of itself, by whichever manifest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest {
    /// The manifest's name, if there is one.
    pub file: Option<&'static str>,
    /// For people.
    pub description: Option<String>,
    /// What answers.
    pub entrypoint: Entrypoint,
    /// What must be installed.
    pub packages: Vec<Requirement>,
    /// Modules to import before the call is there.
    pub preload: Vec<String>,
    /// What it asks for.
    pub wants: Wants,
    /// What its author should know: what is ignored, and why.
    pub notes: Vec<String>,
}

/// The function that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entrypoint {
    /// Its module, from the bundle's top.
    pub module: String,
    /// Its name there, with dots where it is an attribute of an attribute.
    pub attribute: String,
}

/// What a bundle asks for; `None` where it says nothing. Nothing is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wants {
    /// Wall time of a call.
    pub wall: Option<Duration>,
    /// CPU time of a call.
    pub cpu: Option<Duration>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of a result.
    pub result: Option<u64>,
    /// Bytes of output.
    pub output: Option<u64>,
    /// Threads.
    pub threads: Option<u32>,
    /// Whether it writes to `/session`.
    pub mode: Option<FileMode>,
    /// Bytes under `/session`.
    pub quota: Option<u64>,
    /// Files and folders under `/session`.
    pub inodes: Option<u64>,
}

/// The manifests met while a bundle is read.
#[derive(Debug, Default)]
pub(crate) struct Found {
    own: Option<Vec<u8>>,
    theirs: Option<Vec<u8>>,
}

// === impl Found ===

impl Found {
    /// A place for the content, if `path` is a manifest's.
    pub(crate) fn wants(&self, path: &str) -> Option<Vec<u8>> {
        [OWN_NAME, THEIR_NAME].contains(&path).then(Vec::new)
    }

    pub(crate) fn keep(&mut self, path: &str, content: Vec<u8>) {
        let place = if path == OWN_NAME { &mut self.own } else { &mut self.theirs };
        *place = Some(content);
    }

    /// Ours before theirs before none.
    pub(crate) fn read(self, files: &[BundleFile]) -> Result<Manifest, Wrong> {
        let mut manifest = match (&self.own, &self.theirs) {
            (Some(own), _) => own::read(own)?,
            (None, Some(theirs)) => theirs::read(theirs)?,
            (None, None) => Manifest { notes: elsewhere(files), ..Manifest::default() },
        };
        if self.own.is_some() && self.theirs.is_some() {
            manifest
                .notes
                .push(format!("`{THEIR_NAME}` is ignored, because `{OWN_NAME}` is there"));
        }
        Ok(manifest)
    }
}

/// A whole folder was packed where its content was meant: the most common slip.
fn elsewhere(files: &[BundleFile]) -> Vec<String> {
    let inner = files.iter().find_map(|file| {
        let (folder, name) = file.path.split_once('/')?;
        [OWN_NAME, THEIR_NAME].contains(&name).then(|| {
            format!(
                "there is no manifest at the bundle's top, but one in `{}`: pack what is in that \
                 folder, not the folder",
                Shown(folder)
            )
        })
    });
    inner.into_iter().collect()
}

impl Manifest {
    /// Reads our manifest, without a bundle.
    ///
    /// # Errors
    /// [`Wrong::Manifest`], with all faults.
    pub fn parse(text: &[u8]) -> Result<Self, Wrong> {
        own::read(text)
    }

    /// Reads Aardvark's manifest, without a bundle.
    ///
    /// # Errors
    /// [`Wrong::Manifest`], with all faults.
    pub fn parse_aardvark(text: &[u8]) -> Result<Self, Wrong> {
        theirs::read(text)
    }
}

// === impl Entrypoint ===

impl Default for Entrypoint {
    fn default() -> Self {
        Self { module: "main".into(), attribute: "handler".into() }
    }
}

impl FromStr for Entrypoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!("`{}` {why}: write module:function, like main:handler", Shown(text))
        };
        let (module, attribute) = text.split_once(':').ok_or_else(|| wrong("names no function"))?;
        if !is_dotted(module) {
            return Err(wrong("does not begin with the name of a module"));
        }
        if !is_dotted(attribute) {
            return Err(wrong("does not end with the name of a function"));
        }
        Ok(Self { module: module.into(), attribute: attribute.into() })
    }
}

impl fmt::Display for Entrypoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.module, self.attribute)
    }
}

/// Python names with dots between them (keywords are left to Python).
pub(crate) fn is_dotted(text: &str) -> bool {
    text.split('.').all(|name| {
        let mut chars = name.chars();
        chars.next().is_some_and(|c| c == '_' || c.is_alphabetic())
            && chars.all(|c| c == '_' || c.is_alphanumeric())
    })
}
