//! A streamed result: what a generator yields, written down piece by piece.

use std::sync::Arc;

use arrow_schema::Schema;
use bytes::Bytes;
use exuvia_core::{Codec, Copied, Failure};
use exuvia_tables::{Format, WriteError, Writer};
use pyo3::{prelude::*, types::PyModule};

use crate::{
    attach::Attacher,
    convert, encode, raised,
    values::{EncodeOptions, encode_json, encode_ndjson, encode_value_with},
    web,
};

/// Writes what is yielded in one format.
pub(crate) struct Pieces {
    codec: Codec,
    pickle: bool,
    /// What was yielded so far.
    count: u64,
    /// Whether a JSON list has begun.
    opened: bool,
    /// For a table's format, from the first table on.
    writer: Option<Writer<Vec<u8>>>,
    format: Option<Format>,
}

// === impl Pieces ===

impl Pieces {
    pub(crate) fn new(wanted: encode::Wanted) -> Self {
        let format = match wanted.codec {
            Codec::Json | Codec::Ndjson | Codec::Empty => None,
            codec => Format::of(codec),
        };
        Self {
            codec: wanted.codec,
            pickle: wanted.pickle,
            count: 0,
            opened: false,
            writer: None,
            format,
        }
    }

    /// Writes one thing that was yielded.
    pub(crate) fn add(
        &mut self,
        python: &Bound<'_, PyModule>,
        value: &Bound<'_, PyAny>,
        copies: &mut Vec<Copied>,
    ) -> Result<Bytes, Failure> {
        if self.codec == Codec::Npy {
            return Err(no_array());
        }
        if let Some(format) = self.format {
            return self.add_table(python, format, value, copies);
        }
        let py = python.py();
        let mut out = Vec::new();
        if web::is_one(self.codec) {
            web::write(python, self.codec, value, &mut out).map_err(|why| self.misfit(why))?;
            self.count += 1;
            return Ok(Bytes::from(out));
        }
        let encoded = match self.codec {
            Codec::Ndjson if convert::is_table(value) => encode_ndjson(py, value, &mut out),
            Codec::Ndjson => encode_json(py, value, &mut out).map(|()| out.push(b'\n')),
            Codec::Value | Codec::Arguments => {
                out.extend_from_slice(&[0; 4]);
                let options = EncodeOptions { pickle: self.pickle };
                encode_value_with(py, value, &mut out, options, Some(&mut Attacher::alone(copies)))
            }
            _ => encode_json(py, value, &mut out),
        };
        encoded.map_err(|unfit| self.misfit(raised::unfit(python, &unfit)))?;
        self.count += 1;
        match self.codec {
            Codec::Ndjson => {}
            Codec::Value | Codec::Arguments => {
                let length = u32::try_from(out.len() - 4).unwrap_or(u32::MAX);
                out[..4].copy_from_slice(&length.to_le_bytes());
            }
            // The rows of a table are values of the list like others.
            _ if convert::is_table(value) => out = self.in_list(&out[1..out.len() - 1]),
            _ => out = self.in_list(&out),
        }
        Ok(Bytes::from(out))
    }

    /// Values among the values of a JSON list.
    fn in_list(&mut self, values: &[u8]) -> Vec<u8> {
        if values.is_empty() {
            return Vec::new();
        }
        let lead: &[u8] = if self.opened { b"," } else { b"[" };
        self.opened = true;
        [lead, values].concat()
    }

    fn add_table(
        &mut self,
        python: &Bound<'_, PyModule>,
        format: Format,
        value: &Bound<'_, PyAny>,
        copies: &mut Vec<Copied>,
    ) -> Result<Bytes, Failure> {
        let table = encode::table_of(python, value, copies).map_err(|why| self.misfit(why))?;
        let writer = match self.writer.take() {
            Some(writer) => Ok(writer),
            None => Writer::new(format, table.schema.clone(), Vec::new()),
        };
        let written = python.py().detach(|| {
            let mut writer = writer?;
            for batch in &table.batches {
                writer.write(batch)?;
            }
            Ok::<_, exuvia_tables::WriteError>(writer)
        });
        let mut writer = written.map_err(|error| {
            self.misfit(Failure::Result { path: "result".into(), message: error.to_string() })
        })?;
        self.count += 1;
        let piece = std::mem::take(writer.get_mut());
        self.writer = Some(writer);
        Ok(Bytes::from(piece))
    }

    /// What comes after all that was yielded.
    pub(crate) fn finish(&mut self) -> Result<Bytes, Failure> {
        if let Some(format) = self.format {
            return self.finish_table(format).map(Bytes::from).map_err(|error| Failure::Result {
                path: "result".into(),
                message: error.to_string(),
            });
        }
        Ok(match (self.codec, self.opened) {
            (Codec::Npy, _) => return Err(no_array()),
            (Codec::Json | Codec::Empty, false) => Bytes::from_static(b"[]"),
            (Codec::Json | Codec::Empty, true) => Bytes::from_static(b"]"),
            _ => Bytes::new(),
        })
    }

    /// The end of a table; without any rows one without columns, where the format needs one.
    fn finish_table(&mut self, format: Format) -> Result<Vec<u8>, WriteError> {
        match (self.writer.take(), format) {
            (Some(writer), _) => writer.finish(),
            (None, Format::Csv | Format::Ndjson) => Ok(Vec::new()),
            (None, Format::JsonRows) => Ok(b"[]".to_vec()),
            (None, Format::JsonColumns) => Ok(b"{}".to_vec()),
            (None, format) => Writer::new(format, Arc::new(Schema::empty()), Vec::new())?.finish(),
        }
    }

    /// Says which of the things yielded it was.
    fn misfit(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Result { path, message } => {
                let rest = path.strip_prefix("result").unwrap_or(&path);
                Failure::Result { path: format!("result[{}]{rest}", self.count), message }
            }
            other => other,
        }
    }
}

fn no_array() -> Failure {
    let message = "what a generator yields cannot be written as one array";
    Failure::Result { path: "result".into(), message: message.into() }
}
