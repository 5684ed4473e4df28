//! Media types: what a body is, and what a client wants back.

use exuvia_core::Codec;
use http::{
    HeaderMap,
    header::{ACCEPT, CONTENT_TYPE, HeaderValue},
};

/// What the answer shall be, by `Accept`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// The codec the target is asked for.
    pub(crate) codec: Codec,
    /// By which of its names the client knows it.
    pub(crate) media: &'static str,
}

/// What is read and written, the usual first, with every name each goes by.
const KNOWN: [Accepted; 19] = [
    known(Codec::Json, "application/json"),
    known(Codec::JsonRows, "application/json; table=rows"),
    known(Codec::JsonColumns, "application/json; table=columns"),
    known(Codec::Ndjson, "application/x-ndjson"),
    known(Codec::Ndjson, "application/jsonl"),
    known(Codec::Ndjson, "application/ndjson"),
    known(Codec::Csv, "text/csv"),
    known(Codec::Csv, "application/csv"),
    known(Codec::ArrowStream, "application/vnd.apache.arrow.stream"),
    known(Codec::ArrowStream, "application/x-apache-arrow-stream"),
    known(Codec::ArrowFile, "application/vnd.apache.arrow.file"),
    known(Codec::ArrowFile, "application/x-apache-arrow-file"),
    known(Codec::Parquet, "application/vnd.apache.parquet"),
    known(Codec::Parquet, "application/parquet"),
    known(Codec::Parquet, "application/x-parquet"),
    known(Codec::Npy, "application/x-npy"),
    known(Codec::Npy, "application/npy"),
    known(Codec::Value, "application/vnd.exuvia.value+msgpack"),
    known(Codec::Events, "text/event-stream"),
];

/// What is only read, and by which names; those with a `/*` are whole families.
const READ: [(Codec, &str); 9] = [
    (Codec::Form, "application/x-www-form-urlencoded"),
    (Codec::Multipart, "multipart/form-data"),
    (Codec::Text, "text/plain"),
    (Codec::Bytes, "application/octet-stream"),
    (Codec::Bytes, "image/*"),
    (Codec::Bytes, "audio/*"),
    (Codec::Bytes, "video/*"),
    (Codec::Bytes, "application/pdf"),
    (Codec::Bytes, "application/zip"),
];

/// What is understood, as said in a refusal.
pub(crate) const UNDERSTOOD: &str = "application/json (for a table also with table=rows or \
     table=columns), application/x-ndjson, text/csv, application/vnd.apache.arrow.stream, \
     application/vnd.apache.arrow.file, application/vnd.apache.parquet, application/x-npy, \
     application/vnd.exuvia.value+msgpack";

/// The same for bodies alone.
const READ_TOO: &str = "multipart/form-data, application/x-www-form-urlencoded, text/plain and \
     files (application/octet-stream, image/*, ...)";

const fn known(codec: Codec, media: &'static str) -> Accepted {
    Accepted { codec, media }
}

/// How a body with these headers is written down.
///
/// # Errors
/// Why it is not understood, in a sentence.
pub(crate) fn request_codec(headers: &HeaderMap) -> Result<Codec, String> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(Codec::Json) };
    if value.as_bytes() == b"application/json" {
        return Ok(Codec::Json);
    }
    let named = Named::parse(value.to_str().unwrap_or_default());
    let media = named.media.to_ascii_lowercase();
    let known = KNOWN.iter().find(|known| known.media == media && known.codec != Codec::Events);
    let codec = match known {
        Some(known) => known.codec,
        None if media.ends_with("+json") => Codec::Json,
        None => only_read(&media).ok_or_else(|| not_understood(&media, value))?,
    };
    if let Some(charset) = named.parameter("charset")
        && is_text(codec)
        && !["utf-8", "utf8"].iter().any(|own| charset.eq_ignore_ascii_case(own))
    {
        return Err(format!("text is read as UTF-8, and this body says charset={charset}"));
    }
    match (codec, named.parameter("table"), named.parameter("header")) {
        (Codec::Json, Some(table), _) => table_codec(table).ok_or_else(|| {
            format!("a table in JSON is table=rows or table=columns, and this body says {table}")
        }),
        (Codec::Csv, _, Some(header)) if header.eq_ignore_ascii_case("absent") => {
            Err("CSV is read with a header, and this body says that it has none".to_owned())
        }
        _ => Ok(codec),
    }
}

/// What is read but never written.
fn only_read(media: &str) -> Option<Codec> {
    let (folder, _) = media.split_once('/')?;
    let is = |name: &str| name == media || name.strip_suffix("/*") == Some(folder);
    READ.iter().find(|(_, name)| is(name)).map(|(codec, _)| *codec)
}

