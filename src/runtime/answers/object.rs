//! Filters one object byte by byte, and passes the parts that are within its bounds.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;

use super::{
    bounds::{self, Excess, ObjectBounds, Omission, PartRule, Size},
    extent::{BytePosition, JsonExtent},
};

/// The depth of the rules' paths, such as `metadata`, `annotations` and the name of an annotation.
const NAMED_LEVELS: usize = 3;
/// The most bytes of a name that a rule may apply to. A member with a longer name is dropped.
const NAME_BYTES: usize = 1024;

/// The reason why an object does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::Display)]
pub(super) enum SieveError {
    #[strum(to_string = "it is not valid JSON or has an unexpected form")]
    Malformed,
    #[strum(to_string = "it contains an object that is larger or deeper than the operator accepts")]
    Excessive,
}

/// The filter of one object.
#[derive(Debug)]
pub(super) struct Sieve {
    bounds: ObjectBounds,
    out: Vec<u8>,
    /// The objects around the current byte that have rules for their members.
    open: Vec<OpenObject>,
    state: SieveState,
    /// The size of the parts that passed within the bound of the whole object.
    shared: Size,
    omissions: Vec<Omission>,
}

#[derive(Debug, Default)]
struct OpenObject {
    /// The name of the current member.
    name: String,
    /// The start of the current member in the output, with the comma before it.
    begins: usize,
    /// The number of members that have passed.
    members: usize,
}

#[derive(Debug)]
enum SieveState {
    /// Before the object.
    Start,
    /// Before a name; the object may also end here, unless a comma came before.
    Name { may_end: bool },
    /// In a name. `raw` is its JSON text.
    InName { raw: Vec<u8>, extent: JsonExtent, too_long: bool },
    /// Before the colon.
    Colon,
    /// Before a value.
    Before(PartRule),
    /// In a value that has no rules for its members.
    Within { rule: PartRule, extent: JsonExtent, begins: usize, dropped: bool },
    /// After a value.
    Behind,
    /// After the object.
    End,
}

impl Sieve {
    pub(super) fn new(bounds: ObjectBounds) -> Self {
        Self {
            bounds,
            out: Vec::new(),
            open: Vec::new(),
            state: SieveState::Start,
            shared: Size::default(),
            omissions: Vec::new(),
        }
    }

    /// Takes the next byte. Returns whether the object ends with it.
    pub(super) fn push(&mut self, byte: u8) -> Result<bool, SieveError> {
        while !self.step(byte)? {}
        Ok(matches!(self.state, SieveState::End))
    }

    /// Returns the parts of the object that passed, after its end.
    pub(super) fn finish(self) -> Result<Vec<u8>, SieveError> {
        if !matches!(self.state, SieveState::End) {
            return Err(SieveError::Malformed);
        }
        if self.omissions.is_empty() {
            return Ok(self.out);
        }
        noted(&self.out, &self.omissions).ok_or(SieveError::Malformed)
    }

    /// Takes a byte. Returns `false` if only the state changed, and the new state has to take the same byte.
    fn step(&mut self, byte: u8) -> Result<bool, SieveError> {
        let blank = matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        match (&mut self.state, byte) {
            (SieveState::InName { raw, extent, too_long }, _) => {
                *too_long |= raw.len() > NAME_BYTES;
                if !*too_long {
                    raw.push(byte);
                }
                if extent.push(byte) == BytePosition::Last {
                    let name = if *too_long { None } else { Some(name(raw)?) };
                    self.named(name);
                }
            }
            (SieveState::Within { .. }, _) => return self.within(byte),
            (_, _) if blank => {}
            (SieveState::Start, b'{') => self.enter(),
            (SieveState::Name { .. }, b'"') => {
                let mut extent = JsonExtent::default();
                extent.push(byte);
                self.state = SieveState::InName { raw: vec![byte], extent, too_long: false };
            }
            (SieveState::Name { may_end: true } | SieveState::Behind, b'}') => self.leave(),
            (SieveState::Colon, b':') => self.state = SieveState::Before(self.rule()),
            (SieveState::Before(rule), _) => {
                let rule = *rule;
                self.begin(rule, byte);
                return Ok(matches!(self.state, SieveState::Name { .. }));
            }
            (SieveState::Behind, b',') => self.state = SieveState::Name { may_end: false },
            (
                SieveState::Start
                | SieveState::Name { .. }
                | SieveState::Colon
                | SieveState::Behind
                | SieveState::End,
                _,
            ) => {
                return Err(SieveError::Malformed);
            }
        }
        Ok(true)
    }

    fn enter(&mut self) {
        self.out.push(b'{');
        self.open.push(OpenObject::default());
        self.state = SieveState::Name { may_end: true };
    }

    fn leave(&mut self) {
        self.out.push(b'}');
        self.open.pop();
        self.state = if self.open.is_empty() { SieveState::End } else { SieveState::Behind };
    }

    /// Records the name of the current member. `None` if it is too long for any rule.
    fn named(&mut self, name: Option<String>) {
        if let Some(open) = self.open.last_mut() {
            open.name = name.unwrap_or_default();
        }
        self.state = SieveState::Colon;
    }

    fn path(&self) -> Vec<&str> {
        self.open.iter().map(|open| open.name.as_str()).collect()
    }

    fn rule(&self) -> PartRule {
        let path = self.path();
        if path.last().is_some_and(|name| name.is_empty()) { PartRule::Drop } else { self.bounds.rule(&path) }
    }

