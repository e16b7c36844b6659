//! Finds a secret in a text, in all its encodings: literal, percent-encoded as in URLs and forms, escaped as in JSON,
//! base64, or a mixture of these.
//!
//! A tenant may choose both the text and the secrets, and a text may be ambiguous: one or two characters of a run of
//! backslashes may stand for one. So the search follows all readings together, as a set of bits for each position in
//! the text, and it counts its work.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD},
};
use zeroize::Zeroizing;

/// Secrets of fewer bytes are not searched for in base64: a few letters would match anywhere.
const SHORTEST_IN_BASE64: usize = 6;

/// If the text ends within a secret, at least this many of the secret's bytes must match to be hidden.
const SHORTEST_START: usize = 8;

/// Bytes in the index of positions where a secret may start.
const INDEXED: usize = 3;

/// The first bytes of a secret that must match at a position before the whole secret is tried there.
const FIRST_BYTES: usize = 8;

/// The work of a step in addition to the words that it reads. Most of it is memory access.
const STEP: usize = 32;

/// The secret in base64: both alphabets, with and without padding, without duplicates.
pub(super) fn in_base64(secret: &str) -> Vec<Zeroizing<String>> {
    if secret.len() < SHORTEST_IN_BASE64 {
        return Vec::new();
    }
    let mut all: Vec<Zeroizing<String>> =
        [BASE64_STANDARD, BASE64_URL_SAFE, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD]
            .map(|engine| engine.encode(secret).into())
            .into();
    all.sort_unstable_by(|one, other| one.as_str().cmp(other));
    all.dedup();
    all
}

/// Replaces the hidden bytes of the text: each run of them once.
pub(super) fn replace(text: &str, hidden: &[bool], by: &str) -> String {
    let mut replaced = String::with_capacity(text.len());
    let mut is_replaced = false;
    for (at, character) in text.char_indices() {
        let is_hidden = hidden[at..at + character.len_utf8()].contains(&true);
        match (is_hidden, is_replaced) {
            (false, _) => replaced.push(character),
            (true, false) => replaced.push_str(by),
            (true, true) => {}
        }
        is_replaced = is_hidden;
    }
    replaced
}

/// The work that a search may still do, measured in 64-bit words that it reads.
pub(super) struct SearchBudget(usize);

/// The search was abandoned because it exceeded its budget.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Abandoned;

impl SearchBudget {
    pub(super) const fn at_most(steps: usize) -> Self {
        Self(steps)
    }

    fn take(&mut self, steps: usize) -> Result<(), Abandoned> {
        self.0 = self.0.checked_sub(steps).ok_or(Abandoned)?;
        Ok(())
    }
}

/// A text, with all readings of each position.
pub(super) struct ReadableText {
    readings: Vec<[Option<Reading>; 2]>,
    characters: Vec<usize>,
    /// The positions in `characters` that can be read as text that starts with these bytes.
    places: HashMap<[u8; INDEXED], Vec<usize>>,
}

impl ReadableText {
    pub(super) fn new(text: &str) -> Self {
        let readings: Vec<_> = (0..text.len()).map(|at| readings(&text.as_bytes()[at..])).collect();
        let characters: Vec<_> = text.char_indices().map(|(at, _)| at).collect();
        let mut places: HashMap<_, Vec<_>> = HashMap::new();
        for at in &characters {
            each_beginning(&readings, *at, &mut Vec::new(), &mut |bytes| {
                let places = places.entry(bytes).or_default();
                if places.last() != Some(at) {
                    places.push(*at);
                }
            });
        }
        Self { readings, characters, places }
    }

