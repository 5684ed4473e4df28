//! The input and the result of `call`: which format a file holds, reading it, and writing it so
//! that a failed call loses nothing.

use std::{
    fs::{self, Permissions},
    io::{self, IsTerminal, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use exuvia_core::{Codec, Payload};
use tempfile::NamedTempFile;

use crate::{
    exit::{Exit, Stop},
    json, terminal,
};

/// Endings of file names, with what they mean.
const ENDINGS: [(&str, Codec); 3] =
    [("json", Codec::Json), ("ndjson", Codec::Ndjson), ("jsonl", Codec::Ndjson)];

/// Where the input comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    None,
    Stdin(Codec),
    File(PathBuf, Codec),
}

/// Where the result goes.
pub(crate) enum Output {
    Stdout(Codec),
    /// A file under a temporary name beside its place. Dropping it removes it.
    File {
        temporary: NamedTempFile,
        place: PathBuf,
        codec: Codec,
    },
}

// === impl Input ===

impl Input {
    pub(crate) fn of(file: Option<&PathBuf>, format: Option<&String>) -> Result<Self, Stop> {
        let format = format.and_then(|word| codec_of_word(word));
        match file {
            None if format.is_some() => {
                Err(Stop::usage("--in-format says what --in holds, but there is no --in"))
            }
            None => Ok(Self::None),
            Some(file) if file.as_os_str() == "-" => Ok(Self::Stdin(format.unwrap_or(Codec::Json))),
            Some(file) => {
                let codec = format.map_or_else(|| codec_of_file("in", file), Ok)?;
                Ok(Self::File(file.clone(), codec))
            }
        }
    }

    /// Reads all of it.
    pub(crate) fn read(self) -> Result<Payload, Stop> {
        match self {
            Self::None => Ok(Payload::default()),
            Self::Stdin(codec) => {
                let mut bytes = Vec::new();
                io::stdin().lock().read_to_end(&mut bytes).map_err(|error| {
                    Stop::new(Exit::Input, format!("stdin cannot be read: {error}"))
                })?;
                Ok(Payload::new(codec, bytes))
            }
            Self::File(path, codec) => {
                let bytes = fs::read(&path).map_err(|error| {
                    let path = path.display();
                    Stop::new(
                        Exit::Input,
                        match error.kind() {
                            io::ErrorKind::NotFound => format!("the input {path} is not there"),
                            _ => format!("the input {path} cannot be read: {error}"),
                        },
                    )
                })?;
                Ok(Payload::new(codec, bytes))
            }
        }
    }
}

// === impl Output ===

impl Output {
    /// Prepares the place of the result, so that it is known before the call that it can be
    /// written.
    pub(crate) fn open(file: Option<&PathBuf>, format: Option<&String>) -> Result<Self, Stop> {
        let format = format.and_then(|word| codec_of_word(word));
        match file {
            Some(file) if file.as_os_str() != "-" => {
                let codec = format.map_or_else(|| codec_of_file("out", file), Ok)?;
                Self::file(file, codec).map_err(|error| cannot_write(file, &error))
            }
            _ => Ok(Self::Stdout(format.unwrap_or(Codec::Json))),
        }
    }

    fn file(file: &Path, codec: Codec) -> io::Result<Self> {
        // A link keeps pointing: what it points to is replaced.
        let place = file.canonicalize().unwrap_or_else(|_| file.to_path_buf());
        let old = match fs::metadata(&place) {
            Ok(old) if old.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(old) => Some(old.permissions()),
            Err(_) => None,
        };
        let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty());
        let temporary = tempfile::Builder::new()
            .prefix(".exuvia-")
            // Those of any new file: the process's mask applies.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder.unwrap_or(Path::new(".")))?;
        if let Some(old) = old {
            temporary.as_file().set_permissions(old)?;
        }
        Ok(Self::File { temporary, place, codec })
    }

    pub(crate) fn codec(&self) -> Codec {
        match self {
            Self::Stdout(codec) | Self::File { codec, .. } => *codec,
        }
    }

    /// Writes the result and puts it in its place.
    pub(crate) fn write(self, payload: &Payload) -> Result<(), Stop> {
        match self {
            Self::Stdout(_) => {
                let for_people = payload.codec == Codec::Json && io::stdout().is_terminal();
                let bytes =
                    if for_people { json::indent(&payload.body) } else { payload.body.to_vec() };
                terminal::data(&ended(bytes))
                    .map_err(|error| Stop::usage(format!("stdout cannot be written: {error}")))
            }
            Self::File { mut temporary, place, .. } => {
                let write = || {
                    temporary.write_all(&ended(payload.body.to_vec()))?;
                    // Else a machine that stops now could keep the new name and lose the bytes.
                    temporary.as_file().sync_all()?;
                    temporary.persist(&place).map(drop).map_err(|error| error.error)
                };
                write().map_err(|error| cannot_write(&place, &error))
            }
        }
    }
}

