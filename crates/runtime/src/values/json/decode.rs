//! JSON to objects.

use jiter::{Jiter, JiterError, JiterErrorType, JsonErrorType, NumberAny, NumberInt, Peek};
use pyo3::{
    prelude::*,
    types::{PyBool, PyInt, PyString},
};

use crate::values::{DecodeError, MAX_DEPTH, error::Position, keys::Keys, object::new};

/// Reads one JSON document in UTF-8; only blanks may follow it.
///
/// # Errors
/// [`DecodeError`] with line and column, for bytes that are not JSON, or hold a number that Python
/// has no place for.
pub fn decode_json<'py>(py: Python<'py>, bytes: &[u8]) -> Result<Bound<'py, PyAny>, DecodeError> {
    document(py, bytes, &mut Keys::take()).map_err(|error| error.placed(bytes, 0, 0))
}

/// One document; errors have an offset, but no line yet.
pub(super) fn document<'py>(
    py: Python<'py>,
    bytes: &[u8],
    keys: &mut Keys,
) -> Result<Bound<'py, PyAny>, DecodeError> {
    // It says nothing about UTF-8; RFC 8259 allows to pass over it.
    let text = without_mark(bytes);
    let mut decoder = Decoder::new(py, text, keys);
    let read = decoder.document();
    read.map_err(|error| error.moved(bytes.len() - text.len()))
}

/// A text without its byte order mark.
pub(crate) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// Reads values one after the other. Errors have an offset, but no line yet.
pub(crate) struct Decoder<'a, 'py> {
    pub(crate) py: Python<'py>,
    pub(crate) source: Jiter<'a>,
    /// What `source` reads, and what errors count from: the text, or what is left of it.
    pub(crate) text: &'a [u8],
    /// How much of the text went before.
    pub(crate) base: usize,
    pub(crate) keys: &'a mut Keys,
}

// === impl Decoder ===

impl<'a, 'py> Decoder<'a, 'py> {
    pub(crate) fn new(py: Python<'py>, text: &'a [u8], keys: &'a mut Keys) -> Self {
        Self { py, source: Jiter::new(text), text, base: 0, keys }
    }