    /// Calls `found` with each range of the text that is part of the secret. If the text was truncated, it may end
    /// within a long secret.
    ///
    /// # Errors
    /// If the search needs more work than the budget allows.
    pub(super) fn find(
        &self,
        secret: &str,
        work: &mut SearchBudget,
        mut found: impl FnMut(Range<usize>),
    ) -> Result<(), Abandoned> {
        // No reading makes a text longer, so the text can contain only the start of a longer secret.
        let secret = &secret.as_bytes()[..secret.len().min(self.readings.len() + 1)];
        let starts = self.starts_of(secret, work)?;
        if starts.is_empty() {
            return Ok(());
        }
        work.take(secret.len())?;
        let pattern = SecretPattern::new(secret);
        let read = self.read(&pattern, starts, work)?;
        // Backwards from the ends: a position that leads to an end is part of the secret.
        let mut leads_to_an_end: BTreeMap<usize, MatchProgress> = BTreeMap::new();
        for (at, progress) in read.iter().rev() {
            let ends = if *at == self.readings.len() { &pattern.cut } else { &pattern.whole };
            let mut leading = progress.and(ends);
            for reading in self.readings_at(*at) {
                let Some(later) = leads_to_an_end.get(&(at + reading.length)) else { continue };
                work.take(pattern.work_of(reading))?;
                let before = pattern.without(reading.bytes(), later).and(progress);
                if !before.is_empty() {
                    found(*at..at + reading.length);
                    leading.add(&before);
                }
            }
            if !leading.is_empty() {
                leads_to_an_end.insert(*at, leading);
            }
        }
        Ok(())
    }

    /// The positions where the first bytes of the secret match. Most secrets match nowhere, and cost no more than this.
    fn starts_of(&self, secret: &[u8], work: &mut SearchBudget) -> Result<Vec<usize>, Abandoned> {
        let places = match secret.first_chunk() {
            _ if secret.is_empty() => &[],
            Some(bytes) => self.places.get(bytes).map_or(&[][..], Vec::as_slice),
            None => &self.characters[..],
        };
        let first_bytes = &secret[..secret.len().min(FIRST_BYTES)];
        let mut starts = Vec::new();
        for at in places {
            if self.begins_with(first_bytes, *at, work)? {
                starts.push(*at);
            }
        }
        Ok(starts)
    }

    fn begins_with(&self, secret: &[u8], at: usize, work: &mut SearchBudget) -> Result<bool, Abandoned> {
        if secret.is_empty() {
            return Ok(true);
        }
        work.take(1)?;
        for reading in self.readings_at(at) {
            let begins = match secret.strip_prefix(reading.bytes()) {
                Some(rest) => self.begins_with(rest, at + reading.length, work)?,
                None => reading.bytes().starts_with(secret),
            };
            if begins {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The progress within the secret at each position, on all paths that begin at one of the starts.
    fn read(
        &self,
        pattern: &SecretPattern,
        starts: Vec<usize>,
        work: &mut SearchBudget,
    ) -> Result<BTreeMap<usize, MatchProgress>, Abandoned> {
        let mut read: BTreeMap<_, _> = starts.into_iter().map(|at| (at, pattern.nothing())).collect();
        let mut from = 0;
        while let Some((at, progress)) = read.range(from..).next() {
            let (at, progress) = (*at, progress.clone());
            for reading in self.readings_at(at) {
                work.take(pattern.work_of(reading))?;
                let later = pattern.with(reading.bytes(), &progress);
                if !later.is_empty() {
                    read.entry(at + reading.length).and_modify(|known| known.add(&later)).or_insert(later);
                }
            }
            from = at + 1;
        }
        Ok(read)
    }

    fn readings_at(&self, at: usize) -> impl Iterator<Item = &Reading> {
        self.readings.get(at).into_iter().flatten().flatten()
    }
}

/// Calls `found` with the first bytes of each reading of a position. `begun` contains the bytes before it.
fn each_beginning(
    readings: &[[Option<Reading>; 2]],
    at: usize,
    begun: &mut Vec<u8>,
    found: &mut impl FnMut([u8; INDEXED]),
) {
    if let Some(bytes) = begun.first_chunk() {
        return found(*bytes);
    }
    for reading in readings.get(at).into_iter().flatten().flatten() {
        begun.extend_from_slice(reading.bytes());
        each_beginning(readings, at + reading.length, begun, found);
        begun.truncate(begun.len() - reading.count);
    }
}

/// The possible progress within a secret: one bit for each number of matched bytes.
#[derive(Clone)]
struct MatchProgress(Box<[u64]>);

impl MatchProgress {
    fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    fn set(&mut self, bytes: usize) {
        self.0[bytes / 64] |= 1 << (bytes % 64);
    }

    fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word |= other);
    }

    fn and(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(word, other)| word & other).collect())
    }

    /// Advances by one byte.
    fn up(&mut self) {
        self.0.iter_mut().fold(0, |carried, word| {
            let carry = *word >> 63;
            *word = *word << 1 | carried;
            carry
        });
    }

    /// Goes back by one byte.
    fn down(&mut self) {
        self.0.iter_mut().rev().fold(0, |carried, word| {
            let carry = *word << 63;
            *word = *word >> 1 | carried;
            carry
        });
    }
}

