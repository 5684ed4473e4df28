//! Calls and results whose data lies elsewhere than in their frames.

use std::{
    io::{self, IoSlice, Read, Seek, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use exuvia_core::{Codec, Payload, Region};
use exuvia_protocol::{
    IncomingCall, Outgoing,
    frame::{FED, ResultHead},
};
use exuvia_sys::Sealed;
use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create},
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
};

use crate::{Broken, Fake, OnCancel, Timer, verbs::rest};

const SEALS: SealFlags =
    SealFlags::WRITE.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::SEAL);

/// The bytes that name the call's verb: its data, or the first piece of what it is fed.
pub(crate) fn first_bytes(call: &IncomingCall) -> Result<Bytes, Broken> {
    let came = &call.payload;
    match came.shared {
        Some(length) => {
            let memory = came.descriptors.first().ok_or("no memory")?.try_clone()?;
            Ok(Sealed::open(Arc::new(memory), length)?.bytes()?)
        }
        None if call.head.flags & FED != 0 => Ok(piece(&mut feed(call)?)?.unwrap_or_default()),
        None => Ok(came.bytes.clone()),
    }
}

fn feed(call: &IncomingCall) -> Result<UnixStream, Broken> {
    let [socket] = &call.payload.descriptors[..] else { return Err("not one socket".into()) };
    Ok(UnixStream::from(socket.try_clone()?))
}

/// The next piece of what a call is fed; `None` at its end.
fn piece(socket: &mut UnixStream) -> Result<Option<Bytes>, Broken> {
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let mut piece = vec![0; u32::from_le_bytes(length) as usize];
    socket.read_exact(&mut piece)?;
    Ok((!piece.is_empty()).then(|| piece.into()))
}

/// Runs a verb about memory; false: it is none.
pub(crate) fn run(
    fake: &mut Fake,
    incoming: &IncomingCall,
    verb: &str,
    number: u64,
    tag: &str,
) -> Result<bool, Broken> {
    let (call, slot) = (incoming.call, incoming.slot);
    match verb {
        // So many bytes, all of them the tag's.
        "memory" => {
            let payload = Payload { region: Some(held(tag, number)?), ..Payload::default() };
            fake.claims().finish(slot, call);
            fake.send(incoming, Outgoing::from(&payload));
        }
        // The tag, and so many regions of 1, 2, 3... bytes.
        "attach" => {
            let attached: Result<_, _> = (1..=number).map(|size| held(tag, size)).collect();
            let payload = Payload { attached: attached?, ..Payload::json(tag.to_owned()) };
            fake.claims().finish(slot, call);
            fake.send(incoming, Outgoing::from(&payload));
        }
        // What came with the call.
        "weigh" => {
            let mut sizes = Vec::new();
            for descriptor in &incoming.payload.descriptors {
                sizes.push(rustix::fs::fstat(descriptor)?.st_size.to_string());
            }
            let text = format!("{tag} {:?} {}", incoming.payload.shared, sizes.join(","));
            fake.answer(call, slot, &text);
        }
        // Everything it is fed.
        "feed" => {
            let (mut socket, mut text) = (feed(incoming)?, tag.to_owned());
            while let Some(piece) = piece(&mut socket)? {
                text += &String::from_utf8_lossy(&piece);
            }
            fake.answer(call, slot, &text);
        }
        // It wants no more, and goes on with something else.
        "feed-no-more" => {
            feed(incoming)?.shutdown(std::net::Shutdown::Both)?;
            let due = Instant::now() + Duration::from_millis(number);
            let (tag, on_cancel) = (tag.to_owned(), OnCancel::End);
            fake.timers.push(Timer { call, slot, tag, due, on_cancel });
        }
        _ => return misdeed(fake, incoming, verb, number),
    }
    Ok(true)
}

/// Memory that a host should not take.
fn misdeed(
    fake: &mut Fake,
    incoming: &IncomingCall,
    verb: &str,
    number: u64,
) -> Result<bool, Broken> {
    let said = number as usize;
    let shared = |memory: OwnedFd, length: u64| Outgoing {
        shared: Some(length),
        descriptors: vec![Arc::new(memory)],
        ..Outgoing::default()
    };
    let beside = |memory: Vec<Arc<OwnedFd>>| Outgoing {
        bytes: Bytes::from_static(b"1"),
        descriptors: memory,
        ..Outgoing::default()
    };
    match verb {
        "unsealed" => fake.send(incoming, shared(sealed_by(said, SealFlags::empty())?, number)),
        "shrinkable" => {
            let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SEAL;
            fake.send(incoming, shared(sealed_by(said, seals)?, number));
        }
        "writable" => {
            let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
            fake.send(incoming, shared(sealed_by(said, seals)?, number));
        }
        "short" => fake.send(incoming, shared(sealed_by(said - 1, SEALS)?, number)),
        "pipe" => fake.send(incoming, shared(std::io::pipe()?.0.into(), number)),
        "file" => fake.send(incoming, shared(file(&[b'x'; 64])?, number)),
        "attached-pipe" => {
            fake.send(incoming, beside(vec![Arc::new(std::io::pipe()?.0.into())]));
        }
        "attached-unsealed" => {
            let memory = sealed_by(said, SealFlags::empty())?;
            fake.send(incoming, beside(vec![Arc::new(memory)]));
        }
        // None of it is there: the size alone is too much.
        "attached-huge" => {
            let memory = sealed_by(0, SealFlags::empty())?;
            ftruncate(&memory, number)?;
            fcntl_add_seals(&memory, SEALS)?;
            fake.send(incoming, beside(vec![Arc::new(memory)]));
        }
        "attached-many" => {
            let one = Arc::new(sealed_by(1, SEALS)?);
            fake.send(incoming, beside(vec![one; said]));
        }
        // More with one write than any reader has room for.
        "crowd" => {
            let one = sealed_by(1, SEALS)?;
            let many = vec![one.as_fd(); said];
            write_with(&fake.stream, &[0], &many)?;
        }
        // A frame that never comes to its end, each of its bytes with descriptors.
        "untaken" => {
            let one = sealed_by(1, SEALS)?;
            let many = vec![one.as_fd(); 64];
            fake.stream.set_nonblocking(false)?;
            let mut frame = (1_u32 << 19).to_le_bytes().to_vec();
            frame.extend([4, 0, 0, 0]);
            frame.extend(incoming.call.to_le_bytes());
            fake.raw(&frame);
            while write_with(&fake.stream, &[0], &many).is_ok() {}
        }
        _ => return Ok(false),
    }
    rest(fake)?;
    Ok(true)
}

fn held(tag: &str, size: u64) -> io::Result<Region> {
    let bytes: Vec<u8> = tag.bytes().cycle().take(size as usize).collect();
    let sealed = Sealed::holding(&bytes)?;
    Ok(Region { memory: sealed.memory().clone(), length: size })
}

fn sealed_by(size: usize, seals: SealFlags) -> io::Result<OwnedFd> {
    let memory = memfd_create("exuvia-payload", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::io::write(&memory, &vec![b'x'; size])?;
    if !seals.is_empty() {
        fcntl_add_seals(&memory, seals)?;
    }
    Ok(memory)
}

/// A file on a disk, which nobody can seal.
fn file(bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = tempfile::tempfile()?;
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

fn write_with(stream: &UnixStream, bytes: &[u8], with: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(with)));
    Ok(sendmsg(stream, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?)
}

impl Fake {
    fn send(&mut self, call: &IncomingCall, payload: Outgoing) {
        let head = ResultHead::new(Codec::Json, 1000);
        self.connection.result(call.call, call.slot, head, &[], payload);
    }
}
