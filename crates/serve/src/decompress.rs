//! Bodies that come packed (`Content-Encoding`), unpacked a piece at a time: a few bytes may stand
//! for gigabytes, so nothing is unpacked before there is room for it.

use std::io::{self, BufRead, Read};

use bytes::{Buf as _, Bytes};
use flate2::bufread::{MultiGzDecoder, ZlibDecoder};
use http::{HeaderMap, header::CONTENT_ENCODING};

/// The most bytes of one piece.
pub(crate) const PIECE: usize = 64 << 10;

/// The largest window of zstd, as a power of two: 8 MiB, the most that HTTP allows (RFC 9659).
const ZSTD_WINDOW: u32 = 23;

/// How many bytes brotli reads at a time.
const BROTLI_BUFFER: usize = 4 << 10;

/// How a body is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    /// What HTTP calls `deflate` has zlib's header.
    Deflate,
    Brotli,
    Zstd,
}

/// Why a body could not be unpacked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum UnpackError {
    /// It is more than the limit.
    TooLarge,
    /// It is not what it says it is.
    Broken(String),
}

/// Takes packed bytes, gives what was packed.
pub(crate) struct Unpacker {
    decoder: Decoder,
    coding: Coding,
    /// Something came.
    begun: bool,
    /// What was packed has ended.
    ended: bool,
    /// Bytes that may still come of it.
    left: u64,
}

enum Decoder {
    Gzip(MultiGzDecoder<Fed>),
    Deflate(ZlibDecoder<Fed>),
    Brotli(Box<brotli::Decompressor<Fed>>),
    Zstd(zstd::Decoder<'static, Fed>),
}

/// The packed bytes that are there. Where more are to come, reading on would block.
#[derive(Default)]
struct Fed {
    bytes: Bytes,
    whole: bool,
}

/// How a body with these headers is packed; `None`: it is not.
///
/// # Errors
/// Why it cannot be unpacked, in a sentence.
pub(crate) fn coding(headers: &HeaderMap) -> Result<Option<Coding>, String> {
    if !headers.contains_key(CONTENT_ENCODING) {
        return Ok(None);
    }
    let mut found = None;
    for value in headers.get_all(CONTENT_ENCODING) {
        let text = value.to_str().unwrap_or("?");
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            if word.eq_ignore_ascii_case("identity") {
                continue;
            }
            let coding = named(word).ok_or_else(|| {
                let shown: String = word.chars().take(100).collect();
                format!(
                    "bodies may be packed with gzip, deflate, br or zstd, and this one says \
                     Content-Encoding: {shown}"
                )
            })?;
            if found.replace(coding).is_some() {
                return Err("a body may be packed once, and this one was more often".to_owned());
            }
        }
    }
    Ok(found)
}

fn named(word: &str) -> Option<Coding> {
    let is = |name: &str| word.eq_ignore_ascii_case(name);
    if is("gzip") || is("x-gzip") {
        Some(Coding::Gzip)
    } else if is("deflate") {
        Some(Coding::Deflate)
    } else if is("br") {
        Some(Coding::Brotli)
    } else if is("zstd") {
        Some(Coding::Zstd)
    } else {
        None
    }
}

// === impl Unpacker ===

