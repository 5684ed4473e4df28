//! Tables and tensors in a value: extensions 17 and 18 of `docs/values.md`.
//!
//! A small one stands in the value; a large one lies in memory of its own, which goes with the
//! value, and the value has its number.

use std::cell::RefCell;

use arrow_buffer::Buffer;
use exuvia_core::{Copied, MAX_ATTACHED};
use exuvia_sys::{Sealed, Spilled};
use exuvia_tables::{Format, Limits};
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
};

use crate::{
    convert,
    data::{Data, private},
    encode,
    share::{Shared, raised},
    tensor,
    values::Unfit,
};

/// The number of a table's extension.
pub(crate) const TABLE: i8 = 17;
/// The number of a tensor's extension.
pub(crate) const TENSOR: i8 = 18;

/// What follows is the data.
const HERE: u8 = 0;
/// What follows is the number of what is attached, 16 bits.
const ATTACHED: u8 = 1;

/// Writes tables and tensors of one value.
pub struct Attacher<'a> {
    /// Memory that goes with the value.
    pub attached: Vec<Sealed>,
    /// How many may be.
    most: usize,
    copies: &'a mut Vec<Copied>,
}

// === impl Attacher ===

impl<'a> Attacher<'a> {
    /// One that counts what is copied.
    #[must_use]
    pub fn new(copies: &'a mut Vec<Copied>) -> Self {
        Self { attached: Vec::new(), most: MAX_ATTACHED, copies }
    }

    /// One for a value with which no memory can go.
    pub(crate) fn alone(copies: &'a mut Vec<Copied>) -> Self {
        Self { most: 0, ..Self::new(copies) }
    }

    /// The extension an object is written as, if it is a table or a tensor that can be written.
    pub(crate) fn extension(
        &mut self,
        object: &Bound<'_, PyAny>,
    ) -> Result<Option<(i8, Vec<u8>)>, Unfit> {
        if let Ok(shared) = object.cast::<Shared>() {
            let (number, head, sealed) = shared.get().parts();
            return Ok(Some((number, self.number(head, sealed)?)));
        }
        if let Some(kind) = convert::kind_of(object) {
            return Ok(self.table(object, kind)?.map(|body| (TABLE, body)));
        }
        if tensor::is_tensor(object) {
            let spilled = tensor::write_to(object.py(), object, self.copies)?;
            return Ok(Some((TENSOR, self.placed(Vec::new(), spilled)?)));
        }
        Ok(None)
    }

    fn table(&mut self, object: &Bound<'_, PyAny>, kind: u8) -> PyResult<Option<Vec<u8>>> {
        let py = object.py();
        let before = self.copies.len();
        let table = match convert::take_faithfully(object, self.copies) {
            Ok(Some(table)) if table.is_readable(&Limits::default()) => table,
            // It has no place in Arrow, but may have one in a pickle.
            Ok(_) => {
                self.copies.truncate(before);
                return Ok(None);
            }
            Err(error)
                if error.is_instance_of::<PyTypeError>(py)
                    || error.is_instance_of::<PyValueError>(py) =>
            {
                self.copies.truncate(before);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let spilled = py.detach(|| encode::write_ipc(&table)).map_err(raised)?;
        let why = "it is put into memory that can be shared".to_owned();
        self.copies.push(Copied { what: "a table".into(), bytes: table.bytes(), why });
        self.placed(vec![kind], spilled).map(Some)
    }

    /// The body of an extension whose data is here or attached.
    fn placed(&mut self, mut body: Vec<u8>, spilled: Spilled) -> PyResult<Vec<u8>> {
        match spilled {
            Spilled::Few(bytes) => {
                body.push(HERE);
                body.extend_from_slice(&bytes);
                Ok(body)
            }
            Spilled::Many(sealed) if self.attached.len() >= self.most => {
                let bytes = sealed.bytes()?;
                body.push(HERE);
                body.extend_from_slice(&bytes);
                Ok(body)
            }
            Spilled::Many(sealed) => self.number(body, sealed),
        }
    }

    fn number(&mut self, mut body: Vec<u8>, sealed: Sealed) -> PyResult<Vec<u8>> {
        if self.attached.len() >= self.most {
            return self.placed(body, Spilled::Many(sealed));
        }
        body.push(ATTACHED);
        // At most MAX_ATTACHED.
        body.extend_from_slice(&(self.attached.len() as u16).to_be_bytes());
        self.attached.push(sealed);
        Ok(body)
    }
}

/// Reads tables and tensors of one value.
pub struct Attachments<'a> {
    data: Option<&'a Data>,
    limits: Limits,
    copies: RefCell<Vec<Copied>>,
}

// === impl Attachments ===

impl<'a> Attachments<'a> {
    /// For a value that came with `data`.
    #[must_use]
    pub fn of(data: &'a Data, limits: Limits) -> Self {
        Self { data: Some(data), limits, copies: RefCell::default() }
    }

    /// For a value that came alone.
    #[must_use]
    pub fn none() -> Self {
        Self { data: None, limits: Limits::default(), copies: RefCell::default() }
    }

    /// What was copied of them.
    #[must_use]
    pub fn copies(self) -> Vec<Copied> {
        self.copies.into_inner()
    }

    /// The table in an extension's body.
    pub(crate) fn table<'py>(
        &self,
        py: Python<'py>,
        body: &[u8],
    ) -> PyResult<Result<Bound<'py, PyAny>, String>> {
        let [kind, rest @ ..] = body else { return Ok(Err("a table without a kind".into())) };
        let buffer = match self.buffer(rest)? {
            Ok(buffer) => buffer,
            Err(why) => return Ok(Err(why)),
        };
        let limits = self.limits;
        match py.detach(|| exuvia_tables::read(Format::ArrowStream, &buffer, &limits)) {
            Ok(read) => {
                let mut copies = read.copies;
                let given = convert::of_kind(py, read.table, *kind, &mut copies);
                self.copies.borrow_mut().append(&mut copies);
                given.map(Ok)
            }
            Err(error) => Ok(Err(error.to_string())),
        }
    }

    /// The tensor in an extension's body.
    pub(crate) fn tensor<'py>(
        &self,
        py: Python<'py>,
        body: &[u8],
    ) -> PyResult<Result<Bound<'py, PyAny>, String>> {
        match self.buffer(body)? {
            Ok(buffer) => tensor::read(py, &buffer, &mut self.copies.borrow_mut()),
            Err(why) => Ok(Err(why)),
        }
    }

    fn buffer(&self, body: &[u8]) -> PyResult<Result<Buffer, String>> {
        match body {
            [HERE, bytes @ ..] => Ok(Ok(private(bytes)?)),
            [ATTACHED, high, low] => {
                let number = usize::from(u16::from_be_bytes([*high, *low]));
                let found = self.data.map(|data| data.attached(number)).transpose()?.flatten();
                Ok(found.ok_or_else(|| format!("nothing is attached under {number}")))
            }
            _ => Ok(Err("it says neither that its data is here nor where it is".into())),
        }
    }
}