/// The codec of JSON that holds a table.
fn table_codec(word: &str) -> Option<Codec> {
    if word.eq_ignore_ascii_case("rows") {
        Some(Codec::JsonRows)
    } else if word.eq_ignore_ascii_case("columns") {
        Some(Codec::JsonColumns)
    } else {
        None
    }
}

fn is_text(codec: Codec) -> bool {
    use Codec::{Csv, Form, Json, JsonColumns, JsonRows, Ndjson, Text};
    matches!(codec, Json | JsonRows | JsonColumns | Ndjson | Csv | Text | Form)
}

fn not_understood(media: &str, value: &HeaderValue) -> String {
    let hint = match media {
        "text/json" | "application/text" => " For JSON, say application/json.",
        "text/x-ndjson" | "application/x-jsonlines" | "application/jsonlines" => {
            " For one document per line, say application/x-ndjson."
        }
        "application/msgpack" | "application/x-msgpack" => {
            " For a value with all its types, say application/vnd.exuvia.value+msgpack."
        }
        // Where Excel is installed, browsers say the first of CSV, too.
        "application/vnd.ms-excel"
        | "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
        | "text/comma-separated-values"
        | "text/x-csv"
        | "application/x-csv" => " For a table from Excel, send CSV and say text/csv.",
        "application/x-numpy" | "application/numpy" => " For an array, say application/x-npy.",
        _ => "",
    };
    format!(
        "a body of type {} is not understood. Understood are {UNDERSTOOD}, {READ_TOO}.{hint}",
        shown(value)
    )
}

fn shown(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).chars().take(100).collect()
}

/// What the answer shall be: of what is known that with the highest quality, of those the one named
/// most exactly, of those the first named, and where nothing else tells, what is `usual`. `None`:
/// nothing that is there is wanted.
pub(crate) fn accepted(headers: &HeaderMap, usual: Accepted) -> Option<Accepted> {
    let mut values = headers.get_all(ACCEPT).iter();
    let Some(first) = values.next() else { return Some(usual) };
    let first = first.as_bytes();
    if (first == b"*/*" || first == usual.media.as_bytes()) && values.next().is_none() {
        return Some(usual);
    }
    // Nothing else can be made of what is one type of file.
    let others: &[Accepted] = if usual.is_opaque() { &[] } else { &KNOWN };
    let ranges = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let ranges: Vec<Range<'_>> =
        ranges.flat_map(|text| text.split(',')).filter_map(Range::parse).collect();
    let mut best: Option<(Rank, Accepted)> = None;
    for known in std::iter::once(&usual).chain(others).copied() {
        if let Some(rank) = rank(&known, &ranges)
            && best.is_none_or(|(best, _)| rank > best)
        {
            best = Some((rank, known));
        }
    }
    best.map(|(_, known)| known)
}

// === impl Accepted ===

impl Accepted {
    /// What a route says its results are. Text that is no format of ours comes from a `str`, all
    /// else from `bytes`.
    pub(crate) fn named(media: &str) -> Option<Self> {
        let named = Named::parse(media);
        let plain = named.media.to_ascii_lowercase();
        let (folder, rest) = plain.split_once('/')?;
        if folder.is_empty()
            || rest.is_empty()
            || rest == "*"
            || HeaderValue::from_str(media).is_err()
        {
            return None;
        }
        let same = |known: &&Self| known.media.replace(' ', "") == media.replace(' ', "");
        if let Some(known) = KNOWN.iter().find(same) {
            return Some(*known);
        }
        let codec = if folder == "text" { Codec::Text } else { Codec::Bytes };
        let bare = folder == "text" && named.parameter("charset").is_none();
        let media = if bare { format!("{media}; charset=utf-8") } else { media.to_owned() };
        // Once for each route of the program.
        Some(Self { codec, media: Box::leak(media.into_boxed_str()) })
    }

    /// Whether a result is written as it is.
    pub(crate) fn is_opaque(&self) -> bool {
        matches!(self.codec, Codec::Text | Codec::Bytes)
    }
}

impl Default for Accepted {
    fn default() -> Self {
        KNOWN[0]
    }
}

/// Quality in thousandths, exactness, and how early it was named.
type Rank = (u16, u8, std::cmp::Reverse<usize>);

/// A media type or range as it stands in a header, with its parameters.
#[derive(Clone)]
struct Named<'a> {
    media: &'a str,
    parameters: std::str::Split<'a, char>,
}

/// One entry of `Accept`.
struct Range<'a> {
    media: &'a str,
    /// Of JSON: which of its tables is meant.
    table: Option<&'a str>,
    quality: u16,
}

// === impl Named ===

