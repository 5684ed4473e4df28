//! What a bundle gets: the smaller of what the host allows and what it asks for.

use std::time::Duration;

use exuvia_core::{
    FileMode, Files, Policy,
    units::{duration_text, size_text},
};
use serde_json::{Value, json};

use crate::{BundleError, Manifest, error::Wrong};

/// The policy of a bundle on a host, with where each value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// What it gets.
    pub policy: Policy,
    /// One for each value of the policy, in the order they are shown.
    pub sources: Vec<Source>,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// Its name, as in a manifest without the section: `memory`, `files.quota`.
    pub field: &'static str,
    /// What holds.
    pub value: Amount,
    /// Who said so.
    pub from: Origin,
    /// What the bundle asked for, if it did.
    pub wanted: Option<Amount>,
}

/// Who said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Nobody: it is the default.
    Default,
    /// The bundle: it asked for no more than it may have.
    Bundle,
    /// The host.
    Host,
}

/// A value of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// A time.
    Time(Duration),
    /// Bytes.
    Bytes(u64),
    /// A number of things.
    Count(u64),
    /// Whether `/session` may be written.
    Mode(FileMode),
}

/// The ceiling of a host that says nothing: the default limits, and bundles may write to `/session`.
#[must_use]
pub fn default_ceiling() -> Policy {
    let files = Files { mode: FileMode::ReadWrite, ..Files::default() };
    Policy { files, ..Policy::default() }
}

// === impl Effective ===

impl Effective {
    /// Merges what the host allows with what the manifest asks for.
    ///
    /// # Errors
    /// [`Wrong::ZeroLimit`] when the host's policy has a zero; a manifest cannot.
    pub fn new(host: &Policy, manifest: &Manifest) -> Result<Self, BundleError> {
        let usual = default_ceiling();
        let wants = &manifest.wants;
        let time = |of: fn(&Policy) -> Duration, wanted: Option<Duration>| {
            (Amount::Time(of(host)), Amount::Time(of(&usual)), wanted.map(Amount::Time))
        };
        let bytes = |of: fn(&Policy) -> u64, wanted: Option<u64>| {
            (Amount::Bytes(of(host)), Amount::Bytes(of(&usual)), wanted.map(Amount::Bytes))
        };
        let count = |of: fn(&Policy) -> u64, wanted: Option<u64>| {
            (Amount::Count(of(host)), Amount::Count(of(&usual)), wanted.map(Amount::Count))
        };
        let mode = (
            Amount::Mode(host.files.mode),
            Amount::Mode(usual.files.mode),
            wants.mode.map(Amount::Mode),
        );
        let rows = [
            ("wall", time(|policy| policy.wall, wants.wall)),
            ("cpu", time(|policy| policy.cpu, wants.cpu)),
            ("memory", bytes(|policy| policy.memory, wants.memory)),
            ("result", bytes(|policy| policy.result, wants.result)),
            ("output", bytes(|policy| policy.output, wants.output)),
            ("threads", count(|policy| policy.threads.into(), wants.threads.map(Into::into))),
            ("files.mode", mode),
            ("files.quota", bytes(|policy| policy.files.bytes, wants.quota)),
            ("files.inodes", count(|policy| policy.files.inodes, wants.inodes)),
        ];
        let mut policy = host.clone();
        let mut sources = Vec::with_capacity(rows.len());
        for (field, (host, usual, wanted)) in rows {
            if host.is_zero() {
                return Err(BundleError::new("policy", Wrong::ZeroLimit { field }));
            }
            let source = Source::of(field, host, usual, wanted);
            source.apply(&mut policy);
            sources.push(source);
        }
        Ok(Self { policy, sources })
    }

