//! Objects to MessagePack.

use pyo3::{
    exceptions::PyUnicodeEncodeError,
    prelude::*,
    types::{
        PyBool, PyByteArray, PyBytes, PyComplex, PyDict, PyFloat, PyFrozenSet, PyInt, PyList,
        PyNone, PySet, PyString, PyTuple,
    },
};
use rmp::Marker;

use super::{encode_ext::Kind, ext::number};
use crate::attach::Attacher;
use crate::values::{
    EncodeOptions, MAX_DEPTH, Unfit,
    object::{DictWalk, Kinds, Whole, exact, index_step, key_step, whole},
};

/// Writes an object behind what `out` holds, in the Value format.
///
/// # Errors
/// [`Unfit`], when the object or something in it has no place in the value model; `out` then ends
/// with a part of it.
pub fn encode_value(
    py: Python<'_>,
    object: &Bound<'_, PyAny>,
    out: &mut Vec<u8>,
    options: EncodeOptions,
) -> Result<(), Unfit> {
    encode_value_with(py, object, out, options, None)
}

/// The same, with tables and tensors as extensions where there is an [`Attacher`].
///
/// # Errors
/// As [`encode_value`].
pub fn encode_value_with(
    py: Python<'_>,
    object: &Bound<'_, PyAny>,
    out: &mut Vec<u8>,
    options: EncodeOptions,
    attacher: Option<&mut Attacher<'_>>,
) -> Result<(), Unfit> {
    let kinds = Kinds::new();
    Encoder { py, out, pickle: options.pickle, kinds, attacher }.value(object, 0)
}

pub(super) struct Encoder<'a, 'c, 'py> {
    pub(super) py: Python<'py>,
    pub(super) out: &'a mut Vec<u8>,
    pub(super) pickle: bool,
    pub(super) kinds: Kinds<'py, Kind>,
    pub(super) attacher: Option<&'a mut Attacher<'c>>,
}

/// Where an extension began whose length is not known yet.
pub(super) struct Opened(usize);

/// The longest header of an extension: marker, 32 bits of length, type.
const EXT_HEADER: usize = 6;

/// Room for the headers of any one value, or the whole of a short one: an extension of an array.
const LONGEST_HEADER: usize = EXT_HEADER + 9;

// === impl Encoder ===

impl<'py> Encoder<'_, '_, 'py> {
    /// Any object, `depth` containers down. The commonest types come first.
    pub(super) fn value(&mut self, object: &Bound<'py, PyAny>, depth: u32) -> Result<(), Unfit> {
        Unfit::room(self.out, LONGEST_HEADER)?;
        if let Some(text) = exact::<PyString>(object) {
            self.string(text)
        } else if let Some(number) = exact::<PyInt>(object) {
            self.int(number)
        } else if let Some(dict) = exact::<PyDict>(object) {
            self.dict(dict, depth)
        } else if let Some(list) = exact::<PyList>(object) {
            self.list(list, depth)
        } else if let Some(number) = exact::<PyFloat>(object) {
            self.out.push(Marker::F64.to_u8());
            self.out.extend_from_slice(&number.value().to_be_bytes());
            Ok(())
        } else if object.is_exact_instance_of::<PyNone>() {
            self.out.push(Marker::Null.to_u8());
            Ok(())
        } else if let Some(truth) = exact::<PyBool>(object) {
            let marker = if truth.is_true() { Marker::True } else { Marker::False };
            self.out.push(marker.to_u8());
            Ok(())
        } else if let Some(tuple) = exact::<PyTuple>(object) {
            self.tuple(tuple, depth)
        } else if let Some(bytes) = exact::<PyBytes>(object) {
            self.bytes(bytes.as_bytes())
        } else {
            self.rest(object, depth)
        }
    }

    fn rest(&mut self, object: &Bound<'py, PyAny>, depth: u32) -> Result<(), Unfit> {
        if let Some(set) = exact::<PySet>(object) {
            self.set(number::SET, set, set.len(), depth)
        } else if let Some(set) = exact::<PyFrozenSet>(object) {
            self.set(number::FROZENSET, set, set.len(), depth)
        } else if let Some(bytes) = exact::<PyByteArray>(object) {
            // JUSTIFICATION: the safe ways copy it first, and abort if there is no memory for that.
            // SAFETY: nothing but this thread runs until `ext` has copied the bytes, and it runs
            // no Python code.
            self.ext(number::BYTEARRAY, unsafe { bytes.as_bytes() })
        } else if let Some(complex) = exact::<PyComplex>(object) {
            let mut parts = [0; 16];
            parts[..8].copy_from_slice(&complex.real().to_be_bytes());
            parts[8..].copy_from_slice(&complex.imag().to_be_bytes());
            self.ext(number::COMPLEX, &parts)
        } else {
            self.extension(object)
        }
    }

