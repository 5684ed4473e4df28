//! IPC streams: message after message, from the front.

use std::io::{self, Read};

use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_buffer::{Buffer, MutableBuffer};
use arrow_ipc::convert::MessageBuffer;
use arrow_schema::{ArrowError, SchemaRef};

use super::decode::Decoder;
use crate::{Format, Limits, ReadError, quiet::guarded, table::Budget};

/// What a message begins with, in all but very old files.
const CONTINUATION: u32 = u32::MAX;

/// Read from a source, memory is made in steps of this size: only for what really comes.
const STEP: usize = 1 << 20;

/// All batches of a stream that lies in memory.
pub(super) fn batches(
    data: &Buffer,
    decoder: &mut Decoder,
    budget: &mut Budget,
) -> Result<Vec<RecordBatch>, ReadError> {
    let mut batches = Vec::new();
    let mut rest = data.clone();
    while !rest.is_empty() {
        let Some(length) = metadata_length(&mut rest.as_slice(), decoder)? else {
            return ends(rest.slice(rest.len().min(8)), decoder).map(|()| batches);
        };
        rest.advance(if starts_continued(&rest) { 8 } else { 4 });
        let metadata = decoder.metadata(split(&mut rest, length, decoder)?)?;
        let length = body_length(&metadata, decoder)?;
        let body = split(&mut rest, length, decoder)?;
        batches.extend(decoder.message(&metadata, &body, budget)?);
    }
    Ok(batches)
}

/// After the end there is nothing, or padding. A second stream would be lost without a word.
fn ends(rest: Buffer, decoder: &Decoder) -> Result<(), ReadError> {
    let padding = rest.iter().all(|byte| *byte == 0);
    if padding { Ok(()) } else { Err(decoder.wrong("there are more bytes after its end")) }
}

fn starts_continued(data: &[u8]) -> bool {
    data.starts_with(&CONTINUATION.to_le_bytes())
}

/// Reads the length of a message's metadata; none at the end of the stream.
fn metadata_length(source: &mut impl Read, decoder: &Decoder) -> Result<Option<usize>, ReadError> {
    let Some(mut word) = read_word(source, decoder)? else { return Ok(None) };
    if word == CONTINUATION {
        word = read_word(source, decoder)?.ok_or_else(|| decoder.wrong("it is cut off"))?;
    }
    match i32::try_from(word).map(usize::try_from) {
        Ok(Ok(0)) => Ok(None),
        Ok(Ok(length)) => Ok(Some(length)),
        _ => Err(decoder.wrong("it does not begin like one")),
    }
}

/// Four bytes, or none at the end of the source.
fn read_word(source: &mut impl Read, decoder: &Decoder) -> Result<Option<u32>, ReadError> {
    let mut word = [0; 4];
    let mut filled = 0;
    while filled < word.len() {
        match source.read(&mut word[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(decoder.wrong("it is cut off")),
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ReadError::io(decoder.format(), error)),
        }
    }
    Ok(Some(u32::from_le_bytes(word)))
}

pub(super) fn body_length(metadata: &MessageBuffer, decoder: &Decoder) -> Result<usize, ReadError> {
    let length = metadata.as_ref().bodyLength();
    usize::try_from(length).map_err(|_| decoder.wrong("a message has a negative length"))
}

/// Takes so many bytes from the front.
fn split(rest: &mut Buffer, length: usize, decoder: &Decoder) -> Result<Buffer, ReadError> {
    if length > rest.len() {
        return Err(decoder.wrong("it is cut off"));
    }
    let front = rest.slice_with_length(0, length);
    rest.advance(length);
    Ok(front)
}

/// A stream that is read while it comes.
pub(crate) struct StreamReader<R> {
    source: R,
    decoder: Decoder,
    limits: Limits,
    schema: SchemaRef,
    done: bool,
}

// === impl StreamReader ===

impl<R: Read> StreamReader<R> {
    /// Reads up to the schema.
    pub(crate) fn open(source: R, limits: &Limits) -> Result<Self, ReadError> {
        let decoder = Decoder::new(Format::ArrowStream, *limits);
        let schema = std::sync::Arc::new(arrow_schema::Schema::empty());
        let mut reader = Self { source, decoder, limits: *limits, schema, done: false };
        if reader.step()?.is_some() {
            return Err(reader.decoder.wrong("a batch comes before the schema"));
        }
        let schema = reader.decoder.schema();
        reader.schema = schema.ok_or_else(|| reader.decoder.wrong("it ends before its schema"))?;
        Ok(reader)
    }

    /// Reads one message; what it made, if that is a batch. At the end `done` is set.
    fn step(&mut self) -> Result<Option<RecordBatch>, ReadError> {
        let mut budget = Budget::new(Format::ArrowStream, &self.limits);
        let Some(length) = metadata_length(&mut self.source, &self.decoder)? else {
            self.done = true;
            return Ok(None);
        };
        budget.check(length as u64)?;
        let metadata = self.take(length)?;
        let metadata = self.decoder.metadata(metadata)?;
        let length = body_length(&metadata, &self.decoder)?;
        budget.take(length as u64)?;
        let body = self.take(length)?;
        self.decoder.message(&metadata, &body, &mut budget)
    }

    fn take(&mut self, length: usize) -> Result<Buffer, ReadError> {
        let mut bytes = MutableBuffer::new(length.min(STEP));
        while bytes.len() < length {
            let filled = bytes.len();
            bytes.resize(length.min(filled + STEP), 0);
            self.source.read_exact(&mut bytes.as_slice_mut()[filled..]).map_err(
                |error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => self.decoder.wrong("it is cut off"),
                    _ => ReadError::io(Format::ArrowStream, error),
                },
            )?;
        }
        Ok(bytes.into())
    }

    fn advance(&mut self) -> Result<Option<RecordBatch>, ReadError> {
        while !self.done {
            if let Some(batch) = self.step()? {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }
}

impl<R: Read> Iterator for StreamReader<R> {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = guarded(|| self.advance())
            .unwrap_or_else(|why| Err(ReadError::malformed(Format::ArrowStream, why)));
        // After an error nobody knows where the next message begins.
        self.done |= next.is_err();
        next.map_err(ArrowError::from).transpose()
    }
}

impl<R: Read> RecordBatchReader for StreamReader<R> {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}
