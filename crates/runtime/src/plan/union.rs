//! A choice between types.
//!
//! The kind of the value leaves out members; where several are left, they are tried one after the
//! other on the same bytes. What a value inside turned out to be is remembered meanwhile: a choice
//! inside a choice inside a choice would otherwise be tried two, four, eight times.

use jiter::{Jiter, Peek};

use super::{
    fault::{Fault, Step},
    node::{Kind, NodeId, Scalar, Tag, Union},
    read::{Read, Reader, Stop, whole_digits},
};
use crate::values::{DecodeError, malformed};

/// What became of a value when it was tried.
pub(super) enum Outcome {
    /// It is this member.
    Is(NodeId),
    /// It is none.
    Not(Vec<Fault>),
}

/// Where a reader is in a document.
#[derive(Clone)]
struct Place<'a> {
    source: Jiter<'a>,
    text: &'a [u8],
    base: usize,
}

/// What data says by its tag.
enum Said {
    Member(NodeId),
    /// No value of the tag.
    Unknown(String),
    Nothing,
}

// === impl Reader ===

impl<'a, 'py> Reader<'a, 'py> {
    pub(super) fn union(
        &mut self,
        id: NodeId,
        union: &Union,
        first: Peek,
        depth: u32,
    ) -> Read<'py> {
        let kind = Kind::of(first);
        let members = &union.of_kind[kind as usize];
        let start = self.decoder.source.current_index();
        match (members.as_ref(), &union.tag) {
            ([], _) => {
                self.decoder.skip(first, depth)?;
                let found = self.found(first, start);
                Ok(self.fault(Fault::new(format!("must be {}, not {found}", union.words))))
            }
            ([only], _) => self.value(*only, first, depth),
            (members, Some(tag)) if kind == Kind::Object => {
                self.tagged((id, members), tag, first, depth)
            }
            (members, _) => self.tried((id, members), first, depth),
        }
    }

    /// The first of some members that takes a value without a fault.
    fn tried(&mut self, (id, members): (NodeId, &[NodeId]), first: Peek, depth: u32) -> Read<'py> {
        let start = self.decoder.base + self.decoder.source.current_index();
        // Only what holds other values may hold choices.
        let deep = matches!(first, Peek::Object | Peek::Array);
        match self.known.get(&(id, start)).filter(|_| deep) {
            Some(Outcome::Is(member)) => {
                let member = *member;
                return self.value(member, first, depth);
            }
            Some(Outcome::Not(faults)) => {
                let faults = faults.clone();
                self.decoder.skip(first, depth)?;
                faults.into_iter().for_each(|fault| drop(self.fault(fault)));
                return Ok(None);
            }
            None => {}
        }
        let outer = std::mem::take(&mut self.faults);
        self.attempts += 1;
        let attempted = self.attempt(members, first, depth);
        self.attempts -= 1;
        let mut found = std::mem::replace(&mut self.faults, outer);
        let (read, outcome) = match attempted? {
            Some((member, value)) => (Some(value), Outcome::Is(member)),
            None => {
                for fault in &found {
                    self.fault(fault.clone());
                }
                (None, Outcome::Not(std::mem::take(&mut found)))
            }
        };
        // Nobody comes back to a value that no attempt is around.
        match self.attempts {
            0 => self.known.clear(),
            _ if deep => drop(self.known.insert((id, start), outcome)),
            _ => {}
        }
        Ok(read)
    }

    /// Tries members; what is left in `faults` are those of the one with the fewest.
    fn attempt(
        &mut self,
        members: &[NodeId],
        first: Peek,
        depth: u32,
    ) -> Result<Option<(NodeId, pyo3::Bound<'py, pyo3::PyAny>)>, Stop> {
        let start = self.place();
        let mut best: Option<Vec<Fault>> = None;
        for member in members {
            self.go_to(&start);
            self.faults.clear();
            if let Some(value) = self.value(*member, first, depth)? {
                return Ok(Some((*member, value)));
            }
            let faults = std::mem::take(&mut self.faults);
            if best.as_ref().is_none_or(|best| faults.len() < best.len()) {
                best = Some(faults);
            }
        }
        self.faults = best.unwrap_or_default();
        Ok(None)
    }

    fn place(&self) -> Place<'a> {
        let decoder = &self.decoder;
        Place { source: decoder.source.clone(), text: decoder.text, base: decoder.base }
    }

    fn go_to(&mut self, place: &Place<'a>) {
        self.decoder.source = place.source.clone();
        self.decoder.text = place.text;
        self.decoder.base = place.base;
    }

    // --- members that are told apart by a field

    fn tagged(
        &mut self,
        (id, members): (NodeId, &[NodeId]),
        tag: &Tag,
        first: Peek,
        depth: u32,
    ) -> Read<'py> {
        let start = self.place();
        let said = self.tag_of(tag, depth, self.careful)?;
        self.go_to(&start);
        match said {
            Said::Member(member) => {
                let read = self.value(member, first, depth)?;
                if read.is_none() && !self.careful {
                    // A second tag may say otherwise, and the last one counts.
                    let end = self.place();
                    self.go_to(&start);
                    if !matches!(self.tag_of(tag, depth, true)?, Said::Member(last) if last == member)
                    {
                        return Err(Stop::Careful);
                    }
                    self.go_to(&end);
                }
                Ok(read)
            }
            Said::Nothing if tag.optional => self.tried((id, members), first, depth),
            Said::Unknown(_) if !self.careful => Err(Stop::Careful),
            said => {
                self.decoder.skip(first, depth)?;
                let mut fault = Fault::new(match said {
                    Said::Unknown(found) => format!("must be {}, not {found}", tag.words),
                    _ => "is missing".to_owned(),
                });
                fault.step(Step::name(&tag.field));
                Ok(self.fault(fault))
            }
        }
    }

    /// What an object says by its tag: by the first one, or, looking at `all` of it, the last.
    fn tag_of(&mut self, tag: &Tag, depth: u32, all: bool) -> Result<Said, Stop> {
        let depth = self.decoder.deeper(depth)?;
        let mut said = Said::Nothing;
        let mut next = self.decoder.source.known_object().map_err(malformed)?;
        while let Some(key) = next {
            let is_tag = *key == *tag.field;
            let first = self.decoder.peek()?;
            let start = self.decoder.source.current_index();
            if is_tag {
                said = match self.scalar(first, depth)? {
                    Some(value) => tag.said(&value),
                    None => Said::Unknown(self.found(first, start)),
                };
                if !all {
                    return Ok(said);
                }
            } else {
                self.decoder.skip(first, depth)?;
            }
            next = self.decoder.source.next_key().map_err(malformed)?;
        }
        Ok(said)
    }

    /// A value that may be a tag.
    fn scalar(&mut self, first: Peek, depth: u32) -> Result<Option<Scalar>, DecodeError> {
        Ok(match Kind::of(first) {
            Kind::String => {
                let text = self.decoder.source.known_str().map_err(malformed)?;
                Some(Scalar::Str(text.into()))
            }
            Kind::Number => {
                let digits = whole_digits(self.decoder.digits(first)?);
                digits.and_then(|digits| digits.parse().ok()).map(Scalar::Int)
            }
            Kind::Bool => {
                let truth = self.decoder.source.known_bool(first).map_err(malformed)?;
                Some(Scalar::Bool(truth))
            }
            Kind::Null => {
                self.decoder.source.known_null().map_err(malformed)?;
                Some(Scalar::Null)
            }
            Kind::Object | Kind::Array => {
                self.decoder.skip(first, depth)?;
                None
            }
        })
    }
}

// === impl Tag ===

impl Tag {
    fn said(&self, value: &Scalar) -> Said {
        match self.places.iter().find(|(said, _)| said == value) {
            Some((_, member)) => Said::Member(*member),
            None => Said::Unknown(value.shown()),
        }
    }
}
