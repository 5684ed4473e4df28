//! Bundles in folders, and bundles written down (`docs/bundles.md` sections 4 and 5).

mod support;

use std::{
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt, fs::symlink, net::UnixListener},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use exuvia_bundle::{Bundle, Limits, Wrong, discard};
use rustix::fs::CWD;
use support::{read, stored, write, zip};
use tempfile::TempDir;

fn temporary() -> TempDir {
    TempDir::new().expect("a folder")
}

fn refused(folder: &TempDir) -> String {
    Bundle::open(folder.path(), &Limits::default()).expect_err("refused").to_string()
}

/// Puts something into a folder.
type Make<'a> = &'a dyn Fn(&Path);

#[test]
fn what_leaves_the_folder_or_is_no_file_is_refused() {
    let secret = temporary();
    write(secret.path(), &[("secret", b"s3cr3t")]);
    let to_secret = secret.path().join("secret");
    let make: [(&str, Make<'_>); 9] = [
        ("a: it is a link that leaves the bundle", &|at| {
            symlink(&to_secret, at.join("a")).unwrap()
        }),
        ("a: it is a link that leaves the bundle", &|at| symlink("../x", at.join("a")).unwrap()),
        ("d/a: it is a link that leaves the bundle", &|at| {
            fs::create_dir(at.join("d")).unwrap();
            symlink("../../x", at.join("d/a")).unwrap();
        }),
        ("a: it is a link to nothing", &|at| symlink("nowhere", at.join("a")).unwrap()),
        ("a: it is a link that leads to itself", &|at| symlink("a", at.join("a")).unwrap()),
        ("a: it is a link to a folder", &|at| {
            fs::create_dir(at.join("d")).unwrap();
            symlink("d", at.join("a")).unwrap();
        }),
        ("a: it is a link that leaves the bundle", &|at| {
            symlink("/dev/zero", at.join("a")).unwrap()
        }),
        ("a: it is a device, a socket or a pipe", &|at| {
            UnixListener::bind(at.join("a")).unwrap();
        }),
        ("its name is not UTF-8", &|at| {
            fs::write(at.join(std::ffi::OsStr::from_bytes(b"\xff")), "").unwrap();
        }),
    ];
    for (expected, make) in make {
        let folder = temporary();
        make(folder.path());
        let error = refused(&folder);
        assert!(error.contains(expected), "{error}\nexpected {expected}");
    }
    let folder = temporary();
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a pipe");
    assert!(refused(&folder).contains("pipe: it is a device, a socket or a pipe"));
}

#[test]
fn a_link_to_a_file_of_the_bundle_is_that_file() {
    let folder = temporary();
    write(folder.path(), &[("a.py", b"x = 1")]);
    symlink("a.py", folder.path().join("b.py")).expect("a link");
    let bundle = Bundle::open(folder.path(), &Limits::default()).expect("a bundle");
    let packed = zip(&[stored("a.py", b"x = 1"), stored("b.py", b"x = 1")]);
    let packed = Bundle::from_bytes("b.zip", packed, &Limits::default()).expect("a bundle");
    assert_eq!(bundle.fingerprint(), packed.fingerprint());
}

#[test]
fn a_folder_is_held_to_the_limits() {
    let folder = temporary();
    write(folder.path(), &[("a/b/c.py", &[1; 100]), ("d.py", &[1; 100])]);
    let usual = Limits::default;
    for (limits, expected) in [
        (Limits { entries: 3, ..usual() }, "too many files and folders"),
        (Limits { entry: 99, ..usual() }, "the file is too large"),
        (Limits { total: 199, ..usual() }, "too large together"),
        (Limits { depth: 2, ..usual() }, "too many folders in one another"),
        (Limits { path: 7, ..usual() }, "the path is too long"),
    ] {
        let error = Bundle::open(folder.path(), &limits).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }
    let exact = Limits { entries: 4, entry: 100, total: 200, depth: 3, path: 8, ..usual() };
    Bundle::open(folder.path(), &exact).expect("fits");
}

#[test]
fn who_writes_to_the_folder_meanwhile_cannot_lead_the_reader_out() {
    let place = temporary();
    let (folder, secret) = (place.path().join("bundle"), place.path().join("secret"));
    // Told apart by their sizes.
    write(&folder, &[("d/x.py", b"x = 1")]);
    write(&secret, &[("x.py", b"s3cr3t")]);
    let (own, link) = (folder.join("d"), place.path().join("link"));
    symlink(&secret, &link).expect("a link");
    let over = AtomicBool::new(false);
    let (mut opened, mut refused, mut leaked) = (0, 0, false);
    thread::scope(|scope| {
        // Every other moment the folder `d` is a link to the secret's.
        scope.spawn(|| {
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            while !over.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(CWD, &own, CWD, &link, flags).expect("exchanged");
            }
        });
        let until = Instant::now() + Duration::from_secs(60);
        while !leaked && (opened < 500 || refused < 500) && Instant::now() < until {
            match Bundle::open(&folder, &Limits::default()) {
                Ok(bundle) => {
                    opened += 1;
                    leaked |= bundle.files().iter().any(|file| file.size != 5);
                }
                Err(_) => refused += 1,
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(!leaked, "the secret was read");
    assert!(opened > 0 && refused > 0, "no race: {opened} opened, {refused} refused");
}

#[test]
fn a_bundle_is_written_once_and_cannot_be_changed() {
    let store = temporary();
    let bytes =
        zip(&[stored("main.py", b"x = 1"), stored("a/b/c.py", b""), stored("a/d.py", b"y")]);
    let bundle = Bundle::from_bytes("b.zip", bytes, &Limits::default()).expect("a bundle");
    let app = bundle.unpack(store.path()).expect("unpacked");
    assert_eq!(app, store.path().join(bundle.fingerprint().to_string()));
    let expected: [(&str, &[u8]); 3] = [("a/b/c.py", b""), ("a/d.py", b"y"), ("main.py", b"x = 1")];
    let found = read(&app);
    assert_eq!(found, expected.map(|(path, content)| (path.to_owned(), content.to_vec())));
    for (path, mode) in [("", 0o40555), ("a", 0o40555), ("a/b", 0o40555), ("main.py", 0o100444)] {
        let path = app.join(path);
        assert_eq!(fs::metadata(&path).expect("there").mode(), mode, "{}", path.display());
    }
    let inode = fs::metadata(&app).expect("there").ino();
    assert_eq!(bundle.unpack(store.path()).expect("again"), app);
    assert_eq!(fs::metadata(&app).expect("there").ino(), inode);
    discard(&app).expect("removed");
    assert_eq!(fs::read_dir(store.path()).expect("a store").count(), 0);
}

#[test]
fn any_number_may_unpack_at_once() {
    let store = temporary();
    let bytes = zip(&[stored("main.py", b"x = 1"), stored("big", &vec![7; 1 << 20])]);
    let bundle = Bundle::from_bytes("b.zip", bytes, &Limits::default()).expect("a bundle");
    let paths: Vec<_> = thread::scope(|scope| {
        let unpack = || bundle.unpack(store.path()).expect("unpacked");
        let all: Vec<_> = (0..16).map(|_| scope.spawn(unpack)).collect();
        all.into_iter().map(|one| one.join().expect("no panic")).collect()
    });
    assert!(paths.iter().all(|path| *path == paths[0]));
    let left: Vec<_> = fs::read_dir(store.path()).expect("a store").flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(read(&paths[0]).len(), 2);
    discard(store.path()).expect("removed");
}

#[test]
fn a_bundle_that_changed_is_not_unpacked() {
    let place = temporary();
    let (folder, store) = (place.path().join("bundle"), place.path().join("store"));
    write(&folder, &[("main.py", b"x = 1"), ("a.py", b"")]);
    fs::create_dir(&store).expect("a store");
    let bundle = Bundle::open(&folder, &Limits::default()).expect("a bundle");
    let change: [&dyn Fn(); 3] = [
        &|| write(&folder, &[("main.py", b"x = 2")]),
        &|| write(&folder, &[("main.py", b"x = 1"), ("new.py", b"")]),
        &|| {
            fs::remove_file(folder.join("new.py")).expect("removed");
            fs::remove_file(folder.join("a.py")).expect("removed");
        },
    ];
    for change in change {
        change();
        let error = bundle.unpack(&store).expect_err("changed");
        assert!(matches!(error.why, Wrong::Changed { .. }), "{error}");
        assert_eq!(fs::read_dir(&store).expect("a store").count(), 0);
    }
    write(&folder, &[("a.py", b"")]);
    bundle.unpack(&store).expect("as it was");
    let archive = place.path().join("b.zip");
    fs::write(&archive, zip(&[stored("main.py", b"x = 1")])).expect("written");
    let bundle = Bundle::open(&archive, &Limits::default()).expect("a bundle");
    fs::write(&archive, zip(&[stored("main.py", b"x = 2")])).expect("written");
    assert!(bundle.unpack(&store).is_err());
    assert_eq!(fs::read_dir(&store).expect("a store").count(), 1);
    discard(&store).expect("removed");
}
