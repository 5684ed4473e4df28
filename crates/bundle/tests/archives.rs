//! Which archives are bundles (`docs/bundles.md` sections 4 and 5).

mod support;

use exuvia_bundle::{Bundle, BundleError, LimitKind, Limits, Wrong};
use support::{Raw, deflated, end, stored, write, zip};
use tempfile::TempDir;

fn open(bytes: Vec<u8>) -> Result<Bundle, BundleError> {
    Bundle::from_bytes("b.zip", bytes, &Limits::default())
}

fn refused(bytes: Vec<u8>) -> String {
    open(bytes).expect_err("refused").to_string()
}

fn limit(bytes: Vec<u8>, limits: &Limits) -> (LimitKind, String, u64, u64) {
    let error = Bundle::from_bytes("b.zip", bytes, limits).expect_err("over a limit");
    match error.why {
        Wrong::BundleLimitExceeded { kind, path, actual, limit } => (kind, path, actual, limit),
        other => panic!("{other}"),
    }
}

#[test]
fn a_folder_and_any_zip_of_it_have_one_fingerprint() {
    let files: [(&str, &[u8]); 3] =
        [("main.py", b"x = 1"), ("pkg/__init__.py", b""), ("pkg/data.bin", &[7; 4000])];
    let folder = TempDir::new().expect("a folder");
    write(folder.path(), &files);
    let expected = Bundle::open(folder.path(), &Limits::default()).expect("a folder").fingerprint();

    let print = |entries: &[Raw]| open(zip(entries)).expect("a bundle").fingerprint();
    let all = |make: fn(&str, &[u8]) -> Raw| files.map(|(path, content)| make(path, content));
    assert_eq!(print(&all(|path, content| stored(path, content))), expected);
    let mut other = all(|path, content| deflated(path, content)).to_vec();
    other.reverse();
    // What is no part of a bundle: modes, folders, caches, repositories.
    other[0].mode = 0o100_755;
    other.push(Raw { mode: 0o040_755, ..stored("pkg/", b"") });
    other.push(Raw { mode: 0o040_755, ..stored("empty/", b"") });
    other.push(stored("pkg/__pycache__/main.cpython-313.pyc", b"old"));
    other.push(stored(".git/config", b"[core]"));
    other.push(stored("__MACOSX/._main.py", b"?"));
    assert_eq!(print(&other), expected);
    write(
        folder.path(),
        &[("__pycache__/a.pyc", b"old"), (".git/HEAD", b"ref"), ("pkg/.DS_Store", b"?")],
    );
    std::fs::create_dir(folder.path().join("empty")).expect("a folder");
    let again = Bundle::open(folder.path(), &Limits::default()).expect("a folder");
    assert_eq!(again.fingerprint(), expected);
    let names: Vec<&str> = again.files().iter().map(|file| file.path.as_str()).collect();
    assert_eq!(names, ["main.py", "pkg/__init__.py", "pkg/data.bin"]);

    for changed in [
        [
            stored("main.py", b"x = 2"),
            stored("pkg/__init__.py", b""),
            stored("pkg/data.bin", &[7; 4000]),
        ],
        [
            stored("moin.py", b"x = 1"),
            stored("pkg/__init__.py", b""),
            stored("pkg/data.bin", &[7; 4000]),
        ],
        [
            stored("main.py", b"x = 1"),
            stored("pkg/__init__.py", &[7]),
            stored("pkg/data.bin", &[7; 3999]),
        ],
    ] {
        assert_ne!(print(&changed), expected);
    }
    assert_eq!(expected.to_string().len(), 64);
}

