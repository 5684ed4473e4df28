//! Where the runtime library is looked for.
#![cfg(unix)]

use std::{env::consts::DLL_SUFFIX, fs};

use exuvia_env::find_runtime;
use tempfile::TempDir;

#[test]
fn the_library_beside_the_executable_is_taken_through_a_link_too() {
    let folder = TempDir::new().expect("a temporary folder");
    let exe = folder.path().join("exuvia");
    fs::write(&exe, "").expect("a file");
    let text = find_runtime(&exe, None).expect_err("nothing there").to_string();
    let at = folder.path().display();
    assert_eq!(
        text,
        format!(
            "the worker runtime library was not found\n\
             \u{20} {at}/_native.abi3.so: no such file\n\
             \u{20} {at}/lib_native{DLL_SUFFIX}: no such file\n\
             hint: install Exuvia again, or set EXUVIA_RUNTIME to the library's path"
        )
    );

    let built = folder.path().join(format!("lib_native{DLL_SUFFIX}"));
    fs::write(&built, "").expect("a file");
    assert_eq!(find_runtime(&exe, None), Ok(built.clone()));

    let elsewhere = TempDir::new().expect("a temporary folder");
    let link = elsewhere.path().join("exuvia");
    std::os::unix::fs::symlink(&exe, &link).expect("a link");
    let found = find_runtime(&link, None).expect("found through the link");
    assert_eq!(found.canonicalize().ok(), built.canonicalize().ok());

    let wheel = folder.path().join("_native.abi3.so");
    fs::write(&wheel, "").expect("a file");
    assert_eq!(find_runtime(&exe, None), Ok(wheel));
}

#[test]
fn an_explicit_library_must_be_there() {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("x.so");
    let text = find_runtime(path.as_path(), Some(path.clone())).expect_err("not there").to_string();
    assert!(text.contains(&format!("{}: no such file", path.display())), "{text}");
    fs::write(&path, "").expect("a file");
    assert_eq!(find_runtime(path.as_path(), Some(path.clone())), Ok(path));
}
