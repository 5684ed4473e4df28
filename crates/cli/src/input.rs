//! The input of `call`: what it holds, and bringing it to the worker: whole, above [`SHARED_FROM`] in
//! memory that the worker maps; or piece by piece, where the function reads.

use std::{
    fmt,
    fs::File,
    io::{self, BufReader, Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use exuvia_core::{Codec, Feed, Payload, SHARED_FROM};
use exuvia_sys::{Spill, Spilled};
use tokio::sync::oneshot;

use crate::{
    exit::{Exit, Stop},
    formats,
};

/// The most that is read at a time of what goes into shared memory.
const PIECE: usize = 256 << 10;

/// The most bytes of a piece that is fed.
const FED_PIECE: usize = 64 << 10;

/// Where the input comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    None,
    Stdin(Codec),
    File(PathBuf, Codec),
}

/// Input that was found.
pub(crate) enum Source {
    There(Payload),
    /// It can be read from the front, so a function that reads need not wait for all of it.
    Open(Open),
}

/// Input of which nothing was read yet.
pub(crate) struct Open {
    from: Box<dyn Read + Send>,
    name: String,
    codec: Codec,
}

/// A thread that feeds a call. It ends with the input, when the worker wants no more, or with the
/// process.
pub(crate) struct Feeding(Option<oneshot::Receiver<Broken>>);

/// Input that broke off. While this lives the worker waits for more, so that it cannot fail before
/// the person is told why.
#[derive(Debug)]
struct Broken {
    stop: Stop,
    _socket: UnixStream,
}

// === impl Input ===

impl Input {
    /// `flag` is the one that names the file.
    pub(crate) fn of(
        flag: &str,
        file: Option<&PathBuf>,
        format: Option<&String>,
    ) -> Result<Self, Stop> {
        let format = format.and_then(|word| formats::of_word(word));
        match file {
            None if format.is_some() => Err(Stop::usage(format!(
                "--{flag}-format says what --{flag} holds, but there is no --{flag}"
            ))),
            None => Ok(Self::None),
            Some(file) if file.as_os_str() == "-" => Ok(Self::Stdin(format.unwrap_or(Codec::Json))),
            Some(file) => {
                let codec = format.map_or_else(|| formats::of_file(flag, file), Ok)?;
                Ok(Self::File(file.clone(), codec))
            }
        }
    }

    /// Finds it, and reads all of what cannot be read from the front. May block.
    pub(crate) fn open(self) -> Result<Source, Stop> {
        let open = match self {
            Self::None => return Ok(Source::There(Payload::default())),
            Self::Stdin(codec) => Open { from: Box::new(io::stdin()), name: "stdin".into(), codec },
            Self::File(path, codec) => {
                let file = File::open(&path).map_err(|error| not_there(&path, &error))?;
                let name = format!("the input {}", path.display());
                Open { from: Box::new(file), name, codec }
            }
        };
        match open.codec {
            Codec::ArrowStream | Codec::Csv | Codec::Ndjson => Ok(Source::Open(open)),
            _ => open.read().map(Source::There),
        }
    }
}

fn not_there(path: &Path, error: &io::Error) -> Stop {
    match error.kind() {
        io::ErrorKind::NotFound => {
            Stop::new(Exit::Input, format!("the input {} is not there", path.display()))
        }
        _ => unreadable(format_args!("the input {}", path.display()), error),
    }
}

fn unreadable(name: impl fmt::Display, error: &io::Error) -> Stop {
    Stop::new(Exit::Input, format!("{name} cannot be read: {error}"))
}

// === impl Source ===

impl Source {
    /// All of it. May block.
    pub(crate) fn read(self) -> Result<Payload, Stop> {
        match self {
            Self::There(payload) => Ok(payload),
            Self::Open(open) => open.read(),
        }
    }

    /// What is there of it; the rest is brought while the call runs.
    pub(crate) fn feed(self) -> Result<(Payload, Feeding), Stop> {
        match self {
            Self::There(payload) => Ok((payload, Feeding(None))),
            Self::Open(open) => open.feed(),
        }
    }
}

// === impl Open ===

impl Open {
    fn read(self) -> Result<Payload, Stop> {
        let Self { from, name, codec } = self;
        gathered(from, codec).map_err(|error| unreadable(name, &error))
    }

    fn feed(self) -> Result<(Payload, Feeding), Stop> {
        let codec = self.codec;
        let cannot = |error: io::Error| Stop::new(Exit::Internal, format!("no feed: {error}"));
        let (ours, theirs) = UnixStream::pair().map_err(cannot)?;
        let (tell, broken) = oneshot::channel();
        let bring = move || {
            if let Err(broken) = self.bring(ours) {
                // Nobody listens where the call has ended.
                let _ = tell.send(broken);
            }
        };
        thread::Builder::new().name("feed".into()).spawn(bring).map_err(cannot)?;
        let feed = Some(Feed(Arc::new(OwnedFd::from(theirs))));
        Ok((Payload { feed, ..Payload::new(codec, "") }, Feeding(Some(broken))))
    }

    /// Brings all of it, as it comes, to the other end of `socket`.
    fn bring(mut self, mut socket: UnixStream) -> Result<(), Broken> {
        let mut piece = vec![0; FED_PIECE];
        loop {
            let read = match self.from.read(&mut piece) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let stop = unreadable(&self.name, &error);
                    return Err(Broken { stop, _socket: socket });
                }
            };
            // A piece is far shorter than 4 GiB, and one without bytes is the end.
            let length = (read as u32).to_le_bytes();
            let written = socket.write_all(&length).and_then(|()| socket.write_all(&piece[..read]));
            // Where it fails the worker wants no more.
            if read == 0 || written.is_err() {
                return Ok(());
            }
        }
    }
}

