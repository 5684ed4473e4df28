//! One IPC message after the other, to record batches.

use std::{collections::HashMap, sync::Arc};

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_buffer::Buffer;
use arrow_ipc::{
    DictionaryBatch, MessageHeader, MetadataVersion,
    convert::{MessageBuffer, fb_to_schema},
    reader::{read_dictionary, read_record_batch},
};
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef};

use super::check::{self, Claim};
use crate::{Format, Limits, ReadError, buffers, decimals, table::Budget};

/// What the messages so far have told.
pub(super) struct Decoder {
    format: Format,
    limits: Limits,
    schema: Option<SchemaRef>,
    dictionaries: HashMap<i64, ArrayRef>,
    /// A message was compressed.
    compressed: bool,
    /// A dictionary came in more than one piece.
    pieces: bool,
}

// === impl Decoder ===

impl Decoder {
    pub(super) fn new(format: Format, limits: Limits) -> Self {
        let dictionaries = HashMap::new();
        Self { format, limits, schema: None, dictionaries, compressed: false, pieces: false }
    }

    pub(super) fn schema(&self) -> Option<SchemaRef> {
        self.schema.clone()
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    pub(super) fn wrong(&self, why: impl Into<String>) -> ReadError {
        ReadError::malformed(self.format, why)
    }

    /// Why this column has memory of its own.
    pub(super) fn why_copied(&self, column: usize) -> String {
        let field = self.schema.as_ref().and_then(|schema| schema.fields().get(column));
        let has_dictionary = field.is_some_and(|field| has_dictionary(field.data_type()));
        let why = match () {
            () if self.compressed => "the buffer is compressed",
            () if self.pieces && has_dictionary => "its dictionary came in pieces",
            () => "the buffer is not aligned",
        };
        why.to_owned()
    }

    /// The metadata of a message: that it is one, not yet that what it says is true.
    pub(super) fn metadata(&self, bytes: Buffer) -> Result<MessageBuffer, ReadError> {
        // The reader of the metadata wants it aligned. It is small; columns are not copied here.
        let aligned = (bytes.as_ptr() as usize).is_multiple_of(8);
        let bytes = if aligned { bytes } else { Buffer::from(bytes.as_slice()) };
        MessageBuffer::try_new(bytes).map_err(|_| self.wrong("a message is broken"))
    }

    /// Takes a schema, which comes first and once.
    pub(super) fn take_schema(
        &mut self,
        schema: arrow_ipc::Schema<'_>,
        budget: &Budget,
    ) -> Result<(), ReadError> {
        if self.schema.is_some() {
            return Err(self.wrong("it has a second schema"));
        }
        check::schema(schema, self.format, &self.limits, budget)?;
        let schema = fb_to_schema(schema);
        crate::schema::check(&schema, self.format, &self.limits)?;
        self.schema = Some(Arc::new(schema));
        Ok(())
    }

    /// Takes a message with its body. If it is a batch, here it is.
    pub(super) fn message(
        &mut self,
        metadata: &MessageBuffer,
        body: &Buffer,
        budget: &mut Budget,
    ) -> Result<Option<RecordBatch>, ReadError> {
        let message = metadata.as_ref();
        if !matches!(message.version(), MetadataVersion::V4 | MetadataVersion::V5) {
            return Err(self.wrong("it is of a version of the format that is not read any more"));
        }
        match message.header_type() {
            MessageHeader::Schema => {
                let schema = message.header_as_schema();
                let schema = schema.ok_or_else(|| self.wrong("a schema is empty"))?;
                self.take_schema(schema, budget).map(|()| None)
            }
            MessageHeader::DictionaryBatch => {
                let batch = message.header_as_dictionary_batch();
                let batch = batch.ok_or_else(|| self.wrong("a dictionary is empty"))?;
                self.dictionary(batch, body, message.version(), budget).map(|()| None)
            }
            MessageHeader::RecordBatch => {
                let batch = message.header_as_record_batch();
                let batch = batch.ok_or_else(|| self.wrong("a batch is empty"))?;
                self.batch(batch, body, message.version(), budget).map(Some)
            }
            _ => Err(self.wrong("a message is neither schema, dictionary nor batch")),
        }
    }

    fn batch(
        &mut self,
        batch: arrow_ipc::RecordBatch<'_>,
        body: &Buffer,
        version: MetadataVersion,
        budget: &mut Budget,
    ) -> Result<RecordBatch, ReadError> {
        let schema = self.schema().ok_or_else(|| self.wrong("a batch comes before the schema"))?;
        check::batch(batch, body, schema.fields(), budget).map_err(|claim| self.claim(claim))?;
        self.compressed |= batch.compression().is_some();
        let batch = read_record_batch(body, batch, schema, &self.dictionaries, None, &version)
            .map_err(|error| ReadError::arrow(self.format, error))?;
        decimals::check(&batch).map_err(|why| self.wrong(why))?;
        Ok(batch)
    }

    fn dictionary(
        &mut self,
        dictionary: DictionaryBatch<'_>,
        body: &Buffer,
        version: MetadataVersion,
        budget: &mut Budget,
    ) -> Result<(), ReadError> {
        let schema = self.schema();
        let schema = schema.ok_or_else(|| self.wrong("a dictionary comes before the schema"))?;
        let values = self.values(&schema, dictionary.id())?;
        let fields: Fields = vec![Field::new("", values.clone(), true)].into();
        let batch = dictionary.data().ok_or_else(|| self.wrong("a dictionary has no values"))?;
        let made = check::batch(batch, body, &fields, budget).map_err(|claim| self.claim(claim))?;
        self.compressed |= batch.compression().is_some();
        if dictionary.isDelta() {
            self.check_delta(dictionary.id(), &values, made.max(body.len() as u64), budget)?;
        }
        read_dictionary(body, dictionary, &schema, &mut self.dictionaries, &version)
            .map_err(|error| ReadError::arrow(self.format, error))
    }

    /// The type of the values of the dictionary with this id.
    fn values(&self, schema: &Schema, id: i64) -> Result<DataType, ReadError> {
        #[expect(deprecated, reason = "the decoder itself finds dictionaries by it")]
        let fields = schema.fields_with_dict_id(id);
        match fields.first().map(|field| field.data_type()) {
            Some(DataType::Dictionary(_, values)) => Ok(values.as_ref().clone()),
            _ => Err(self.wrong("a dictionary belongs to no column")),
        }
    }

    /// A piece that goes to the end of a dictionary makes a new one of both.
    fn check_delta(
        &mut self,
        id: i64,
        values: &DataType,
        piece: u64,
        budget: &mut Budget,
    ) -> Result<(), ReadError> {
        // Appending to views or runs of nested values can make much of little.
        if values.is_nested() {
            return Err(self.wrong("a dictionary of nested values comes in pieces"));
        }
        self.pieces = true;
        let mut bytes = piece;
        if let Some(before) = self.dictionaries.get(&id) {
            buffers::each(&before.to_data(), &mut |buffer| bytes += buffer.len() as u64);
        }
        budget.take(bytes)
    }

    fn claim(&self, claim: Claim) -> ReadError {
        match claim {
            Claim::Wrong(why) => self.wrong(why),
            Claim::Limit(error) => error,
        }
    }
}

/// Whether there is a dictionary somewhere in the type.
pub(crate) fn has_dictionary(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(..) => true,
        DataType::List(child)
        | DataType::LargeList(child)
        | DataType::ListView(child)
        | DataType::LargeListView(child)
        | DataType::FixedSizeList(child, _)
        | DataType::Map(child, _)
        | DataType::RunEndEncoded(_, child) => has_dictionary(child.data_type()),
        DataType::Struct(children) => {
            children.iter().any(|child| has_dictionary(child.data_type()))
        }
        DataType::Union(children, _) => {
            children.iter().any(|(_, child)| has_dictionary(child.data_type()))
        }
        _ => false,
    }
}
