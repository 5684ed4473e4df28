//! Reading manifests: JSON whose every fault is wanted, with its place.

use std::{cell::RefCell, fmt};

use exuvia_core::suggest;
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::{
    error::{Fault, Wrong},
    show::Shown,
};

/// Faults beyond these are counted.
const MOST: usize = 100;

/// A name longer than this is no misspelling of a member.
const LONGEST_SLIP: usize = 64;

/// Gathers the faults of one manifest.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    faults: Vec<Fault>,
    more: usize,
}

/// Reads a value, and notes members that are there twice.
struct Strict<'a> {
    pointer: String,
    twice: &'a RefCell<Reader>,
}

// === impl Reader ===

impl Reader {
    /// Reads text as JSON. Where it is none, the one fault has a line and a column.
    pub(crate) fn parse(&mut self, text: &[u8]) -> Option<Value> {
        let twice = RefCell::new(std::mem::take(self));
        let mut json = serde_json::Deserializer::from_slice(text);
        let value = Strict { pointer: String::new(), twice: &twice }
            .deserialize(&mut json)
            .and_then(|value| json.end().map(|()| value));
        *self = twice.into_inner();
        value.map_err(|error| self.push(not_json(&error))).ok()
    }

    /// What was wrong, if anything was.
    pub(crate) fn finish(mut self, file: &'static str) -> Result<(), Wrong> {
        if self.more > 0 {
            self.faults.push(Fault::new("", format!("and {} more", self.more)));
        }
        if self.faults.is_empty() {
            return Ok(());
        }
        Err(Wrong::Manifest { file, faults: self.faults })
    }

    pub(crate) fn wrong(&mut self, pointer: &str, message: impl Into<String>) {
        self.push(Fault::new(pointer, message));
    }

    fn push(&mut self, fault: Fault) {
        if self.faults.len() < MOST { self.faults.push(fault) } else { self.more += 1 }
    }

    /// `value` as an object that has members of these names only.
    pub(crate) fn object<'v>(
        &mut self,
        pointer: &str,
        value: &'v Value,
        names: &[&str],
    ) -> Option<&'v Map<String, Value>> {
        let Value::Object(members) = value else {
            self.wrong(pointer, format!("must be an object, not {}", kind(value)));
            return None;
        };
        for name in members.keys().filter(|name| !names.contains(&name.as_str())) {
            let hint = if name.len() > LONGEST_SLIP {
                String::new()
            } else {
                suggest::did_you_mean(name, names.iter().copied())
            };
            let hint =
                if hint.is_empty() { format!(" There are: {}", names.join(", ")) } else { hint };
            self.wrong(&join(pointer, name), format!("there is no such member.{hint}"));
        }
        Some(members)
    }

    /// An object of an object, if it is there.
    pub(crate) fn section<'v>(
        &mut self,
        pointer: &str,
        members: &'v Map<String, Value>,
        name: &str,
        names: &[&str],
    ) -> Option<(String, &'v Map<String, Value>)> {
        let pointer = join(pointer, name);
        let section = self.object(&pointer, members.get(name)?, names)?;
        Some((pointer, section))
    }

    /// A member read by `read`, if it is there and right. `like` says what it must be.
    pub(crate) fn member<T>(
        &mut self,
        pointer: &str,
        members: &Map<String, Value>,
        name: &str,
        like: &str,
        read: impl FnOnce(&Value) -> Option<Result<T, String>>,
    ) -> Option<T> {
        self.value(&join(pointer, name), members.get(name)?, like, read)
    }

    /// As [`Reader::member`], for a value by itself. `read` gives `None` for a value of a wrong kind.
    pub(crate) fn value<T>(
        &mut self,
        pointer: &str,
        value: &Value,
        like: &str,
        read: impl FnOnce(&Value) -> Option<Result<T, String>>,
    ) -> Option<T> {
        match read(value) {
            Some(Ok(read)) => return Some(read),
            Some(Err(message)) => self.wrong(pointer, message),
            None => self.wrong(pointer, format!("must be {like}, not {}", kind(value))),
        }
        None
    }

    /// A list of strings, each read by `read`; what is wrong is left out.
    pub(crate) fn texts<T>(
        &mut self,
        pointer: &str,
        members: &Map<String, Value>,
        name: &str,
        mut read: impl FnMut(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let pointer = join(pointer, name);
        let items = match members.get(name) {
            None => return Vec::new(),
            Some(Value::Array(items)) => items,
            Some(other) => {
                self.wrong(&pointer, format!("must be a list of strings, not {}", kind(other)));
                return Vec::new();
            }
        };
        let each = items.iter().enumerate().filter_map(|(index, item)| {
            self.value(&format!("{pointer}/{index}"), item, "a string", |item| {
                item.as_str().map(&mut read)
            })
        });
        each.collect()
    }
}

/// A JSON Pointer one step further.
pub(crate) fn join(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}

fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the string \"{}\"", Shown(text)),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
    }
}

fn not_json(error: &serde_json::Error) -> Fault {
    let text = error.to_string();
    // It says where once more.
    let said = text.rsplit_once(" at line ").map_or(text.as_str(), |(said, _)| said);
    let position = Some((error.line(), error.column()));
    Fault { pointer: String::new(), position, message: format!("it is no JSON: {}", Shown(said)) }
}

// === impl Strict ===

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(flag.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        loop {
            let pointer = format!("{}/{}", self.pointer, all.len());
            match items.next_element_seed(Strict { pointer, twice: self.twice })? {
                Some(item) => all.push(item),
                None => return Ok(Value::Array(all)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let pointer = join(&self.pointer, &name);
            let value =
                members.next_value_seed(Strict { pointer: pointer.clone(), twice: self.twice })?;
            if all.insert(name, value).is_some() {
                self.twice.borrow_mut().wrong(&pointer, "it is there twice");
            }
        }
        Ok(Value::Object(all))
    }
}