    pub(super) fn string(&mut self, text: &Bound<'py, PyString>) -> Result<(), Unfit> {
        match text.to_str() {
            Ok(text) => {
                let length = length(text.len(), "str")?;
                match length {
                    0..=31 => self.out.push(Marker::FixStr(length as u8).to_u8()),
                    32..=0xff => self.head8(Marker::Str8, length as u8),
                    0x100..=0xffff => self.head16(Marker::Str16, length as u16),
                    _ => self.head32(Marker::Str32, length),
                }
                self.raw(text.as_bytes())
            }
            Err(error) if error.is_instance_of::<PyUnicodeEncodeError>(self.py) => {
                let bytes = text.call_method1("encode", ("utf-8", "surrogatepass"))?;
                self.ext(
                    number::SURROGATE_STR,
                    bytes.cast::<PyBytes>().map_err(PyErr::from)?.as_bytes(),
                )
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn int(&mut self, number: &Bound<'py, PyInt>) -> Result<(), Unfit> {
        match whole(number)? {
            Whole::Signed(number) => {
                self.signed(number);
                Ok(())
            }
            Whole::Unsigned(number) => {
                self.out.push(Marker::U64.to_u8());
                self.out.extend_from_slice(&number.to_be_bytes());
                Ok(())
            }
            Whole::Big => self.big_int(number),
        }
    }

    /// The shortest of MessagePack's forms.
    pub(super) fn signed(&mut self, number: i64) {
        match number {
            0..=0x7f => self.out.push(number as u8),
            -32..=-1 => self.out.push(number as u8),
            0x80..=0xff => self.head8(Marker::U8, number as u8),
            0x100..=0xffff => self.head16(Marker::U16, number as u16),
            0x1_0000..=0xffff_ffff => self.head32(Marker::U32, number as u32),
            0x1_0000_0000.. => {
                self.out.push(Marker::U64.to_u8());
                self.out.extend_from_slice(&number.to_be_bytes());
            }
            -0x80..=-33 => self.head8(Marker::I8, number as u8),
            -0x8000..=-0x81 => self.head16(Marker::I16, number as u16),
            -0x8000_0000..=-0x8001 => self.head32(Marker::I32, number as u32),
            _ => {
                self.out.push(Marker::I64.to_u8());
                self.out.extend_from_slice(&number.to_be_bytes());
            }
        }
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), Unfit> {
        let length = length(bytes.len(), "bytes")?;
        match length {
            0..=0xff => self.head8(Marker::Bin8, length as u8),
            0x100..=0xffff => self.head16(Marker::Bin16, length as u16),
            _ => self.head32(Marker::Bin32, length),
        }
        self.raw(bytes)
    }

    fn dict(&mut self, dict: &Bound<'py, PyDict>, depth: u32) -> Result<(), Unfit> {
        let depth = deeper(depth)?;
        let mut items = DictWalk::new(dict);
        let length = length(items.len(), "dict")?;
        match length {
            0..=15 => self.out.push(Marker::FixMap(length as u8).to_u8()),
            16..=0xffff => self.head16(Marker::Map16, length as u16),
            _ => self.head32(Marker::Map32, length),
        }
        for (key, value) in &mut items {
            match exact::<PyString>(&key) {
                Some(text) => {
                    Unfit::room(self.out, LONGEST_HEADER)?;
                    self.string(text)?;
                }
                None => self.value(&key, depth).map_err(|unfit| unfit.at(|| "<key>".into()))?,
            }
            self.value(&value, depth).map_err(|unfit| unfit.at(|| key_step(&key)))?;
        }
        if items.complete() { Ok(()) } else { Err(Unfit::changed("dict")) }
    }

    fn list(&mut self, list: &Bound<'py, PyList>, depth: u32) -> Result<(), Unfit> {
        let depth = deeper(depth)?;
        let count = list.len();
        self.array_head(count, "list")?;
        for index in 0..count {
            // The list may have become shorter while an item of it was pickled.
            let Ok(item) = list.get_item(index) else { return Err(Unfit::changed("list")) };
            self.value(&item, depth).map_err(|unfit| unfit.at(|| index_step(index)))?;
        }
        if list.len() == count { Ok(()) } else { Err(Unfit::changed("list")) }
    }

    fn tuple(&mut self, tuple: &Bound<'py, PyTuple>, depth: u32) -> Result<(), Unfit> {
        let depth = deeper(depth)?;
        let opened = self.open();
        self.array_head(tuple.len(), "tuple")?;
        for index in 0..tuple.len() {
            let item = tuple.get_borrowed_item(index)?;
            self.value(&item, depth).map_err(|unfit| unfit.at(|| index_step(index)))?;
        }
        self.close(opened, number::TUPLE)
    }

    fn set(
        &mut self,
        number: i8,
        set: &Bound<'py, PyAny>,
        count: usize,
        depth: u32,
    ) -> Result<(), Unfit> {
        let depth = deeper(depth)?;
        let opened = self.open();
        self.array_head(count, "set")?;
        let mut written = 0;
        // Python itself raises if the set changes its size meanwhile.
        for element in set.try_iter()? {
            self.value(&element?, depth).map_err(|unfit| unfit.at(|| "<element>".into()))?;
            written += 1;
        }
        if written != count {
            return Err(Unfit::changed("set"));
        }
        self.close(opened, number)
    }

    pub(super) fn array_head(&mut self, count: usize, what: &str) -> Result<(), Unfit> {
        let count = length(count, what)?;
        match count {
            0..=15 => self.out.push(Marker::FixArray(count as u8).to_u8()),
            16..=0xffff => self.head16(Marker::Array16, count as u16),
            _ => self.head32(Marker::Array32, count),
        }
        Ok(())
    }

    /// An extension whose bytes are at hand.
    pub(super) fn ext(&mut self, number: i8, bytes: &[u8]) -> Result<(), Unfit> {
        let (header, length) = ext_header(number, bytes.len())?;
        self.out.extend_from_slice(&header[..length]);
        self.raw(bytes)
    }

    /// Begins an extension that is written in place.
    pub(super) fn open(&mut self) -> Opened {
        let opened = Opened(self.out.len());
        self.out.extend_from_slice(&[0; EXT_HEADER]);
        opened
    }

    /// Ends it. A short one is moved up to a short header; a long one keeps the long header, so
    /// nothing big is ever moved.
    pub(super) fn close(&mut self, opened: Opened, number: i8) -> Result<(), Unfit> {
        let start = opened.0;
        let body = start + EXT_HEADER;
        let length = self.out.len() - body;
        let (mut header, mut header_length) = ext_header(number, length)?;
        if length > 0xff {
            let [a, b, c, d] = (length as u32).to_be_bytes();
            header = [Marker::Ext32.to_u8(), a, b, c, d, number as u8];
            header_length = EXT_HEADER;
        }
        self.out[start..start + header_length].copy_from_slice(&header[..header_length]);
        if header_length < EXT_HEADER {
            self.out.copy_within(body.., start + header_length);
            self.out.truncate(start + header_length + length);
        }
        Ok(())
    }

    fn head8(&mut self, marker: Marker, number: u8) {
        self.out.extend_from_slice(&[marker.to_u8(), number]);
    }

    fn head16(&mut self, marker: Marker, number: u16) {
        let [a, b] = number.to_be_bytes();
        self.out.extend_from_slice(&[marker.to_u8(), a, b]);
    }

    fn head32(&mut self, marker: Marker, number: u32) {
        let [a, b, c, d] = number.to_be_bytes();
        self.out.extend_from_slice(&[marker.to_u8(), a, b, c, d]);
    }

    fn raw(&mut self, bytes: &[u8]) -> Result<(), Unfit> {
        Unfit::room(self.out, bytes.len())?;
        self.out.extend_from_slice(bytes);
        Ok(())
    }
}

/// The depth inside a container at `depth`.
pub(super) fn deeper(depth: u32) -> Result<u32, Unfit> {
    if depth < MAX_DEPTH { Ok(depth + 1) } else { Err(Unfit::too_deep()) }
}

fn length(length: usize, what: &str) -> Result<u32, Unfit> {
    u32::try_from(length).map_err(|_| Unfit::too_long(what))
}

/// The shortest header, and how many bytes of it count.
fn ext_header(number: i8, length: usize) -> Result<([u8; EXT_HEADER], usize), Unfit> {
    let fixed = match length {
        1 => Some(Marker::FixExt1),
        2 => Some(Marker::FixExt2),
        4 => Some(Marker::FixExt4),
        8 => Some(Marker::FixExt8),
        16 => Some(Marker::FixExt16),
        _ => None,
    };
    let number = number as u8;
    if let Some(marker) = fixed {
        return Ok(([marker.to_u8(), number, 0, 0, 0, 0], 2));
    }
    let [a, b, c, d] = self::length(length, "value")?.to_be_bytes();
    Ok(match length {
        0..=0xff => ([Marker::Ext8.to_u8(), d, number, 0, 0, 0], 3),
        0x100..=0xffff => ([Marker::Ext16.to_u8(), c, d, number, 0, 0], 4),
        _ => ([Marker::Ext32.to_u8(), a, b, c, d, number], 6),
    })
}