    fn document(&mut self) -> Result<Bound<'py, PyAny>, DecodeError> {
        let first = self.begin()?;
        let object = self.value(first, 0)?;
        self.end()?;
        Ok(object)
    }

    /// What the document begins with.
    pub(crate) fn begin(&mut self) -> Result<Peek, DecodeError> {
        if self.text.trim_ascii().is_empty() {
            return Err(DecodeError::new("there is no JSON, only nothing", self.text.len()));
        }
        self.peek()
    }

    /// Nothing may follow.
    pub(crate) fn end(&mut self) -> Result<(), DecodeError> {
        self.source.finish().map_err(malformed)
    }

    pub(crate) fn peek(&mut self) -> Result<Peek, DecodeError> {
        self.source.peek().map_err(malformed)
    }

    /// Passes over a brace or comma and this key with its colon, where these are next as most
    /// programs write them: it takes less than to find out which key it is.
    #[inline]
    pub(crate) fn pass(&mut self, separator: u8, key: &[u8]) -> bool {
        let rest = self.text.get(self.source.current_index()..).unwrap_or_default();
        let Some(rest) = rest.strip_prefix(&[separator]) else { return false };
        let rest = rest.strip_prefix(b" ").unwrap_or(rest);
        let Some(rest) = rest.strip_prefix(key) else { return false };
        self.base += self.text.len() - rest.len();
        self.text = rest;
        // jiter cannot be moved on, but it is little more than its text.
        let tape = std::mem::replace(&mut self.source, Jiter::new(&[])).into_tape();
        self.source = Jiter::with_tape(rest, tape);
        true
    }

    pub(crate) fn value(
        &mut self,
        first: Peek,
        depth: u32,
    ) -> Result<Bound<'py, PyAny>, DecodeError> {
        let py = self.py;
        match first {
            Peek::String => {
                let text = self.source.known_str().map_err(malformed)?;
                Ok(PyString::from_bytes(py, text.as_bytes())?.into_any())
            }
            Peek::Object => self.object(depth),
            Peek::Array => self.array(depth),
            Peek::Null => {
                self.source.known_null().map_err(malformed)?;
                Ok(py.None().into_bound(py))
            }
            Peek::True | Peek::False => {
                let truth = self.source.known_bool(first).map_err(malformed)?;
                Ok(PyBool::new(py, truth).to_owned().into_any())
            }
            _ => self.number(first),
        }
    }

    fn number(&mut self, first: Peek) -> Result<Bound<'py, PyAny>, DecodeError> {
        let start = self.source.current_index();
        match self.source.known_number(first) {
            Ok(NumberAny::Int(NumberInt::Int(number))) => Ok(new::int(self.py, number)?),
            Ok(NumberAny::Float(number)) if number.is_finite() => Ok(new::float(self.py, number)?),
            Ok(NumberAny::Float(_)) => {
                Err(DecodeError::new("this number is too large for a float", start))
            }
            // Only if another crate switches jiter's own big ints on.
            #[allow(unreachable_patterns)]
            Ok(_) => {
                let end = self.source.current_index();
                self.big_int(start, end)
            }
            Err(error) => self.odd_number(first, start, error),
        }
    }

    /// An int beyond 64 bits, or what is no number at all.
    #[cold]
    fn odd_number(
        &mut self,
        first: Peek,
        start: usize,
        error: JiterError,
    ) -> Result<Bound<'py, PyAny>, DecodeError> {
        if error.error_type != JiterErrorType::JsonError(JsonErrorType::NumberOutOfRange) {
            return Err(self.no_number(start, error));
        }
        self.digits(first)?;
        let end = self.source.current_index();
        self.big_int(start, end)
    }

    /// Passes over a number, and gives it as it is written.
    pub(crate) fn digits(&mut self, first: Peek) -> Result<&'a [u8], DecodeError> {
        let start = self.source.current_index();
        if let Err(error) = self.source.known_number_bytes(first) {
            return Err(self.no_number(start, error));
        }
        Ok(self.source.slice_to_current(start))
    }

    #[cold]
    pub(crate) fn no_number(&self, start: usize, error: JiterError) -> DecodeError {
        let rest = &self.text[start..];
        let infinite = rest.starts_with(b"Infinity") || rest.starts_with(b"-Infinity");
        if infinite || rest.starts_with(b"NaN") {
            return DecodeError::new("NaN and Infinity have no place in JSON", start);
        }
        malformed(error)
    }

    /// Passes over a value, looking at all of it as [`Decoder::value`] does; jiter's own way goes
    /// less deep, and takes strings that are not UTF-8.
    pub(crate) fn skip(&mut self, first: Peek, depth: u32) -> Result<(), DecodeError> {
        match first {
            Peek::String => self.source.known_str().map(drop).map_err(malformed),
            Peek::Object => {
                let depth = self.deeper(depth)?;
                let mut more = self.source.known_object().map_err(malformed)?.is_some();
                while more {
                    let first = self.peek()?;
                    self.skip(first, depth)?;
                    more = self.source.next_key().map_err(malformed)?.is_some();
                }
                Ok(())
            }
            Peek::Array => {
                let depth = self.deeper(depth)?;
                let mut next = self.source.known_array().map_err(malformed)?;
                while let Some(first) = next {
                    self.skip(first, depth)?;
                    next = self.source.array_step().map_err(malformed)?;
                }
                Ok(())
            }
            Peek::Null => self.source.known_null().map_err(malformed),
            Peek::True | Peek::False => self.source.known_bool(first).map(drop).map_err(malformed),
            _ => self.digits(first).map(drop),
        }
    }

    pub(crate) fn big_int(
        &self,
        start: usize,
        end: usize,
    ) -> Result<Bound<'py, PyAny>, DecodeError> {
        let digits = self.text.get(start..end).unwrap_or_default();
        let digits = PyString::from_bytes(self.py, digits)?;
        // Python may have been told to take fewer digits than usual.
        self.py
            .get_type::<PyInt>()
            .call1((digits,))
            .map_err(|error| DecodeError::blame(self.py, error, "this int is too long", start))
    }

    fn array(&mut self, depth: u32) -> Result<Bound<'py, PyAny>, DecodeError> {
        let depth = self.deeper(depth)?;
        let list = new::list(self.py)?;
        let mut next = self.source.known_array().map_err(malformed)?;
        while let Some(first) = next {
            list.append(self.value(first, depth)?)?;
            next = self.source.array_step().map_err(malformed)?;
        }
        Ok(list.into_any())
    }

    /// Of equal keys the last one counts, as in Python's own `json`.
    fn object(&mut self, depth: u32) -> Result<Bound<'py, PyAny>, DecodeError> {
        let depth = self.deeper(depth)?;
        let dict = new::dict(self.py)?;
        let mut next = self.source.known_object().map_err(malformed)?;
        while let Some(key) = next {
            let key = self.keys.get(self.py, key.as_bytes())?;
            let first = self.source.peek().map_err(malformed)?;
            dict.set_item(key, self.value(first, depth)?)?;
            next = self.source.next_key().map_err(malformed)?;
        }
        Ok(dict.into_any())
    }

    pub(crate) fn deeper(&self, depth: u32) -> Result<u32, DecodeError> {
        if depth < MAX_DEPTH {
            Ok(depth + 1)
        } else {
            Err(DecodeError::too_deep(self.source.current_index()))
        }
    }
}