impl<'a> Named<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';');
        let media = parts.next().unwrap_or_default().trim();
        Self { media, parameters: parts }
    }

    fn parameter(&self, name: &str) -> Option<&'a str> {
        let mut parameters = self.parameters.clone().filter_map(|part| part.split_once('='));
        let (_, value) = parameters.find(|(own, _)| own.trim().eq_ignore_ascii_case(name))?;
        Some(value.trim().trim_matches('"'))
    }
}

// === impl Range ===

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let named = Named::parse(text);
        let quality = named.parameter("q").map_or(Some(1.0), |value| value.parse::<f32>().ok());
        // A quality that cannot be read says nothing about what is wanted.
        let quality = quality.filter(|quality| (0.0..=1.0).contains(quality))?;
        (!named.media.is_empty()).then_some(Self {
            media: named.media,
            table: named.parameter("table"),
            quality: (quality * 1000.0) as u16,
        })
    }

    /// How exactly this names what is `known`, 0 is not at all. The type without `table` stands for
    /// those with it as well, so that `application/json;q=0` refuses all of them.
    fn exactness(&self, known: &Accepted) -> u8 {
        let media = known.media.split(';').next().unwrap_or_default();
        if let Some(table) = self.table {
            let same =
                self.media.eq_ignore_ascii_case(media) && table_codec(table) == Some(known.codec);
            return if same { 4 } else { 0 };
        }
        let folder = media.split('/').next().unwrap_or_default();
        if self.media == "*/*" || self.media == "*" {
            1
        } else if self.media.strip_suffix("/*").is_some_and(|own| own.eq_ignore_ascii_case(folder))
        {
            2
        } else if self.media.eq_ignore_ascii_case(media) {
            3
        } else {
            0
        }
    }
}

