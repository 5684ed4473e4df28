//! The page: its files, which are part of this program, and what a browser may do with them.
//!
//! There is no build and nothing from elsewhere: modules and styles are served as they are written,
//! and the page reads `/openapi.json` and `/_exuvia/state.json` as anybody could.

use exuvia_core::CallIds;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS},
};

use crate::{answer::Answer, ranges::File};

/// Only our own files run, and they speak to nobody but us. Handlers' names, texts and results are
/// foreign: were one to become markup after all, it could do nothing; `require-trusted-types-for`
/// makes the browser refuse the attempt.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'",
);

/// A file of the page.
#[derive(Debug)]
pub(crate) struct Asset {
    /// Its name below [`FOLDER`].
    name: &'static str,
    file: File,
    /// What the file is made of, for the tests.
    #[cfg(test)]
    text: &'static str,
}

/// Where the files are, but for the page itself.
pub(crate) const FOLDER: &str = "/_exuvia/";

const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! asset {
    ($name:literal, $media:expr) => {
        Asset {
            name: $name,
            file: File::new(include_bytes!(concat!("../../assets/", $name)), $media),
            #[cfg(test)]
            text: include_str!(concat!("../../assets/", $name)),
        }
    };
}

/// The page itself: what `/` and `/docs` are in a browser.
pub(crate) static PAGE: Asset = asset!("index.html", "text/html; charset=utf-8");

static FILES: [Asset; 14] = [
    asset!("page.css", "text/css; charset=utf-8"),
    asset!("icon.svg", "image/svg+xml"),
    asset!("page.js", SCRIPT),
    asset!("dom.js", SCRIPT),
    asset!("schema.js", SCRIPT),
    asset!("fields.js", SCRIPT),
    asset!("call.js", SCRIPT),
    asset!("route.js", SCRIPT),
    asset!("answer.js", SCRIPT),
    asset!("failure.js", SCRIPT),
    asset!("table.js", SCRIPT),
    asset!("tree.js", SCRIPT),
    asset!("chart.js", SCRIPT),
    asset!("live.js", SCRIPT),
];

/// The file at a path.
pub(crate) fn file(path: &str) -> Option<&'static Asset> {
    let name = path.strip_prefix(FOLDER)?;
    FILES.iter().find(|file| file.name == name)
}

/// The id in `/_exuvia/calls/<id>.json`.
pub(crate) fn call_id(path: &str) -> Option<&str> {
    path.strip_prefix(FOLDER)?.strip_prefix("calls/")?.strip_suffix(".json")
}

// === impl Asset ===

impl Asset {
    /// The answer to a `GET` or `HEAD` with these headers, whose map becomes the answer's.
    pub(crate) fn answer(&self, method: &Method, headers: HeaderMap, ids: &CallIds) -> Answer {
        let mut answer = self.file.answer(method, headers, ids);
        let headers = answer.headers_mut();
        headers.insert(CONTENT_SECURITY_POLICY, POLICY);
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        let policy = HeaderName::from_static("cross-origin-resource-policy");
        headers.insert(policy, HeaderValue::from_static("same-origin"));
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_files_and_calls() {
        assert_eq!(file("/_exuvia/page.js").map(|file| file.name), Some("page.js"));
        assert!(file("/_exuvia/index.html").is_none() && file("/page.js").is_none());
        assert_eq!(call_id("/_exuvia/calls/aa-01.json"), Some("aa-01"));
        assert_eq!(call_id("/_exuvia/state.json"), None);
    }

    #[test]
    fn every_file_that_another_names_is_there() {
        for Asset { text, .. } in FILES.iter().chain([&PAGE]) {
            let modules = text.split("from \"./").skip(1);
            let linked = text.split("=\"_exuvia/").skip(1);
            let names = modules.chain(linked).filter_map(|rest| rest.split('"').next());
            // What is no file is asked for as it is at the moment.
            for name in names.filter(|name| !name.ends_with(".json")) {
                assert!(file(&format!("{FOLDER}{name}")).is_some(), "{name}");
            }
        }
    }

    #[test]
    fn nothing_is_written_as_markup_or_inline() {
        for asset in FILES.iter().chain([&PAGE]) {
            for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("]
            {
                assert!(!asset.text.contains(word), "{} has {word}", asset.name);
            }
        }
        let page = PAGE.text;
        for word in ["style=", "<style", "onclick", "onload", "://", "javascript:"] {
            assert!(!page.contains(word), "the page has {word}");
        }
        assert_eq!(page.matches("<script").count(), 1);
    }
}
