//! Bodies as browsers and forms send them: arguments as text, and files (`docs/routes.md`).

mod multipart;

use std::collections::BTreeMap;

use bytes::Bytes;
use exuvia_core::{Codec, Failure, InputFault, suggest::did_you_mean};
use exuvia_tables::Format;
use pyo3::{
    ffi::c_str,
    prelude::*,
    sync::PyOnceLock,
    types::{PyBytes, PyList, PyModule},
};

use crate::{
    data::Data,
    handler::{Handler, Mask, PlannedParam},
    raised,
    received::{self, Blame, Fits, Making},
};

/// Names that a form may have.
const MOST: usize = 1000;

/// A file as it was sent.
pub(crate) struct File {
    /// What it was called, or empty.
    pub(crate) name: String,
    /// Its media type, or empty.
    pub(crate) media: String,
    pub(crate) content: Bytes,
}

/// What a body gives.
#[derive(Default)]
pub(crate) struct Gathered<'py> {
    /// Arguments as text.
    pub(crate) texts: Vec<(String, String)>,
    /// Arguments that are what the handler gets already, by the place of their parameter.
    pub(crate) values: Vec<(usize, Bound<'py, PyAny>)>,
    pub(crate) faults: Vec<InputFault>,
    /// Parameters that were given, with faults.
    pub(crate) faulty: Vec<usize>,
}

/// What a parameter makes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wants {
    Table,
    Bytes,
    File,
    Text,
    /// It does not say: a table where the file is one, else its bytes.
    Anything,
}

// === impl Wants ===

impl Wants {
    /// Whether a file is nothing but text to it.
    fn text_of(self, file: &File) -> bool {
        let plain = file.media.split(';').next().is_some_and(|media| media.trim() == "text/plain");
        self == Self::Text || (self == Self::Anything && plain && file.name.is_empty())
    }
}

/// Whether bodies in this codec are for [`gather`].
pub(crate) fn is_one(codec: Codec) -> bool {
    matches!(codec, Codec::Form | Codec::Multipart | Codec::Bytes | Codec::Text)
}

/// Takes a body apart. `media` is its type as it was sent.
///
/// # Errors
/// It is not what its type says, or Python raised what is not the data's fault.
pub(crate) fn gather<'py>(
    python: &Bound<'py, PyModule>,
    handler: &Handler,
    data: &Data,
    media: &str,
    (making, blame): (&mut Making<'_>, Blame),
) -> Result<Gathered<'py>, Failure> {
    let mut gathered = Gathered::default();
    let mut files: BTreeMap<usize, Vec<File>> = BTreeMap::new();
    match data.codec {
        Codec::Form => form(data.bytes(), &mut gathered)?,
        Codec::Multipart => {
            for part in multipart::parts(&data.content(), media)? {
                take_part(handler, part, &mut gathered, &mut files)?;
            }
        }
        codec => {
            if handler.params.is_empty() {
                return Err(Failure::input("", "the handler takes no arguments: send no data"));
            }
            let media = if codec == Codec::Text { "text/plain" } else { media };
            let content = data.content();
            let file = File { name: String::new(), media: media.to_owned(), content };
            files.insert(0, vec![file]);
        }
    }
    for (place, files) in files {
        let param = &handler.params[place];
        let (wants, several) = wants(python.py(), handler, param)
            .map_err(|error| raised::exception(python, &error))?;
        if files.iter().all(|file| wants.text_of(file)) {
            // Text is read by the annotation, wherever it comes from.
            for file in files {
                match String::from_utf8(file.content.into()) {
                    Ok(text) => gathered.texts.push((param.name.clone(), text)),
                    Err(_) => {
                        gathered.faults.push(fault(&param.name, "is not text in UTF-8".into()));
                        gathered.faulty.push(place);
                    }
                }
            }
            continue;
        }
        let mut making = Making { copies: making.copies, limits: making.limits };
        match given(python, handler, place, (wants, several), files, (&mut making, &blame))? {
            Ok(value) => gathered.values.push((place, value)),
            Err(message) => {
                gathered.faults.push(fault(&param.name, message));
                gathered.faulty.push(place);
            }
        }
    }
    Ok(gathered)
}