/// `bytes` with a line end, unless there is nothing.
fn ended(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.last().is_some_and(|last| *last != b'\n') {
        bytes.push(b'\n');
    }
    bytes
}

fn cannot_write(file: &Path, error: &io::Error) -> Stop {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => ": its folder is not there",
        io::ErrorKind::IsADirectory => ": it is a folder",
        _ => return Stop::usage(format!("{} cannot be written: {error}", file.display())),
    };
    Stop::usage(format!("{} cannot be written{hint}", file.display()))
}

fn codec_of_word(word: &str) -> Option<Codec> {
    ENDINGS.iter().find(|(ending, _)| *ending == word).map(|(_, codec)| *codec)
}

fn codec_of_file(flag: &str, file: &Path) -> Result<Codec, Stop> {
    let ending = file.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    codec_of_word(&ending).ok_or_else(|| {
        let what =
            if ending.is_empty() { "no ending".into() } else { format!("the ending .{ending}") };
        Stop::usage(format!(
            "--{flag} {}: {what} does not name a format; known are .json, .ndjson and .jsonl, or \
             say it with --{flag}-format",
            file.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_or_the_flag_says_the_format() {
        let input = |file: &str, format: Option<&str>| {
            Input::of(Some(&file.into()), format.map(str::to_owned).as_ref())
                .map_err(|stop| (stop.exit.code(), stop.message))
        };
        let file = |name: &str, codec| Ok(Input::File(name.into(), codec));
        assert_eq!(input("a.json", None), file("a.json", Codec::Json));
        assert_eq!(input("a.JSONL", None), file("a.JSONL", Codec::Ndjson));
        assert_eq!(input("a.txt", Some("ndjson")), file("a.txt", Codec::Ndjson));
        assert_eq!(input("-", None), Ok(Input::Stdin(Codec::Json)));
        assert_eq!(input("-", Some("ndjson")), Ok(Input::Stdin(Codec::Ndjson)));
        assert_eq!(
            input("a.csv", None),
            Err((
                2,
                "--in a.csv: the ending .csv does not name a format; known are .json, .ndjson and \
                 .jsonl, or say it with --in-format"
                    .into()
            ))
        );
        assert!(Input::of(None, Some(&"json".to_owned())).is_err());
    }

    #[test]
    fn a_missing_input_is_an_input_error() {
        let input = Input::File("/nowhere/x.json".into(), Codec::Json);
        let stop = input.read().expect_err("not there");
        assert_eq!(
            (stop.exit, stop.message.as_str()),
            (Exit::Input, "the input /nowhere/x.json is not there")
        );
    }

    #[test]
    fn a_result_replaces_the_old_one_only_when_it_is_whole() {
        let folder = tempfile::TempDir::new().expect("a temporary folder");
        let place = folder.path().join("r.json");
        fs::write(&place, "old").expect("a file");
        fs::set_permissions(&place, Permissions::from_mode(0o640)).expect("permissions");
        let names = || fs::read_dir(folder.path()).expect("a folder").count();

        let output = Output::open(Some(&place), None).expect("a place");
        assert_eq!(output.codec(), Codec::Json);
        drop(output);
        assert_eq!((fs::read_to_string(&place).expect("there").as_str(), names()), ("old", 1));

        let output = Output::open(Some(&place), None).expect("a place");
        output.write(&Payload::json("[1]")).expect("written");
        assert_eq!((fs::read_to_string(&place).expect("there").as_str(), names()), ("[1]\n", 1));
        let mode = fs::metadata(&place).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_said_before_the_call() {
        let folder = tempfile::TempDir::new().expect("a temporary folder");
        let open = |name: &str| {
            let place = folder.path().join(name);
            let stop = Output::open(Some(&place), None).err().expect("an error");
            stop.message.replace(&format!("{}/", folder.path().display()), "")
        };
        fs::create_dir(folder.path().join("d.json")).expect("a folder");
        assert_eq!(open("gone/r.json"), "gone/r.json cannot be written: its folder is not there");
        assert_eq!(open("d.json"), "d.json cannot be written: it is a folder");
    }
}
