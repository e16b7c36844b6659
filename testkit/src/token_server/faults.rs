//! The script of faults: how requests for a token go wrong.

use std::{collections::VecDeque, fmt, time::Duration};

use axum::http::StatusCode;
use serde_json::Value;

/// A way to go wrong. Only [`Delay`](Self::Delay) hands out a token all the same. `Debug` leaves bodies out.
#[derive(Clone, PartialEq)]
pub enum TokenFault {
    /// This status with this body.
    Status(StatusCode, Value),
    /// 200 with a page of HTML.
    Html,
    /// The true answer, this time later.
    Delay(Duration),
    /// No answer, and a connection that is closed.
    Cut,
    /// No answer, and a connection that stays open.
    Hang,
}

impl fmt::Debug for TokenFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status, _) => write!(f, "Status({status})"),
            Self::Html => f.write_str("Html"),
            Self::Delay(duration) => write!(f, "Delay({duration:?})"),
            Self::Cut => f.write_str("Cut"),
            Self::Hang => f.write_str("Hang"),
        }
    }
}

/// The faults still to come.
#[derive(Default)]
pub(super) struct Script {
    next: VecDeque<TokenFault>,
    forever: Option<(TokenFault, Met)>,
}

type Met = bool;

impl Script {
    pub(super) fn add(&mut self, fault: TokenFault) {
        self.next.push_back(fault);
    }

    pub(super) fn add_forever(&mut self, fault: TokenFault) {
        self.forever = Some((fault, false));
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The fault that the next request meets.
    pub(super) fn take(&mut self) -> Option<TokenFault> {
        self.next.pop_front().or_else(|| {
            let (fault, met) = self.forever.as_mut()?;
            *met = true;
            Some(fault.clone())
        })
    }

    /// The faults that no request has met.
    pub(super) fn unmet(&self) -> impl Iterator<Item = &TokenFault> {
        let forever = self.forever.iter().filter(|(_, met)| !met).map(|(fault, _)| fault);
        self.next.iter().chain(forever)
    }
}
