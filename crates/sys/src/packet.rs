//! Packets with descriptors between two processes: a pair of `SOCK_SEQPACKET` sockets.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
        SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
        sendmsg, socketpair,
    },
};

/// Descriptors in one packet, at most.
pub const MAX_DESCRIPTORS: usize = 8;

/// The two ends of a connection. Both are close-on-exec and block.
///
/// # Errors
/// As `socketpair`.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends one packet, whole or not at all. The receiver gets copies of the descriptors.
///
/// # Errors
/// As `sendmsg`; more than [`MAX_DESCRIPTORS`].
pub fn send(socket: impl AsFd, packet: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors for one packet"));
    }
    loop {
        match sendmsg(&socket, &[IoSlice::new(packet)], &mut ancillary, SendFlags::NOSIGNAL) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Receives one packet into `buffer`, with the descriptors that came along, close-on-exec. Length 0
/// is the end of the connection.
///
/// # Errors
/// As `recvmsg`; a packet that is longer than `buffer` or has more than [`MAX_DESCRIPTORS`].
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [IoSliceMut::new(buffer)];
        match recvmsg(&socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Ok(received) => break received,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    };
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::other("a packet that does not fit"));
    }
    Ok((received.bytes, descriptors))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs::File, io::Read};

    #[test]
    fn a_packet_arrives_whole_with_its_descriptors() {
        let (one, other) = pair().expect("a pair");
        let (read, write) = rustix::pipe::pipe().expect("a pipe");
        send(&one, b"here", &[write.as_fd()]).expect("sent");
        send(&one, b"more", &[]).expect("sent");
        drop(write);
        let mut buffer = [0; 16];
        let (length, mut descriptors) = receive(&other, &mut buffer).expect("received");
        assert_eq!(&buffer[..length], b"here");
        rustix::io::write(descriptors.pop().expect("one"), b"through").expect("written");
        let mut text = String::new();
        File::from(read).read_to_string(&mut text).expect("read");
        assert_eq!(text, "through");
        let (length, descriptors) = receive(&other, &mut buffer).expect("received");
        assert_eq!((&buffer[..length], descriptors.len()), (&b"more"[..], 0));
        drop(one);
        assert_eq!(receive(&other, &mut buffer).expect("the end").0, 0);
    }

    #[test]
    fn a_packet_that_does_not_fit_is_an_error_and_keeps_no_descriptor() {
        let (one, other) = pair().expect("a pair");
        let (read, write) = rustix::pipe::pipe().expect("a pipe");
        send(&one, b"too long", &[write.as_fd()]).expect("sent");
        drop(write);
        assert!(receive(&other, &mut [0; 3]).is_err());
        let mut nothing = Vec::new();
        File::from(read).read_to_end(&mut nothing).expect("the pipe has no writer left");
    }
}
