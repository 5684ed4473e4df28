//! Bundles: versioned code with a manifest, from people nobody vouches for. `docs/bundles.md` says
//! what they are; this crate opens them within limits, reads their manifests, decides what they get,
//! and writes them down where isolates see them.
//!
//! It knows no processes and runs nothing.
//!
//! ```
//! use exuvia_bundle::{Bundle, Effective, Limits, check_packages, default_ceiling, installed};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let place = tempfile::TempDir::new()?;
//! # let folder = place.path().join("mean");
//! # std::fs::create_dir(&folder)?;
//! # std::fs::write(folder.join("main.py"), "def handler(): ...")?;
//! # std::fs::write(
//! #     folder.join("exuvia.bundle.json"),
//! #     r#"{"schema": "exuvia.bundle/1", "limits": {"cpu": "5s", "memory": "4GiB"}}"#,
//! # )?;
//! # let store = place.path().join("store");
//! # std::fs::create_dir(&store)?;
//! let bundle = Bundle::open(&folder, &Limits::default())?;
//! let manifest = bundle.manifest();
//! assert_eq!(manifest.entrypoint.to_string(), "main:handler");
//!
//! let got = Effective::new(&default_ceiling(), manifest)?;
//! assert_eq!(got.policy.cpu.as_secs(), 5);
//! assert_eq!(got.notes(), ["the bundle asks for `memory` 4GiB; the host allows 512MiB"]);
//!
//! assert!(check_packages(manifest, &installed(&[])).is_empty());
//!
//! // STORE/FINGERPRINT, for /app.
//! let app = bundle.unpack(&store)?;
//! assert!(app.join("main.py").is_file());
//! # exuvia_bundle::discard(&store)?;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod archive;
mod bundle;
mod effective;
mod error;
mod folder;
mod limits;
mod manifest;
mod packages;
mod reader;
mod show;
mod store;
mod tree;

pub use bundle::{Bundle, BundleFile, Fingerprint};
pub use effective::{Amount, Effective, Origin, Source, default_ceiling};
pub use error::{BundleError, Fault, LimitKind, Wrong};
pub use limits::Limits;
pub use manifest::{Entrypoint, Manifest, OWN_NAME, THEIR_NAME, Wants, schema};
pub use packages::{Missing, Requirement, check_packages, install_command, installed};
pub use store::discard;
