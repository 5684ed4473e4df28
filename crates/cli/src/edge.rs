//! What the settings say of connections and of everything that is done around a request.

use std::{
    fs::File,
    io,
    net::{SocketAddr, TcpListener},
    os::fd::AsFd as _,
};

use exuvia_serve::{AccessFormat, AccessLog, ServerConfig};

use crate::{
    exit::{Exit, Stop},
    listen::bind,
    resolve::Resolved,
};

/// A server's limits and habits, as far as they are the same for every route.
pub(crate) fn config(settings: &Resolved) -> Result<ServerConfig, Stop> {
    Ok(ServerConfig {
        max_body: settings.size("max-body"),
        max_header: usize::try_from(settings.size("max-header")).unwrap_or(usize::MAX),
        max_connections: settings.count("max-connections") as usize,
        header_timeout: settings.duration("header-timeout"),
        body_timeout: settings.duration("body-timeout"),
        write_timeout: settings.duration("write-timeout"),
        idle_timeout: settings.duration("idle-timeout"),
        access_log: access_log(settings)?,
        compress: settings.text("compress") == "on",
        ..ServerConfig::default()
    })
}

fn access_log(settings: &Resolved) -> Result<Option<AccessLog>, Stop> {
    let format = match settings.text("access-log") {
        "human" => AccessFormat::Human,
        "json" => AccessFormat::Json,
        _ => return Ok(None),
    };
    let failed = |error: io::Error| {
        Stop::new(Exit::Internal, format!("the access log cannot be started: {error}"))
    };
    // A descriptor of its own: while it waits for a reader, it must not hold the lock of the other
    // log's.
    let stderr = io::stderr().as_fd().try_clone_to_owned().map_err(failed)?;
    AccessLog::start(format, File::from(stderr)).map(Some).map_err(failed)
}

/// Where the built-in pages are, if not beside the handlers.
pub(crate) async fn admin(settings: &Resolved) -> Result<Option<(TcpListener, SocketAddr)>, Stop> {
    let Some(text) = settings.maybe_text("admin") else { return Ok(None) };
    let Some((host, port)) = split(text) else {
        return Err(Stop::usage(format!(
            "`{text}` is no address for the pages: write an address and a port, as in \
             127.0.0.1:9000, or only a port"
        )));
    };
    bind(host, port).await.map(Some)
}

/// An address and a port; without an address it is this machine's own.
fn split(text: &str) -> Option<(&str, u16)> {
    if let Ok(port) = text.parse() {
        return Some(("127.0.0.1", port));
    }
    let (host, port) = text.rsplit_once(':')?;
    let whole = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
    (whole && !host.is_empty()).then_some((host, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn an_address_of_pages_has_a_port() {
        for (text, expected) in [
            ("9000", Some(("127.0.0.1", 9000))),
            ("127.0.0.1:9000", Some(("127.0.0.1", 9000))),
            ("box.lan:0", Some(("box.lan", 0))),
            ("[::1]:9000", Some(("[::1]", 9000))),
            ("::1:9000", None),
            ("127.0.0.1", None),
            (":9000", None),
            ("127.0.0.1:90000", None),
            ("", None),
        ] {
            assert_eq!(split(text), expected, "{text}");
        }
    }
}
