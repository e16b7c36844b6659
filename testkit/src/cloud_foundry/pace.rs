//! The time that the Cloud Controller takes to create or delete a key.

/// The kinds of work of the Cloud Controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    /// The creation of a key.
    Create,
    /// The deletion of a key.
    Delete,
}

impl Work {
    /// `last_operation.type`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
        }
    }

    /// `operation` of a job.
    pub(super) const fn job(self) -> &'static str {
        match self {
            Self::Create => "service_keys.create",
            Self::Delete => "service_keys.delete",
        }
    }

    /// The GUID of a job of a Korifi: the kind of work and the GUID of the key.
    pub(super) fn job_of_korifi(self, key: &str) -> String {
        format!("managed_service_binding.{}~{key}", self.name())
    }

    /// The name of the work in the error of a failed job.
    pub(super) const fn of_the_broker(self) -> &'static str {
        match self {
            Self::Create => "bind",
            Self::Delete => "unbind",
        }
    }
}

/// The duration of work. It never depends on a clock.
///
/// Work begins after its first look: a `GET` of the job or of the key, or a list that shows the key. The first look
/// finds the job `PROCESSING`, and the key as if the work had not been requested: a new key is `initial`, and a key
/// that is to be deleted still has a successful creation as its last operation. Later looks find the job `POLLING` and
/// the key `in progress`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Pace {
    /// The kinds of work that take time.
    slow: &'static [Work],
    /// The number of looks before the work is done; `None` if the test ends it.
    looks: Option<usize>,
}

impl Pace {
    /// All work is done before the answer is sent.
    pub const fn at_once() -> Self {
        Self { slow: &[], looks: Some(0) }
    }

    /// Work lasts until the test ends it: [`finish`](super::FakeCloudFoundry::finish),
    /// [`fail`](super::FakeCloudFoundry::fail).
    pub const fn until_told() -> Self {
        Self { slow: &[Work::Create, Work::Delete], looks: None }
    }

    /// This many looks find the work not done; the next look finds it done.
    pub const fn looks(count: usize) -> Self {
        Self { slow: &[Work::Create, Work::Delete], looks: Some(count) }
    }

    /// Only this work takes time; the other kind is done at once.
    pub const fn only(mut self, work: Work) -> Self {
        self.slow = match work {
            Work::Create => &[Work::Create],
            Work::Delete => &[Work::Delete],
        };
        self
    }

    pub(super) fn takes_time(self, work: Work) -> bool {
        self.slow.contains(&work)
    }

    /// Whether work is done after this many looks.
    pub(super) fn is_over(self, looks: usize) -> bool {
        self.looks.is_some_and(|under_way| looks >= under_way)
    }
}
