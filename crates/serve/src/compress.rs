//! Answers packed for clients that read them so (`Accept-Encoding`): text of a kilobyte and more. A
//! large one is packed a slice at a time, so that others are answered in between.

use std::{
    fmt,
    io::{self, Write as _},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, VARY},
};
use http_body_util::Full;
use hyper::body::{Body as _, Frame};

use crate::{
    answer::{Answer, Body, BrokenOff},
    decompress::Coding,
};

/// A shorter answer is not worth the work.
const LEAST: u64 = 1024;

/// The most of an answer that is packed without a pause.
const SLICE: usize = 32 << 10;

/// What is written with, the best first: it wins where a client likes several equally.
const CHOICE: [Coding; 3] = [Coding::Zstd, Coding::Brotli, Coding::Gzip];

const GZIP_LEVEL: u32 = 5;
const BROTLI_LEVEL: u32 = 4;
const ZSTD_LEVEL: i32 = 3;

/// Windows as powers of two: they are held as long as a stream lasts.
const BROTLI_WINDOW: u32 = 18;
const ZSTD_WINDOW: u32 = 19;

const BROTLI_BUFFER: usize = 4 << 10;

/// Packs what is written to it.
pub(crate) enum Packer {
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::Encoder<'static, Vec<u8>>),
}

/// A body on its way through a [`Packer`].
pub(crate) struct Packing {
    /// `None` once its end was written.
    packer: Option<Packer>,
    left: Bytes,
    /// Whether each piece goes out as soon as it is there.
    at_once: bool,
    /// A slice was packed since others had their turn.
    busy: bool,
}

/// What the client of a request with these headers reads best; `None`: it is sent as it is.
pub(crate) fn wanted(headers: &HeaderMap) -> Option<Coding> {
    let texts = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let entries: Vec<(&str, u16)> =
        texts.flat_map(|text| text.split(',')).filter_map(entry).collect();
    let quality = |name: &str| {
        let of = |word: &str| {
            let found = entries.iter().find(|(own, _)| own.eq_ignore_ascii_case(word));
            found.map(|(_, quality)| *quality)
        };
        of(name).or_else(|| of("*")).unwrap_or(0)
    };
    let plain = entries.iter().find(|(own, _)| own.eq_ignore_ascii_case("identity"));
    let plain = plain.map_or(0, |(_, quality)| *quality);
    let mut best = None;
    for coding in CHOICE {
        let quality = quality(coding.name());
        if quality > 0 && best.is_none_or(|(_, best)| quality > best) {
            best = Some((coding, quality));
        }
    }
    best.filter(|(_, quality)| *quality >= plain).map(|(coding, _)| coding)
}

/// A coding and its quality in thousandths. One whose quality cannot be read says nothing.
fn entry(text: &str) -> Option<(&str, u16)> {
    let (name, parameters) = text.split_once(';').unwrap_or((text, ""));
    let quality = match parameters.trim() {
        "" => 1.0,
        given => given.strip_prefix("q=").or_else(|| given.strip_prefix("Q="))?.parse().ok()?,
    };
    let fits = (0.0..=1.0_f32).contains(&quality) && !name.trim().is_empty();
    fits.then_some((name.trim(), (quality * 1000.0) as u16))
}

/// Packs `answer` with `wanted`, where that is of use; what is left to pack while it is sent comes
/// back with it.
pub(crate) fn pack(answer: &mut Answer, wanted: Option<Coding>) -> Option<Packing> {
    let headers = answer.headers();
    let text = headers.get(CONTENT_TYPE).is_some_and(is_text);
    if !text || headers.contains_key(CONTENT_ENCODING) {
        return None;
    }
    let length = answer.body().size_hint().exact();
    if length.is_some_and(|length| length < LEAST) || !has_all(answer.status()) {
        return None;
    }
    // Also of an answer that is not packed: another client would get it packed.
    answer.headers_mut().append(VARY, HeaderValue::from_static("accept-encoding"));
    let coding = wanted?;
    let packer = match Packer::new(coding) {
        Ok(packer) => packer,
        Err(error) => {
            tracing::debug!("an answer is not packed: {error}");
            return None;
        }
    };
    let mut packing = Packing {
        packer: Some(packer),
        left: Bytes::new(),
        at_once: length.is_none(),
        busy: false,
    };
    if length.is_some_and(|length| length <= SLICE as u64) {
        *answer.body_mut() = whole(answer.body_mut(), &mut packing)?;
        describe(answer.headers_mut(), coding);
        return None;
    }
    describe(answer.headers_mut(), coding);
    Some(packing)
}