    /// What a bundle asked for and does not get, a sentence each.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let short = self.sources.iter().filter_map(|source| match (source.from, source.wanted) {
            (Origin::Host, Some(wanted)) => Some(format!(
                "the bundle asks for `{}` {wanted}; the host allows {}",
                source.field, source.value
            )),
            _ => None,
        });
        short.collect()
    }

    /// A table for people: value, origin and wish, one line each.
    #[must_use]
    pub fn explain(&self) -> String {
        let mut rows = vec![["limit", "value", "from", "asked for"].map(String::from)];
        rows.extend(self.sources.iter().map(|source| {
            let wanted = source.wanted.map_or_else(String::new, |wanted| wanted.to_string());
            [source.field.into(), source.value.to_string(), source.from.word().into(), wanted]
        }));
        rows.push(["network", "denied", "", ""].map(String::from));
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let widths = [width(0), width(1), width(2)];
        let line = |[limit, value, from, wanted]: &[String; 4]| {
            let [a, b, c] = widths;
            format!("{limit:a$}  {value:b$}  {from:c$}  {wanted}").trim_end().to_owned() + "\n"
        };
        rows.iter().map(line).collect()
    }

    /// The same for programs: times in milliseconds, sizes in bytes.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let limits: serde_json::Map<String, Value> = self
            .sources
            .iter()
            .map(|source| {
                let mut entry = json!({
                    "value": source.value.to_json(),
                    "unit": source.value.unit(),
                    "from": source.from.word(),
                });
                if let Some(wanted) = source.wanted {
                    entry["wanted"] = wanted.to_json();
                }
                (source.field.to_owned(), entry)
            })
            .collect();
        json!({"schema": "exuvia.policy/1", "limits": limits, "network": "denied"})
    }
}

// === impl Source ===

impl Source {
    fn of(field: &'static str, host: Amount, usual: Amount, wanted: Option<Amount>) -> Self {
        // Only who says so may write.
        let silent = match host {
            Amount::Mode(_) => Amount::Mode(FileMode::Read),
            limit => limit,
        };
        let (value, from) = match wanted {
            Some(wanted) if wanted.within(host) => (wanted, Origin::Bundle),
            Some(_) => (host, Origin::Host),
            None if host == usual || silent != host => (silent, Origin::Default),
            None => (silent, Origin::Host),
        };
        Self { field, value, from, wanted }
    }

    fn apply(&self, policy: &mut Policy) {
        match (self.field, self.value) {
            ("wall", Amount::Time(time)) => policy.wall = time,
            ("cpu", Amount::Time(time)) => policy.cpu = time,
            ("memory", Amount::Bytes(bytes)) => policy.memory = bytes,
            ("result", Amount::Bytes(bytes)) => policy.result = bytes,
            ("output", Amount::Bytes(bytes)) => policy.output = bytes,
            ("threads", Amount::Count(count)) => {
                policy.threads = u32::try_from(count).unwrap_or(policy.threads);
            }
            ("files.mode", Amount::Mode(mode)) => policy.files.mode = mode,
            ("files.quota", Amount::Bytes(bytes)) => policy.files.bytes = bytes,
            ("files.inodes", Amount::Count(count)) => policy.files.inodes = count,
            _ => {}
        }
    }
}

// === impl Origin ===

impl Origin {
    /// `default`, `bundle` or `host`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Bundle => "bundle",
            Self::Host => "host",
        }
    }
}

// === impl Amount ===

impl Amount {
    fn is_zero(self) -> bool {
        match self {
            Self::Time(time) => time.is_zero(),
            Self::Bytes(number) | Self::Count(number) => number == 0,
            Self::Mode(_) => false,
        }
    }

    /// Whether it is no more than `most`; both are of one kind.
    fn within(self, most: Self) -> bool {
        match (self, most) {
            (Self::Time(own), Self::Time(most)) => own <= most,
            (Self::Bytes(own), Self::Bytes(most)) | (Self::Count(own), Self::Count(most)) => {
                own <= most
            }
            (Self::Mode(own), Self::Mode(most)) => {
                own == FileMode::Read || most == FileMode::ReadWrite
            }
            _ => false,
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Time(_) => "ms",
            Self::Bytes(_) => "bytes",
            Self::Count(_) => "count",
            Self::Mode(_) => "mode",
        }
    }

    fn to_json(self) -> Value {
        match self {
            Self::Time(time) => json!(time.as_secs_f64() * 1e3),
            Self::Bytes(number) | Self::Count(number) => json!(number),
            Self::Mode(_) => json!(self.to_string()),
        }
    }
}

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Time(time) => f.write_str(&duration_text(*time)),
            Self::Bytes(bytes) => f.write_str(&size_text(*bytes)),
            Self::Count(count) => write!(f, "{count}"),
            Self::Mode(FileMode::Read) => f.write_str("read"),
            Self::Mode(FileMode::ReadWrite) => f.write_str("read-write"),
        }
    }
}