    /// Begins a value with its first byte. The next state takes that byte, unless it opens an object that has rules for
    /// its members.
    fn begin(&mut self, rule: PartRule, byte: u8) {
        let taken_apart = match (rule, self.path().as_slice()) {
            (PartRule::Drop | PartRule::Within(_) | PartRule::Writers(_), _) => false,
            (PartRule::Share, [_] | ["metadata", "annotations"] | ["spec", "secret"]) => {
                byte == b'{' && self.open.len() < NAMED_LEVELS
            }
            (PartRule::Share, _) => false,
        };
        let begins = self.out.len();
        if rule != PartRule::Drop
            && let Some(open) = self.open.last_mut()
        {
            open.begins = begins;
            if open.members > 0 {
                self.out.push(b',');
            }
            open.members += 1;
            self.out.extend(Value::from(open.name.as_str()).to_string().bytes());
            self.out.push(b':');
        }
        if taken_apart {
            self.enter();
        } else {
            let begins = self.out.len();
            let (extent, dropped) = (JsonExtent::default(), rule == PartRule::Drop);
            self.state = SieveState::Within { rule, extent, begins, dropped };
        }
    }

    fn within(&mut self, byte: u8) -> Result<bool, SieveError> {
        let SieveState::Within { rule, extent, begins, dropped } = &mut self.state else { return Ok(false) };
        let place = extent.push(byte);
        if place != BytePosition::Behind && !*dropped {
            // An event of a watch is one line, so line breaks between tokens become blanks.
            let breaks = !extent.in_string() && matches!(byte, b'\r' | b'\n');
            self.out.push(if breaks { b' ' } else { byte });
        }
        let (rule, begins, extent, kept) = (*rule, *begins, *extent, !*dropped);
        if kept && let Some(excess) = self.excess(rule, begins, extent) {
            self.omit(rule, excess)?;
        } else if kept && place != BytePosition::Inside {
            let value = &self.out[begins..];
            let is_readable = match rule {
                PartRule::Writers(_) => serde_json::from_slice::<Vec<ManagedFieldsEntry>>(value).is_ok(),
                PartRule::Drop | PartRule::Share | PartRule::Within(_) => {
                    serde_json::from_slice::<Checked>(value).is_ok()
                }
            };
            if !is_readable {
                self.omit(rule, Excess::Value)?;
            } else if rule == PartRule::Share {
                self.shared = self.shared.and(self.size(self.begin_of_member(), extent));
            }
        }
        if place != BytePosition::Inside {
            self.state = SieveState::Behind;
        }
        Ok(place != BytePosition::Behind)
    }

    fn begin_of_member(&self) -> usize {
        self.open.last().map_or(0, |open| open.begins)
    }

    /// The size of the output since this byte. `extent` is the walk through it.
    fn size(&self, begins: usize, extent: JsonExtent) -> Size {
        Size { levels: extent.levels(), bytes: self.out.len() - begins, values: extent.values() }
    }

    /// The respect in which the current value already exceeds its bound.
    fn excess(&self, rule: PartRule, begins: usize, extent: JsonExtent) -> Option<Excess> {
        match rule {
            PartRule::Drop => None,
            PartRule::Within(bound) | PartRule::Writers(bound) => {
                self.size(begins, extent).excess_over(&bound)
            }
            PartRule::Share => {
                let own = self.size(self.begin_of_member(), extent);
                let shared = Size { levels: own.levels, ..self.shared.and(own) };
                shared.excess_over(&self.bounds.shared_at(self.open.len()))
            }
        }
    }

    /// Removes the current member from the output, and records the omission unless the member is `managedFields`.
    fn omit(&mut self, rule: PartRule, excess: Excess) -> Result<(), SieveError> {
        let bound = match rule {
            PartRule::Writers(_) => {
                self.take_out();
                return Ok(());
            }
            PartRule::Within(bound) => bound,
            PartRule::Drop | PartRule::Share => self.bounds.whole,
        };
        if !self.bounds.omits {
            return Err(SieveError::Excessive);
        }
        // Two names identify the part. There may be any number of members below.
        let path = self.path().into_iter().take(2).collect::<Vec<_>>().join(".");
        if self.omissions.iter().all(|noted| noted.path != path) && self.omissions.len() < MAX_NOTED {
            self.omissions.push(Omission { path, excess, bound });
        }
        self.take_out();
        Ok(())
    }

    fn take_out(&mut self) {
        if let Some(open) = self.open.last_mut() {
            self.out.truncate(open.begins);
            open.members -= 1;
        }
        if let SieveState::Within { dropped, .. } = &mut self.state {
            *dropped = true;
        }
    }
}

/// The maximum number of omissions in the note of one object.
const MAX_NOTED: usize = 16;

/// Parses the JSON text of a name.
fn name(raw: &[u8]) -> Result<String, SieveError> {
    serde_json::from_slice(raw).map_err(|_| SieveError::Malformed)
}

/// Adds the note about omitted parts to the object.
fn noted(object: &[u8], omissions: &[Omission]) -> Option<Vec<u8>> {
    let mut object: Value = serde_json::from_slice(object).ok()?;
    let metadata = object.get_mut("metadata")?.as_object_mut()?;
    let annotations = metadata.entry("annotations").or_insert_with(|| Value::Object(serde_json::Map::new()));
    if annotations.is_null() {
        *annotations = Value::Object(serde_json::Map::new());
    }
    let (name, note) = bounds::note(omissions).ok()?;
    annotations.as_object_mut()?.insert(name, note.into());
    serde_json::to_vec(&object).ok()
}

/// Any value that `serde_json` can store. `IgnoredAny` does not check numbers and strings; this does.
pub(super) struct Checked;

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self, A::Error> {
        while members.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}