/// A secret, prepared for the search.
struct SecretPattern {
    /// The number of 64-bit words in a [`MatchProgress`].
    words: usize,
    /// For each byte value, the progress after an occurrence of it.
    after: BTreeMap<u8, MatchProgress>,
    whole: MatchProgress,
    /// The progress that counts as a match at the end of the text.
    cut: MatchProgress,
}

impl SecretPattern {
    fn new(secret: &[u8]) -> Self {
        let words = secret.len() / 64 + 1;
        let none = MatchProgress(vec![0; words].into());
        let mut after = BTreeMap::new();
        for (at, byte) in secret.iter().enumerate() {
            after.entry(*byte).or_insert_with(|| none.clone()).set(at + 1);
        }
        let mut whole = none;
        whole.set(secret.len());
        let mut cut = whole.clone();
        (SHORTEST_START..secret.len()).for_each(|bytes| cut.set(bytes));
        Self { words, after, whole, cut }
    }

    fn nothing(&self) -> MatchProgress {
        let mut nothing = MatchProgress(vec![0; self.words].into());
        nothing.set(0);
        nothing
    }

    const fn work_of(&self, reading: &Reading) -> usize {
        STEP + self.words * (1 + reading.count)
    }

    /// The progress after these bytes.
    fn with(&self, bytes: &[u8], progress: &MatchProgress) -> MatchProgress {
        bytes.iter().fold(progress.clone(), |mut progress, byte| {
            progress.up();
            self.where_read(*byte, &progress)
        })
    }

    /// The progress before these bytes.
    fn without(&self, bytes: &[u8], progress: &MatchProgress) -> MatchProgress {
        bytes.iter().rev().fold(progress.clone(), |progress, byte| {
            let mut progress = self.where_read(*byte, &progress);
            progress.down();
            progress
        })
    }

    fn where_read(&self, byte: u8, progress: &MatchProgress) -> MatchProgress {
        let none = || MatchProgress(vec![0; self.words].into());
        self.after.get(&byte).map_or_else(none, |after| progress.and(after))
    }
}

/// One reading of a position: the decoded bytes, and their length in the text.
#[derive(Clone, Copy)]
struct Reading {
    bytes: [u8; 4],
    count: usize,
    length: usize,
}

impl Reading {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.count]
    }

    const fn one(byte: u8, length: usize) -> Self {
        Self { bytes: [byte, 0, 0, 0], count: 1, length }
    }

    fn new(character: char, length: usize) -> Self {
        let mut bytes = [0; 4];
        let count = character.encode_utf8(&mut bytes).len();
        Self { bytes, count, length }
    }

    /// An encoded character that the end of the text truncates.
    const fn cut(length: usize) -> Self {
        Self { bytes: [0; 4], count: 0, length }
    }
}

