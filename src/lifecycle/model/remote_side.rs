//! The remote side: its answers to calls, and its asynchronous operations.

use super::*;

impl ModelState {
    pub(super) fn bind(&mut self, object: &Object, sequence: Sequence, fate: Fate) {
        self.process.seen = Some((object.inputs, self.hour));
        let existing = self.remote.get(&sequence).copied();
        let lost = || {
            let failure = failure(Attempted::Provision, ErrorClass::OrphanPossible);
            Answer::Lost(failure, sequence, self.now())
        };
        let answer = match (fate, self.working) {
            (Fate::Repeated, None) if existing.is_none_or(|inputs| inputs == object.inputs) => {
                self.process.run.learn(Answer::GivenUp(sequence, self.now()));
                Answer::Issued(self.record(sequence, object.inputs))
            }
            (Fate::LostBeforeEffect | Fate::LostAfterEffect | Fate::Late | Fate::Repeated, _) => lost(),
            (Fate::Unsure | Fate::UnsureLate, _) => {
                let failure = failure(Attempted::Provision, ErrorClass::Unsure);
                Answer::Unsure(failure, sequence, self.now())
            }
            (_, Some((RemoteOperation::Bind, of, inputs))) if of == sequence && inputs == object.inputs => {
                self.accepted(RemoteOperation::Bind, sequence, inputs)
            }
            (_, Some(_)) => Answer::Failed(failure(Attempted::Provision, ErrorClass::Transient)),
            // This includes an existing key whose credentials are not returned again.
            (Fate::Answered | Fate::Accepted | Fate::Refused, None)
                if existing.is_some_and(|inputs| inputs != object.inputs || fate == Fate::Refused) =>
            {
                Answer::Conflict(failure(Attempted::Provision, ErrorClass::Conflict), sequence)
            }
            (Fate::Accepted, None) if existing.is_none() => {
                self.accepted(RemoteOperation::Bind, sequence, object.inputs)
            }
            (Fate::Refused, None) => Answer::Failed(failure(Attempted::Provision, ErrorClass::Rejected)),
            (Fate::Answered | Fate::Accepted, None) => Answer::Issued(self.record(sequence, object.inputs)),
        };
        self.process.may_have_created |= !answer.had_no_effect();
        self.gives(&answer);
        if matches!(fate, Fate::Late | Fate::UnsureLate | Fate::Repeated) {
            self.late = Some((sequence, object.inputs));
        }
        match (fate, &answer) {
            (Fate::LostAfterEffect | Fate::Unsure, _) | (_, Answer::Issued(_)) if self.working.is_none() => {
                self.remote.entry(sequence).or_insert(object.inputs);
            }
            (_, Answer::Accepted(_)) => self.working = Some((RemoteOperation::Bind, sequence, object.inputs)),
            _ => {}
        }
        self.process.run.learn(answer);
    }

    fn accepted(&self, work: RemoteOperation, sequence: Sequence, inputs: u8) -> Answer {
        Answer::Accepted(PendingOperation {
            operation: work,
            sequence,
            token: None,
            since: self.now(),
            ends: at(self.hour + 1),
            next_poll: None,
            retry_after: None,
            first_poll: std::time::Duration::ZERO,
            said: None,
            is_refused: false,
            inputs: self.inputs(inputs),
        })
    }

    pub(super) fn fetch(&mut self, sequence: Sequence, fate: Fate) {
        let answer = match (fate, self.remote.get(&sequence)) {
            (Fate::Answered | Fate::Accepted, Some(inputs)) => Answer::Issued(self.record(sequence, *inputs)),
            (Fate::Answered | Fate::Accepted, None) => Answer::Absent(sequence),
            (Fate::Refused, _) => Answer::Unreadable(sequence),
            _ => Answer::Failed(failure(Attempted::Provision, ErrorClass::Transient)),
        };
        self.gives(&answer);
        self.process.run.learn(answer);
    }

    /// The request that created the key arrives again. A key that is gone is created again, under the same number.
    pub(super) fn repeat(&mut self, sequence: Sequence, fate: Fate) {
        let inputs = self.remote.get(&sequence).or_else(|| self.made_from.get(&sequence)).copied();
        let answer = match (fate, inputs) {
            (Fate::Answered | Fate::Accepted, Some(inputs)) => Answer::Issued(self.record(sequence, inputs)),
            (Fate::Unsure, _) => {
                Answer::Unsure(failure(Attempted::Provision, ErrorClass::Unsure), sequence, self.now())
            }
            _ => Answer::Unrepeatable(sequence, self.now()),
        };
        self.gives(&answer);
        if let (Answer::Issued(_) | Answer::Unsure(..), Some(inputs)) = (&answer, inputs) {
            self.remote.entry(sequence).or_insert(inputs);
        }
        self.process.run.learn(answer);
    }

    pub(super) fn lose(&mut self, sequence: Sequence) {
        if let Some(inputs) = self.remote.remove(&sequence) {
            self.made_from.insert(sequence, inputs);
        }
        self.void.insert(sequence);
    }

