//! Files that are part of the program: with `ETag`, and in parts (RFC 9110, 13 and 14).

use std::{
    collections::hash_map::DefaultHasher,
    hash::Hasher as _,
    ops::{Range, RangeInclusive},
    sync::OnceLock,
};

use bytes::Bytes;
use exuvia_core::CallIds;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{
        ACCEPT_RANGES, CACHE_CONTROL, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH, IF_RANGE,
        RANGE,
    },
};

use crate::{
    answer::Answer,
    problem::{Problem, answer as respond},
};

/// A file that never changes while the program runs.
#[derive(Debug)]
pub(crate) struct File {
    bytes: &'static [u8],
    media: &'static str,
    tag: OnceLock<HeaderValue>,
}

/// What of a file is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    All,
    Some(Range<usize>),
    /// Something beyond its end.
    Beyond,
}

// === impl File ===

impl File {
    pub(crate) const fn new(bytes: &'static [u8], media: &'static str) -> Self {
        Self { bytes, media, tag: OnceLock::new() }
    }

    /// The answer to a `GET` or `HEAD` with these headers, whose map becomes the answer's.
    pub(crate) fn answer(&self, method: &Method, mut headers: HeaderMap, ids: &CallIds) -> Answer {
        let tag = self.tag();
        let known = any(&headers, &IF_NONE_MATCH, |one| one == "*" || is_weakly(one, tag));
        let part = if *method == Method::GET { self.part(&headers) } else { Part::All };
        headers.clear();
        if known {
            self.describe(&mut headers);
            return respond(headers, StatusCode::NOT_MODIFIED, Bytes::new());
        }
        let length = self.bytes.len();
        match part {
            Part::All => {
                self.describe(&mut headers);
                respond(headers, StatusCode::OK, Bytes::from_static(self.bytes))
            }
            Part::Some(range) => {
                self.describe(&mut headers);
                let (first, last) = (range.start, range.end - 1);
                put(&mut headers, CONTENT_RANGE, format!("bytes {first}-{last}/{length}"));
                let body = Bytes::from_static(self.bytes).slice(range);
                respond(headers, StatusCode::PARTIAL_CONTENT, body)
            }
            Part::Beyond => {
                let mut answer = beyond(length).into_answer(headers, ids.next());
                put(answer.headers_mut(), CONTENT_RANGE, format!("bytes */{length}"));
                answer
            }
        }
    }

    /// The headers of every answer that shows it.
    fn describe(&self, headers: &mut HeaderMap) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.media));
        headers.insert(ETAG, self.tag().clone());
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        // Another version of the program has other files at the same paths: ask each time.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }

    fn tag(&self) -> &HeaderValue {
        self.tag.get_or_init(|| {
            let mut hasher = DefaultHasher::new();
            hasher.write(self.bytes);
            let text = format!("\"{:x}-{:016x}\"", self.bytes.len(), hasher.finish());
            HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("\"\""))
        })
    }

    fn part(&self, headers: &HeaderMap) -> Part {
        let Some(range) = headers.get(RANGE) else { return Part::All };
        // A part is only of use to whom the rest is known as it is now.
        if headers.get(IF_RANGE).is_some_and(|known| known != self.tag()) {
            return Part::All;
        }
        range.to_str().map_or(Part::All, |text| part(text, self.bytes.len()))
    }
}

fn put(headers: &mut HeaderMap, name: HeaderName, text: String) {
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(name, value);
    }
}

/// Whether one of the entries of a list says so.
fn any(headers: &HeaderMap, name: &HeaderName, says: impl Fn(&str) -> bool) -> bool {
    let texts = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).any(|entry| says(entry.trim()))
}

/// Whether an entry of `If-None-Match` is `tag`, weakly (RFC 9110, 8.8.3.2).
fn is_weakly(entry: &str, tag: &HeaderValue) -> bool {
    entry.strip_prefix("W/").unwrap_or(entry).as_bytes() == tag.as_bytes()
}

fn beyond(length: usize) -> Problem {
    Problem::new(
        StatusCode::RANGE_NOT_SATISFIABLE,
        "range_not_satisfiable",
        "There is no such part",
        format!("the file has {length} bytes, and the range begins after them"),
    )
}

/// What `text` asks for of `length` bytes. What is no range, or several, is answered with all of
/// it, as if nothing had been said.
fn part(text: &str, length: usize) -> Part {
    let Some(range) = text.trim().strip_prefix("bytes=").and_then(|range| spec(range, length))
    else {
        return Part::All;
    };
    let (first, last) = range.into_inner();
    if first >= length {
        return Part::Beyond;
    }
    Part::Some(first..last.min(length - 1) + 1)
}