/// The readings of the text's start: literal and decoded.
fn readings(text: &[u8]) -> [Option<Reading>; 2] {
    let Some(first) = text.first() else { return [None, None] };
    let encoded = match first {
        b'%' if text.len() < 3 => Some(Reading::cut(text.len())),
        b'%' => {
            hex(text.get(1..3)).and_then(|byte| u8::try_from(byte).ok()).map(|byte| Reading::one(byte, 3))
        }
        b'+' => Some(Reading::one(b' ', 1)),
        b'\\' => escaped(text),
        _ => None,
    };
    [Some(Reading::one(*first, 1)), encoded]
}

/// Decodes an escape sequence of JSON.
fn escaped(text: &[u8]) -> Option<Reading> {
    let simple = |byte| Some(Reading::one(byte, 2));
    match text.get(1) {
        None => Some(Reading::cut(1)),
        Some(b'n') => simple(b'\n'),
        Some(b'r') => simple(b'\r'),
        Some(b't') => simple(b'\t'),
        Some(b'b') => simple(0x08),
        Some(b'f') => simple(0x0c),
        Some(b'u') if text.len() < 6 => Some(Reading::cut(text.len())),
        Some(b'u') => {
            let unit = hex(text.get(2..6))?;
            if let Some(character) = char::from_u32(unit) {
                return Some(Reading::new(character, 6));
            }
            if text.len() < 12 {
                return Some(Reading::cut(text.len()));
            }
            let low = text.get(6..8).filter(|next| *next == b"\\u").and_then(|_| hex(text.get(8..12)))?;
            let pair = [u16::try_from(unit).ok()?, u16::try_from(low).ok()?];
            let character = char::decode_utf16(pair).next()?.ok()?;
            Some(Reading::new(character, 12))
        }
        Some(other) => simple(*other),
    }
}