    fn gives(&mut self, answer: &Answer) {
        if let Answer::Issued(key) = answer {
            self.void.remove(&key.sequence);
        }
    }

    pub(super) fn confirm(&mut self, sequence: Sequence, fate: Fate) {
        let answer = match fate {
            Fate::Answered if self.has(sequence) => {
                Answer::Present(Found { sequence, id: sequence.to_string(), name: None })
            }
            Fate::Answered => Answer::Absent(sequence),
            _ => Answer::Failed(failure(Attempted::Confirm, ErrorClass::Gone)),
        };
        if fate == Fate::Answered {
            self.process.missed = None;
        }
        self.process.run.learn(answer);
    }

    /// Compares a list of all keys with the recorded key.
    pub(super) fn list(&mut self) {
        let known = self.recorded.key.as_ref().map(|key| key.sequence);
        self.process.missed = known.filter(|sequence| !self.has(*sequence));
    }

    /// Whether the key exists and is the original one. A key that was created again has another id.
    pub(super) fn has(&self, sequence: Sequence) -> bool {
        self.remote.contains_key(&sequence) && !self.void.contains(&sequence)
    }

    pub(super) fn unbind(&mut self, sequence: Sequence, fate: Fate) {
        let class = if fate == Fate::Refused { ErrorClass::Rejected } else { ErrorClass::Transient };
        let failed = match fate {
            Fate::Refused => Answer::Failed(failure(Attempted::Revoke, class)),
            _ => Answer::UnsureRevocation(failure(Attempted::Revoke, class), sequence, self.now()),
        };
        let answer = match (fate, self.working) {
            (Fate::Answered | Fate::Accepted, Some((RemoteOperation::Unbind, of, inputs)))
                if of == sequence =>
            {
                self.accepted(RemoteOperation::Unbind, sequence, inputs)
            }
            (Fate::Accepted, None) if self.remote.contains_key(&sequence) => {
                self.accepted(RemoteOperation::Unbind, sequence, 0)
            }
            (Fate::Answered | Fate::Accepted, None) => Answer::Revoked(sequence, self.now()),
            _ => failed,
        };
        match (fate, &answer) {
            (Fate::LostAfterEffect, _) | (_, Answer::Revoked(..)) if self.working.is_none() => {
                self.lose(sequence);
            }
            (_, Answer::Accepted(_)) => self.working = Some((RemoteOperation::Unbind, sequence, 0)),
            (Fate::Late, _) => self.late_unbind = Some(sequence),
            _ => {}
        }
        self.process.run.learn(answer);
    }

    pub(super) fn poll(&mut self, work: PendingOperation, fate: Fate) {
        self.process.run.pending = Some(work.clone());
        if fate == Fate::Unsure && work.operation == RemoteOperation::Bind {
            // The remote side gives up the operation, and cleans up itself.
            self.working = None;
            let failure = failure(Attempted::Provision, ErrorClass::Unsure);
            return self.process.run.learn(Answer::Unsure(failure, work.sequence, self.now()));
        }
        if !matches!(fate, Fate::Answered | Fate::Refused) {
            let (class, message) = (ErrorClass::Rejected, String::new());
            return self.process.run.learn(Answer::PollFailed { class, message, retry_after: None });
        }
        // An operation that the remote side gives up may have left a key behind, or revoked it partly.
        self.work_ends();
        let sequence = work.sequence;
        let exists = self.remote.contains_key(&sequence);
        let answer = match work.operation {
            RemoteOperation::Bind if exists && fate == Fate::Answered => Answer::Completed(work),
            RemoteOperation::Bind => {
                let failure = failure(Attempted::Provision, ErrorClass::OrphanPossible);
                Answer::Lost(failure, sequence, self.now())
            }
            RemoteOperation::Unbind if !exists => Answer::Revoked(sequence, self.now()),
            RemoteOperation::Unbind => Answer::Failed(failure(Attempted::Revoke, ErrorClass::Transient)),
        };
        self.process.run.learn(answer);
    }

    pub(super) fn release(&mut self, sequence: Sequence, fate: Fate) {
        if fate == Fate::Refused {
            let failure = failure(Attempted::Release, ErrorClass::Forbidden);
            return self.process.run.learn(Answer::Failed(failure));
        }
        self.released.insert(sequence);
        self.process.run.learn(Answer::Released(sequence));
    }

    pub(super) fn work_ends(&mut self) {
        match self.working.take() {
            Some((RemoteOperation::Bind, sequence, inputs)) => drop(self.remote.insert(sequence, inputs)),
            Some((RemoteOperation::Unbind, sequence, _)) => self.lose(sequence),
            None => {}
        }
    }

    pub(super) fn hour_passes(&mut self, hours: i64) {
        self.hour += hours;
        if hours > 0 {
            (self.late, self.late_unbind) = (None, None);
        }
    }
}
