//! Of which types the values in JSON are.
//!
//! The values are looked at as they are parsed; none is kept.

use std::{collections::HashMap, fmt};

use arrow_schema::{DataType, Field, Fields};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::{Limits, schema::too_deep, table::MAX_DEPTH};

/// What is known of the values in one place: a column, the items of its lists, a key of its objects.
#[derive(Debug, Default)]
pub(super) struct Slot {
    kind: Kind,
    /// Values seen.
    seen: u64,
}

#[derive(Debug, Default)]
enum Kind {
    /// Nothing but null.
    #[default]
    Unknown,
    Bool,
    Int,
    Float,
    Text,
    List(Box<Slot>),
    Object(Keys),
}

#[derive(Debug, Default)]
struct Keys {
    places: HashMap<String, usize>,
    slots: Vec<(String, Slot)>,
}

/// What goes along while values are looked at.
#[derive(Debug)]
pub(super) struct Context {
    limits: Limits,
    fields: usize,
    depth: usize,
    /// Bytes of all texts.
    pub(super) text: u64,
    /// A float that may have been written as a whole number.
    whole: Option<f64>,
    /// The whole number that is refused.
    refused: Option<f64>,
    /// A type became wider, and where.
    pub(super) widened: bool,
    widened_at: Option<String>,
    /// Why a value is refused, and where it is: the innermost name comes first.
    fault: Option<Fault>,
}

#[derive(Debug)]
struct Fault {
    why: String,
    path: Option<String>,
    /// There were too many fields, rather than something wrong with one.
    is_limit: bool,
}

/// Why values cannot be columns.
pub(super) enum Wrong {
    Value(String),
    TooWide,
}

// === impl Context ===

impl Context {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            limits: *limits,
            fields: 0,
            depth: 0,
            text: 0,
            whole: None,
            refused: None,
            widened: false,
            widened_at: None,
            fault: None,
        }
    }

    /// Looks at one value.
    pub(super) fn look(&mut self, raw: &RawValue, slot: &mut Slot) -> Result<(), Wrong> {
        self.parse(raw, slot)?;
        // The parser makes a float of a whole number that is too long, without a word.
        let whole = self.whole.take().and_then(|_| long_integer(raw.get()));
        if let Some(number) = whole {
            self.refused = number.parse().ok();
            self.parse(raw, slot)?;
            return Err(Wrong::Value(format!("{number} does not fit int64")));
        }
        Ok(())
    }

    fn parse(&mut self, raw: &RawValue, slot: &mut Slot) -> Result<(), Wrong> {
        let mut parser = serde_json::Deserializer::from_str(raw.get());
        match (Look { slot, context: self }).deserialize(&mut parser) {
            Ok(()) => Ok(()),
            Err(error) => Err(match self.fault.take() {
                Some(Fault { is_limit: true, .. }) => Wrong::TooWide,
                Some(Fault { why, path: Some(path), .. }) => {
                    Wrong::Value(format!("column \"{path}\": {why}"))
                }
                Some(Fault { why, .. }) => Wrong::Value(why),
                None => Wrong::Value(error.to_string()),
            }),
        }
    }

    /// Where a type became wider since this was asked last.
    pub(super) fn take_widened(&mut self) -> Option<String> {
        let widened = std::mem::take(&mut self.widened);
        let place = self.widened_at.take().unwrap_or_default();
        widened.then_some(place)
    }

    fn refuse<E: Error>(&mut self, why: impl Into<String>) -> E {
        let why = why.into();
        let error = E::custom(&why);
        self.fault = Some(Fault { why, path: None, is_limit: false });
        error
    }

    /// On the way out of an object: what happened in it happened at this key.
    fn came_from(&mut self, key: &str) {
        let join = |path: &mut Option<String>| {
            *path = Some(match path.take() {
                Some(inner) => format!("{key}.{inner}"),
                None => key.to_owned(),
            });
        };
        if let Some(fault) = &mut self.fault {
            join(&mut fault.path);
        }
        if self.widened {
            join(&mut self.widened_at);
        }
    }
}

/// The first whole number in a JSON text that is too long for an int64.
fn long_integer(json: &str) -> Option<&str> {
    let mut rest = json;
    while let Some(start) = rest.find(|c: char| matches!(c, '"' | '-' | '0'..='9')) {
        rest = &rest[start..];
        let length = if rest.starts_with('"') {
            string_length(rest)
        } else {
            let number = |c: char| matches!(c, '-' | '+' | '.' | 'e' | 'E' | '0'..='9');
            let length = rest.find(|c| !number(c)).unwrap_or(rest.len());
            let text = &rest[..length];
            let is_whole = !text.contains(['.', 'e', 'E']);
            if is_whole && text.parse::<i64>().is_err() {
                return Some(text);
            }
            length
        };
        rest = &rest[length..];
    }
    None
}

/// The length of the string at the beginning of a valid JSON text, with its quotes.
fn string_length(json: &str) -> usize {
    let mut escaped = false;
    let end = json.bytes().skip(1).position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.map_or(json.len(), |end| end + 2)
}

// === impl Slot ===

