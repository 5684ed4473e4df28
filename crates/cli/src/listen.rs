//! Where a server listens.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use tokio::net::TcpSocket;

use crate::exit::Stop;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// Opens the listener.
pub(crate) async fn bind(host: &str, port: u16) -> Result<(TcpListener, SocketAddr), Stop> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let unknown = |why: String| {
        Stop::usage(format!("the host {host} is not an address of this machine: {why}"))
    };
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((bare, port))
        .await
        .map_err(|error| unknown(error.to_string()))?
        .collect();
    let mut last = None;
    for address in addresses {
        match listen(address) {
            Ok(bound) => return Ok(bound),
            Err(error) => last = Some(error),
        }
    }
    let Some(error) = last else { return Err(unknown("it has no address".into())) };
    let (why, hint) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            "another program listens there".into(),
            "stop that program, or choose another port with --port (0 takes any free one)",
        ),
        io::ErrorKind::PermissionDenied => (
            "not permitted".into(),
            "ports below 1024 need privileges: choose a higher one with --port",
        ),
        io::ErrorKind::AddrNotAvailable => (
            "that is not an address of this machine".into(),
            "--host 127.0.0.1 serves this machine, --host 0.0.0.0 all that can reach it",
        ),
        _ => (error.to_string(), "choose another address with --host and --port"),
    };
    Err(Stop::usage(format!("cannot listen on port {port} of host {host}: {why}\nhint: {hint}")))
}

fn listen(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A server that was just stopped leaves connections behind that would keep the port for a
    // minute; two that listen at a time are refused all the same.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?.into_std()?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}