#[test]
fn entries_that_no_bundle_may_have_are_named_and_refused() {
    let file = || stored("main.py", b"x = 1");
    let link = Raw { mode: 0o120_777, ..stored("out", b"/etc/passwd") };
    let foreign_link = Raw { system: 0, ..link.clone() };
    for (entries, expected) in [
        (vec![stored("/etc/passwd", b"")], "/etc/passwd: its path is absolute"),
        (vec![stored("a/../../x", b"")], "a/../../x: its path has `.` or `..`"),
        (vec![stored("a\\..\\x", b"")], "a\\..\\x: its path has a backslash"),
        (vec![stored("a\0.py", b"")], "a\\u{0}.py: its name has a control character"),
        (
            vec![Raw { flags: 0, ..stored(b"gr\xf6\xdfe.py", b"") }],
            "gr\u{fffd}\u{fffd}e.py: its name is not UTF-8",
        ),
        (vec![link], "out: it is a link"),
        (vec![foreign_link], "out: it is a link"),
        (vec![Raw { mode: 0o020_666, ..stored("dev", b"") }], "dev: it is a device"),
        (
            vec![Raw { mode: 0o010_666, ..stored("pipe", b"") }],
            "pipe: it is a device, a socket or a pipe",
        ),
        (
            vec![Raw { mode: 0o040_755, ..file() }],
            "main.py: it is a file by its name and a folder by its mode",
        ),
        (vec![Raw { mode: 0, ..stored("a/", b"x") }], "a: it is a folder with content"),
        (vec![file(), file()], "two entries of the archive have the same name"),
        (vec![file(), stored("MAIN.py", b"")], "MAIN.py: it differs from `main.py` in case only"),
        (vec![stored("a", b""), stored("a/b", b"")], "a: it is a file and also a folder"),
        (vec![stored("A/b", b""), stored("a/c", b"")], "a: it differs from `A` in case only"),
        (vec![Raw { flags: 0x801, ..file() }], "main.py: it is encrypted"),
        (vec![Raw { method: 12, ..file() }], "main.py: its compression"),
        (vec![Raw { method: 99, ..file() }], "main.py: its compression"),
        (vec![Raw { crc: 1, ..file() }], "main.py: Invalid checksum"),
        (
            vec![Raw { size: 3, ..deflated("main.py", b"x = 1") }],
            "main.py: File is larger than its declared",
        ),
        (vec![Raw { data: vec![7; 9], ..deflated("main.py", b"x = 1") }], "main.py: "),
        (
            vec![Raw { local_name: Some(b"other.py".to_vec()), ..file() }],
            "the archive is broken: Local file header filename",
        ),
        (
            vec![file(), Raw { place: Some(0), ..file() }],
            "two entries of the archive have the same name",
        ),
        (
            vec![file(), Raw { place: Some(0), ..stored("two.py", b"x = 1") }],
            "the archive is broken: ",
        ),
        (vec![Raw { packed: Some(4000), ..file() }], "the archive is broken: "),
        (vec![Raw { place: Some(1 << 30), ..file() }], "the archive "),
    ] {
        let error = refused(zip(&entries));
        assert!(error.starts_with(&format!("b.zip: {expected}")), "{error}\nexpected {expected}");
    }
}

#[test]
fn entries_that_share_bytes_are_refused() {
    // The second header lies within the first one's content.
    let inner = stored("two.py", b"x = 1");
    let mut whole = zip(std::slice::from_ref(&inner));
    whole.truncate(30 + 6 + 5);
    let place = (30 + 7) as u32;
    let archive = zip(&[stored("one.zip", &whole), Raw { place: Some(place), ..inner }]);
    let error = refused(archive);
    assert!(error.contains("overlapping entries"), "{error}");
}

#[test]
fn only_the_one_archive_that_fills_the_file_is_read() {
    let sound = zip(&[stored("main.py", b"x = 1")]);
    let mut before = b"#!/bin/sh\n".to_vec();
    before.extend_from_slice(&sound);
    let mut after = sound.clone();
    after.push(0);
    let cut = sound[..sound.len() - 1].to_vec();
    let parts = |at: usize| {
        let mut archive = sound.clone();
        let from = archive.len() - 22 + at;
        archive[from] = 2;
        archive
    };
    let mut zip64 = sound.clone();
    let from = zip64.len() - 22 + 8;
    zip64[from..from + 4].fill(0xff);
    // A second archive at the end, and a first that a careless reader would find by its signature.
    let twice = [sound.clone(), sound.clone()].concat();
    for (archive, expected) in [
        (Vec::new(), "it is no ZIP file"),
        (b"def handler(): ...".to_vec(), "it is no ZIP file"),
        (b"PK\x05\x06".to_vec(), "it is no ZIP file"),
        (before, "the archive has bytes before it"),
        (after, "the archive has bytes after its end"),
        (cut, "it is no ZIP file"),
        (parts(4), "the archive is in several parts"),
        (parts(8), "the archive is in several parts"),
        (zip64, "the archive is a ZIP64 one"),
        (twice, "the archive has bytes before it"),
    ] {
        let error = refused(archive);
        assert!(error.starts_with(&format!("b.zip: {expected}")), "{error}\nexpected {expected}");
    }
    let mut commented = sound.clone();
    let from = commented.len() - 2;
    commented[from] = 5;
    commented.extend_from_slice(b"hello");
    open(commented).expect("a comment is no part of it");
}

#[test]
fn an_end_record_is_not_believed() {
    // Half a million entries, and a directory of gigabytes: nothing is set aside for them.
    let limits = Limits { entries: 60_000, ..Limits::default() };
    let lies = end(60_000, 0, 0);
    assert!(Bundle::from_bytes("b.zip", lies, &limits).is_err());
    let lies = end(50_000, u32::MAX - 1, 0);
    assert_eq!(limit(lies, &limits).0, LimitKind::Directory);
    assert_eq!(
        limit(end(60_001, 0, 0), &limits),
        (LimitKind::Entries, String::new(), 60_001, 60_000)
    );
}

