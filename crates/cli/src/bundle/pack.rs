//! `exuvia bundle pack`: a ZIP file of a folder, the same whenever it is made.

use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    io::{self, Cursor, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use clap::ArgMatches;
use exuvia_bundle::{Bundle, LimitKind, Limits, Wrong};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::{open, path, wrong};
use crate::{
    exit::{Exit, Stop},
    run::Store,
    terminal,
};

/// Packs the folder that is named.
pub(super) fn run(matches: &ArgMatches) -> Result<Exit, Stop> {
    let folder = path(matches);
    let place = matches.get_one::<PathBuf>("out").map_or(Path::new(""), PathBuf::as_path);
    if !folder.is_dir() {
        return Err(Stop::usage(format!("{} is not a folder", folder.display())));
    }
    let bundle = open(folder)?;
    // What is packed is what was checked, whatever happens to the folder meanwhile.
    let store = Store::new(None).map_err(|error| cannot(place, &error))?;
    let checked = bundle.unpack(store.path()).map_err(wrong)?;
    let packed = pack(&bundle, &checked, place)?;
    write(&packed, place).map_err(|error| cannot(place, &error))?;
    let line = format!("{}  {}\n", bundle.fingerprint(), place.display());
    terminal::data(line.as_bytes()).map_err(|error| cannot(Path::new("stdout"), &error))?;
    Ok(Exit::Ok)
}

/// The archive. What packs so tightly that no host would unpack it is stored as it is.
fn pack(bundle: &Bundle, folder: &Path, place: &Path) -> Result<Vec<u8>, Stop> {
    let mut stored = BTreeSet::new();
    loop {
        let bytes = archive(bundle, folder, &stored).map_err(|error| cannot(place, &error))?;
        match Bundle::from_bytes(place, bytes.clone(), &Limits::default()) {
            Ok(packed) if packed.fingerprint() == bundle.fingerprint() => return Ok(bytes),
            Ok(_) => return Err(Stop::new(Exit::Internal, "the archive is not what was packed")),
            Err(error) => match &error.why {
                Wrong::BundleLimitExceeded { kind: LimitKind::Ratio, path, .. }
                    if stored.insert(path.clone()) => {}
                _ => return Err(wrong(error)),
            },
        }
    }
}

fn archive(bundle: &Bundle, folder: &Path, stored: &BTreeSet<String>) -> io::Result<Vec<u8>> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for file in bundle.files() {
        let method = if stored.contains(&file.path) {
            CompressionMethod::Stored
        } else {
            CompressionMethod::Deflated
        };
        // No times and no modes: the same files make the same archive.
        let options = SimpleFileOptions::default()
            .compression_method(method)
            .last_modified_time(zip::DateTime::default())
            .unix_permissions(0o644);
        archive.start_file(file.path.as_str(), options)?;
        io::copy(&mut fs::File::open(folder.join(&file.path))?, &mut archive)?;
    }
    Ok(archive.finish()?.into_inner())
}

fn write(bytes: &[u8], place: &Path) -> io::Result<()> {
    let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut temporary = tempfile::Builder::new()
        .prefix(".exuvia-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder.unwrap_or(Path::new(".")))?;
    temporary.write_all(bytes)?;
    temporary.persist(place).map(drop).map_err(|error| error.error)
}

fn cannot(place: &Path, error: &io::Error) -> Stop {
    Stop::usage(format!("{} cannot be written: {error}", place.display()))
}
