//! The body of an operation: which arguments it gives, and in which formats.

use serde_json::{Map, Value, json};

use super::{
    described::{Described, Param},
    schema::{Kinds, Schemas, Text},
};

/// One JSON document a line.
pub(super) const NDJSON: &str = "application/x-ndjson";

/// Formats of tables beside JSON, each with whether it is text.
pub(super) const TABLES: [(&str, bool); 5] = [
    (NDJSON, true),
    ("text/csv", true),
    ("application/vnd.apache.arrow.stream", false),
    ("application/vnd.apache.arrow.file", false),
    ("application/vnd.apache.parquet", false),
];

/// The format of arrays.
pub(super) const NPY: &str = "application/x-npy";

/// Any file.
const FILE: &str = "application/octet-stream";

/// What a body may give.
pub(super) struct Body<'a> {
    pub(super) handler: &'a Described,
    /// Parameters that nothing else gives.
    pub(super) params: Vec<&'a Param>,
    pub(super) schemas: Schemas<'a>,
}

// === impl Body ===

impl<'a> Body<'a> {
    /// `requestBody`, where a body may say something.
    pub(super) fn document(&self) -> Option<Value> {
        if self.params.is_empty() && !self.handler.open {
            return None;
        }
        let mut content = Map::new();
        content.insert("application/json".into(), json!({ "schema": self.json() }));
        self.add_tables(&mut content);
        self.add_files(&mut content);
        let required = self.params.iter().any(|param| param.required);
        Some(json!({ "required": required, "content": content }))
    }

    // === JSON ===

    /// Arguments by name, the first one as a whole, or both, as the handler allows.
    fn json(&self) -> Value {
        let mut forms = Vec::new();
        let whole = self.whole();
        if whole.is_none() || !self.handler.whole_alone {
            forms.push(self.by_name(whole));
        }
        if let Some(first) = self.first_alone() {
            match whole {
                Some(_) if self.handler.whole_alone => forms.push(first.schema.clone()),
                Some(_) => forms.push(self.schemas.without_member(&first.schema, &first.name)),
                None => forms.extend(self.schemas.without_objects(&first.schema)),
            }
        }
        match forms.len() {
            1 => forms.remove(0),
            _ => json!({ "anyOf": forms }),
        }
    }

