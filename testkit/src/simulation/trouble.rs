//! Trouble: times in which requests fail in a certain way. It is the same for the API server and for all remote sides,
//! because it is caused by what lies between.

use std::{fmt, time::Duration};

use tokio::time::Instant;

use super::Chance;

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// There is no connection: the request has no effect.
    NotConnected,
    /// The request takes effect, and the connection closes before the answer.
    LostAnswer,
    /// The request takes effect, and nothing ever answers.
    Hangs,
    /// The connection closes before the answer, and the request takes effect this much later.
    Late(Duration),
    /// The answer is this status, and the request has no effect.
    Refused(u16),
    /// The request takes effect, and the answer is this status.
    Mistaken(u16),
    /// The request takes effect, and the answer's body is cut off.
    CutBody,
    /// The request takes effect, and the answer's body is a web page.
    WebPage,
    /// The request takes effect, and all links in the answer lead to another host.
    StrayLinks,
    /// The answer takes this much longer.
    Slow(Duration),
}

/// A time in which some of the requests have a mishap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What happens.
    pub mishap: Mishap,
    /// How many of 100 requests it happens to.
    pub percent: u32,
    /// How long it lasts.
    pub lasts: Duration,
    /// The requests that it happens to.
    pub of: Requests,
}

/// Requests that a trouble may hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requests {
    /// All of them.
    All,
    /// Those that create a key. Many remote sides need much longer for these than for any other request.
    Creations,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = match self.of {
            Requests::All => "requests",
            Requests::Creations => "requests for a key",
        };
        write!(f, "{:?} for {} % of the {of}, for {} s", self.mishap, self.percent, self.lasts.as_secs())
    }
}

/// The trouble on one way.
#[derive(Debug, Default)]
pub struct Troubles(Vec<(Trouble, Instant)>);

impl Troubles {
    /// Starts a time of trouble now.
    pub fn start(&mut self, trouble: Trouble) {
        self.0.push((trouble, Instant::now() + trouble.lasts));
    }

    /// Ends all trouble.
    pub fn end(&mut self) {
        self.0.clear();
    }

    /// What happens to a request that is sent now.
    pub fn mishap(&mut self, chance: &Chance, creates: bool) -> Option<Mishap> {
        let now = Instant::now();
        self.0.retain(|(_, until)| *until > now);
        let troubles = self.0.iter().map(|(trouble, _)| trouble);
        let mut about_this = troubles.filter(|trouble| creates || trouble.of == Requests::All);
        about_this.find(|trouble| chance.percent(trouble.percent)).map(|trouble| trouble.mishap)
    }
}
