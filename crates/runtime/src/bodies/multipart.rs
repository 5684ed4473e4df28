//! `multipart/form-data` (RFC 7578), all of which is there.

use std::{
    convert::Infallible,
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use exuvia_core::Failure;
use multer::Multipart;

use super::File;

/// Parts that a body may have.
const MOST: usize = 1000;

/// One part.
pub(super) struct Part {
    /// The field of the form.
    pub(super) field: String,
    /// What it is, called or not.
    pub(super) file: File,
    /// Whether it was sent as a file.
    pub(super) is_file: bool,
}

/// The parts of a body, whose type names what stands between them.
pub(super) fn parts(body: &Bytes, media: &str) -> Result<Vec<Part>, Failure> {
    let malformed = |error: multer::Error| Failure::Malformed {
        message: format!("this is not multipart/form-data: {error}"),
    };
    let boundary = multer::parse_boundary(media).map_err(malformed)?;
    let body = body.clone();
    let stream = futures_util::stream::once(async move { Ok::<_, Infallible>(body) });
    let mut multipart = Multipart::new(stream, boundary);
    let mut parts = Vec::new();
    let read = at_once(async {
        while let Some(field) = multipart.next_field().await? {
            let name = field.name().unwrap_or_default().to_owned();
            let is_file = field.file_name().is_some();
            let file_name = field.file_name().unwrap_or_default().to_owned();
            let media = field.content_type().map(ToString::to_string).unwrap_or_default();
            let content = field.bytes().await?;
            let file = File { name: file_name, media, content };
            parts.push(Part { field: name, file, is_file });
            if parts.len() > MOST {
                return Ok(false);
            }
        }
        Ok(true)
    });
    match read {
        None => Err(Failure::Malformed { message: "the parts do not end".into() }),
        Some(Err(error)) => Err(malformed(error)),
        Some(Ok(false)) => {
            Err(Failure::Malformed { message: format!("there are more than {MOST} parts") })
        }
        Some(Ok(true)) => match parts.iter().find(|part| part.field.is_empty()) {
            Some(_) => Err(Failure::Malformed { message: "a part has no name".into() }),
            None => Ok(parts),
        },
    }
}

/// The end of what never waits; `None` where it would.
fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
