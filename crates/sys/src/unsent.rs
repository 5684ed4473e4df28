//! What a socket was given and its other end has not taken.

use std::{io, os::fd::AsFd};

use rustix::ioctl::{Getter, ioctl};

/// Bytes that were written to `socket` and that its other end has not acknowledged.
///
/// # Errors
/// As `ioctl`: it is no socket that has a queue.
pub fn unsent(socket: impl AsFd) -> io::Result<u32> {
    // JUSTIFICATION: rustix has no safe function for this request.
    // SAFETY: `TIOCOUTQ` (for sockets: `SIOCOUTQ`) writes one `int` and nothing else.
    let bytes = unsafe {
        let request = Getter::<{ libc::TIOCOUTQ as rustix::ioctl::Opcode }, libc::c_int>::new();
        ioctl(socket, request)?
    };
    Ok(u32::try_from(bytes).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream},
    };

    use super::unsent;

    #[test]
    fn what_is_not_read_counts_until_it_is() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut client = TcpStream::connect(address).expect("a connection");
        let (mut server, _) = listener.accept().expect("a connection");
        assert_eq!(unsent(&server).expect("a socket"), 0);
        server.set_nonblocking(true).expect("a socket");
        let mut sent = 0;
        while let Ok(length) = server.write(&[0; 1 << 16]) {
            sent += length;
        }
        let held = unsent(&server).expect("a socket");
        assert!(held > 0 && held as usize <= sent, "{held} of {sent}");
        drop(server);
        let mut all = Vec::new();
        client.read_to_end(&mut all).expect("all of it");
        assert_eq!(all.len(), sent);
    }
}
