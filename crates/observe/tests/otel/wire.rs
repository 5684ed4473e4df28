//! Just enough of Protocol Buffers to read what a collector is sent, field by field, so that it is
//! not the exporter's own code that judges it.

use std::collections::BTreeMap;

/// One field's value.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// A span as it was sent.
#[derive(Debug, Default)]
pub(crate) struct Span {
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) state: String,
    pub(crate) name: String,
    /// 1 is internal, 2 is a server's.
    pub(crate) kind: u64,
    /// Nanoseconds since 1970.
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Values as text.
    pub(crate) attributes: BTreeMap<String, String>,
    /// 0 is unset, 2 is an error.
    pub(crate) status: u64,
    pub(crate) description: String,
}

/// A batch of spans: `ExportTraceServiceRequest`.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// What the process says about itself.
    pub(crate) resource: BTreeMap<String, String>,
    pub(crate) spans: Vec<Span>,
}

// === impl Batch ===

impl Batch {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let mut batch = Self::default();
        // resource_spans = 1 { resource = 1 { attributes = 1 }, scope_spans = 2 { spans = 2 } }
        for of_resource in inner(bytes, 1) {
            for resource in inner(of_resource, 1) {
                batch.resource.extend(inner(resource, 1).map(attribute));
            }
            for scope in inner(of_resource, 2) {
                batch.spans.extend(inner(scope, 2).map(Span::read));
            }
        }
        batch
    }
}

// === impl Span ===

impl Span {
    fn read(bytes: &[u8]) -> Self {
        let mut span = Self::default();
        for (field, value) in fields(bytes) {
            match (field, value) {
                (1, Value::Bytes(bytes)) => span.trace = hex(bytes),
                (2, Value::Bytes(bytes)) => span.id = hex(bytes),
                (3, Value::Bytes(bytes)) => span.state = text(bytes),
                (4, Value::Bytes(bytes)) => span.parent = hex(bytes),
                (5, Value::Bytes(bytes)) => span.name = text(bytes),
                (6, Value::Number(number)) => span.kind = number,
                (7, Value::Number(number)) => span.start = number,
                (8, Value::Number(number)) => span.end = number,
                (9, Value::Bytes(bytes)) => span.attributes.extend([attribute(bytes)]),
                (15, Value::Bytes(bytes)) => {
                    for (field, value) in fields(bytes) {
                        match (field, value) {
                            (2, Value::Bytes(bytes)) => span.description = text(bytes),
                            (3, Value::Number(number)) => span.status = number,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        span
    }
}

/// The messages in a field.
fn inner(bytes: &[u8], wanted: u64) -> impl Iterator<Item = &[u8]> {
    fields(bytes).into_iter().filter_map(move |(field, value)| match value {
        Value::Bytes(bytes) if field == wanted => Some(bytes),
        _ => None,
    })
}

/// `key = 1`, `value = 2 { string = 1, bool = 2, int = 3, double = 4 }`.
fn attribute(bytes: &[u8]) -> (String, String) {
    let mut pair = (String::new(), String::new());
    for (field, value) in fields(bytes) {
        match (field, value) {
            (1, Value::Bytes(bytes)) => pair.0 = text(bytes),
            (2, Value::Bytes(bytes)) => {
                for (field, value) in fields(bytes) {
                    pair.1 = match (field, value) {
                        (1, Value::Bytes(bytes)) => text(bytes),
                        (3, Value::Number(number)) => number.to_string(),
                        (4, Value::Number(bits)) => f64::from_bits(bits).to_string(),
                        (field, _) => panic!("an attribute with a value in field {field}"),
                    };
                }
            }
            _ => {}
        }
    }
    pair
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Value<'_>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut bytes)),
            1 => Value::Number(u64::from_le_bytes(take(&mut bytes, 8).try_into().expect("eight"))),
            2 => {
                let length = varint(&mut bytes);
                Value::Bytes(take(&mut bytes, usize::try_from(length).expect("a length")))
            }
            5 => {
                let four = take(&mut bytes, 4).try_into().expect("four");
                Value::Number(u32::from_le_bytes(four).into())
            }
            other => panic!("wire type {other}"),
        };
        found.push((tag >> 3, value));
    }
    found
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)[0];
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return number;
        }
    }
    panic!("a number of more than 64 bits");
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(count);
    *bytes = rest;
    taken
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}
