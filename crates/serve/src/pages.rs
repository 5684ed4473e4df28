//! The pages beside the handlers, and who may see them.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use exuvia_core::CallId;
use exuvia_observe::Metrics;
use http::{
    HeaderMap, HeaderValue, StatusCode, Uri,
    header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HOST},
    uri::Authority,
};

use crate::{
    answer::Answer,
    index,
    problem::{Problem, answer},
    server::Server,
};

/// A page of the server's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Page {
    Index,
    Healthz,
    Readyz,
    Metrics,
}

// === impl Page ===

impl Page {
    pub(crate) const ALL: [(&str, Self); 4] = [
        ("/", Self::Index),
        ("/healthz", Self::Healthz),
        ("/readyz", Self::Readyz),
        ("/metrics", Self::Metrics),
    ];

    /// Paths kept for pages to come.
    pub(crate) const RESERVED: [&str; 2] = ["/docs", "/openapi.json"];

    /// The page for a request with these headers, from a connection to `local`.
    pub(crate) fn answer(
        self,
        server: &Server,
        uri: &Uri,
        mut headers: HeaderMap,
        local: SocketAddr,
    ) -> Answer {
        let host = host(uri, &headers);
        if !host.as_ref().is_none_or(|host| is_ours(host, local.ip(), &server.config.hosts)) {
            let id = server.ids.next();
            return misdirected(host.as_ref().map_or("", Authority::as_str), id, headers);
        }
        let wants_json = wants_json(&headers);
        let origin = host.map_or_else(|| local.to_string(), |host| host.to_string());
        headers.clear();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let (media, body) = match self {
            Self::Index if wants_json => ("application/json", index::json(&server.routes, &origin)),
            Self::Index => ("text/plain; charset=utf-8", index::text(&server.routes, &origin)),
            Self::Healthz => ("text/plain; charset=utf-8", "ok\n".to_owned()),
            Self::Metrics => (Metrics::MEDIA_TYPE, server.metrics.render()),
            Self::Readyz => {
                let readiness = server.readiness();
                if !readiness.ready {
                    return not_ready(readiness.reason).into_answer(headers, server.ids.next());
                }
                ("text/plain; charset=utf-8", readiness.reason + "\n")
            }
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
        answer(headers, StatusCode::OK, Bytes::from(body))
    }
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

/// Whether JSON is asked for by name; people and their tools get text.
fn wants_json(headers: &HeaderMap) -> bool {
    headers
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accept| accept.trim_start().starts_with("application/json"))
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