fn hex(digits: Option<&[u8]>) -> Option<u32> {
    let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const MUCH: usize = 1 << 24;

    /// The text without the secret, and the work of the search.
    fn replace_counted(text: &str, secret: &str) -> (String, usize) {
        let (mut hidden, mut work) = (vec![false; text.len()], SearchBudget::at_most(MUCH));
        ReadableText::new(text).find(secret, &mut work, |range| hidden[range].fill(true)).unwrap();
        (super::replace(text, &hidden, "…"), MUCH - work.0)
    }

    fn replace(text: &str, secret: &str) -> String {
        replace_counted(text, secret).0
    }

    const SECRET: &str = "p%41ss/w\"ö+r d\\🔑";

    #[rstest]
    #[case::as_it_is(SECRET)]
    #[case::in_a_url("p%2541ss%2Fw%22%C3%B6%2Br%20d%5C%F0%9F%94%91")]
    #[case::in_small_hex("p%2541ss%2fw%22%c3%b6%2br%20d%5c%f0%9f%94%91")]
    #[case::in_a_form("p%2541ss%2Fw%22%C3%B6%2Br+d%5C%F0%9F%94%91")]
    #[case::partly_in_a_url("p%41ss/w%22ö%2br%20d\\🔑")]
    #[case::in_json(r#"p%41ss/w\"ö+r d\\🔑"#)]
    #[case::in_json_by_go(r#"p%41ss\/w\"\u00f6+r d\\\uD83D\uDD11"#)]
    #[case::each_character(r"\u0070\u0025\u0034\u0031\u0073\u0073\u002F\u0077\u0022\u00F6\u002b\u0072\u0020\u0064\u005c\ud83d\udd11")]
    fn a_secret_is_found(#[case] written: &str) {
        assert_eq!(replace(&format!("a{written}b{written}"), SECRET), "a…b…");
    }

    #[rstest]
    #[case("p%41ss", "p%41s", "p%41s")]
    #[case("abc", "ab%", "ab%")]
    #[case("abc", "ab%6", "ab%6")]
    #[case("abc", "ab\\", "ab\\")]
    #[case("abc", "ab\\u006", "ab\\u006")]
    #[case("abc", "\\ud83dabc", "\\ud83d…")]
    #[case("ab", "ababab", "…")]
    #[case("aa", "baaab", "b…b")]
    #[case("correct horse", "a correct", "a correct")]
    #[case("correct horse", "a correct%20h", "a …")]
    #[case("correct horse", "a correct h%6", "a …")]
    #[case("correct horse", r"a correct h\u00", "a …")]
    #[case("correct horse", "a correct%6", "a correct%6")]
    #[case("correct horse", "correct", "correct")]
    #[case("correct horse", "correct ", "…")]
    fn what_is_not_there_stays(#[case] secret: &str, #[case] text: &str, #[case] expected: &str) {
        assert_eq!(replace(text, secret), expected);
    }

    proptest! {
        #[test]
        fn no_encoding_hides_a_secret(secret in ".{1,30}", before in "[a-z<> ]{0,9}", after in "[a-z<> ]{0,9}") {
            let in_url = utf8_percent_encode(&secret, NON_ALPHANUMERIC).to_string();
            let in_form: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
            let in_json = serde_json::Value::from(secret.as_str()).to_string();
            let in_json = in_json.trim_matches('"').to_owned();
            let units: String = secret.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
            for written in [&secret, &in_url, &in_url.to_lowercase(), &in_form, &units] {
                let lowered = written == &in_url.to_lowercase() && secret.chars().any(char::is_uppercase);
                let text = replace(&format!("{before}{written}{after}"), &secret);
                prop_assert!(lowered || text.contains('…'), "{:?} as {:?}", secret, written);
            }
            if in_json.len() + 2 == serde_json::Value::from(secret.as_str()).to_string().len() {
                let text = replace(&in_json, &secret);
                prop_assert!(text.contains('…'), "{:?} as {:?}", secret, in_json);
            }
        }

        #[test]
        fn nothing_panics(secret in ".{0,9}", text in "[%\\\\u0-9a-fé+🔑 ]{0,60}") {
            let _ = replace(&text, &secret);
        }
    }

    #[test]
    fn base64_is_known_with_and_without_padding() {
        let encoded = in_base64("hunter2?>~");
        let encoded: Vec<_> = encoded.iter().map(|encoded| encoded.as_str()).collect();
        assert_eq!(encoded, ["aHVudGVyMj8+fg", "aHVudGVyMj8+fg==", "aHVudGVyMj8-fg", "aHVudGVyMj8-fg=="]);
        assert_eq!(in_base64("hunter").len(), 1);
        assert!(in_base64("abc").is_empty());
    }

    /// A tenant chooses both the text and the secret.
    #[rstest]
    #[case::by_one_or_two(&format!("{} ", "\\".repeat(4095)), &format!("{}x", "\\".repeat(4095)))]
    #[case::found(&"\\".repeat(4096), &"\\".repeat(2048))]
    #[case::found_everywhere(&"a".repeat(4096), &"a".repeat(64))]
    #[case::nearly(&"a".repeat(4096), &format!("{}b", "a".repeat(4095)))]
    #[case::in_two_ways(&"%25".repeat(1365), &format!("{}x", "%25".repeat(1365)))]
    #[case::plus(&"+".repeat(4096), &format!("{}x", "+ ".repeat(1000)))]
    fn the_work_is_bounded_by_the_sizes(#[case] text: &str, #[case] secret: &str) {
        let words = secret.len() / 64 + 1;
        let (_, steps) = replace_counted(text, secret);
        // First the start bytes at each position, then two readings at each position, forwards and backwards.
        let first_bytes = 2 << FIRST_BYTES;
        assert!(steps <= text.len() * (2 * 2 * (STEP + 2 * words) + first_bytes) + secret.len(), "{steps}");
    }

    #[test]
    fn a_search_that_takes_too_much_is_abandoned() {
        let text = ReadableText::new(&"a".repeat(100));
        let find = |steps| text.find("aaaa", &mut SearchBudget::at_most(steps), |_| {});
        assert_eq!(find(100), Err(Abandoned));
        assert_eq!(find(10_000), Ok(()));
    }
}
