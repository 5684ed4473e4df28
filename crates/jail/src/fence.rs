//! Landlock: which files, and nothing of any network.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use crate::error::JailError;

/// The newest version that was looked at. Of an older kernel it is what that has.
const ABI: ABI = ABI::V9;

/// Something that may be read.
#[derive(Debug, Clone)]
pub(crate) struct Readable {
    path: PathBuf,
    is_folder: bool,
}

/// What a process may still reach.
#[derive(Debug, Default)]
pub(crate) struct Fence<'a> {
    /// Read-only.
    pub(crate) readable: Vec<&'a Readable>,
    /// Read-only, folders.
    pub(crate) folders: Vec<&'a Path>,
    /// Where files may be made, changed and removed.
    pub(crate) writable: Option<&'a Path>,
}

// === impl Readable ===

impl Readable {
    /// If it is there.
    pub(crate) fn find(path: &Path) -> Option<Self> {
        let is_folder = std::fs::metadata(path).ok()?.is_dir();
        Some(Self { path: path.into(), is_folder })
    }
}

// === impl Fence ===

impl Fence<'_> {
    /// Shuts this process, which has no new privileges, in for good.
    pub(crate) fn shut(&self) -> Result<(), JailError> {
        let failed = |error: RulesetError| JailError::refused("Landlock", &error.to_string());
        let enforced = self.enforce().map_err(failed)?;
        if enforced == RulesetStatus::NotEnforced {
            return Err(JailError::refused("Landlock", "the kernel does not have it"));
        }
        Ok(())
    }

    fn enforce(&self) -> Result<RulesetStatus, RulesetError> {
        // Execution is granted nowhere: what is mapped is not executed in this sense.
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        let mut rules = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(landlock::ABI::V1))?
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(ABI))?
            .handle_access(AccessNet::from_all(ABI))?
            .scope(Scope::from_all(ABI))?
            .create()?;
        let mut add = |path: &Path, access: BitFlags<AccessFs>| {
            // What went away in the meantime is not granted.
            if let Ok(fd) = PathFd::new(path) {
                (&mut rules).add_rule(PathBeneath::new(fd, access))?;
            }
            Ok::<_, RulesetError>(())
        };
        for Readable { path, is_folder } in &self.readable {
            add(path, if *is_folder { read } else { AccessFs::ReadFile.into() })?;
        }
        for path in &self.folders {
            add(path, read)?;
        }
        for device in ["/dev/random", "/dev/urandom"] {
            add(Path::new(device), AccessFs::ReadFile.into())?;
        }
        add(Path::new("/dev/null"), AccessFs::ReadFile | AccessFs::WriteFile)?;
        if let Some(path) = self.writable {
            add(path, writing())?;
        }
        Ok(rules.restrict_self()?.ruleset)
    }
}

/// Keeps an image from signalling or tracing what it did not make, where the kernel knows that
/// (Linux 6.12). It leaves files alone, for who has any rule about files may mount no more.
pub(crate) fn keep_apart() -> Result<(), JailError> {
    let shut = || {
        let rules = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessNet::from_all(ABI))?
            .scope(Scope::from_all(ABI))?;
        rules.create()?.restrict_self()
    };
    let failed = |error: RulesetError| JailError::refused("Landlock", &error.to_string());
    shut().map(drop).map_err(failed)
}

/// Plain files, folders and links; no sockets, pipes or devices.
fn writing() -> BitFlags<AccessFs> {
    AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::RemoveDir
        | AccessFs::RemoveFile
        | AccessFs::MakeDir
        | AccessFs::MakeReg
        | AccessFs::MakeSym
        | AccessFs::Refer
}