/// A short answer, packed.
fn whole(body: &mut Body, packing: &mut Packing) -> Option<Body> {
    let Body::Whole(full) = body else { return None };
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut *full).poll_frame(&mut cx) else {
        return None;
    };
    let plain = frame.into_data().unwrap_or_default();
    let packed = packing.packer.take().map(|packer| packer.all(&plain));
    match packed {
        Some(Ok(packed)) => Some(Body::from(Bytes::from(packed))),
        // It is sent as it is.
        _ => {
            *full = Full::new(plain);
            None
        }
    }
}

/// Says that what follows is packed.
fn describe(headers: &mut HeaderMap, coding: Coding) {
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    headers.remove(CONTENT_LENGTH);
    // Other bytes under the same strong tag would be a lie.
    if let Some(tag) = headers.get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/"))
        && let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat())
    {
        headers.insert(ETAG, weak);
    }
}

/// Whether an answer with this status has all of what it speaks of.
fn has_all(status: StatusCode) -> bool {
    !matches!(
        status,
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED | StatusCode::PARTIAL_CONTENT
    )
}

/// Whether that packs well. Formats for tables have their own compression.
fn is_text(media: &HeaderValue) -> bool {
    let media = media.to_str().unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim();
    media.starts_with("text/")
        || media.ends_with("+json")
        || media.ends_with("+xml")
        || matches!(
            media,
            "application/json"
                | "application/x-ndjson"
                | "application/ndjson"
                | "application/jsonl"
                | "application/csv"
                | "application/xml"
                | "application/javascript"
                | "application/yaml"
                | "application/openmetrics-text"
        )
}

// === impl Packing ===

impl Packing {
    /// The next frame of `body`, packed.
    pub(crate) fn poll_frame(
        &mut self,
        body: &mut Body,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        loop {
            if !self.left.is_empty() {
                if self.busy {
                    self.busy = false;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                match self.slice() {
                    Ok(packed) if packed.is_empty() => continue,
                    Ok(packed) => return Poll::Ready(Some(Ok(Frame::data(packed.into())))),
                    Err(error) => return Poll::Ready(Some(Err(broken(&error)))),
                }
            }
            if self.packer.is_none() {
                return Poll::Ready(None);
            }
            match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                Some(Ok(frame)) => self.left = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    let end = self.packer.take().map(Packer::finish).transpose();
                    let end = end.map_err(|error| broken(&error)).map(Option::unwrap_or_default);
                    return Poll::Ready(Some(end.map(|end| Frame::data(end.into()))));
                }
            }
        }
    }

    /// Packs some of what is left.
    fn slice(&mut self) -> io::Result<Vec<u8>> {
        let Some(packer) = &mut self.packer else { return Ok(Vec::new()) };
        let slice = self.left.split_to(self.left.len().min(SLICE));
        packer.write(&slice)?;
        self.busy = !self.left.is_empty() || !self.at_once;
        if self.at_once && self.left.is_empty() {
            packer.flush()?;
        }
        Ok(packer.take())
    }
}

fn broken(error: &io::Error) -> BrokenOff {
    tracing::error!("an answer could not be packed: {error}");
    BrokenOff
}

// === impl Packer ===

