//! The input and the result of `call`: reading the one, above [`SHARED_FROM`] into memory that the
//! worker maps, and writing the other so that a failed call loses nothing.

use std::{
    fs::{self, File, Permissions},
    io::{self, BufReader, IsTerminal, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use exuvia_core::{Codec, Payload, Region, SHARED_FROM};
use exuvia_sys::MemoryWriter;
use tempfile::NamedTempFile;

use crate::{
    exit::{Exit, Stop},
    formats, json, terminal,
};

/// The most that is read at a time of what goes into shared memory.
const PIECE: usize = 256 << 10;

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
        let format = format.and_then(|word| formats::of_word(word));
        match file {
            None if format.is_some() => {
                Err(Stop::usage("--in-format says what --in holds, but there is no --in"))
            }
            None => Ok(Self::None),
            Some(file) if file.as_os_str() == "-" => Ok(Self::Stdin(format.unwrap_or(Codec::Json))),
            Some(file) => {
                let codec = format.map_or_else(|| formats::of_file("in", file), Ok)?;
                Ok(Self::File(file.clone(), codec))
            }
        }
    }

    /// Reads all of it.
    pub(crate) fn read(self) -> Result<Payload, Stop> {
        match self {
            Self::None => Ok(Payload::default()),
            Self::Stdin(codec) => gathered(io::stdin().lock(), codec)
                .map_err(|error| Stop::new(Exit::Input, format!("stdin cannot be read: {error}"))),
            Self::File(path, codec) => {
                File::open(&path).and_then(|file| gathered(file, codec)).map_err(|error| {
                    let path = path.display();
                    Stop::new(
                        Exit::Input,
                        match error.kind() {
                            io::ErrorKind::NotFound => format!("the input {path} is not there"),
                            _ => format!("the input {path} cannot be read: {error}"),
                        },
                    )
                })
            }
        }
    }
}

/// All that `from` gives.
fn gathered(mut from: impl Read, codec: Codec) -> io::Result<Payload> {
    let mut start = Vec::new();
    from.by_ref().take(SHARED_FROM as u64 + 1).read_to_end(&mut start)?;
    if start.len() <= SHARED_FROM {
        return Ok(Payload::new(codec, start));
    }
    let mut memory = MemoryWriter::new()?;
    memory.write_all(&start)?;
    io::copy(&mut BufReader::with_capacity(PIECE, from), &mut memory)?;
    let sealed = memory.seal()?;
    let region = Region { memory: sealed.memory().clone(), length: sealed.length() };
    Ok(Payload { region: Some(region), ..Payload::new(codec, sealed.bytes()?) })
}

// === impl Output ===

impl Output {
    /// Prepares the place of the result, so that it is known before the call that it can be
    /// written.
    pub(crate) fn open(file: Option<&PathBuf>, format: Option<&String>) -> Result<Self, Stop> {
        let format = format.and_then(|word| formats::of_word(word));
        match file {
            Some(file) if file.as_os_str() != "-" => {
                let codec = format.map_or_else(|| formats::of_file("out", file), Ok)?;
                Self::file(file, codec).map_err(|error| cannot_write(file, &error))
            }
            _ => Self::stdout(format.unwrap_or(Codec::Json), io::stdout().is_terminal()),
        }
    }

    /// Bytes that are no text would only confuse a terminal.
    fn stdout(codec: Codec, is_terminal: bool) -> Result<Self, Stop> {
        if is_terminal && !formats::is_text(codec) {
            return Err(Stop::usage(format!(
                "a result as {} is no text and cannot go to a terminal: name a file with --out",
                formats::word(codec)
            )));
        }
        Ok(Self::Stdout(codec))
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
                let for_people = formats::is_json(payload.codec) && io::stdout().is_terminal();
                let write = |bytes: &[u8]| {
                    terminal::data(&[bytes, line_end(payload.codec, bytes)])
                        .map_err(|error| Stop::usage(format!("stdout cannot be written: {error}")))
                };
                if for_people { write(&json::indent(&payload.body)) } else { write(&payload.body) }
            }
            Self::File { mut temporary, place, .. } => {
                let write = || {
                    temporary.write_all(&payload.body)?;
                    temporary.write_all(line_end(payload.codec, &payload.body))?;
                    // Else a machine that stops now could keep the new name and lose the bytes.
                    temporary.as_file().sync_all()?;
                    temporary.persist(&place).map(drop).map_err(|error| error.error)
                };
                write().map_err(|error| cannot_write(&place, &error))
            }
        }
    }
}

/// What ends the last line of `bytes`: nothing where it has ended, or where there are no lines.
fn line_end(codec: Codec, bytes: &[u8]) -> &'static [u8] {
    let open = bytes.last().is_some_and(|last| *last != b'\n');
    if open && formats::is_text(codec) { b"\n" } else { b"" }
}

fn cannot_write(file: &Path, error: &io::Error) -> Stop {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => ": its folder is not there",
        io::ErrorKind::IsADirectory => ": it is a folder",
        _ => return Stop::usage(format!("{} cannot be written: {error}", file.display())),
    };
    Stop::usage(format!("{} cannot be written{hint}", file.display()))
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
        assert_eq!(input("a.pq", None), file("a.pq", Codec::Parquet));
        assert_eq!(input("a.json", Some("json-columns")), file("a.json", Codec::JsonColumns));
        assert_eq!(input("-", Some("arrow-stream")), Ok(Input::Stdin(Codec::ArrowStream)));
        assert_eq!(input("a.txt", None).map_err(|(code, _)| code), Err(2));
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
    fn input_above_64_kib_lies_in_memory_that_can_be_shared() {
        let folder = tempfile::TempDir::new().expect("a temporary folder");
        let place = folder.path().join("x.csv");
        for length in [0, 1, SHARED_FROM - 1, SHARED_FROM, SHARED_FROM + 1, 5 * PIECE + 7] {
            let bytes: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            fs::write(&place, &bytes).expect("a file");
            let read = Input::File(place.clone(), Codec::Csv).read().expect("read");
            assert_eq!(read.codec, Codec::Csv);
            assert!(read.body == bytes, "{length}");
            assert_eq!(read.region.is_some(), length > SHARED_FROM, "{length}");
            if let Some(Region { memory, length }) = read.region {
                // What is not sealed is refused.
                let sealed = exuvia_sys::Sealed::open(memory, length).expect("sealed");
                assert!(sealed.bytes().expect("a view") == bytes);
            }
        }
    }

    #[test]
    fn what_is_no_text_is_kept_from_a_terminal_and_to_the_byte() {
        for format in &formats::FORMATS {
            let binary = ["parquet", "arrow", "arrow-stream", "npy"].contains(&format.word);
            assert_eq!(Output::stdout(format.codec, true).is_err(), binary, "{}", format.word);
            assert!(Output::stdout(format.codec, false).is_ok(), "{}", format.word);
            let end = line_end(format.codec, b"PAR1");
            assert_eq!(end, if binary { b"" } else { &b"\n"[..] }, "{}", format.word);
            assert_eq!(line_end(format.codec, b"a\n"), b"");
        }
        let stop = Output::stdout(Codec::ArrowFile, true).err().expect("an error");
        assert_eq!(
            (stop.exit, stop.message.as_str()),
            (
                Exit::Usage,
                "a result as arrow is no text and cannot go to a terminal: name a file with --out"
            )
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

        let output = Output::open(Some(&place), Some(&"parquet".to_owned())).expect("a place");
        output.write(&Payload::new(Codec::Parquet, &b"PAR1PAR1"[..])).expect("written");
        assert_eq!(fs::read(&place).expect("there"), b"PAR1PAR1");
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
