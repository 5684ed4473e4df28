//! Bytes with descriptors over a Unix stream socket that does not block.

use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    io::{Errno, Result},
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
};

/// Descriptors that one write may send, at most.
pub const MAX_DESCRIPTORS: usize = 72;

/// Writes what the socket takes of `bytes`; the descriptors go with the first of them. Nothing was
/// sent where this fails.
///
/// # Errors
/// As `sendmsg`; `AGAIN` where the socket is full, `TOOBIG` for more than [`MAX_DESCRIPTORS`].
pub fn write(socket: impl AsFd, bytes: &[u8], descriptors: &[impl AsFd]) -> Result<usize> {
    if descriptors.is_empty() {
        return rustix::net::send(socket, bytes, SendFlags::NOSIGNAL);
    }
    let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fits = borrowed.len() <= MAX_DESCRIPTORS;
    if !fits || !ancillary.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(Errno::TOOBIG);
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)
}

/// Reads what there is, up to the length of `buffer`. Descriptors that come along are added to
/// `descriptors`, close-on-exec. Length 0 is the end.
///
/// # Errors
/// As `recvmsg`; `AGAIN` where there is nothing; `MSGSIZE` where more descriptors came with one write
/// than [`MAX_DESCRIPTORS`], which are then lost.
pub fn read(socket: impl AsFd, buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(buffer)];
    let received = recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(came) = message {
            descriptors.extend(came);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(Errno::MSGSIZE);
    }
    Ok(received.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).expect("a pair")
    }

    #[test]
    fn descriptors_arrive_with_the_first_byte_they_were_sent_with() {
        let (one, other) = pair();
        let (read_end, _write_end) = rustix::pipe::pipe().expect("a pipe");
        write(&one, b"before", &[] as &[OwnedFd]).expect("sent");
        write(&one, b"with", &[&read_end, &read_end]).expect("sent");
        write(&one, b"after", &[&read_end]).expect("sent");
        let (mut seen, mut buffer) = (Vec::new(), [0; 64]);
        let mut came = Vec::new();
        loop {
            match read(&other, &mut buffer, &mut came) {
                Ok(size) => seen.push((buffer[..size].to_vec(), came.len())),
                Err(Errno::AGAIN) => break,
                Err(error) => panic!("{error}"),
            }
        }
        let bytes: Vec<u8> = seen.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        assert_eq!((&bytes[..], came.len()), (&b"beforewithafter"[..], 3));
        // Never later than the first byte they belong to.
        let mut before = 0;
        for (bytes, descriptors) in seen {
            before += bytes.len();
            let due = if before > 10 {
                3
            } else if before > 6 {
                2
            } else {
                0
            };
            assert!(descriptors >= due, "{before} bytes, {descriptors} descriptors");
        }
        drop(one);
        assert_eq!(read(&other, &mut buffer, &mut came), Ok(0));
    }

    #[test]
    fn a_flood_of_descriptors_is_an_error_and_keeps_none() {
        let (one, other) = pair();
        let (read_end, write_end) = rustix::pipe::pipe().expect("a pipe");
        let many: Vec<_> = (0..=MAX_DESCRIPTORS).map(|_| &read_end).collect();
        assert_eq!(write(&one, b"x", &many), Err(Errno::TOOBIG));
        write(&one, b"x", &many[..MAX_DESCRIPTORS]).expect("sent");
        let mut came = Vec::new();
        assert_eq!(read(&other, &mut [0; 8], &mut came), Ok(1));
        assert_eq!(came.len(), MAX_DESCRIPTORS);
        drop((came, many));
        drop(read_end);
        assert!(rustix::io::write(&write_end, b"x").is_err(), "no reader is left");
    }
}