impl Slot {
    pub(super) fn data_type(&self) -> DataType {
        match &self.kind {
            Kind::Unknown => DataType::Null,
            Kind::Bool => DataType::Boolean,
            Kind::Int => DataType::Int64,
            Kind::Float => DataType::Float64,
            Kind::Text => DataType::Utf8,
            Kind::List(items) => DataType::new_list(items.data_type(), true),
            Kind::Object(_) => DataType::Struct(self.fields().unwrap_or_default()),
        }
    }

    /// Its keys as columns, if its values are objects.
    pub(super) fn fields(&self) -> Option<Fields> {
        let Kind::Object(keys) = &self.kind else { return None };
        let field = |(name, slot): &(String, Self)| Field::new(name, slot.data_type(), true);
        Some(keys.slots.iter().map(field).collect())
    }

    /// Bytes that a column of so many of these takes, but for its texts.
    pub(super) fn cost(&self, length: u64) -> u64 {
        match &self.kind {
            Kind::Unknown | Kind::Bool => length,
            Kind::Int | Kind::Float => length.saturating_mul(8),
            Kind::Text => length.saturating_mul(4),
            Kind::List(items) => length.saturating_mul(4).saturating_add(items.cost(items.seen)),
            Kind::Object(keys) => {
                let columns = keys.slots.iter().map(|(_, slot)| slot.cost(length));
                columns.fold(length / 8, u64::saturating_add)
            }
        }
    }

    pub(super) fn seen(&self) -> u64 {
        self.seen
    }
}

impl Kind {
    fn name(&self) -> &'static str {
        match self {
            Self::Unknown => "null",
            Self::Bool => "true or false",
            Self::Int => "an integer",
            Self::Float => "a number",
            Self::Text => "text",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

struct Look<'a> {
    slot: &'a mut Slot,
    context: &'a mut Context,
}

// === impl Look ===

impl Look<'_> {
    /// Sees a value of a kind that may be wider than those before.
    fn see<E: Error>(self, kind: Kind) -> Result<(), E> {
        match (&self.slot.kind, kind) {
            (Kind::Unknown, kind) => {
                self.slot.kind = kind;
                self.context.widened = true;
            }
            (Kind::Int, Kind::Float) => {
                self.slot.kind = Kind::Float;
                self.context.widened = true;
            }
            (Kind::Float, Kind::Int) => {}
            (before, kind) if std::mem::discriminant(before) == std::mem::discriminant(&kind) => {}
            (before, kind) => {
                let why = format!("{} here, but {} before", kind.name(), before.name());
                return Err(self.context.refuse(why));
            }
        }
        Ok(())
    }

    fn go_in<E: Error>(&mut self) -> Result<(), E> {
        self.context.depth += 1;
        if self.context.depth > MAX_DEPTH {
            let why = too_deep("");
            return Err(self.context.refuse(why.replace("column \"\"", "it")));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Look<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.slot.seen += 1;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Look<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.see(Kind::Bool)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.see(Kind::Int)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        match i64::try_from(number) {
            Ok(_) => self.see(Kind::Int),
            Err(_) => Err(self.context.refuse(format!("{number} does not fit int64"))),
        }
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        if self.context.refused == Some(number) {
            return Err(self.context.refuse(format!("{number} is too large for int64")));
        }
        if number.abs() >= 9.2e18 {
            self.context.whole = Some(number);
        }
        self.see(Kind::Float)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.context.text += text.len() as u64;
        self.see(Kind::Text)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        self.go_in()?;
        let Self { slot, context } = self;
        if !matches!(slot.kind, Kind::List(_)) {
            Look { slot: &mut *slot, context: &mut *context }.see(Kind::List(Box::default()))?;
        }
        if let Kind::List(inner) = &mut slot.kind {
            while items.next_element_seed(Look { slot: inner, context })?.is_some() {}
        }
        context.depth -= 1;
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        self.go_in()?;
        let Self { slot, context } = self;
        if !matches!(slot.kind, Kind::Object(_)) {
            Look { slot: &mut *slot, context: &mut *context }.see(Kind::Object(Keys::default()))?;
        }
        let Kind::Object(keys) = &mut slot.kind else {
            while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(());
        };
        while let Some(place) = entries.next_key_seed(Find { keys, context })? {
            let (key, slot) = &mut keys.slots[place];
            let before = context.widened;
            let outcome = entries.next_value_seed(Look { slot, context });
            if context.fault.is_some() || (context.widened && !before) {
                context.came_from(key);
            }
            outcome?;
        }
        context.depth -= 1;
        Ok(())
    }
}

/// Finds the place of a key, or makes one.
struct Find<'a> {
    keys: &'a mut Keys,
    context: &'a mut Context,
}

impl<'de> DeserializeSeed<'de> for Find<'_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Find<'_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<usize, E> {
        if let Some(place) = self.keys.places.get(key) {
            return Ok(*place);
        }
        self.context.fields += 1;
        if self.context.fields > self.context.limits.max_columns {
            self.context.fault = Some(Fault { why: String::new(), path: None, is_limit: true });
            return Err(E::custom("too many columns"));
        }
        let place = self.keys.slots.len();
        self.keys.places.insert(key.to_owned(), place);
        self.keys.slots.push((key.to_owned(), Slot::default()));
        Ok(place)
    }
}