/// `2-5`, `2-` or `-4` of `length` bytes; it may lie beyond them.
fn spec(text: &str, length: usize) -> Option<RangeInclusive<usize>> {
    let number = |digits: &str| {
        let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        // A number too large for us is too large for the file.
        all_digits.then(|| digits.parse::<usize>().unwrap_or(usize::MAX))
    };
    match text.trim().split_once('-')? {
        ("", last) => match number(last)? {
            0 => Some(length..=length),
            count => Some(length.saturating_sub(count)..=length),
        },
        (first, "") => Some(number(first)?..=usize::MAX),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(first..=last)
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    static LETTERS: File = File::new(b"abcdefghij", "text/plain");

    fn ask(method: Method, headers: &[(HeaderName, &str)]) -> (u16, HeaderMap, String) {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).expect("a value")));
        let answer = LETTERS.answer(&method, headers.collect(), &CallIds::new());
        let (parts, body) = answer.into_parts();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let body = runtime.block_on(body.collect()).expect("a body").to_bytes();
        let text = String::from_utf8(body.to_vec()).expect("text");
        (parts.status.as_u16(), parts.headers, text)
    }

    fn tag() -> String {
        LETTERS.tag().to_str().expect("text").to_owned()
    }

    #[test]
    fn a_part_is_what_the_range_says_and_what_is_no_range_is_all() {
        for (range, status, body) in [
            ("bytes=2-4", 206, "cde"),
            ("bytes=0-0", 206, "a"),
            ("bytes=8-", 206, "ij"),
            ("bytes=-3", 206, "hij"),
            ("bytes=-30", 206, "abcdefghij"),
            ("bytes=5-99999999999999999999999", 206, "fghij"),
            ("bytes=4-2", 200, "abcdefghij"),
            ("bytes=0-1,3-4", 200, "abcdefghij"),
            ("lines=0-1", 200, "abcdefghij"),
            ("bytes=+1-2", 200, "abcdefghij"),
            ("bytes=--1", 200, "abcdefghij"),
            ("bytes=", 200, "abcdefghij"),
        ] {
            let (got, _, text) = ask(Method::GET, &[(RANGE, range)]);
            assert_eq!((got, text.as_str()), (status, body), "{range}");
        }
        let (_, headers, _) = ask(Method::GET, &[(RANGE, "bytes=2-4")]);
        assert_eq!(headers[CONTENT_RANGE], "bytes 2-4/10");
        assert_eq!(headers[ACCEPT_RANGES], "bytes");
    }

    #[test]
    fn a_part_beyond_the_end_is_refused_with_the_length() {
        for range in ["bytes=10-", "bytes=10-12", "bytes=-0", "bytes=99999999999999999999999-"] {
            let (status, headers, text) = ask(Method::GET, &[(RANGE, range)]);
            assert_eq!(status, 416, "{range}");
            assert_eq!(headers[CONTENT_RANGE], "bytes */10");
            assert!(text.contains("range_not_satisfiable"), "{text}");
        }
    }

    #[test]
    fn who_knows_the_file_is_told_so_before_any_range() {
        let (weak, several) = (format!("W/{}", tag()), format!("\"x\", {}", tag()));
        for known in [tag().as_str(), &weak, &several, "*"] {
            let (status, headers, text) =
                ask(Method::GET, &[(IF_NONE_MATCH, known), (RANGE, "bytes=0-1")]);
            assert_eq!((status, text.as_str()), (304, ""), "{known}");
            assert_eq!(headers[ETAG], tag());
        }
        assert_eq!(ask(Method::GET, &[(IF_NONE_MATCH, "\"x\"")]).0, 200);
    }

    #[test]
    fn a_part_of_another_version_is_answered_with_all_of_this_one() {
        let asked = |known: &str| ask(Method::GET, &[(RANGE, "bytes=0-1"), (IF_RANGE, known)]).0;
        assert_eq!(asked(&tag()), 206);
        assert_eq!(asked(&format!("W/{}", tag())), 200);
        assert_eq!(asked("\"other\""), 200);
        assert_eq!(asked("Sat, 21 Nov 2026 12:00:00 GMT"), 200);
    }

    #[test]
    fn a_range_is_for_get_alone() {
        assert_eq!(ask(Method::HEAD, &[(RANGE, "bytes=0-1")]).0, 200);
    }
}