/// `application/x-www-form-urlencoded`.
fn form(body: &[u8], gathered: &mut Gathered<'_>) -> Result<(), Failure> {
    let malformed = |message: &str| Failure::Malformed { message: message.into() };
    if matches!(body.trim_ascii_start().first(), Some(b'{' | b'[')) {
        return Err(malformed(
            "this looks like JSON and was sent as a form: send it with Content-Type: \
             application/json",
        ));
    }
    for (name, value) in form_urlencoded::parse(body) {
        if gathered.texts.len() == MOST {
            return Err(malformed(&format!("the form has more than {MOST} names")));
        }
        text(gathered, name.into_owned(), value.into_owned());
    }
    Ok(())
}

/// An argument as text. What begins with a colon is said by the host alone.
fn text(gathered: &mut Gathered<'_>, name: String, value: String) {
    match name.starts_with(':') {
        true => gathered.faults.push(fault(&name, "there is no parameter of this name".into())),
        false => gathered.texts.push((name, value)),
    }
}

/// One part of a form: text, or a file for one of the parameters.
fn take_part(
    handler: &Handler,
    part: multipart::Part,
    gathered: &mut Gathered<'_>,
    files: &mut BTreeMap<usize, Vec<File>>,
) -> Result<(), Failure> {
    let multipart::Part { field, file, is_file } = part;
    if !is_file {
        let value = String::from_utf8(file.content.into());
        let value = value.map_err(|_| Failure::Malformed {
            message: format!("the part `{field}` is text and not UTF-8"),
        })?;
        text(gathered, field, value);
        return Ok(());
    }
    // What browsers send where no file was chosen.
    if file.name.is_empty() && file.content.is_empty() {
        return Ok(());
    }
    match handler.params.iter().position(|param| param.name == field) {
        Some(place) => files.entry(place).or_default().push(file),
        None => {
            let names = handler.params.iter().map(|param| param.name.as_str());
            let near = did_you_mean(&field, names);
            gathered
                .faults
                .push(fault(&field, format!("there is no parameter of this name.{near}")));
        }
    }
    Ok(())
}

/// What a parameter is given for its files, or why it cannot be.
fn given<'py>(
    python: &Bound<'py, PyModule>,
    handler: &Handler,
    place: usize,
    (wants, several): (Wants, bool),
    files: Vec<File>,
    (making, blame): (&mut Making<'_>, &Blame),
) -> Result<Result<Bound<'py, PyAny>, String>, Failure> {
    let py = python.py();
    let param = &handler.params[place];
    let raise = |error: PyErr| raised::exception(python, &error);
    if !several && files.len() > 1 {
        return Ok(Err(format!("takes one file, not {}", files.len())));
    }
    let list = PyList::empty(py);
    for file in files {
        let made = match wants {
            Wants::Table => table(python, param, file, (making, blame))?,
            Wants::Bytes => {
                let bytes = PyBytes::new(py, &file.content).into_any();
                let plan = handler.plan(python)?;
                match plan.map(|plan| plan.misfit_of_bytes(place, &bytes)).transpose() {
                    Ok(misfit) => misfit.flatten().map_or(Ok(bytes), Err),
                    Err(error) => return Err(raise(error)),
                }
            }
            Wants::File => Ok(open(py, &file).map_err(raise)?),
            Wants::Text => Err("is a file among texts".into()),
            Wants::Anything if format(&file).is_some() => {
                table(python, param, file, (making, blame))?
            }
            Wants::Anything => Ok(PyBytes::new(py, &file.content).into_any()),
        };
        match made {
            Ok(value) if !several => return Ok(Ok(value)),
            Ok(value) => list.append(value).map_err(raise)?,
            Err(message) => return Ok(Err(message)),
        }
    }
    Ok(Ok(list.into_any()))
}

