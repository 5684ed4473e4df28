//! Media types: what a body is, and what a client wants back.

use exuvia_core::Codec;
use http::{
    HeaderMap,
    header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue},
};

/// What the answer shall be, by `Accept`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// The codec the target is asked for.
    pub(crate) codec: Codec,
    /// By which of its names the client knows it.
    pub(crate) media: &'static str,
}

/// The answers there are, the usual one first, with every name each goes by.
const OFFERS: [Accepted; 5] = [
    Accepted { codec: Codec::Json, media: "application/json" },
    Accepted { codec: Codec::Ndjson, media: "application/x-ndjson" },
    Accepted { codec: Codec::Ndjson, media: "application/jsonl" },
    Accepted { codec: Codec::Ndjson, media: "application/ndjson" },
    Accepted { codec: Codec::Value, media: "application/vnd.exuvia.value+msgpack" },
];

/// What is understood, as said in a refusal.
pub(crate) const UNDERSTOOD: &str =
    "application/json, application/x-ndjson, application/vnd.exuvia.value+msgpack";

/// How a body with these headers is written down.
///
/// # Errors
/// Why it is not understood, in a sentence.
pub(crate) fn request_codec(headers: &HeaderMap) -> Result<Codec, String> {
    if let Some(encoding) = headers.get(CONTENT_ENCODING)
        && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        return Err(format!(
            "bodies are not decompressed here, and this one says Content-Encoding: {}: send it as \
             it is",
            shown(encoding)
        ));
    }
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(Codec::Json) };
    if value.as_bytes() == b"application/json" {
        return Ok(Codec::Json);
    }
    let text = value.to_str().unwrap_or_default();
    let mut parts = text.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default().to_ascii_lowercase();
    let codec = match OFFERS.iter().find(|offer| offer.media == media) {
        Some(offer) => offer.codec,
        None if media.ends_with("+json") => Codec::Json,
        None => return Err(not_understood(&media, value)),
    };
    let charset = parts.filter_map(|part| part.split_once('=')).find_map(|(name, value)| {
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
    });
    match charset {
        Some(charset)
            if codec != Codec::Value
                && !["utf-8", "utf8"].iter().any(|own| charset.eq_ignore_ascii_case(own)) =>
        {
            Err(format!("JSON is read as UTF-8, and this body says charset={charset}"))
        }
        _ => Ok(codec),
    }
}

fn not_understood(media: &str, value: &HeaderValue) -> String {
    let hint = match media {
        // What curl -d says when told nothing.
        "application/x-www-form-urlencoded" => {
            " With curl, add -H 'Content-Type: application/json'."
        }
        "text/json" | "text/plain" | "application/text" => " For JSON, say application/json.",
        "text/x-ndjson" | "application/x-jsonlines" | "application/jsonlines" => {
            " For one document per line, say application/x-ndjson."
        }
        "application/msgpack" | "application/x-msgpack" => {
            " For a value with all its types, say application/vnd.exuvia.value+msgpack."
        }
        _ => "",
    };
    format!("a body of type {} is not understood. Understood are {UNDERSTOOD}.{hint}", shown(value))
}

fn shown(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).chars().take(100).collect()
}

/// What the answer shall be: the offer with the highest quality, of those the one named most
/// exactly, of those the first named. `None`: nothing that is there is wanted.
pub(crate) fn accepted(headers: &HeaderMap) -> Option<Accepted> {
    let mut values = headers.get_all(ACCEPT).iter();
    let usual = OFFERS[0];
    let Some(first) = values.next() else { return Some(usual) };
    if matches!(first.as_bytes(), b"*/*" | b"application/json") && values.next().is_none() {
        return Some(usual);
    }
    let ranges = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let ranges: Vec<Range<'_>> =
        ranges.flat_map(|text| text.split(',')).filter_map(Range::parse).collect();
    let mut best: Option<(Rank, Accepted)> = None;
    for offer in OFFERS {
        if let Some(rank) = rank(&offer, &ranges)
            && best.is_none_or(|(best, _)| rank > best)
        {
            best = Some((rank, offer));
        }
    }
    best.map(|(_, offer)| offer)
}

