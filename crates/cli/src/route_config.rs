//! What is said of single routes, in a project file, a flag or a module: `docs/routes.md`.

use std::{collections::BTreeMap, time::Duration};

use exuvia_core::{
    suggest,
    units::{self, duration_text, size_text},
};
use exuvia_serve::RouteOptions;
use http::Method;
use serde_json::{Map, Value, json};

use crate::value::duration;

/// Which route is meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RouteKey {
    /// The one that a handler has without saying anything: `module/function`.
    Own(String),
    /// `GET /forecast/{asset}`.
    Path {
        /// In the order they were written.
        methods: Vec<String>,
        path: String,
    },
}

/// A route and what is said of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RouteSettings {
    /// `module:function`.
    pub(crate) handler: Option<String>,
    pub(crate) options: RouteOptions,
    /// The line of the file it stands on.
    pub(crate) line: usize,
}

const METHODS: [Method; 5] =
    [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// Every option.
const OPTIONS: [&str; 14] = [
    "handler",
    "query",
    "headers",
    "status",
    "media",
    "timeout",
    "concurrency",
    "queue",
    "memory",
    "max-body",
    "summary",
    "tags",
    "deprecated",
    "hidden",
];

// === impl RouteKey ===

impl RouteKey {
    /// Reads a route as people write it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not a route: write `GET /path`, or module/function like weather/spread"
            )
        };
        let Some((methods, path)) = text.trim().split_once(char::is_whitespace) else {
            let name = text.trim_matches('/');
            return match name.rsplit_once('/') {
                Some((module, function)) if !module.is_empty() && !function.is_empty() => {
                    Ok(Self::Own(name.into()))
                }
                _ => Err(wrong()),
            };
        };
        let path = path.trim();
        if !path.starts_with('/') {
            return Err(wrong());
        }
        let known = METHODS.iter().map(Method::as_str);
        let method = |word: &str| {
            let upper = word.trim().to_ascii_uppercase();
            if known.clone().any(|method| method == upper) {
                return Ok(upper);
            }
            let hint = suggest::did_you_mean(&upper, known.clone());
            Err(format!("`{word}` is not one of GET, POST, PUT, PATCH, DELETE.{hint}"))
        };
        let mut methods = methods.split(',').map(method).collect::<Result<Vec<_>, _>>()?;
        let mut seen = std::collections::HashSet::new();
        methods.retain(|method| seen.insert(method.clone()));
        Ok(Self::Path { methods, path: path.into() })
    }

    /// The same text for the same route.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Own(name) => name.clone(),
            Self::Path { methods, path } => format!("{} {path}", methods.join(",")),
        }
    }
}

// === impl RouteSettings ===

impl RouteSettings {
    /// A time limit and nothing else.
    pub(crate) fn timeout(limit: Duration) -> Self {
        let options = RouteOptions { timeout: Some(limit), ..RouteOptions::default() };
        Self { options, ..Self::default() }
    }

    /// What `other` says, too; where both say something, `other` counts.
    pub(crate) fn extend(&mut self, other: Self) {
        let Self { handler, options, .. } = other;
        let into = &mut self.options;
        if handler.is_some() {
            self.handler = handler;
        }
        // A flag can say nothing else.
        if options.timeout.is_some() {
            into.timeout = options.timeout;
        }
    }

    /// Takes one option.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence.
    pub(crate) fn set(&mut self, key: &str, value: &Value) -> Result<(), String> {
        let options = &mut self.options;
        match key {
            "handler" => self.handler = Some(handler(value)?),
            "query" => options.query = Some(names(value)?),
            "headers" => options.headers = headers(value)?,
            "status" => options.status = Some(status(value)?),
            "media" => options.media = Some(text(value)?),
            "timeout" => options.timeout = Some(time(value)?),
            "concurrency" => options.concurrency = Some(count(value, 1)?),
            "queue" => options.queue = Some(count(value, 0)?),
            "memory" => options.memory = Some(size(value)?),
            "max-body" => options.max_body = Some(size(value)?),
            "summary" => options.summary = Some(text(value)?),
            "tags" => options.tags = names(value)?,
            "deprecated" => options.deprecated = flag(value)?,
            "hidden" => options.hidden = flag(value)?,
            other => return Err(Self::unknown(other)),
        }
        Ok(())
    }

    /// Whether there is such an option.
    pub(crate) fn has(key: &str) -> bool {
        OPTIONS.contains(&key)
    }

    /// What is said to one that there is not.
    pub(crate) fn unknown(key: &str) -> String {
        let hint = match suggest::did_you_mean(key, OPTIONS) {
            hint if hint.is_empty() => format!(" It has: {}", OPTIONS.join(", ")),
            hint => hint,
        };
        format!("a route has no option `{key}`.{hint}")
    }

    /// What was said, as a project file would hold it.
    pub(crate) fn json(&self) -> Value {
        let RouteOptions {
            query,
            headers,
            status,
            media,
            timeout,
            concurrency,
            queue,
            memory,
            max_body,
            summary,
            tags,
            deprecated,
            hidden,
        } = &self.options;
        let mut said = Map::new();
        let mut add = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                said.insert(key.into(), value);
            }
        };
        add("handler", self.handler.clone().map(Value::from));
        add("query", query.clone().map(Value::from));
        add("headers", (!headers.is_empty()).then(|| json!(headers)));
        add("status", status.map(Value::from));
        add("media", media.clone().map(Value::from));
        add("timeout", timeout.map(|time| duration_text(time).into()));
        add("concurrency", concurrency.map(Value::from));
        add("queue", queue.map(Value::from));
        add("memory", memory.map(|bytes| size_text(bytes).into()));
        add("max-body", max_body.map(|bytes| size_text(bytes).into()));
        add("summary", summary.clone().map(Value::from));
        add("tags", (!tags.is_empty()).then(|| json!(tags)));
        add("deprecated", deprecated.then_some(true.into()));
        add("hidden", hidden.then_some(true.into()));
        Value::Object(said)
    }
}