    /// The parameter that an object without a member of its name is for.
    fn whole(&self) -> Option<&'a Param> {
        let name = self.handler.whole.as_deref()?;
        self.params.iter().find(|param| param.name == name).copied()
    }

    /// The first parameter, where it can be all that is given. The first of the handler, that is:
    /// where the path gives that one, nothing else takes its place.
    fn first_alone(&self) -> Option<&'a Param> {
        let first = *self.params.first()?;
        let is_first = self.handler.params.first().is_some_and(|own| own.name == first.name);
        let others = self.params.iter().skip(1).any(|param| param.required);
        (is_first && !others).then_some(first)
    }

    fn by_name(&self, whole: Option<&Param>) -> Value {
        let is_whole = |param: &Param| whole.is_some_and(|whole| whole.name == param.name);
        let properties = self.params.iter().map(|param| (param.name.clone(), with_default(param)));
        // An object that does not name it is for it.
        let required = self.params.iter().filter(|param| param.required || is_whole(param));
        self.object(properties.collect(), required.map(|param| param.name.as_str()).collect())
    }

    fn object(&self, properties: Map<String, Value>, required: Vec<&str>) -> Value {
        let mut object = json!({ "type": "object", "properties": properties });
        if !required.is_empty() {
            object["required"] = required.into();
        }
        if !self.handler.open {
            object["additionalProperties"] = false.into();
        }
        object
    }

    // === tables and files ===

    /// The formats in which a table is the first argument.
    fn add_tables(&self, content: &mut Map<String, Value>) {
        let Some(first) = self.first_alone().filter(|first| first.is_table()) else { return };
        content.extend(TABLES.iter().map(|(media, text)| table(media, *text)));
        if first.is_array() {
            content.insert(NPY.to_owned(), json!({}));
        }
    }

    /// The formats in which arguments may be files.
    fn add_files(&self, content: &mut Map<String, Value>) {
        if let Some(first) = self.first_alone() {
            if self.is_file(first) {
                let file = not_empty(file(&first.schema), first);
                content.insert(FILE.to_owned(), json!({ "schema": file }));
            } else if is_text(&first.schema) {
                let text = not_empty(first.schema.clone(), first);
                content.insert("text/plain".to_owned(), json!({ "schema": text }));
            }
        }
        if self.params.iter().any(|param| param.is_table() || self.holds_files(param)) {
            content.insert("multipart/form-data".to_owned(), self.multipart());
        }
    }

    fn is_file(&self, param: &Param) -> bool {
        param.file && !self.is_list(param) || self.schemas.is_bytes(&param.schema)
    }

    fn is_list(&self, param: &Param) -> bool {
        self.schemas.kinds(&param.schema).within(Kinds::ARRAY.and(Kinds::NULL))
    }

    fn holds_files(&self, param: &Param) -> bool {
        let items = || param.schema.get("items").is_some_and(|items| self.schemas.is_bytes(items));
        self.is_file(param) || self.is_list(param) && (param.file || items())
    }

    fn multipart(&self) -> Value {
        let mut properties = Map::new();
        let mut encoding = Map::new();
        for param in &self.params {
            let (schema, media) = self.part(param);
            properties.insert(param.name.clone(), schema);
            if let Some(media) = media {
                encoding.insert(param.name.clone(), json!({ "contentType": media }));
            }
        }
        let required = self.params.iter().filter(|param| param.required);
        let required = required.map(|param| param.name.as_str()).collect();
        let mut part = json!({ "schema": self.object(properties, required) });
        if !encoding.is_empty() {
            part["encoding"] = encoding.into();
        }
        part
    }

    /// One argument as a part: its schema, and the media type where it has one.
    fn part(&self, param: &Param) -> (Value, Option<String>) {
        if param.is_table() {
            let mut media: Vec<_> = TABLES.iter().map(|(media, _)| *media).collect();
            if param.is_array() {
                media.push(NPY);
            }
            return (file(&Value::Null), Some(media.join(", ")));
        }
        if self.is_file(param) {
            return (file(&param.schema), Some(FILE.to_owned()));
        }
        if self.holds_files(param) {
            let list = json!({ "type": "array", "items": file(&param.schema["items"]) });
            return (repeated(list, param), None);
        }
        match self.schemas.as_text(&param.schema, true) {
            Text::Plain(schema) => (defaulted(schema, param), None),
            Text::Repeated(schema) => (repeated(schema, param), None),
            Text::Json(schema) => (defaulted(schema, param), Some("application/json".to_owned())),
        }
    }
}

/// The schema of a file, of whose bytes there are as many as `schema` says of base64.
fn file(schema: &Value) -> Value {
    let mut file = Map::new();
    file.insert("type".to_owned(), "string".into());
    file.insert("contentMediaType".to_owned(), FILE.into());
    file.extend(
        schema
            .get("x-bytes")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(word, bound)| (word.clone(), bound.clone())),
    );
    file.into()
}

/// A parameter's schema, with its default.
pub(super) fn with_default(param: &Param) -> Value {
    defaulted(param.schema.clone(), param)
}

/// `schema`, with the default of `param`.
pub(super) fn defaulted(mut schema: Value, param: &Param) -> Value {
    if let (Value::Object(schema), Some(default), false) =
        (&mut schema, &param.default, param.required)
    {
        schema.insert("default".to_owned(), default.clone());
    }
    schema
}

/// The schema of a list that is written by repeating its name: none at all is not being given.
pub(super) fn repeated(mut schema: Value, param: &Param) -> Value {
    if param.required && schema["minItems"].as_u64().unwrap_or_default() == 0 {
        schema["minItems"] = 1.into();
    }
    defaulted(schema, param)
}

/// A table in `media`, for a `content`.
pub(super) fn table(media: &str, is_text: bool) -> (String, Value) {
    let schema = json!({ "schema": { "type": "string", "contentMediaType": media } });
    (media.to_owned(), if is_text { schema } else { json!({}) })
}

/// The schema of a body that is an argument: one without a byte is no argument.
fn not_empty(mut schema: Value, param: &Param) -> Value {
    if param.required && schema["minLength"].as_u64().unwrap_or_default() == 0 {
        schema["minLength"] = 1.into();
    }
    schema
}

/// Whether it takes text, and nothing that text would have to be read as.
fn is_text(schema: &Value) -> bool {
    schema.get("type") == Some(&json!("string"))
        && schema.get("format").is_none()
        && schema.get("contentEncoding").is_none()
}
