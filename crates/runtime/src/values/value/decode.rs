//! MessagePack to objects.

use pyo3::{
    prelude::*,
    types::{PyBool, PyString},
};
use rmp::Marker;

use super::crowd::Crowd;
use crate::attach::Attachments;
use crate::values::{DecodeError, DecodeOptions, MAX_DEPTH, keys::Keys, object::new};

/// Reads one object in the Value format; nothing may follow it.
///
/// # Errors
/// [`DecodeError`], for bytes that are not exactly one value of the model.
pub fn decode_value<'py>(
    py: Python<'py>,
    bytes: &[u8],
    options: DecodeOptions,
) -> Result<Bound<'py, PyAny>, DecodeError> {
    decode_value_with(py, bytes, options, &Attachments::none())
}

/// The same for a value whose tables and tensors may lie beside it.
///
/// # Errors
/// As [`decode_value`].
pub fn decode_value_with<'py>(
    py: Python<'py>,
    bytes: &[u8],
    options: DecodeOptions,
    attachments: &Attachments<'_>,
) -> Result<Bound<'py, PyAny>, DecodeError> {
    let (keys, pickle) = (Keys::take(), options.pickle);
    let mut decoder =
        Decoder { py, data: bytes, position: 0, pickle, containers: 0, keys, attachments };
    let object = decoder.value(0)?;
    if decoder.position < bytes.len() {
        let extra = bytes.len() - decoder.position;
        return Err(decoder.wrong(format!("{extra} bytes follow the value")));
    }
    Ok(object)
}

/// Lists, dicts and the like in a value of somebody who is not trusted: an empty one is a byte, and
/// 60 bytes of memory.
const MAX_CONTAINERS: usize = 4_000_000;
/// What is wrong with keys that were made to be slow.
pub(super) const TOO_DENSE: &str = "too many keys have the same hash";

pub(super) struct Decoder<'a, 'py> {
    pub(super) py: Python<'py>,
    /// The input up to the end of the extension that is being read.
    pub(super) data: &'a [u8],
    pub(super) position: usize,
    pub(super) pickle: bool,
    /// How many lists, dicts and the like have begun.
    containers: usize,
    pub(super) attachments: &'a Attachments<'a>,
    keys: Keys,
}

pub(super) type Decoded<'py> = Result<Bound<'py, PyAny>, DecodeError>;

// === impl Decoder ===

