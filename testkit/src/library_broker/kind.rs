//! The kinds of brokers.

/// What a broker is written with, and how it works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// On openbrokerapi; it makes keys at once.
    Python,
    /// The same behind the router of its library, which serves several brokers at one address.
    PythonRouted,
    /// On openbrokerapi; it makes and revokes keys in the background, one at a time.
    PythonInBackground,
    /// On brokerapi; it makes keys at once.
    Go,
    /// On brokerapi; it makes and revokes keys in the background, one at a time.
    GoInBackground,
}

/// What a broker is written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    Python,
    Go,
}

impl Kind {
    /// Whether it makes and revokes keys in the background, and only there.
    #[must_use]
    pub const fn is_in_background(self) -> bool {
        matches!(self, Self::PythonInBackground | Self::GoInBackground)
    }

    pub(super) const fn language(self) -> Language {
        match self {
            Self::Python | Self::PythonRouted | Self::PythonInBackground => Language::Python,
            Self::Go | Self::GoInBackground => Language::Go,
        }
    }

    /// What the program is told.
    pub(super) const fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Python | Self::Go => &[],
            Self::PythonRouted => &["--routed"],
            Self::PythonInBackground | Self::GoInBackground => &["--in-background"],
        }
    }
}
