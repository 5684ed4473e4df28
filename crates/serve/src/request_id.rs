//! The id by which a client or a proxy before us knows a request.

use exuvia_core::CallIds;
use http::{HeaderMap, HeaderName, HeaderValue};

/// The header it comes and goes by.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The most letters of an id that is taken over.
const MOST: usize = 128;

/// The id that a request with these headers goes by, if it has one.
#[must_use]
pub(crate) fn request_id(headers: &HeaderMap) -> Option<String> {
    Some(taken(headers.get(REQUEST_ID)?)?.to_owned())
}

/// Sees to it that the request has one id that can be read, and gives it.
pub(crate) fn settle(headers: &mut HeaderMap, ids: &CallIds) -> HeaderValue {
    let mut values = headers.get_all(REQUEST_ID).iter();
    if let (Some(value), None) = (values.next(), values.next())
        && taken(value).is_some()
    {
        return value.clone();
    }
    let made = HeaderValue::try_from(ids.next().to_string());
    // An id of ours is digits and a dash.
    let made = made.unwrap_or(HeaderValue::from_static("-"));
    headers.insert(REQUEST_ID, made.clone());
    made
}

/// An id whose letters do no harm in a log.
fn taken(value: &HeaderValue) -> Option<&str> {
    let text = value.to_str().ok()?;
    let fits = |c: u8| c.is_ascii_alphanumeric() || b"._:/+=-".contains(&c);
    ((1..=MOST).contains(&text.len()) && text.bytes().all(fits)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(REQUEST_ID, HeaderValue::from_str(value).expect("a value"));
        }
        headers
    }

    #[test]
    fn an_id_of_harmless_letters_is_taken_over_and_any_other_replaced() {
        let longest = "a".repeat(128);
        for id in ["1", "Root=1-67891233-abcdef012345678912345678", "a.b_c:d/e+f=g-h", &longest] {
            let mut headers = headers(&[id]);
            assert_eq!(request_id(&headers).as_deref(), Some(id));
            assert_eq!(settle(&mut headers, &CallIds::new()), id);
        }
        for id in ["", "a b", "a\"b", "{}", "a,b", &"a".repeat(129)] {
            let mut headers = headers(&[id]);
            assert_eq!(request_id(&headers), None, "{id}");
            let made = settle(&mut headers, &CallIds::new());
            assert_eq!(request_id(&headers).as_deref(), made.to_str().ok(), "{id}");
        }
        assert_eq!(request_id(&HeaderMap::new()), None);
    }

    #[test]
    fn of_several_ids_none_is_taken() {
        let mut headers = headers(&["a", "b"]);
        let made = settle(&mut headers, &CallIds::new());
        assert!(made != "a" && made != "b", "{made:?}");
        assert_eq!(headers.get_all(REQUEST_ID).iter().count(), 1);
    }
}
