//! Archives byte by byte, so that they can be wrong in any way.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::{fs, io::Write, path::Path};

use flate2::{Compression, write::DeflateEncoder};

/// An entry, sound unless it is changed.
#[derive(Clone)]
pub(crate) struct Raw {
    pub(crate) name: Vec<u8>,
    pub(crate) local_name: Option<Vec<u8>>,
    pub(crate) data: Vec<u8>,
    pub(crate) method: u16,
    pub(crate) flags: u16,
    pub(crate) size: u32,
    pub(crate) packed: Option<u32>,
    pub(crate) crc: u32,
    pub(crate) system: u8,
    pub(crate) mode: u32,
    /// Where its header is said to be, if not where it is.
    pub(crate) place: Option<u32>,
}

/// A stored file.
pub(crate) fn stored(name: impl AsRef<[u8]>, content: &[u8]) -> Raw {
    Raw {
        name: name.as_ref().to_vec(),
        local_name: None,
        data: content.to_vec(),
        method: 0,
        flags: 0x800,
        size: content.len() as u32,
        packed: None,
        crc: crc32fast::hash(content),
        system: 3,
        mode: 0o100_644,
        place: None,
    }
}

/// A file with its content deflated.
pub(crate) fn deflated(name: impl AsRef<[u8]>, content: &[u8]) -> Raw {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).expect("deflated");
    Raw { data: encoder.finish().expect("deflated"), method: 8, ..stored(name, content) }
}

/// The archive of some entries.
pub(crate) fn zip(entries: &[Raw]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut directory = Vec::new();
    for entry in entries {
        let place = entry.place.unwrap_or(out.len() as u32);
        let packed = entry.packed.unwrap_or(entry.data.len() as u32);
        let mut common = Vec::new();
        for half in [20, entry.flags, entry.method, 0, 0x21] {
            common.extend_from_slice(&half.to_le_bytes());
        }
        for word in [entry.crc, packed, entry.size] {
            common.extend_from_slice(&word.to_le_bytes());
        }
        let local = entry.local_name.as_ref().unwrap_or(&entry.name);
        out.extend_from_slice(b"PK\x03\x04");
        out.extend_from_slice(&common);
        out.extend_from_slice(&(local.len() as u16).to_le_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(local);
        out.extend_from_slice(&entry.data);
        directory.extend_from_slice(b"PK\x01\x02\x14");
        directory.push(entry.system);
        directory.extend_from_slice(&common);
        directory.extend_from_slice(&(entry.name.len() as u16).to_le_bytes());
        directory.extend_from_slice(&[0; 8]);
        directory.extend_from_slice(&(entry.mode << 16).to_le_bytes());
        directory.extend_from_slice(&place.to_le_bytes());
        directory.extend_from_slice(&entry.name);
    }
    let start = out.len() as u32;
    out.extend_from_slice(&directory);
    out.extend_from_slice(&end(entries.len() as u16, directory.len() as u32, start));
    out
}

/// The record at the end.
pub(crate) fn end(entries: u16, size: u32, start: u32) -> Vec<u8> {
    let mut out = b"PK\x05\x06\0\0\0\0".to_vec();
    out.extend_from_slice(&entries.to_le_bytes());
    out.extend_from_slice(&entries.to_le_bytes());
    out.extend_from_slice(&size.to_le_bytes());
    out.extend_from_slice(&start.to_le_bytes());
    out.extend_from_slice(&[0, 0]);
    out
}

/// Writes files under `folder`.
pub(crate) fn write(folder: &Path, files: &[(&str, &[u8])]) {
    for (path, content) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, content).expect("a file");
    }
}

/// All files under `folder`, by path, with their content.
pub(crate) fn read(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(inner) = folders.pop() {
        for entry in fs::read_dir(inner).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(folder).expect("within").to_str().expect("text");
            found.push((name.to_owned(), fs::read(&path).expect("a file")));
        }
    }
    found.sort();
    found
}