impl Unpacker {
    /// Unpacks what is packed with `coding` and may be `max` bytes.
    ///
    /// # Errors
    /// As zstd, which has to be given memory.
    pub(crate) fn new(coding: Coding, max: u64) -> io::Result<Self> {
        let fed = Fed::default();
        let decoder = match coding {
            Coding::Gzip => Decoder::Gzip(MultiGzDecoder::new(fed)),
            Coding::Deflate => Decoder::Deflate(ZlibDecoder::new(fed)),
            Coding::Brotli => {
                Decoder::Brotli(Box::new(brotli::Decompressor::new(fed, BROTLI_BUFFER)))
            }
            Coding::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(fed)?;
                decoder.window_log_max(ZSTD_WINDOW)?;
                Decoder::Zstd(decoder)
            }
        };
        Ok(Self { decoder, coding, begun: false, ended: false, left: max })
    }

    /// More of what is packed. What was given before must be used up: see [`next`](Self::next).
    pub(crate) fn feed(&mut self, bytes: Bytes) {
        self.begun |= !bytes.is_empty();
        self.fed().bytes = bytes;
    }

    /// Nothing more will be fed.
    pub(crate) fn finish(&mut self) {
        self.fed().whole = true;
    }

    /// The next piece; `None` where more has to be fed, or where all was unpacked.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, UnpackError> {
        if self.ended || !self.begun {
            return self.checked_end();
        }
        let mut piece = vec![0; PIECE];
        match self.decoder.read(&mut piece) {
            Ok(0) => {
                self.ended = true;
                self.checked_end()
            }
            Ok(length) => {
                self.left = self.left.checked_sub(length as u64).ok_or(UnpackError::TooLarge)?;
                piece.truncate(length);
                if length < PIECE / 4 {
                    piece.shrink_to_fit();
                }
                Ok(Some(piece.into()))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(self.broken(&error.to_string())),
        }
    }

    /// Nothing, unless bytes follow the end.
    fn checked_end(&mut self) -> Result<Option<Bytes>, UnpackError> {
        if self.fed().bytes.is_empty() {
            Ok(None)
        } else {
            Err(self.broken("bytes follow its end"))
        }
    }

    fn broken(&self, why: &str) -> UnpackError {
        UnpackError::Broken(format!("the body is not what {} makes: {why}", self.coding.name()))
    }

    fn fed(&mut self) -> &mut Fed {
        match &mut self.decoder {
            Decoder::Gzip(decoder) => decoder.get_mut(),
            Decoder::Deflate(decoder) => decoder.get_mut(),
            Decoder::Brotli(decoder) => decoder.get_mut(),
            Decoder::Zstd(decoder) => decoder.get_mut(),
        }
    }
}

// === impl Coding ===

impl Coding {
    /// Its name in `Content-Encoding`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }
}

// === impl Decoder ===