impl<'a, 'py> Decoder<'a, 'py> {
    /// Any object, `depth` containers down.
    pub(super) fn value(&mut self, depth: u32) -> Decoded<'py> {
        let py = self.py;
        match Marker::from_u8(self.byte()?) {
            Marker::FixPos(number) => Ok(new::int(py, number.into())?),
            Marker::FixNeg(number) => Ok(new::int(py, number.into())?),
            Marker::FixStr(length) => self.string(length.into()),
            Marker::FixMap(count) => self.map(count.into(), depth),
            Marker::FixArray(count) => self.list(count.into(), depth),
            Marker::Null => Ok(py.None().into_bound(py)),
            Marker::True => Ok(PyBool::new(py, true).to_owned().into_any()),
            Marker::False => Ok(PyBool::new(py, false).to_owned().into_any()),
            Marker::F64 => Ok(new::float(py, f64::from_be_bytes(self.array()?))?),
            Marker::F32 => Ok(new::float(py, f32::from_be_bytes(self.array()?).into())?),
            Marker::U8 => Ok(new::int(py, self.byte()?.into())?),
            Marker::U16 => Ok(new::int(py, u16::from_be_bytes(self.array()?).into())?),
            Marker::U32 => Ok(new::int(py, u32::from_be_bytes(self.array()?).into())?),
            Marker::U64 => Ok(new::uint(py, u64::from_be_bytes(self.array()?))?),
            Marker::I8 => Ok(new::int(py, i8::from_be_bytes(self.array()?).into())?),
            Marker::I16 => Ok(new::int(py, i16::from_be_bytes(self.array()?).into())?),
            Marker::I32 => Ok(new::int(py, i32::from_be_bytes(self.array()?).into())?),
            Marker::I64 => Ok(new::int(py, i64::from_be_bytes(self.array()?))?),
            marker => self.rest(marker, depth),
        }
    }

    fn rest(&mut self, marker: Marker, depth: u32) -> Decoded<'py> {
        match marker {
            Marker::Str8 => {
                let length = self.length8()?;
                self.string(length)
            }
            Marker::Str16 => {
                let length = self.length16()?;
                self.string(length)
            }
            Marker::Str32 => {
                let length = self.length32()?;
                self.string(length)
            }
            Marker::Bin8 => {
                let length = self.length8()?;
                self.bytes(length)
            }
            Marker::Bin16 => {
                let length = self.length16()?;
                self.bytes(length)
            }
            Marker::Bin32 => {
                let length = self.length32()?;
                self.bytes(length)
            }
            Marker::Array16 => {
                let count = self.length16()?;
                self.list(count, depth)
            }
            Marker::Array32 => {
                let count = self.length32()?;
                self.list(count, depth)
            }
            Marker::Map16 => {
                let count = self.length16()?;
                self.map(count, depth)
            }
            Marker::Map32 => {
                let count = self.length32()?;
                self.map(count, depth)
            }
            marker => self.extension(marker, depth),
        }
    }

    fn extension(&mut self, marker: Marker, depth: u32) -> Decoded<'py> {
        let start = self.position - 1;
        let length = match marker {
            Marker::FixExt1 => 1,
            Marker::FixExt2 => 2,
            Marker::FixExt4 => 4,
            Marker::FixExt8 => 8,
            Marker::FixExt16 => 16,
            Marker::Ext8 => self.length8()?,
            Marker::Ext16 => self.length16()?,
            Marker::Ext32 => self.length32()?,
            _ => return Err(DecodeError::new("0xc1 begins nothing in MessagePack", start)),
        };
        let number = i8::from_be_bytes(self.array()?);
        if length > self.left() {
            return Err(self.ends_early());
        }
        // Until the extension is read, the input ends where it ends.
        let whole = self.data;
        let end = self.position + length;
        self.data = &whole[..end];
        let object = self.ext(number, start, depth)?;
        if self.position < end {
            let extra = end - self.position;
            return Err(self.wrong(format!("{extra} bytes too many in this extension value")));
        }
        self.data = whole;
        Ok(object)
    }

    fn string(&mut self, length: usize) -> Decoded<'py> {
        let start = self.position;
        let text = self.take(length)?;
        match PyString::from_bytes(self.py, text) {
            Ok(text) => Ok(text.into_any()),
            Err(error) => Err(DecodeError::blame(self.py, error, "a str is not UTF-8", start)),
        }
    }

    fn bytes(&mut self, length: usize) -> Decoded<'py> {
        Ok(new::bytes(self.py, self.take(length)?)?.into_any())
    }

    /// Lengths are not believed: the list grows by what is really there.
    fn list(&mut self, count: usize, depth: u32) -> Decoded<'py> {
        let depth = self.deeper(depth)?;
        self.expect(count)?;
        let list = new::list(self.py)?;
        for _ in 0..count {
            list.append(self.value(depth)?)?;
        }
        Ok(list.into_any())
    }

    fn map(&mut self, count: usize, depth: u32) -> Decoded<'py> {
        let depth = self.deeper(depth)?;
        self.expect(count.saturating_mul(2))?;
        let dict = new::dict(self.py)?;
        let mut crowd = Crowd::of(count);
        for index in 0..count {
            let start = self.position;
            let key = self.key(depth)?;
            let value = self.value(depth)?;
            // A key that has no hash is told of below.
            if crowd.is_too_dense(&key).unwrap_or(false) {
                return Err(DecodeError::new(TOO_DENSE, start));
            }
            dict.set_item(&key, value).map_err(|error| {
                DecodeError::blame(self.py, error, "this key cannot be one", start)
            })?;
            if dict.len() != index + 1 {
                return Err(DecodeError::new("a key appears twice in one map", start));
            }
        }
        Ok(dict.into_any())
    }

    /// A key is most often a short str that was there before.
    #[inline]
    fn key(&mut self, depth: u32) -> Decoded<'py> {
        let Some(&first) = self.data.get(self.position) else { return Err(self.ends_early()) };
        let Marker::FixStr(length) = Marker::from_u8(first) else { return self.value(depth) };
        let start = self.position;
        self.position += 1;
        let text = self.take(length.into())?;
        match self.keys.get(self.py, text) {
            Ok(text) => Ok(text.into_any()),
            Err(error) => Err(DecodeError::blame(self.py, error, "a str is not UTF-8", start)),
        }
    }

    /// The items of an array whose marker comes next, as a tuple or a set is made of them.
    pub(super) fn items(
        &mut self,
        depth: u32,
    ) -> Result<Vec<(usize, Bound<'py, PyAny>)>, DecodeError> {
        let depth = self.deeper(depth)?;
        let start = self.position;
        let count = match Marker::from_u8(self.byte()?) {
            Marker::FixArray(count) => count.into(),
            Marker::Array16 => self.length16()?,
            Marker::Array32 => self.length32()?,
            _ => return Err(DecodeError::new("an array belongs here", start)),
        };
        self.expect(count)?;
        let mut items = Vec::new();
        for _ in 0..count {
            let item = (self.position, self.value(depth)?);
            items.try_reserve(1).map_err(|_| DecodeError::no_memory())?;
            items.push(item);
        }
        Ok(items)
    }

    fn deeper(&mut self, depth: u32) -> Result<u32, DecodeError> {
        self.containers += 1;
        if self.containers > MAX_CONTAINERS && !self.pickle {
            let what = format!("a value has more than {MAX_CONTAINERS} containers");
            return Err(self.wrong(what));
        }
        if depth < MAX_DEPTH { Ok(depth + 1) } else { Err(DecodeError::too_deep(self.position)) }
    }

    fn left(&self) -> usize {
        self.data.len() - self.position
    }

    /// Each value takes a byte at least: a count beyond that is known to be wrong at once.
    fn expect(&self, count: usize) -> Result<(), DecodeError> {
        if count > self.left() { Err(self.ends_early()) } else { Ok(()) }
    }

    #[inline]
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        match self.data[self.position..].get(..length) {
            Some(bytes) => {
                self.position += length;
                Ok(bytes)
            }
            None => Err(self.ends_early()),
        }
    }

    /// All that is left of the input, or of the extension being read.
    pub(super) fn take_rest(&mut self) -> &'a [u8] {
        let rest = &self.data[self.position..];
        self.position = self.data.len();
        rest
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, DecodeError> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.data[self.position..].first_chunk::<N>() {
            Some(bytes) => {
                self.position += N;
                Ok(*bytes)
            }
            None => Err(self.ends_early()),
        }
    }

    fn length8(&mut self) -> Result<usize, DecodeError> {
        Ok(self.byte()?.into())
    }

    fn length16(&mut self) -> Result<usize, DecodeError> {
        Ok(u16::from_be_bytes(self.array()?).into())
    }

    fn length32(&mut self) -> Result<usize, DecodeError> {
        Ok(u32::from_be_bytes(self.array()?) as usize)
    }

    pub(super) fn wrong(&self, message: impl Into<String>) -> DecodeError {
        DecodeError::new(message, self.position)
    }

    #[cold]
    fn ends_early(&self) -> DecodeError {
        self.wrong("the value ends early")
    }
}