impl Packer {
    fn new(coding: Coding) -> io::Result<Self> {
        let to = Vec::new();
        match coding {
            Coding::Brotli => {
                let (level, window) = (BROTLI_LEVEL, BROTLI_WINDOW);
                let packer = brotli::CompressorWriter::new(to, BROTLI_BUFFER, level, window);
                Ok(Self::Brotli(Box::new(packer)))
            }
            Coding::Zstd => {
                let mut packer = zstd::Encoder::new(to, ZSTD_LEVEL)?;
                packer.window_log(ZSTD_WINDOW)?;
                Ok(Self::Zstd(packer))
            }
            Coding::Gzip | Coding::Deflate => {
                let level = flate2::Compression::new(GZIP_LEVEL);
                Ok(Self::Gzip(flate2::write::GzEncoder::new(to, level)))
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Gzip(packer) => packer.write_all(bytes),
            Self::Brotli(packer) => packer.write_all(bytes),
            Self::Zstd(packer) => packer.write_all(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Gzip(packer) => packer.flush(),
            Self::Brotli(packer) => packer.flush(),
            Self::Zstd(packer) => packer.flush(),
        }
    }

    /// What was packed since the last time.
    fn take(&mut self) -> Vec<u8> {
        std::mem::take(match self {
            Self::Gzip(packer) => packer.get_mut(),
            Self::Brotli(packer) => packer.get_mut(),
            Self::Zstd(packer) => packer.get_mut(),
        })
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(packer) => packer.finish(),
            Self::Brotli(packer) => Ok(packer.into_inner()),
            Self::Zstd(packer) => packer.finish(),
        }
    }

    fn all(mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        self.write(bytes)?;
        self.finish()
    }
}

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Packer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coding_is_the_one_the_client_reads_best() {
        for (text, coding) in [
            ("gzip", Some(Coding::Gzip)),
            ("gzip, deflate, br, zstd", Some(Coding::Zstd)),
            ("gzip, deflate, br", Some(Coding::Brotli)),
            ("gzip;q=1.0, br;q=0.5, zstd;q=0.1", Some(Coding::Gzip)),
            ("GZIP ; q=0.3", Some(Coding::Gzip)),
            ("*", Some(Coding::Zstd)),
            ("*;q=0.5, zstd;q=0", Some(Coding::Brotli)),
            ("identity;q=0, gzip", Some(Coding::Gzip)),
            ("identity, gzip;q=0.5", None),
            ("identity;q=0.5, gzip;q=0.5", Some(Coding::Gzip)),
            ("gzip;q=0", None),
            ("gzip;q=much", None),
            ("gzip;q=2", None),
            ("deflate", None),
            ("identity", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(text));
            assert_eq!(wanted(&headers), coding, "{text}");
        }
        assert_eq!(wanted(&HeaderMap::new()), None);
    }

    fn answer(media: &'static str, status: u16, length: usize) -> Answer {
        let mut answer = Answer::new(Body::from(Bytes::from(vec![b'a'; length])));
        *answer.status_mut() = StatusCode::from_u16(status).expect("a status");
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
        answer
    }

    #[test]
    fn text_is_packed_from_a_kilobyte_on_and_nothing_else() {
        for (media, status, length, packed) in [
            ("application/json", 200, 1024, true),
            ("application/json; table=rows", 200, 5000, true),
            ("application/problem+json", 422, 5000, true),
            ("text/event-stream", 200, 5000, true),
            ("application/x-ndjson", 200, 500_000, true),
            ("application/json", 200, 1023, false),
            ("application/json", 206, 5000, false),
            ("application/vnd.apache.arrow.stream", 200, 5000, false),
            ("application/vnd.apache.parquet", 200, 5000, false),
            ("application/x-npy", 200, 5000, false),
            ("image/png", 200, 5000, false),
        ] {
            let mut answer = answer(media, status, length);
            let later = pack(&mut answer, Some(Coding::Gzip)).is_some();
            assert_eq!(answer.headers().contains_key(CONTENT_ENCODING), packed, "{media} {length}");
            assert_eq!(answer.headers().contains_key(VARY), packed, "{media} {length}");
            assert_eq!(later, packed && length > SLICE, "{media} {length}");
        }
    }

    #[test]
    fn a_packed_answer_has_a_weak_tag_and_one_that_is_not_says_that_others_are() {
        let mut packed = answer("text/css", 200, 5000);
        packed.headers_mut().insert(ETAG, HeaderValue::from_static("\"a\""));
        pack(&mut packed, Some(Coding::Zstd));
        assert_eq!(packed.headers()[ETAG], "W/\"a\"");
        let mut plain = answer("text/css", 200, 5000);
        pack(&mut plain, None);
        assert_eq!(plain.headers()[VARY], "accept-encoding");
        assert!(!plain.headers().contains_key(CONTENT_ENCODING));
    }
}