impl Read for Decoder {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Deflate(decoder) => decoder.read(buffer),
            Self::Brotli(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

// === impl Fed ===

impl Read for Fed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let there = self.fill_buf()?;
        let length = there.len().min(buffer.len());
        buffer[..length].copy_from_slice(&there[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Fed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.bytes.is_empty() && !self.whole {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(&self.bytes)
    }

    fn consume(&mut self, length: usize) {
        self.bytes.advance(length);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const ALL: [Coding; 4] = [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd];

    fn packed(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        match coding {
            Coding::Gzip => {
                let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                to.write_all(bytes).expect("memory");
                to.finish().expect("memory")
            }
            Coding::Deflate => {
                let mut to =
                    flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
                to.write_all(bytes).expect("memory");
                to.finish().expect("memory")
            }
            Coding::Brotli => {
                let mut to = brotli::CompressorWriter::new(Vec::new(), 4096, 3, 20);
                to.write_all(bytes).expect("memory");
                to.into_inner()
            }
            Coding::Zstd => zstd::encode_all(bytes, 1).expect("memory"),
        }
    }

    /// All that comes of `bytes` fed in pieces of this size.
    fn unpacked(
        coding: Coding,
        bytes: &[u8],
        size: usize,
        max: u64,
    ) -> Result<Vec<u8>, UnpackError> {
        let mut unpacker = Unpacker::new(coding, max).expect("memory");
        let mut all = Vec::new();
        for piece in bytes.chunks(size) {
            unpacker.feed(Bytes::copy_from_slice(piece));
            while let Some(piece) = unpacker.next()? {
                assert!(piece.len() <= PIECE);
                all.extend_from_slice(&piece);
            }
        }
        unpacker.finish();
        while let Some(piece) = unpacker.next()? {
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }

    fn is_broken(result: &Result<Vec<u8>, UnpackError>) -> bool {
        matches!(result, Err(UnpackError::Broken(_)))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_was_packed_comes_back_however_it_is_cut(
            bytes in prop::collection::vec(0u8..4, 0..100_000), size in 50usize..5000,
        ) {
            for coding in ALL {
                let result = unpacked(coding, &packed(coding, &bytes), size, 1 << 20);
                prop_assert!(result.as_ref() == Ok(&bytes), "{coding:?}");
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 1..2000)) {
            for coding in ALL {
                let _ = unpacked(coding, &bytes, 100, 1 << 20);
            }
        }
    }

    #[test]
    fn what_breaks_off_is_not_taken_for_the_whole() {
        let bytes: Vec<u8> = (0..50_000u32).flat_map(|n| (n * n).to_le_bytes()).collect();
        for coding in ALL {
            let packed = packed(coding, &bytes);
            for length in [1, 2, packed.len() / 2, packed.len() - 1] {
                let result = unpacked(coding, &packed[..length], 1000, 1 << 20);
                assert!(is_broken(&result), "{coding:?} {length}");
            }
        }
    }

    #[test]
    fn what_follows_the_end_is_refused() {
        // brotli's reader has read what follows before it knows of the end.
        for coding in [Coding::Gzip, Coding::Deflate, Coding::Zstd] {
            let mut packed = packed(coding, b"[1]");
            packed.extend_from_slice(b"and more");
            for size in [1, 7, 1000] {
                assert!(is_broken(&unpacked(coding, &packed, size, 1000)), "{coding:?} {size}");
            }
        }
    }

    #[test]
    fn gzip_and_zstd_may_come_in_several_members() {
        for coding in [Coding::Gzip, Coding::Zstd] {
            let two = [packed(coding, b"[1,"), packed(coding, b"2]")].concat();
            assert_eq!(unpacked(coding, &two, 5, 1000), Ok(b"[1,2]".to_vec()), "{coding:?}");
        }
    }

    #[test]
    fn a_little_that_becomes_much_is_stopped_at_the_limit() {
        let zeros = vec![0; 8 << 20];
        for coding in ALL {
            let packed = packed(coding, &zeros);
            assert!(packed.len() < 100_000, "{coding:?}");
            let result = unpacked(coding, &packed, 1 << 20, 1 << 20);
            assert_eq!(result, Err(UnpackError::TooLarge), "{coding:?}");
            assert_eq!(unpacked(coding, &packed, 1 << 20, 8 << 20).as_ref(), Ok(&zeros));
        }
    }

    #[test]
    fn a_window_larger_than_http_allows_is_refused() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("memory");
        encoder.window_log(27).expect("a window");
        encoder.write_all(&vec![7; 100_000]).expect("memory");
        let packed = encoder.finish().expect("memory");
        assert!(is_broken(&unpacked(Coding::Zstd, &packed, 1000, 1 << 20)));
    }

    #[test]
    fn nothing_packed_is_nothing() {
        for coding in ALL {
            assert_eq!(unpacked(coding, b"", 1, 10), Ok(Vec::new()));
        }
    }

    #[test]
    fn one_coding_is_read_and_any_other_refused() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                let value = HeaderValue::from_str(value).expect("a value");
                headers.append(CONTENT_ENCODING, value);
            }
            coding(&headers)
        };
        for (values, coding) in [
            (&["gzip"][..], Some(Coding::Gzip)),
            (&["X-GZIP"], Some(Coding::Gzip)),
            (&["deflate"], Some(Coding::Deflate)),
            (&["br"], Some(Coding::Brotli)),
            (&["identity, zstd"], Some(Coding::Zstd)),
            (&["identity"], None),
            (&[""], None),
            (&[], None),
        ] {
            assert_eq!(of(values), Ok(coding), "{values:?}");
        }
        for values in [&["gzip, gzip"][..], &["gzip", "br"], &["compress"], &["gzip;q=1"]] {
            assert!(of(values).is_err(), "{values:?}");
        }
    }
}