/// Quality in thousandths, exactness, and how early it was named.
type Rank = (u16, u8, std::cmp::Reverse<usize>);

/// One entry of `Accept`.
struct Range<'a> {
    media: &'a str,
    quality: u16,
}

// === impl Range ===

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next().filter(|media| !media.is_empty())?;
        let quality = parts
            .filter_map(|part| part.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
            .map_or(Some(1.0), |(_, value)| value.trim().parse::<f32>().ok());
        // A quality that cannot be read says nothing about what is wanted.
        let quality = quality.filter(|quality| (0.0..=1.0).contains(quality))?;
        Some(Self { media, quality: (quality * 1000.0) as u16 })
    }

    /// How exactly this names `media`, 0 is not at all.
    fn exactness(&self, media: &str) -> u8 {
        if self.media == "*/*" || self.media == "*" {
            1
        } else if self.media.eq_ignore_ascii_case("application/*") {
            2
        } else if self.media.eq_ignore_ascii_case(media) {
            3
        } else {
            0
        }
    }
}

/// How much `offer` is wanted: the most exact range decides, so that `*/*, application/json;q=0`
/// refuses JSON.
fn rank(offer: &Accepted, ranges: &[Range<'_>]) -> Option<Rank> {
    let (index, exactness, quality) = ranges
        .iter()
        .enumerate()
        .map(|(index, range)| (index, range.exactness(offer.media), range.quality))
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
            ("application/x-ndjson", Codec::Ndjson),
            ("application/jsonl; charset=utf8", Codec::Ndjson),
            ("application/vnd.exuvia.value+msgpack", Codec::Value),
        ] {
            assert_eq!(request_codec(&headers(CONTENT_TYPE, &[text])), Ok(codec), "{text}");
        }
        assert_eq!(request_codec(&HeaderMap::new()), Ok(Codec::Json));
        for (text, part) in [
            ("text/csv", "application/x-ndjson"),
            ("application/x-www-form-urlencoded", "curl"),
            ("application/json; charset=latin-1", "UTF-8"),
            ("", "not understood"),
        ] {
            let error = request_codec(&headers(CONTENT_TYPE, &[text])).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(request_codec(&headers(CONTENT_ENCODING, &["gzip"])).is_err());
    }

    #[test]
    fn the_answer_is_what_is_wanted_most() {
        for (text, media) in [
            ("*/*", Some("application/json")),
            ("application/*", Some("application/json")),
            ("text/html, application/xhtml+xml, */*;q=0.8", Some("application/json")),
            ("application/x-ndjson", Some("application/x-ndjson")),
            ("application/jsonl", Some("application/jsonl")),
            ("application/x-ndjson, */*", Some("application/x-ndjson")),
            ("application/json;q=0.5, application/x-ndjson;q=0.9", Some("application/x-ndjson")),
            ("application/x-ndjson;q=0.1, application/json;q=0.2", Some("application/json")),
            ("*/*, application/json;q=0", Some("application/x-ndjson")),
            ("APPLICATION/VND.exuvia.value+msgpack", Some("application/vnd.exuvia.value+msgpack")),
            ("application/json;q=high, application/jsonl;q=0.1", Some("application/jsonl")),
            ("text/csv", None),
            ("application/json;q=0", None),
            ("image/*", None),
        ] {
            let found = accepted(&headers(ACCEPT, &[text])).map(|accepted| accepted.media);
            assert_eq!(found, media, "{text}");
        }
        assert_eq!(accepted(&HeaderMap::new()).map(|a| a.codec), Some(Codec::Json));
        let two = headers(ACCEPT, &["text/csv", "application/jsonl"]);
        assert_eq!(accepted(&two).map(|a| a.codec), Some(Codec::Ndjson));
    }
}