/// How much `known` is wanted: the most exact range decides, so that `*/*, application/json;q=0`
/// refuses JSON.
fn rank(known: &Accepted, ranges: &[Range<'_>]) -> Option<Rank> {
    let (index, exactness, quality) = ranges
        .iter()
        .enumerate()
        .map(|(index, range)| (index, range.exactness(known), range.quality))
        .filter(|(_, exactness, _)| *exactness > 0)
        .max_by_key(|(index, exactness, _)| (*exactness, std::cmp::Reverse(*index)))?;
    (quality > 0).then_some((quality, exactness, std::cmp::Reverse(index)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: http::HeaderName, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&name, HeaderValue::from_str(value).expect("a header value"));
        }
        headers
    }

    #[test]
    fn the_body_is_what_its_type_says() {
        for (text, codec) in [
            ("application/json", Codec::Json),
            ("Application/JSON; charset=UTF-8", Codec::Json),
            ("application/json;charset=\"utf-8\"", Codec::Json),
            ("application/vnd.api+json", Codec::Json),
            ("application/json; table=rows", Codec::JsonRows),
            ("application/json;charset=utf-8;Table=\"Columns\"", Codec::JsonColumns),
            ("application/x-ndjson", Codec::Ndjson),
            ("application/jsonl; charset=utf8", Codec::Ndjson),
            ("text/csv; header=present; charset=UTF-8", Codec::Csv),
            ("application/csv", Codec::Csv),
            ("application/vnd.apache.arrow.stream", Codec::ArrowStream),
            ("application/x-apache-arrow-stream", Codec::ArrowStream),
            ("application/vnd.apache.arrow.file", Codec::ArrowFile),
            ("application/vnd.apache.parquet", Codec::Parquet),
            ("application/parquet", Codec::Parquet),
            ("application/x-parquet", Codec::Parquet),
            ("application/x-npy; charset=binary", Codec::Npy),
            ("application/vnd.exuvia.value+msgpack", Codec::Value),
            ("application/x-www-form-urlencoded", Codec::Form),
            ("multipart/form-data; boundary=x", Codec::Multipart),
            ("text/plain; charset=utf-8", Codec::Text),
            ("application/octet-stream", Codec::Bytes),
            ("IMAGE/png", Codec::Bytes),
        ] {
            assert_eq!(request_codec(&headers(CONTENT_TYPE, &[text])), Ok(codec), "{text}");
        }
        assert_eq!(request_codec(&HeaderMap::new()), Ok(Codec::Json));
    }

    #[test]
    fn a_body_that_is_not_understood_is_told_what_would_be() {
        for (text, part) in [
            ("text/html", "application/x-ndjson, text/csv, application/vnd.apache.arrow.stream"),
            ("application/vnd.ms-excel", "send CSV and say text/csv"),
            ("application/msgpack", "application/vnd.exuvia.value+msgpack"),
            ("application/json; charset=latin-1", "UTF-8"),
            ("text/csv; charset=windows-1252", "UTF-8"),
            ("text/csv; header=absent", "with a header"),
            (
                "application/json; table=rwos",
                "table=rows or table=columns, and this body says rwos",
            ),
            ("", "not understood"),
        ] {
            let error = request_codec(&headers(CONTENT_TYPE, &[text])).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn every_codec_of_the_edge_is_known_by_its_media_type_and_named_in_refusals() {
        for codec in Codec::ALL {
            if matches!(codec, Codec::Empty | Codec::Arguments | Codec::Events)
                || READ.iter().any(|(read, _)| *read == codec)
            {
                continue;
            }
            let first = KNOWN.iter().find(|known| known.codec == codec).expect("a name");
            let media = first.media.split(';').next().unwrap_or_default();
            assert_eq!(media, codec.media_type());
            assert!(UNDERSTOOD.contains(media), "{media}");
            for known in KNOWN.iter().filter(|known| known.codec == codec) {
                assert_eq!(
                    request_codec(&headers(CONTENT_TYPE, &[known.media])),
                    Ok(codec),
                    "{known:?}"
                );
                assert_eq!(accepted(&headers(ACCEPT, &[known.media]), KNOWN[0]), Some(*known));
            }
        }
    }

    #[test]
    fn the_answer_is_what_is_wanted_most() {
        for (text, media) in [
            ("*/*", Some("application/json")),
            ("application/*", Some("application/json")),
            ("text/html, application/xhtml+xml, */*;q=0.8", Some("application/json")),
            ("application/json; charset=utf-8", Some("application/json")),
            ("application/x-ndjson", Some("application/x-ndjson")),
            ("application/jsonl", Some("application/jsonl")),
            ("application/x-ndjson, */*", Some("application/x-ndjson")),
            ("application/json;q=0.5, application/x-ndjson;q=0.9", Some("application/x-ndjson")),
            ("application/x-ndjson;q=0.1, application/json;q=0.2", Some("application/json")),
            ("*/*, application/json;q=0", Some("application/x-ndjson")),
            ("APPLICATION/VND.exuvia.value+msgpack", Some("application/vnd.exuvia.value+msgpack")),
            ("application/json;q=high, application/jsonl;q=0.1", Some("application/jsonl")),
            ("application/json;table=columns", Some("application/json; table=columns")),
            ("application/json; Table=\"ROWS\"; q=0.5", Some("application/json; table=rows")),
            ("application/json, application/json;table=rows", Some("application/json; table=rows")),
            ("application/json, application/json;table=rows;q=0.5", Some("application/json")),
            (
                "application/json;q=0, application/json;table=columns",
                Some("application/json; table=columns"),
            ),
            ("text/*", Some("text/csv")),
            ("text/csv, application/parquet;q=0.9", Some("text/csv")),
            ("application/parquet, text/csv", Some("application/parquet")),
            ("application/json;table=nested", None),
            ("text/html", None),
            ("application/json;q=0", None),
            ("image/*", None),
        ] {
            let found =
                accepted(&headers(ACCEPT, &[text]), KNOWN[0]).map(|accepted| accepted.media);
            assert_eq!(found, media, "{text}");
        }
        assert_eq!(accepted(&HeaderMap::new(), KNOWN[0]).map(|a| a.codec), Some(Codec::Json));
        let two = headers(ACCEPT, &["text/html", "application/jsonl"]);
        assert_eq!(accepted(&two, KNOWN[0]).map(|a| a.codec), Some(Codec::Ndjson));
    }

    #[test]
    fn a_route_says_what_who_accepts_anything_gets() {
        let csv = Accepted::named("text/csv").expect("a type");
        let png = Accepted::named("image/png").expect("a type");
        let text = Accepted::named("text/html").expect("a type");
        assert_eq!((csv.codec, png.codec, text.codec), (Codec::Csv, Codec::Bytes, Codec::Text));
        assert_eq!(text.media, "text/html; charset=utf-8");
        for (usual, accept, media) in [
            (csv, "*/*", Some("text/csv")),
            (csv, "application/json", Some("application/json")),
            (csv, "text/html, */*;q=0.1", Some("text/csv")),
            (png, "image/*", Some("image/png")),
            (png, "application/json", None),
            (text, "text/html,application/xhtml+xml,*/*;q=0.8", Some("text/html; charset=utf-8")),
        ] {
            let found = accepted(&headers(ACCEPT, &[accept]), usual);
            assert_eq!(found.map(|accepted| accepted.media), media, "{accept}");
        }
        for bad in ["", "csv", "/", "text/", "*/*", "image/*", "a/b\n"] {
            assert_eq!(Accepted::named(bad), None, "{bad}");
        }
    }
}
