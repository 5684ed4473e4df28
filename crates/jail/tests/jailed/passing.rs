//! Packets with descriptors. The image's end is descriptor 3, as in a worker.

use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

/// Two ends, both far above the numbers that mean something.
pub(crate) fn pair() -> (OwnedFd, OwnedFd) {
    let kind = SocketType::SEQPACKET;
    let (host, image) =
        socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).expect("socketpair");
    (high(host), high(image))
}

/// The same, with a higher number.
pub(crate) fn high(fd: OwnedFd) -> OwnedFd {
    rustix::io::fcntl_dupfd_cloexec(fd, 20).expect("dup")
}

/// The same, as descriptor 3, where the filter lets it send descriptors.
pub(crate) fn at_channel(fd: OwnedFd) -> OwnedFd {
    // SAFETY: all descriptors of this program but the first three have higher numbers.
    unsafe {
        assert_eq!(libc::dup3(fd.as_raw_fd(), 3, libc::O_CLOEXEC), 3);
        OwnedFd::from_raw_fd(3)
    }
}

pub(crate) fn send(channel: &OwnedFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(descriptors)), "room");
    }
    sendmsg(channel, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL).expect("sent");
}

pub(crate) fn receive(channel: &OwnedFd) -> (Vec<u8>, Vec<OwnedFd>) {
    let mut bytes = [0; 64];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut buffers = [IoSliceMut::new(&mut bytes)];
    let got = recvmsg(channel, &mut buffers, &mut ancillary, RecvFlags::CMSG_CLOEXEC);
    let got = got.map_or(0, |got| got.bytes);
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    (bytes[..got].to_vec(), descriptors)
}
