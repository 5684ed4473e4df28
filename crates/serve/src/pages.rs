//! The pages beside the handlers, and who may see them.

use std::net::IpAddr;

use bytes::Bytes;
use exuvia_core::{Broken, CallId};
use exuvia_observe::Metrics;
use http::{
    HeaderMap, HeaderValue, Method, StatusCode, Uri,
    header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HOST, X_CONTENT_TYPE_OPTIONS},
    uri::Authority,
};
use serde_json::json;

use crate::{
    answer::Answer,
    config::Readiness,
    connection::Client,
    index, page,
    problem::{Problem, answer},
    server::Server,
};

/// A page of the server's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Page {
    Index,
    Docs,
    OpenApi,
    Healthz,
    Readyz,
    Metrics,
    /// What the page in a browser is made of.
    Own,
}

/// In what form a page is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wants {
    /// As a browser does.
    Page,
    Json,
    /// People and their tools.
    Text,
}

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

// === impl Page ===

impl Page {
    /// Below this everything is the server's own.
    pub(crate) const PREFIX: &str = page::FOLDER;

    pub(crate) const ALL: [(&str, Self); 7] = [
        ("/", Self::Index),
        ("/docs", Self::Docs),
        ("/openapi.json", Self::OpenApi),
        ("/healthz", Self::Healthz),
        ("/readyz", Self::Readyz),
        ("/metrics", Self::Metrics),
        ("/_exuvia/{*path}", Self::Own),
    ];

    /// The page for a request with these headers.
    pub(crate) async fn answer(
        self,
        client: &Client,
        uri: &Uri,
        method: &Method,
        mut headers: HeaderMap,
    ) -> Answer {
        let (server, local) = (&*client.server, client.local);
        let host = host(uri, &headers);
        if !host.as_ref().is_none_or(|host| is_ours(host, local.ip(), &server.config.hosts)) {
            let id = server.ids.next();
            return misdirected(host.as_ref().map_or("", Authority::as_str), id, headers);
        }
        let origin = host.map_or_else(|| local.to_string(), |host| host.to_string());
        let wants = Wants::of(&headers);
        let made = match self {
            Self::Docs => return page::PAGE.answer(method, headers, &server.ids),
            Self::Index if wants == Wants::Page => {
                return page::PAGE.answer(method, headers, &server.ids);
            }
            Self::Own => match page::file(uri.path()) {
                Some(file) => return file.answer(method, headers, &server.ids),
                None => own(server, uri.path()),
            },
            Self::OpenApi => server.openapi().await.map(|document| (JSON, document)),
            Self::Index if wants == Wants::Json => Ok((JSON, index::json(&server.routes, &origin))),
            Self::Index => Ok((TEXT, index::page(&server.routes, &origin))),
            Self::Healthz => Ok((TEXT, "ok\n".to_owned())),
            Self::Metrics => Ok((Metrics::MEDIA_TYPE, server.metrics.render())),
            Self::Readyz => readyz(server, wants),
        };
        headers.clear();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match made {
            Ok((media, body)) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
                headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
                answer(headers, StatusCode::OK, Bytes::from(body))
            }
            Err(problem) => problem.into_answer(headers, server.ids.next()),
        }
    }
}

// === impl Wants ===

impl Wants {
    fn of(headers: &HeaderMap) -> Self {
        let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let first = accept.trim_start();
        if first.starts_with("text/html") {
            Self::Page
        } else if first.starts_with("application/json") {
            Self::Json
        } else {
            Self::Text
        }
    }
}

/// Whether `path` is one of these pages, shown here or not.
pub(crate) fn is_page(path: &str) -> bool {
    path.starts_with(Page::PREFIX) || Page::ALL.iter().any(|(own, _)| *own == path)
}

/// What the page reads.
fn own(server: &Server, path: &str) -> Result<(&'static str, String), Problem> {
    let found = match page::call_id(path) {
        Some(id) => server.watch.call(id),
        None => (path == "/_exuvia/state.json").then(|| server.state()),
    };
    let nothing = || {
        let detail = "there is no such file, or the call is forgotten: only the last ones are kept";
        Problem::new(StatusCode::NOT_FOUND, "not_found", "There is no such file", detail)
    };
    found.map(|value| (JSON, value.to_string())).ok_or_else(nothing)
}

/// Whether calls can be answered; modules that are broken do not keep the others from it.
fn readyz(server: &Server, wants: Wants) -> Result<(&'static str, String), Problem> {
    let Readiness { ready, reason } = server.readiness();
    if !ready {
        return Err(not_ready(reason));
    }
    let broken = &server.routes.broken;
    if wants == Wants::Json {
        let broken: Vec<_> = broken.iter().map(|broken| server.watch.broken(broken)).collect();
        let said = json!({ "ready": ready, "reason": reason, "broken": broken });
        return Ok((JSON, said.to_string()));
    }
    let mut text = reason + "\n";
    for Broken { module, message, traceback, .. } in broken {
        text += &match server.config.expose_errors {
            true => format!("\nbroken: {module}: {message}\n{traceback}"),
            false => format!("broken: {module}: the server's log says why\n"),
        };
    }
    Ok((TEXT, text))
}

fn not_ready(reason: String) -> Problem {
    let title = "Calls cannot be answered now";
    let mut problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", title, reason);
    problem.responsible = exuvia_core::Responsible::Infrastructure;
    problem
}

fn misdirected(host: &str, id: CallId, headers: HeaderMap) -> Answer {
    let detail = format!(
        "this page is shown under this machine's own addresses only, not as `{host}`: ask for it \
         as localhost, or name the host in the server's configuration"
    );
    let title = "The page is not shown under this host name";
    Problem::new(StatusCode::MISDIRECTED_REQUEST, "misdirected", title, detail)
        .into_answer(headers, id)
}

/// Whom the request was meant for: the request line wins over `Host` (RFC 9112, 3.2.2). A host that
/// cannot be read is one that is not ours.
fn host(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    if let Some(authority) = uri.authority() {
        return Some(authority.clone());
    }
    let host = headers.get(HOST)?;
    Some(
        Authority::try_from(host.as_bytes())
            .unwrap_or_else(|_| Authority::from_static("unreadable.invalid")),
    )
}

/// Whether `host` names this machine in a way that no foreign DNS server can: a page of some other
/// site, whose name was made to point here, is told apart by it.
fn is_ours(host: &Authority, local: IpAddr, names: &[String]) -> bool {
    if host.as_str().contains('@') {
        return false;
    }
    let name = host.host();
    if name.eq_ignore_ascii_case("localhost")
        || names.iter().any(|own| own.eq_ignore_ascii_case(name))
    {
        return true;
    }
    match name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(address) => {
            let address = address.to_canonical();
            address.is_loopback() || address == local.to_canonical()
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machines_own_names_are_ours() {
        let local: IpAddr = [192, 168, 1, 5].into();
        let names = ["box.lan".to_owned()];
        for (host, expected) in [
            ("localhost", true),
            ("LocalHost:8000", true),
            ("127.0.0.1:8000", true),
            ("127.8.9.1", true),
            ("[::1]:8000", true),
            ("[::ffff:127.0.0.1]", true),
            ("192.168.1.5:80", true),
            ("box.lan", true),
            ("192.168.1.6", false),
            ("evil.example", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("0.0.0.0", false),
            ("user@localhost", false),
        ] {
            let authority: Authority = host.parse().expect("an authority");
            assert_eq!(is_ours(&authority, local, &names), expected, "{host}");
        }
    }
}
