//! Anything at all comes in: nothing panics, nothing exceeds its limits, and what is read is what is
//! written down. `EXUVIA_FUZZ_SECONDS` says how long to try; a failure prints the input.

mod support;

use std::{
    collections::BTreeMap,
    fs,
    panic::catch_unwind,
    time::{Duration, Instant, SystemTime},
};

use exuvia_bundle::{Bundle, Limits, Manifest, discard};
use proptest::prelude::*;
use support::{Raw, deflated, read, stored, write, zip};
use tempfile::TempDir;

/// Small ones, so that they are met.
fn tight() -> Limits {
    Limits {
        archive: 1 << 20,
        entries: 20,
        entry: 4000,
        total: 8000,
        ratio: 200,
        depth: 4,
        path: 40,
    }
}

/// What any bundle that was opened must keep to.
fn sound(bundle: &Bundle, limits: &Limits) {
    let files = bundle.files();
    assert!(files.len() as u64 <= limits.entries);
    assert!(files.iter().map(|file| file.size).sum::<u64>() <= limits.total);
    for file in files {
        assert!(file.size <= limits.entry && file.path.len() as u64 <= limits.path);
        assert!(!file.path.starts_with('/') && !file.path.contains('\\'));
        assert!(file.path.split('/').all(|part| !["", ".", ".."].contains(&part)));
    }
    assert!(files.windows(2).all(|two| two[0].path < two[1].path));
}

/// Names that do not get in each other's way: a file's has an ending, a folder's has none.
fn tree() -> impl Strategy<Value = BTreeMap<String, Vec<u8>>> {
    let content = prop::collection::vec(any::<u8>(), 0..300);
    prop::collection::btree_map("([a-c]{1,2}/){0,2}[a-z]{1,3}\\.py", content, 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_packed_is_what_is_written_down(files in tree(), deflate in any::<bool>()) {
        let pack = if deflate { deflated } else { |name: &String, content: &[u8]| stored(name, content) };
        let entries: Vec<Raw> = files.iter().map(|(path, content)| pack(path, content)).collect();
        let place = TempDir::new().expect("a folder");
        let (folder, store) = (place.path().join("folder"), place.path().join("store"));
        fs::create_dir(&folder).expect("a folder");
        fs::create_dir(&store).expect("a store");
        let listed: Vec<_> = files.iter().map(|(path, content)| (path.as_str(), &content[..])).collect();
        write(&folder, &listed);
        let packed = Bundle::from_bytes("b.zip", zip(&entries), &Limits::default()).expect("a bundle");
        let loose = Bundle::open(&folder, &Limits::default()).expect("a bundle");
        prop_assert_eq!(packed.fingerprint(), loose.fingerprint());
        let app = packed.unpack(&store).expect("unpacked");
        prop_assert_eq!(read(&app), files.into_iter().collect::<Vec<_>>());
        discard(&store).expect("removed");
    }
}

/// xorshift: all that is asked of it is to be different each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most.max(1) as u64) as usize
    }

    /// Changes, removes, doubles or moves a few bytes.
    fn mutate(&mut self, bytes: &mut Vec<u8>, words: &[&[u8]]) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len() + 1);
            let upto = (at + self.below(16)).min(bytes.len());
            match self.below(6) {
                0 => bytes[at..upto].iter_mut().for_each(|byte| *byte ^= 1 << (at % 8)),
                1 => drop(bytes.drain(at..upto)),
                2 => {
                    let copy = bytes[at..upto].to_vec();
                    let to = self.below(bytes.len() + 1);
                    bytes.splice(to..to, copy);
                }
                3 => bytes[at..upto].fill([0, 0xff, 0x7f, b'/'][self.below(4)]),
                4 => {
                    let word = words[self.below(words.len())];
                    bytes.splice(at..upto, word.iter().copied());
                }
                _ => {
                    let number = self.below(70_000) as u32;
                    bytes.splice(at..(at + 4).min(bytes.len()), number.to_le_bytes());
                }
            }
        }
    }
}

fn seconds() -> Duration {
    let said = std::env::var("EXUVIA_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(said.unwrap_or(2))
}

/// Feeds mutations of `seeds` to `check` until the time is over.
fn feed(
    seeds: &[Vec<u8>],
    words: &[&[u8]],
    check: impl Fn(&[u8]) + std::panic::RefUnwindSafe,
) -> usize {
    let now = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_nanos() as u64;
    let mut dice = Dice(now | 1);
    let until = Instant::now() + seconds();
    let mut tried = 0;
    while Instant::now() < until {
        let mut input = seeds[dice.below(seeds.len())].clone();
        dice.mutate(&mut input, words);
        if catch_unwind(|| check(&input)).is_err() {
            panic!("panicked at the input {}", input.escape_ascii());
        }
        tried += 1;
    }
    tried
}

#[test]
fn any_archive_is_read_or_refused() {
    let manifest = br#"{"schema": "exuvia.bundle/1"}"#;
    let seeds = [
        zip(&[]),
        zip(&[stored("main.py", b"x = 1"), deflated("a/b.py", &[7; 900])]),
        zip(&[deflated("exuvia.bundle.json", manifest), stored("a/", b"")]),
        zip(&[deflated("zeros", &[0; 3999]), stored("inner.zip", &zip(&[stored("x", b"x")]))]),
    ];
    let words: [&[u8]; 8] = [
        b"PK\x01\x02",
        b"PK\x03\x04",
        b"PK\x05\x06",
        b"PK\x06\x06",
        b"PK\x06\x07",
        b"\x01\0\x10\0",
        b"../",
        b"up",
    ];
    let limits = tight();
    let tried = feed(&seeds, &words, |bytes| {
        if let Ok(bundle) = Bundle::from_bytes("b.zip", bytes, &limits) {
            sound(&bundle, &limits);
        }
    });
    assert!(tried > 100, "{tried} inputs only");
}

#[test]
fn any_manifest_is_read_or_refused() {
    let seeds = [
        br#"{"schema": "exuvia.bundle/1", "entrypoint": "a.b:c", "packages": ["numpy>=2,<3.0rc1"], "preload": ["x.y"], "limits": {"wall": "1.5m", "cpu": 3, "memory": "1MiB", "threads": 3}, "files": {"mode": "read-write"}}"#.to_vec(),
        br#"{"schemaVersion": "1.0", "entrypoint": " a:b ", "packages": ["numpy"], "runtime": {"language": "python", "pyodide": {"version": "0.29.4", "profile": "full"}}, "resources": {"cpu": {"defaultLimitMs": 1}, "network": {"allow": []}, "hostCapabilities": ["rawctx_buffers"]}}"#.to_vec(),
    ];
    let words: [&[u8]; 10] = [
        b"{",
        b"[",
        b"\"",
        b"null",
        b"1e999",
        b"-0",
        b"\\ud800",
        b"18446744073709551616",
        b"==*",
        b"1!2+x",
    ];
    let tried = feed(&seeds, &words, |bytes| {
        for read in [Manifest::parse(bytes), Manifest::parse_aardvark(bytes)] {
            match read {
                Ok(manifest) => {
                    let _ = manifest
                        .entrypoint
                        .to_string()
                        .parse::<exuvia_bundle::Entrypoint>()
                        .expect("again");
                }
                Err(error) => assert!(error.to_string().len() > 10),
            }
        }
    });
    assert!(tried > 100, "{tried} inputs only");
    // Depth costs no stack.
    assert!(Manifest::parse(&b"[".repeat(1 << 20)).is_err());
}
