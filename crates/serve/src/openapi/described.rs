//! What a worker said of a handler, as `docs/types.md` has it.

use exuvia_core::HandlerInfo;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

/// One handler.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Described {
    pub(super) doc: String,
    pub(super) params: Vec<Param>,
    /// The parameter that an object as a whole may be for.
    pub(super) whole: Option<String>,
    /// An object is always the whole, whatever its members are called.
    pub(super) whole_alone: bool,
    /// Arguments of any name are taken.
    pub(super) open: bool,
    /// A schema, or the text `table`.
    pub(super) returns: Value,
    pub(super) streams: bool,
}

/// One parameter.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Param {
    pub(super) name: String,
    pub(super) required: bool,
    pub(super) schema: Value,
    /// `Some(Null)` is a default too.
    #[serde(deserialize_with = "given")]
    pub(super) default: Option<Value>,
    /// The kind of table or array that is asked for.
    pub(super) table: Value,
    /// A file is asked for, to be read.
    #[serde(skip)]
    pub(super) file: bool,
}

fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

// === impl Param ===

impl Param {
    /// Whether it is nothing but a table: rows and columns as lists and dicts have schemas that
    /// say more.
    pub(super) fn is_table(&self) -> bool {
        !self.table.is_null() && self.table != "rows" && self.table != "columns"
    }

    /// Whether an array of NumPy's will do.
    pub(super) fn is_array(&self) -> bool {
        self.table.as_str().is_some_and(|kind| kind.starts_with("numpy"))
    }
}

// === impl Described ===

impl Described {
    /// What `description` says of the handler; where it says nothing, what is known without it.
    pub(super) fn of(info: &HandlerInfo, description: &Value) -> Self {
        let said = description.get("handlers").and_then(|handlers| handlers.get(info.target()));
        let said = said.and_then(|said| Self::deserialize(said).ok());
        let mut described = said.unwrap_or_else(|| Self::known(info));
        described.rename(info);
        for param in &mut described.params {
            let known = info.params.iter().find(|known| known.name == param.name);
            param.file = known.is_some_and(|known| is_file(&known.annotation));
            if param.schema.is_null() {
                param.schema = json!({});
            }
        }
        described
    }

    /// Gives parameters the names they go by here, which may be others than the handler's own.
    fn rename(&mut self, info: &HandlerInfo) {
        if self.params.len() != info.params.len() {
            return;
        }
        for (param, known) in self.params.iter_mut().zip(&info.params) {
            if self.whole.as_ref() == Some(&param.name) {
                self.whole = Some(known.name.clone());
            }
            param.name.clone_from(&known.name);
        }
    }

    fn known(info: &HandlerInfo) -> Self {
        let params = info.params.iter().map(|param| Param {
            name: param.name.clone(),
            required: param.required,
            ..Param::default()
        });
        Self {
            doc: info.doc.clone(),
            params: params.collect(),
            open: info.open,
            streams: info.streams,
            ..Self::default()
        }
    }

    /// The docstring's first line that says something.
    pub(super) fn first_line(&self) -> Option<&str> {
        self.doc.lines().map(str::trim).find(|line| !line.is_empty())
    }

    /// What comes after that.
    pub(super) fn more(&self) -> Option<&str> {
        let (_, more) = self.doc.trim_start().split_once('\n')?;
        Some(more.trim()).filter(|more| !more.is_empty())
    }

    pub(super) fn returns_table(&self) -> bool {
        self.returns == "table"
    }

    /// The schema of what is returned, or of one thing that is yielded.
    pub(super) fn result(&self) -> Value {
        match &self.returns {
            Value::Object(_) => self.returns.clone(),
            _ if self.returns_table() => {
                json!({ "type": "array", "items": { "type": "object" } })
            }
            _ => json!({}),
        }
    }
}

/// Whether an annotation, as Python prints it, asks for a file to read.
fn is_file(annotation: &str) -> bool {
    let files = ["BinaryIO", "BytesIO", "BufferedIOBase", "IO[bytes]"];
    files.iter().any(|file| annotation.contains(file))
}