/// What a parameter's annotation says of files, and whether it takes several.
fn wants(py: Python<'_>, handler: &Handler, param: &PlannedParam) -> PyResult<(Wants, bool)> {
    if param.table.is_some() {
        return Ok((Wants::Table, false));
    }
    let annotation = match &handler.hints {
        Some(hints) => hints.bind(py).get_item(&param.name)?,
        None => None,
    };
    let Some(annotation) = annotation else {
        let text = param.mask.has(Mask::STR) && !param.mask.has(Mask::ANY);
        return Ok((if text { Wants::Text } else { Wants::Anything }, false));
    };
    let kind = files(py)?.getattr("kind_of")?.call1((annotation,))?;
    let (kind, several): (Option<String>, bool) = kind.extract()?;
    let wants = match kind.as_deref() {
        Some("bytes") => Wants::Bytes,
        Some("file") => Wants::File,
        Some("text") => Wants::Text,
        _ => Wants::Anything,
    };
    Ok((wants, several))
}

/// A file as a table of the kind that is asked for.
fn table<'py>(
    python: &Bound<'py, PyModule>,
    param: &PlannedParam,
    file: File,
    (making, blame): (&mut Making<'_>, &Blame),
) -> Result<Result<Bound<'py, PyAny>, String>, Failure> {
    let Some(codec) = format(&file) else {
        let what = if file.name.is_empty() { file.media } else { file.name };
        return Ok(Err(format!(
            "is a table, and `{what}` does not say which: name it .csv, .parquet, .arrow, .ndjson \
             or .json, or give its part that type"
        )));
    };
    let data = Data::whole(codec, file.content);
    let limits = making.limits;
    let read = received::table(python, Some(param), data, (limits, blame.clone()), making.copies);
    let table = match read {
        Ok(table) => table,
        Err(Failure::Malformed { message }) => return Ok(Err(format!("is no table: {message}"))),
        Err(failure) => return Err(failure),
    };
    Ok(match received::argument(python, param, &table, false, making)? {
        Fits::AsItIs => Ok(table),
        Fits::As(given) => Ok(given),
        Fits::Not(message) => Err(message),
    })
}

/// How a file's table is written down, by its type or else by its name.
fn format(file: &File) -> Option<Codec> {
    let media = file.media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let ending = file.name.rsplit_once('.').map_or("", |(_, ending)| ending).to_ascii_lowercase();
    let by_type = match media.as_str() {
        "text/csv" | "application/csv" => Some(Codec::Csv),
        "application/vnd.apache.parquet" | "application/parquet" | "application/x-parquet" => {
            Some(Codec::Parquet)
        }
        "application/vnd.apache.arrow.stream" | "application/x-apache-arrow-stream" => {
            Some(Codec::ArrowStream)
        }
        "application/vnd.apache.arrow.file" | "application/x-apache-arrow-file" => {
            Some(Codec::ArrowFile)
        }
        "application/x-ndjson" | "application/jsonl" | "application/ndjson" => Some(Codec::Ndjson),
        "application/x-npy" | "application/npy" => Some(Codec::Npy),
        _ => None,
    };
    by_type
        .or(match ending.as_str() {
            "csv" => Some(Codec::Csv),
            "parquet" | "pq" => Some(Codec::Parquet),
            "arrow" | "feather" | "ipc" => Some(Codec::ArrowFile),
            "arrows" => Some(Codec::ArrowStream),
            "ndjson" | "jsonl" => Some(Codec::Ndjson),
            "json" => Some(if file.content.trim_ascii_start().starts_with(b"{") {
                Codec::JsonColumns
            } else {
                Codec::JsonRows
            }),
            "npy" => Some(Codec::Npy),
            _ => None,
        })
        .filter(|codec| *codec == Codec::Npy || Format::of(*codec).is_some())
}

/// A file to read from.
fn open<'py>(py: Python<'py>, file: &File) -> PyResult<Bound<'py, PyAny>> {
    let content = PyBytes::new(py, &file.content);
    files(py)?.getattr("File")?.call1((content, &file.name, &file.media))
}

fn files(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    static FILES: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let load = || {
        let source = c_str!(include_str!("files.py"));
        PyModule::from_code(py, source, c"<exuvia files>", c"_exuvia_files").map(Bound::unbind)
    };
    Ok(FILES.get_or_try_init(py, load)?.bind(py))
}

fn fault(name: &str, message: String) -> InputFault {
    let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
    InputFault { pointer, message }
}