// === impl Feeding ===

impl Feeding {
    /// Nothing is fed.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// Ends when the input breaks off, and else never.
    pub(crate) async fn broken(&mut self) -> Stop {
        if let Some(broken) = &mut self.0
            && let Ok(broken) = broken.await
        {
            self.0 = None;
            return broken.stop;
        }
        // It was brought, or there was none.
        self.0 = None;
        std::future::pending().await
    }
}

/// All that `from` gives.
fn gathered(from: impl Read, codec: Codec) -> io::Result<Payload> {
    let mut spill = Spill::new(SHARED_FROM);
    io::copy(&mut BufReader::with_capacity(PIECE, from), &mut spill)?;
    match spill.finish()? {
        Spilled::Few(bytes) => Ok(Payload::new(codec, bytes)),
        Spilled::Many(sealed) => {
            Ok(Payload::in_memory(codec, sealed.memory().clone(), sealed.bytes()?))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use exuvia_core::Region;

    use super::*;

    #[test]
    fn the_ending_or_the_flag_says_the_format() {
        let input = |file: &str, format: Option<&str>| {
            Input::of("in", Some(&file.into()), format.map(str::to_owned).as_ref())
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
        assert!(Input::of("in", None, Some(&"json".to_owned())).is_err());
    }

    #[test]
    fn a_missing_input_is_an_input_error() {
        let input = Input::File("/nowhere/x.json".into(), Codec::Json);
        let stop = input.open().err().expect("not there");
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
            let read =
                Input::File(place.clone(), Codec::Csv).open().and_then(Source::read).expect("read");
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

    /// What a feed brings, as a worker reads it: the pieces, and whether they came to their end.
    fn fed(payload: Payload) -> (Vec<Vec<u8>>, bool) {
        let Feed(socket) = payload.feed.expect("a feed");
        let mut socket = File::from(Arc::into_inner(socket).expect("the only one"));
        let mut pieces = Vec::new();
        loop {
            let mut length = [0; 4];
            if socket.read_exact(&mut length).is_err() {
                return (pieces, false);
            }
            let mut piece = vec![0; u32::from_le_bytes(length) as usize];
            if piece.is_empty() {
                return (pieces, true);
            }
            socket.read_exact(&mut piece).expect("a piece");
            pieces.push(piece);
        }
    }

    #[test]
    fn what_can_be_read_from_the_front_is_fed_and_the_rest_is_there() {
        let folder = tempfile::TempDir::new().expect("a temporary folder");
        for format in &formats::FORMATS {
            let place = folder.path().join(format.word);
            let bytes: Vec<u8> = (0..200_000).map(|n| (n % 251) as u8).collect();
            fs::write(&place, &bytes).expect("a file");
            let source = Input::File(place, format.codec).open().expect("open");
            let (payload, _feeding) = source.feed().expect("a feed");
            assert_eq!(payload.codec, format.codec);
            if ["arrow-stream", "csv", "ndjson"].contains(&format.word) {
                let (pieces, ended) = fed(payload);
                assert!(pieces.concat() == bytes && ended, "{}", format.word);
                assert!(pieces.iter().all(|piece| piece.len() <= 64 << 10));
            } else {
                assert!(payload.feed.is_none() && payload.body == bytes, "{}", format.word);
            }
        }
    }

    #[test]
    fn input_that_breaks_off_is_told_before_its_worker_can_fail() {
        struct Breaks(usize);
        impl Read for Breaks {
            fn read(&mut self, mut piece: &mut [u8]) -> io::Result<usize> {
                self.0 += 1;
                match self.0 {
                    1 => Err(io::ErrorKind::Interrupted.into()),
                    2 => piece.write(b"a,b\n"),
                    _ => Err(io::Error::other("the disk is gone")),
                }
            }
        }
        let open = Open { from: Box::new(Breaks(0)), name: "stdin".into(), codec: Codec::Csv };
        let (payload, mut feeding) = open.feed().expect("a feed");
        let runtime = crate::start::event_loop().expect("an event loop");
        let stop = runtime.block_on(feeding.broken());
        assert_eq!(
            (stop.exit, stop.message.as_str()),
            (Exit::Input, "stdin cannot be read: the disk is gone")
        );
        assert_eq!(fed(payload), (vec![b"a,b\n".to_vec()], false));
    }
}
