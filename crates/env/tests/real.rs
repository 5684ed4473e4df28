//! The probe against the Pythons of this machine, where there are any.

use std::path::PathBuf;

use exuvia_env::{EnvError, Request, find, probe};

#[test]
fn the_python_on_path_answers() {
    let found = find(&Request {
        explicit: None,
        running: None,
        installed: None,
        targets: &[],
        cwd: PathBuf::from(std::path::MAIN_SEPARATOR_STR),
        env: &|name| (name == "PATH").then(|| std::env::var_os(name)).flatten(),
        limit: probe::LIMIT,
    });
    match found {
        Ok(found) => {
            assert_eq!(found.implementation, "cpython");
            assert!(found.executable.is_absolute());
            assert!((found.version.0, found.version.1) >= exuvia_env::OLDEST);
        }
        // A machine without a new enough Python: the search must still say what it saw.
        Err(EnvError::NotFound { looked }) => assert!(looked.len() > 1),
        Err(error) => panic!("{error}"),
    }
}
