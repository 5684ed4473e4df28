//! What is wrong with data, and where.

use exuvia_core::InputFault;

/// Faults that are told at once, at most.
pub(crate) const MOST: usize = 100;

/// One thing that is wrong.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    /// The way to it, innermost step first: it is written down while the calls return.
    steps: Vec<Step>,
    pub(super) message: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Name(Box<str>),
    Index(usize),
}

/// Text of a value that is shown, at most.
const SHOWN: usize = 60;

// === impl Fault ===

impl Fault {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { steps: Vec::new(), message: message.into() }
    }

    /// Puts a step before the way so far.
    pub(super) fn step(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Whether it is at, or below, what this step leads to.
    pub(super) fn is_below(&self, step: &Step) -> bool {
        self.steps.last() == Some(step)
    }

    /// Whether it is the same as another.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.message == other.message && self.steps == other.steps
    }

    /// The fault with its JSON Pointer, below `root`.
    pub(super) fn told(self, root: &str) -> InputFault {
        let mut pointer = root.to_owned();
        for step in self.steps.iter().rev() {
            pointer.push('/');
            match step {
                Step::Name(name) => pointer += &escaped(name),
                Step::Index(index) => pointer += &index.to_string(),
            }
        }
        InputFault { pointer, message: self.message }
    }
}

// === impl Step ===

impl Step {
    pub(super) fn name(name: &str) -> Self {
        Self::Name(name.into())
    }
}

/// A name as a step of a JSON Pointer.
pub(crate) fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// Text in quotes, as JSON writes it; what is long is cut.
pub(super) fn quoted(text: &str) -> String {
    let text = shortened(text);
    serde_json::to_string(&text).unwrap_or(text)
}

pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// `1 item`, `2 items`.
pub(super) fn plural(count: usize, unit: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{s}")
}
