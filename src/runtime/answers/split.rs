//! Splits an answer into its objects: the one that was asked for, the items of a list, or the events of a watch.

use super::{
    bounds::Bounds,
    extent::{Extent, Place},
    object::{Checked, Sieve, Unreadable},
};

/// The most bytes of an answer's parts that are no objects, such as the metadata of a list.
const FRAME_BYTES: usize = 1 << 20;

/// What an answer consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One object.
    Single,
    /// An object with objects in `items`.
    List,
    /// Objects that each hold one in `object`, each on a line of its own.
    Watch,
}

/// An answer on its way through.
#[derive(Debug)]
pub(super) struct Splitter {
    shape: Shape,
    bounds: Bounds,
    state: State,
    /// The name of the present member of the frame.
    name: String,
    members: usize,
    /// The bytes of the frame so far.
    frame: usize,
    /// What passed and is to be sent on: of a watch, whole lines only.
    out: Vec<u8>,
    sent: usize,
}

#[derive(Debug)]
enum State {
    Start,
    Name { may_end: bool },
    InName { raw: Vec<u8>, extent: Extent },
    Colon,
    Before,
    Within { raw: Vec<u8>, extent: Extent },
    Behind,
    Items { may_end: bool },
    BehindItem,
    Object { sieve: Box<Sieve>, is_item: bool },
    End,
}

impl Splitter {
    pub(super) fn new(shape: Shape, bounds: Bounds) -> Self {
        let state = match shape {
            Shape::Single => State::Object { sieve: Box::new(Sieve::new(bounds)), is_item: false },
            Shape::List | Shape::Watch => State::Start,
        };
        Self { shape, bounds, state, name: String::new(), members: 0, frame: 0, out: Vec::new(), sent: 0 }
    }

    /// Takes the next bytes, and returns what is to be sent on.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Unreadable> {
        for byte in bytes {
            while !self.step(*byte)? {}
        }
        Ok(match self.shape {
            Shape::Single | Shape::List => std::mem::take(&mut self.out),
            Shape::Watch => self.out.drain(..std::mem::take(&mut self.sent)).collect(),
        })
    }

    /// The answer ends here. A watch may end at any time: a line that is not whole is no event.
    pub(super) fn finish(&self) -> Result<(), Unreadable> {
        match (self.shape, &self.state) {
            (Shape::Watch, _) | (_, State::End) => Ok(()),
            (Shape::Single | Shape::List, _) => Err(Unreadable::Malformed),
        }
    }

    /// Takes a byte, unless another state has to take it: `false` then.
    fn step(&mut self, byte: u8) -> Result<bool, Unreadable> {
        let blank = matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        match (&mut self.state, byte) {
            (State::Object { sieve, is_item }, _) => {
                if sieve.push(byte)? {
                    let next = if *is_item { State::BehindItem } else { self.behind_the_object() };
                    if let State::Object { sieve, .. } = std::mem::replace(&mut self.state, next) {
                        self.out.append(&mut sieve.finish()?);
                    }
                }
            }
            (State::InName { raw, extent }, _) => {
                raw.push(byte);
                let ends = extent.push(byte) == Place::Last;
                if ends {
                    self.name = serde_json::from_slice(raw).map_err(|_| Unreadable::Malformed)?;
                    self.state = State::Colon;
                }
                self.count(1)?;
            }
            (State::Within { raw, extent }, _) => {
                let place = extent.push(byte);
                if place != Place::Behind {
                    raw.push(byte);
                }
                if place != Place::Inside {
                    let Checked = serde_json::from_slice(raw).map_err(|_| Unreadable::Malformed)?;
                    self.out.append(raw);
                    self.state = State::Behind;
                }
                self.count(1)?;
                return Ok(place != Place::Behind);
            }
            (_, _) if blank => {}
            (State::Start, b'{') => {
                self.out.push(b'{');
                (self.members, self.frame) = (0, 0);
                self.state = State::Name { may_end: true };
            }
            (State::Name { .. }, b'"') => {
                let mut extent = Extent::default();
                extent.push(byte);
                self.state = State::InName { raw: vec![byte], extent };
            }
            (State::Name { may_end: true } | State::Behind, b'}') => {
                self.out.push(b'}');
                self.state = self.behind_the_frame();
            }
            (State::Colon, b':') => self.state = State::Before,
            (State::Before, _) => return self.begin(byte),
            (State::Behind, b',') => self.state = State::Name { may_end: false },
            (State::Items { may_end: true } | State::BehindItem, b']') => {
                self.out.push(b']');
                self.state = State::Behind;
            }
            (State::BehindItem, b',') => {
                self.out.push(b',');
                self.state = State::Items { may_end: false };
            }
            (State::Items { .. }, _) => {
                self.state = self.object(true);
                return Ok(false);
            }
            (
                State::Start
                | State::Name { .. }
                | State::Colon
                | State::Behind
                | State::BehindItem
                | State::End,
                _,
            ) => return Err(Unreadable::Malformed),
        }
        Ok(true)
    }

    /// Begins the value of a member of the frame.
    fn begin(&mut self, byte: u8) -> Result<bool, Unreadable> {
        if self.members > 0 {
            self.out.push(b',');
        }
        self.members += 1;
        self.out.extend(serde_json::Value::from(self.name.as_str()).to_string().bytes());
        self.out.push(b':');
        Ok(match (self.shape, self.name.as_str(), byte) {
            (Shape::List, "items", b'[') => {
                self.out.push(b'[');
                self.state = State::Items { may_end: true };
                true
            }
            (Shape::Watch, "object", b'{') => {
                self.state = self.object(false);
                false
            }
            (_, _, _) => {
                self.state = State::Within { raw: Vec::new(), extent: Extent::default() };
                false
            }
        })
    }

    fn object(&self, is_item: bool) -> State {
        State::Object { sieve: Box::new(Sieve::new(self.bounds)), is_item }
    }

    const fn behind_the_object(&self) -> State {
        match self.shape {
            Shape::Single => State::End,
            Shape::List | Shape::Watch => State::Behind,
        }
    }

    fn behind_the_frame(&mut self) -> State {
        match self.shape {
            Shape::Single | Shape::List => State::End,
            Shape::Watch => {
                self.out.push(b'\n');
                self.sent = self.out.len();
                State::Start
            }
        }
    }

    const fn count(&mut self, bytes: usize) -> Result<(), Unreadable> {
        self.frame += bytes;
        if self.frame > FRAME_BYTES { Err(Unreadable::Excessive) } else { Ok(()) }
    }
}
