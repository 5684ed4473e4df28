//! The result of `call`: writing it as it comes, so that a failed call loses nothing.

use std::{
    fs::{self, Permissions},
    io::{self, IsTerminal, Write},
    ops::ControlFlow,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use exuvia_core::Codec;
use tempfile::NamedTempFile;

use crate::{exit::Stop, formats, json, start::aside, terminal};

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

/// A result that is being written.
pub(crate) struct Writing {
    to: Output,
    /// What the result is written in.
    codec: Codec,
    /// The last byte so far.
    last: Option<u8>,
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

    /// Begins to write a result in `codec`.
    pub(crate) fn begin(self, codec: Codec) -> Writing {
        Writing { to: self, codec, last: None }
    }
}

// === impl Writing ===

impl Writing {
    /// Writes a result that is there whole, for people to read where there are some.
    pub(crate) async fn whole(self, body: Bytes) -> Result<(), Stop> {
        let stdout = matches!(self.to, Output::Stdout(_));
        let for_people = stdout && formats::is_json(self.codec) && io::stdout().is_terminal();
        let body = if for_people { json::indent(&body).into() } else { body };
        let (writing, _) = self.piece(body).await?;
        writing.end().await
    }

    /// Writes a piece. It breaks where nobody reads any more.
    pub(crate) async fn piece(mut self, piece: Bytes) -> Result<(Self, ControlFlow<()>), Stop> {
        aside(move || {
            let flow = self.write(&piece)?;
            self.last = piece.last().copied().or(self.last);
            Ok((self, flow))
        })
        .await?
    }

    /// Ends the last line, and puts a file in its place.
    pub(crate) async fn end(mut self) -> Result<(), Stop> {
        aside(move || {
            // Whether somebody reads it or not, this is the end.
            let _ = self.write(line_end(self.codec, self.last))?;
            match self.to {
                Output::Stdout(_) => Ok(()),
                Output::File { temporary, place, .. } => {
                    let put = || {
                        // Else a machine that stops now could keep the new name and lose the bytes.
                        temporary.as_file().sync_all()?;
                        temporary.persist(&place).map(drop).map_err(|error| error.error)
                    };
                    put().map_err(|error| cannot_write(&place, &error))
                }
            }
        })
        .await?
    }

    fn write(&mut self, bytes: &[u8]) -> Result<ControlFlow<()>, Stop> {
        match &mut self.to {
            Output::Stdout(_) => terminal::piece(bytes)
                .map_err(|error| Stop::usage(format!("stdout cannot be written: {error}"))),
            Output::File { temporary, place, .. } => temporary
                .write_all(bytes)
                .map(ControlFlow::Continue)
                .map_err(|error| cannot_write(place, &error)),
        }
    }
}

/// What ends the last line of a result: nothing where it has ended, or where there are no lines.
fn line_end(codec: Codec, last: Option<u8>) -> &'static [u8] {
    let open = last.is_some_and(|last| last != b'\n');
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
    use crate::exit::Exit;

    fn write(output: Output, codec: Codec, body: &'static [u8]) {
        let runtime = crate::start::event_loop().expect("an event loop");
        let whole = output.begin(codec).whole(Bytes::from_static(body));
        runtime.block_on(whole).expect("written");
    }

    #[test]
    fn what_is_no_text_is_kept_from_a_terminal_and_to_the_byte() {
        for format in &formats::FORMATS {
            let binary = ["parquet", "arrow", "arrow-stream", "npy"].contains(&format.word);
            assert_eq!(Output::stdout(format.codec, true).is_err(), binary, "{}", format.word);
            assert!(Output::stdout(format.codec, false).is_ok(), "{}", format.word);
            let end = line_end(format.codec, Some(b'1'));
            assert_eq!(end, if binary { b"" } else { &b"\n"[..] }, "{}", format.word);
            assert_eq!(line_end(format.codec, Some(b'\n')), b"");
            assert_eq!(line_end(format.codec, None), b"");
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
        write(output, Codec::Json, b"[1]");
        assert_eq!((fs::read_to_string(&place).expect("there").as_str(), names()), ("[1]\n", 1));
        let mode = fs::metadata(&place).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o640);

        let output = Output::open(Some(&place), Some(&"parquet".to_owned())).expect("a place");
        write(output, Codec::Parquet, b"PAR1PAR1");
        assert_eq!(fs::read(&place).expect("there"), b"PAR1PAR1");

        let output = Output::open(Some(&place), None).expect("a place");
        let runtime = crate::start::event_loop().expect("an event loop");
        let writing = runtime.block_on(async {
            let (writing, _) = output.begin(Codec::Csv).piece("a,b\n".into()).await?;
            writing.piece("1,2".into()).await
        });
        assert_eq!((fs::read(&place).expect("there"), names()), (b"PAR1PAR1".to_vec(), 2));
        let (writing, flow) = writing.expect("written");
        assert!(flow.is_continue());
        runtime.block_on(writing.end()).expect("put in its place");
        assert_eq!((fs::read(&place).expect("there"), names()), (b"a,b\n1,2\n".to_vec(), 1));
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