fn wrong(value: &Value, expected: &str) -> String {
    format!("must be {expected}, not {value}")
}

fn text(value: &Value) -> Result<String, String> {
    let text = value.as_str().filter(|text| !text.is_empty());
    text.map(str::to_owned).ok_or_else(|| wrong(value, "a string"))
}

fn flag(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| wrong(value, "true or false"))
}

fn names(value: &Value) -> Result<Vec<String>, String> {
    let expected = "a list of strings";
    let items = value.as_array().ok_or_else(|| wrong(value, expected))?;
    items.iter().map(|item| text(item).map_err(|_| wrong(value, expected))).collect()
}

fn headers(value: &Value) -> Result<BTreeMap<String, String>, String> {
    let expected = "a table of parameters and headers, like { model = \"x-model\" }";
    let table = value.as_object().ok_or_else(|| wrong(value, expected))?;
    let entry = |(param, header): (&String, &Value)| {
        let header = text(header).map_err(|_| wrong(value, expected))?;
        Ok((param.clone(), header.to_ascii_lowercase()))
    };
    table.iter().map(entry).collect()
}

fn handler(value: &Value) -> Result<String, String> {
    let text = text(value)?;
    match text.split_once(':') {
        Some((module, name)) if !module.is_empty() && !name.is_empty() => Ok(text),
        _ => Err(format!("`{text}` is not a handler: write module:function")),
    }
}

fn status(value: &Value) -> Result<u16, String> {
    let status = value.as_u64().filter(|status| (200..300).contains(status));
    status
        .and_then(|status| u16::try_from(status).ok())
        .ok_or_else(|| wrong(value, "a status of success, 200 to 299"))
}

fn count(value: &Value, least: u64) -> Result<usize, String> {
    let count = value.as_u64().filter(|count| *count >= least && *count <= u64::from(u32::MAX));
    count
        .and_then(|count| usize::try_from(count).ok())
        .ok_or_else(|| wrong(value, &format!("a whole number, at least {least}")))
}

fn time(value: &Value) -> Result<Duration, String> {
    match value {
        Value::String(text) => duration(text, false),
        Value::Number(number) => duration(&number.to_string(), false),
        other => Err(wrong(other, "a duration: a string like \"30s\", or a number of seconds")),
    }
}

fn size(value: &Value) -> Result<u64, String> {
    let bytes = match value {
        Value::String(text) => units::size(text)?,
        Value::Number(number) => units::size(&number.to_string())?,
        other => return Err(wrong(other, "a size: a string like \"16MiB\", or a number of bytes")),
    };
    if bytes == 0 { Err("the size must be more than 0".into()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read_as_people_write_them() {
        let path = |methods: &[&str], path: &str| {
            let methods = methods.iter().map(|method| (*method).to_owned()).collect();
            RouteKey::Path { methods, path: path.into() }
        };
        for (text, expected) in [
            ("GET /forecast/{asset}", path(&["GET"], "/forecast/{asset}")),
            ("put,POST,put  /orders", path(&["PUT", "POST"], "/orders")),
            ("/weather/spread", RouteKey::Own("weather/spread".into())),
            ("pkg/mod/f", RouteKey::Own("pkg/mod/f".into())),
        ] {
            assert_eq!(RouteKey::parse(text), Ok(expected), "{text}");
        }
        for (text, part) in [
            ("GTE /x", "`GTE` is not one of GET, POST, PUT, PATCH, DELETE. Did you mean `GET`?"),
            ("GET x", "`GET x` is not a route"),
            ("weather", "`weather` is not a route"),
            ("", "is not a route"),
        ] {
            let error = RouteKey::parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn options_are_read_and_shown_again() {
        let said = json!({
            "handler": "m:f", "query": ["a"], "headers": {"b": "X-B"}, "status": 201,
            "media": "text/csv", "timeout": "5s", "concurrency": 4, "queue": 0,
            "memory": "256MiB", "max-body": 1024, "summary": "S", "tags": ["t"],
            "deprecated": true, "hidden": true,
        });
        let mut settings = RouteSettings::default();
        for (key, value) in said.as_object().expect("an object") {
            settings.set(key, value).unwrap_or_else(|error| panic!("{key}: {error}"));
        }
        let mut expected = said;
        expected["headers"]["b"] = "x-b".into();
        expected["max-body"] = "1KiB".into();
        assert_eq!(settings.json(), expected);
    }

    #[test]
    fn wrong_options_say_what_is_right() {
        for (key, value, part) in [
            ("statsu", json!(1), "a route has no option `statsu`. Did you mean `status`?"),
            ("status", json!(404), "must be a status of success, 200 to 299, not 404"),
            ("handler", json!("f"), "`f` is not a handler: write module:function"),
            ("query", json!("a"), "must be a list of strings, not \"a\""),
            ("timeout", json!("soon"), "`soon` is not a duration"),
            ("concurrency", json!(0), "must be a whole number, at least 1, not 0"),
            ("memory", json!("0B"), "the size must be more than 0"),
            ("hidden", json!("yes"), "must be true or false, not \"yes\""),
        ] {
            let error = RouteSettings::default().set(key, &value).expect_err(key);
            assert!(error.contains(part), "{key}: {error}");
        }
    }
}