#[test]
fn each_limit_says_which_it_is_where_and_by_how_much() {
    let usual = Limits::default;
    let files = || zip(&[stored("a/b.py", &[1; 600]), stored("c.py", &[2; 600])]);
    let length = files().len() as u64;
    assert_eq!(
        limit(files(), &Limits { archive: length - 1, ..usual() }),
        (LimitKind::Archive, String::new(), length, length - 1)
    );
    Bundle::from_bytes("b.zip", files(), &Limits { archive: length, ..usual() }).expect("fits");
    // The folder counts.
    assert_eq!(
        limit(files(), &Limits { entries: 2, ..usual() }),
        (LimitKind::Entries, String::new(), 3, 2)
    );
    Bundle::from_bytes("b.zip", files(), &Limits { entries: 3, ..usual() }).expect("fits");
    assert_eq!(
        limit(files(), &Limits { entry: 599, ..usual() }),
        (LimitKind::Entry, "a/b.py".into(), 600, 599)
    );
    assert_eq!(
        limit(files(), &Limits { total: 1199, ..usual() }),
        (LimitKind::Total, String::new(), 1200, 1199)
    );
    assert_eq!(
        limit(files(), &Limits { depth: 1, ..usual() }),
        (LimitKind::Depth, "a/b.py".into(), 2, 1)
    );
    assert_eq!(
        limit(files(), &Limits { path: 5, ..usual() }),
        (LimitKind::Path, "a/b.py".into(), 6, 5)
    );
    let tight = zip(&[deflated("zeros", &vec![0; 2 << 20])]);
    let (kind, path, actual, allowed) = limit(tight.clone(), &usual());
    assert_eq!((kind, path.as_str(), allowed), (LimitKind::Ratio, "zeros", 200));
    assert!(actual > 900, "{actual}");
    Bundle::from_bytes("b.zip", tight, &Limits { ratio: 2000, ..usual() }).expect("allowed");
    let small = zip(&[deflated("zeros", &vec![0; 1 << 20])]);
    open(small).expect("a tight file of 1 MiB harms nobody");
    let manifest = zip(&[stored("exuvia.bundle.json", &vec![b' '; (1 << 20) + 1])]);
    assert_eq!(limit(manifest, &usual()).0, LimitKind::Manifest);
    let error = Bundle::from_bytes("b.zip", files(), &Limits { entry: 9, ..usual() });
    assert_eq!(
        error.expect_err("too large").to_string(),
        "b.zip: a/b.py: the file is too large: 600 bytes or more, allowed are 9"
    );
}

#[test]
fn what_an_entry_claims_lets_nothing_in() {
    // It says 10 bytes and has 600.
    let limits = Limits { entry: 100, ..Limits::default() };
    let liar = Raw { size: 10, ..deflated("a", &[1; 600]) };
    let error = Bundle::from_bytes("b.zip", zip(&[liar]), &limits).expect_err("a lie").to_string();
    assert!(error.contains("a: "), "{error}");
    // It says 600 bytes and has 10.
    let liar = Raw { size: 600, ..deflated("a", &[1; 10]) };
    let error = refused(zip(&[liar]));
    assert!(error.contains("a: it has 10 bytes and says 600"), "{error}");
}

#[test]
fn an_archive_in_an_archive_is_a_file() {
    let bomb = zip(&[deflated("zeros", &vec![0; 8 << 20])]);
    let bundle = open(zip(&[stored("inner.zip", &bomb)])).expect("a bundle");
    assert_eq!(bundle.files()[0].size, bomb.len() as u64);
}

#[test]
fn archives_of_other_writers_are_read() {
    // What Python's zipfile, Info-ZIP and Go write: descriptors after the data, and extra fields.
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    for name in ["main.py", "größe/ü.py"] {
        writer.start_file(name, options).expect("started");
        std::io::Write::write_all(&mut writer, b"x = 1").expect("written");
    }
    let bytes = writer.finish().expect("finished").into_inner();
    assert_eq!(open(bytes).expect("a bundle").files().len(), 2);
    let mut stream = zip::ZipWriter::new_stream(Vec::new());
    stream.start_file("main.py", options).expect("started");
    std::io::Write::write_all(&mut stream, b"x = 1").expect("written");
    let bytes = stream.finish().expect("finished").into_inner();
    assert_eq!(open(bytes).expect("a bundle").files().len(), 1);
}
