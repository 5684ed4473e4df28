//! What is done around every request, whatever it leads to: its id, its line in the access log, and
//! the packing of its answer. A request that wants none of these pays for a look at its headers.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Version, header::USER_AGENT};
use hyper::body::{Body as _, Frame, Incoming};

use crate::{
    access::{Pending, Record},
    answer::{Answer, Body, BrokenOff},
    compress::{self, Packing},
    connection::Client,
    decompress::Coding,
    problem::{CALL_ID, CLIENT_CLOSED},
    request_id::{self, REQUEST_ID},
};

/// A body that is packed on its way, or counted.
pub(crate) struct Dressed {
    body: Body,
    packing: Option<Packing>,
    line: Option<Pending>,
    _open: Open,
}

/// A request whose answer is made, but not all of it packed: its connection is not at rest.
struct Open(Arc<Client>);

/// What a request wants beside its answer.
pub(crate) struct Extras {
    /// Whether answers are packed, and with what this one.
    packed: Option<Option<Coding>>,
    id: Option<HeaderValue>,
    line: Option<Pending>,
    head: bool,
}

// === impl Extras ===

impl Extras {
    /// What `request` wants; `None` for most.
    pub(crate) fn of(client: &Client, request: &mut Request<Incoming>) -> Option<Box<Self>> {
        let config = &client.server.config;
        let logged = config.access_log.as_ref();
        if !config.compress && logged.is_none() && !request.headers().contains_key(REQUEST_ID) {
            return None;
        }
        // HTTP/1.0 has no chunks, and its clients read little that is packed.
        let packs = config.compress && request.version() != Version::HTTP_10;
        let packed = packs.then(|| compress::wanted(request.headers()));
        let named = logged.is_some() || request.headers().contains_key(REQUEST_ID);
        let id = named.then(|| request_id::settle(request.headers_mut(), &client.server.ids));
        let line = logged.map(|log| {
            let record = record(client, request, id.clone());
            Pending::new(log, Box::new(record), request.extensions_mut())
        });
        let head = *request.method() == Method::HEAD;
        Some(Box::new(Self { packed, id, line, head }))
    }

    /// Does it to the answer.
    pub(crate) fn dress(self, client: &Arc<Client>, mut answer: Answer) -> Answer {
        let Self { packed, id, mut line, head } = self;
        let packing = packed.and_then(|wanted| compress::pack(&mut answer, wanted));
        if let Some(id) = id {
            answer.headers_mut().insert(REQUEST_ID, id);
        }
        if let Some(record) = line.as_mut().and_then(Pending::record) {
            record.status = answer.status().as_u16();
            record.call_id = answer.headers().get(CALL_ID).cloned();
            let length = answer.body().size_hint().exact().filter(|_| packing.is_none());
            if head || length.is_some() {
                record.bytes = if head { 0 } else { length.unwrap_or(0) };
                record.whole = true;
                line = None;
            }
        }
        if packing.is_none() && line.is_none() {
            return answer;
        }
        let open = Open::new(client);
        answer.map(|body| Body::Dressed(Box::new(Dressed { body, packing, line, _open: open })))
    }
}

/// What is known of a request before its answer.
fn record(client: &Client, request: &Request<Incoming>, id: Option<HeaderValue>) -> Record {
    let asked = (request.method().clone(), request.uri().clone(), request.version());
    Record {
        at: SystemTime::now(),
        remote: client.peer,
        asked: Some(asked),
        status: CLIENT_CLOSED,
        bytes: 0,
        took: Duration::ZERO,
        request_id: id,
        call_id: None,
        agent: request.headers().get(USER_AGENT).cloned(),
        route: None,
        whole: false,
    }
}

// === impl Open ===

impl Open {
    fn new(client: &Arc<Client>) -> Self {
        client.begin();
        Self(Arc::clone(client))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.end(Instant::now());
    }
}

// === impl Dressed ===

impl Dressed {
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let frame = ready!(match &mut self.packing {
            Some(packing) => packing.poll_frame(&mut self.body, cx),
            None => Pin::new(&mut self.body).poll_frame(cx),
        });
        if let Some(record) = self.line.as_mut().and_then(Pending::record) {
            match &frame {
                Some(Ok(frame)) => {
                    record.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                }
                Some(Err(_)) => {}
                None => record.whole = true,
            }
        }
        if frame.is_none() {
            self.line = None;
        }
        Poll::Ready(frame)
    }
}
