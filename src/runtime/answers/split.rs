//! Splits an answer into its objects: a single object, the items of a list, or the events of a watch.

use super::{
    bounds::ObjectBounds,
    extent::{BytePosition, JsonExtent},
    object::{Checked, Sieve, SieveError},
};

/// The maximum size of the parts of an answer that are not objects, such as the metadata of a list.
const FRAME_BYTES: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Single,
    /// A JSON object with a list of objects in `items`.
    List,
    /// One JSON object per line, with an object in `object`.
    Watch,
}

/// An answer that arrives in pieces.
#[derive(Debug)]
pub(super) struct Splitter {
    shape: Shape,
    bounds: ObjectBounds,
    state: SplitterState,
    /// The name of the current member of the frame.
    name: String,
    members: usize,
    /// The bytes of the frame so far. The frame is the JSON around the objects.
    frame: usize,
    /// The bytes that passed. Those of a watch are passed on in whole lines only.
    out: Vec<u8>,
    sent: usize,
}

#[derive(Debug)]
enum SplitterState {
    Start,
    Name { may_end: bool },
    InName { raw: Vec<u8>, extent: JsonExtent },
    Colon,
    Before,
    Within { raw: Vec<u8>, extent: JsonExtent },
    Behind,
    Items { may_end: bool },
    BehindItem,
    Object { sieve: Box<Sieve>, is_item: bool },
    End,
}

impl Splitter {
    pub(super) fn new(shape: Shape, bounds: ObjectBounds) -> Self {
        let state = match shape {
            Shape::Single => SplitterState::Object { sieve: Box::new(Sieve::new(bounds)), is_item: false },
            Shape::List | Shape::Watch => SplitterState::Start,
        };
        Self { shape, bounds, state, name: String::new(), members: 0, frame: 0, out: Vec::new(), sent: 0 }
    }

    /// Takes the next bytes, and returns the bytes to pass on.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>, SieveError> {
        for byte in bytes {
            while !self.step(*byte)? {}
        }
        Ok(match self.shape {
            Shape::Single | Shape::List => std::mem::take(&mut self.out),
            Shape::Watch => self.out.drain(..std::mem::take(&mut self.sent)).collect(),
        })
    }

    /// Checks that the answer may end here. A watch may end at any time: an incomplete line is not an event.
    pub(super) fn finish(&self) -> Result<(), SieveError> {
        match (self.shape, &self.state) {
            (Shape::Watch, _) | (_, SplitterState::End) => Ok(()),
            (Shape::Single | Shape::List, _) => Err(SieveError::Malformed),
        }
    }

    /// Takes a byte. Returns `false` if only the state changed, and the new state has to take the same byte.
    fn step(&mut self, byte: u8) -> Result<bool, SieveError> {
        let blank = matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        match (&mut self.state, byte) {
            (SplitterState::Object { sieve, is_item }, _) => {
                if sieve.push(byte)? {
                    let next = if *is_item { SplitterState::BehindItem } else { self.behind_the_object() };
                    if let SplitterState::Object { sieve, .. } = std::mem::replace(&mut self.state, next) {
                        self.out.append(&mut sieve.finish()?);
                    }
                }
            }
            (SplitterState::InName { raw, extent }, _) => {
                raw.push(byte);
                let ends = extent.push(byte) == BytePosition::Last;
                if ends {
                    self.name = serde_json::from_slice(raw).map_err(|_| SieveError::Malformed)?;
                    self.state = SplitterState::Colon;
                }
                self.count(1)?;
            }
            (SplitterState::Within { raw, extent }, _) => {
                let place = extent.push(byte);
                if place != BytePosition::Behind {
                    raw.push(byte);
                }
                if place != BytePosition::Inside {
                    let Checked = serde_json::from_slice(raw).map_err(|_| SieveError::Malformed)?;
                    self.out.append(raw);
                    self.state = SplitterState::Behind;
                }
                self.count(1)?;
                return Ok(place != BytePosition::Behind);
            }
            (_, _) if blank => {}
            (SplitterState::Start, b'{') => {
                self.out.push(b'{');
                (self.members, self.frame) = (0, 0);
                self.state = SplitterState::Name { may_end: true };
            }
            (SplitterState::Name { .. }, b'"') => {
                let mut extent = JsonExtent::default();
                extent.push(byte);
                self.state = SplitterState::InName { raw: vec![byte], extent };
            }
            (SplitterState::Name { may_end: true } | SplitterState::Behind, b'}') => {
                self.out.push(b'}');
                self.state = self.behind_the_frame();
            }
            (SplitterState::Colon, b':') => self.state = SplitterState::Before,
            (SplitterState::Before, _) => return self.begin(byte),
            (SplitterState::Behind, b',') => self.state = SplitterState::Name { may_end: false },
            (SplitterState::Items { may_end: true } | SplitterState::BehindItem, b']') => {
                self.out.push(b']');
                self.state = SplitterState::Behind;
            }
            (SplitterState::BehindItem, b',') => {
                self.out.push(b',');
                self.state = SplitterState::Items { may_end: false };
            }
            (SplitterState::Items { .. }, _) => {
                self.state = self.object(true);
                return Ok(false);
            }
            (
                SplitterState::Start
                | SplitterState::Name { .. }
                | SplitterState::Colon
                | SplitterState::Behind
                | SplitterState::BehindItem
                | SplitterState::End,
                _,
            ) => return Err(SieveError::Malformed),
        }
        Ok(true)
    }

    /// Begins the value of a member of the frame.
    fn begin(&mut self, byte: u8) -> Result<bool, SieveError> {
        if self.members > 0 {
            self.out.push(b',');
        }
        self.members += 1;
        self.out.extend(serde_json::Value::from(self.name.as_str()).to_string().bytes());
        self.out.push(b':');
        Ok(match (self.shape, self.name.as_str(), byte) {
            (Shape::List, "items", b'[') => {
                self.out.push(b'[');
                self.state = SplitterState::Items { may_end: true };
                true
            }
            (Shape::Watch, "object", b'{') => {
                self.state = self.object(false);
                false
            }
            (_, _, _) => {
                self.state = SplitterState::Within { raw: Vec::new(), extent: JsonExtent::default() };
                false
            }
        })
    }

    fn object(&self, is_item: bool) -> SplitterState {
        SplitterState::Object { sieve: Box::new(Sieve::new(self.bounds)), is_item }
    }

    const fn behind_the_object(&self) -> SplitterState {
        match self.shape {
            Shape::Single => SplitterState::End,
            Shape::List | Shape::Watch => SplitterState::Behind,
        }
    }

    fn behind_the_frame(&mut self) -> SplitterState {
        match self.shape {
            Shape::Single | Shape::List => SplitterState::End,
            Shape::Watch => {
                self.out.push(b'\n');
                self.sent = self.out.len();
                SplitterState::Start
            }
        }
    }

    const fn count(&mut self, bytes: usize) -> Result<(), SieveError> {
        self.frame += bytes;
        if self.frame > FRAME_BYTES { Err(SieveError::Excessive) } else { Ok(()) }
    }
}