// === impl DecodeError ===

impl DecodeError {
    /// The same error in a text that has `bytes` more in front.
    pub(crate) fn moved(mut self, bytes: usize) -> Self {
        if let Self::Malformed(malformed) = &mut self {
            malformed.offset += bytes;
        }
        self
    }

    /// The same error with its line, in a part of a text that `before` bytes and `lines` lines
    /// went before.
    pub(crate) fn placed(mut self, part: &[u8], before: usize, lines: usize) -> Self {
        if let Self::Malformed(malformed) = &mut self {
            malformed.position = Some(Position::find(part, malformed.offset, lines));
            malformed.offset += before;
        }
        self
    }
}

/// What the parser found wrong, in words that say what belongs there.
#[cold]
pub(crate) fn malformed(error: JiterError) -> DecodeError {
    use JsonErrorType as Error;
    let JiterErrorType::JsonError(kind) = &error.error_type else {
        return DecodeError::new(error.error_type.to_string(), error.index);
    };
    let message = match kind {
        Error::EofWhileParsingList => "the document ends inside an array",
        Error::EofWhileParsingObject => "the document ends inside an object",
        Error::EofWhileParsingString => "the document ends inside a string",
        Error::EofWhileParsingValue => "the document ends where a value belongs",
        Error::ExpectedColon => "a colon belongs between a key and its value",
        Error::ExpectedListCommaOrEnd => "a comma or ] belongs after a value in an array",
        Error::ExpectedObjectCommaOrEnd => "a comma or } belongs after a value in an object",
        Error::ExpectedSomeIdent => "only true, false and null are written without quotes",
        Error::ExpectedSomeValue => "a value belongs here",
        Error::InvalidEscape => "a backslash in a string begins no escape of JSON's",
        Error::InvalidNumber => "this is no number as JSON writes it",
        Error::NumberOutOfRange => "a number of more than 4300 digits",
        Error::InvalidUnicodeCodePoint => "a string is not UTF-8",
        Error::ControlCharacterWhileParsingString => {
            "a control character in a string has to be written as an escape"
        }
        Error::KeyMustBeAString => "a key belongs here, and keys are strings in double quotes",
        Error::LoneLeadingSurrogateInHexEscape | Error::UnexpectedEndOfHexEscape => {
            "half of a surrogate pair is no character"
        }
        Error::TrailingComma => "nothing follows this comma",
        Error::TrailingCharacters => "the document is over, but more follows",
        other => return DecodeError::new(other.to_string(), error.index),
    };
    DecodeError::new(message, error.index)
}
