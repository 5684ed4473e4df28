//! The formats of files: the words for them, the endings that mean them, and what is said of a file
//! whose format is not known.

use std::path::Path;

use exuvia_core::{Codec, suggest};

use crate::exit::Stop;

/// One format.
pub(crate) struct Format {
    /// Its word for `--in-format` and `--out-format`.
    pub(crate) word: &'static str,
    pub(crate) codec: Codec,
    /// Endings of files that hold it.
    pub(crate) endings: &'static [&'static str],
    pub(crate) meaning: &'static str,
}

/// All there are, the usual first.
pub(crate) static FORMATS: [Format; 9] = [
    Format {
        word: "json",
        codec: Codec::Json,
        endings: &["json"],
        meaning: "one JSON document; for a table, a list of objects",
    },
    Format {
        word: "ndjson",
        codec: Codec::Ndjson,
        endings: &["ndjson", "jsonl"],
        meaning: "JSON, one document a line",
    },
    Format { word: "csv", codec: Codec::Csv, endings: &["csv"], meaning: "CSV with a header" },
    Format {
        word: "parquet",
        codec: Codec::Parquet,
        endings: &["parquet", "pq"],
        meaning: "Parquet",
    },
    Format {
        word: "arrow",
        codec: Codec::ArrowFile,
        endings: &["arrow", "feather", "ipc"],
        meaning: "Arrow IPC file (Feather 2)",
    },
    Format {
        word: "arrow-stream",
        codec: Codec::ArrowStream,
        endings: &["arrows"],
        meaning: "Arrow IPC stream",
    },
    Format { word: "npy", codec: Codec::Npy, endings: &["npy"], meaning: "a NumPy array" },
    Format {
        word: "json-rows",
        codec: Codec::JsonRows,
        endings: &[],
        meaning: "a table as a JSON list of objects",
    },
    Format {
        word: "json-columns",
        codec: Codec::JsonColumns,
        endings: &[],
        meaning: "a table as a JSON object of lists",
    },
];

/// The words of all formats.
pub(crate) fn words() -> impl Iterator<Item = &'static str> {
    FORMATS.iter().map(|format| format.word)
}

/// The codec with this word.
pub(crate) fn of_word(word: &str) -> Option<Codec> {
    FORMATS.iter().find(|format| format.word == word).map(|format| format.codec)
}

/// The codec that the ending of `file` means, which is the value of `--flag`.
pub(crate) fn of_file(flag: &str, file: &Path) -> Result<Codec, Stop> {
    let ending = file.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let found = FORMATS.iter().find(|format| format.endings.contains(&ending.as_str()));
    found.map(|format| format.codec).ok_or_else(|| {
        let what =
            if ending.is_empty() { "no ending".into() } else { format!("the ending .{ending}") };
        let known: Vec<String> = endings().map(|known| format!(".{known}")).collect();
        let near = suggest::did_you_mean(&format!(".{ending}"), known.iter());
        let stop = if near.is_empty() { "" } else { "." };
        Stop::usage(format!(
            "--{flag} {}: {what} does not name a format; known are {}, or say it with \
             --{flag}-format{stop}{near}",
            file.display(),
            listed(&known),
        ))
    })
}

/// The formats as lines for `--help`.
pub(crate) fn help() -> String {
    let line = |format: &Format| {
        let endings = format.endings.iter().map(|ending| format!(".{ending}"));
        let endings = endings.collect::<Vec<_>>().join(" ");
        format!("  {:<14}{:<24}{}", format.word, endings, format.meaning).trim_end().to_owned()
    };
    format!("Formats of files:\n{}", FORMATS.iter().map(line).collect::<Vec<_>>().join("\n"))
}

/// Whether what `codec` writes is for people's eyes, too.
pub(crate) fn is_text(codec: Codec) -> bool {
    is_json(codec) || matches!(codec, Codec::Empty | Codec::Ndjson | Codec::Csv)
}

/// Whether it is one JSON document.
pub(crate) fn is_json(codec: Codec) -> bool {
    matches!(codec, Codec::Json | Codec::JsonRows | Codec::JsonColumns)
}

/// The word for `codec`.
pub(crate) fn word(codec: Codec) -> &'static str {
    FORMATS.iter().find(|format| format.codec == codec).map_or("data", |format| format.word)
}

fn endings() -> impl Iterator<Item = &'static str> {
    FORMATS.iter().flat_map(|format| format.endings).copied()
}

/// `a, b and c`.
fn listed(items: &[String]) -> String {
    match items {
        [before @ .., last] if !before.is_empty() => format!("{} and {last}", before.join(", ")),
        items => items.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_means_one_format_whatever_its_case() {
        for (file, word) in [
            ("a.json", "json"),
            ("a.JSONL", "ndjson"),
            ("days.of.csv", "csv"),
            ("a.pq", "parquet"),
            ("a.Parquet", "parquet"),
            ("a.feather", "arrow"),
            ("a.ipc", "arrow"),
            ("a.arrow", "arrow"),
            ("a.arrows", "arrow-stream"),
            ("a.npy", "npy"),
        ] {
            let found = of_file("in", Path::new(file)).map_err(|stop| stop.message);
            assert_eq!(found, Ok(of_word(word).expect("a word")), "{file}");
        }
        let all: Vec<&str> = endings().collect();
        for ending in &all {
            assert_eq!(all.iter().filter(|other| *other == ending).count(), 1, "{ending}");
        }
    }

    #[test]
    fn every_codec_for_files_has_a_word_of_its_own() {
        for codec in Codec::ALL {
            let of_the_web =
                [Codec::Bytes, Codec::Text, Codec::Form, Codec::Multipart, Codec::Events];
            if matches!(codec, Codec::Empty | Codec::Value | Codec::Arguments)
                || of_the_web.contains(&codec)
            {
                continue;
            }
            assert_eq!(of_word(word(codec)), Some(codec));
        }
        assert_eq!(words().filter(|word| *word == "json").count(), 1);
    }

    #[test]
    fn an_unknown_ending_is_told_the_known_ones_and_the_nearest() {
        let said = |file: &str| of_file("in", Path::new(file)).expect_err(file).message;
        assert_eq!(
            said("a.txt"),
            "--in a.txt: the ending .txt does not name a format; known are .json, .ndjson, .jsonl, \
             .csv, .parquet, .pq, .arrow, .feather, .ipc, .arrows and .npy, or say it with \
             --in-format"
        );
        assert!(said("a.parqet").ends_with("with --in-format. Did you mean `.parquet`?"));
        assert!(said("a").starts_with("--in a: no ending does not name a format"));
    }
}
