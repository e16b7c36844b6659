//! Durations as users write them: `720h`, `1h30m`, `500ms`.

use std::{fmt, str::FromStr};

use jiff::fmt::friendly::{Spacing, SpanParser, SpanPrinter};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A span of time of whole milliseconds, never negative.
///
/// Written as whole numbers of hours (`h`), minutes (`m`), seconds (`s`) and milliseconds (`ms`), largest first. Go,
/// the CEL function `duration()` and jiff all read this part of Go's duration format alike. Fractions, signs and other
/// units are refused, so that the operator can read every value that the API server accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Duration(std::time::Duration);

impl Duration {
    /// The format that the API server accepts. The numbers are so short that their sum can't overflow CEL's 292 years.
    pub(super) const PATTERN: &str = "^([0-9]{1,6}h)?([0-9]{1,7}m)?([0-9]{1,9}s)?([0-9]{1,12}ms)?$";
    /// The length of the longest text that [`Self::PATTERN`] matches, in characters.
    pub(super) const MAX_LENGTH: u32 = 39;

    /// A duration of whole seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(std::time::Duration::from_secs(seconds))
    }

    /// The same span as the standard library's type.
    #[must_use]
    pub const fn get(self) -> std::time::Duration {
        self.0
    }
}

/// A text that is not a [`Duration`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a duration; write whole numbers with units, largest first, such as `720h`, `1h30m` or `60s`"
)]
pub struct InvalidDuration(String);

impl FromStr for Duration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        let invalid = || InvalidDuration(text.to_owned());
        // jiff also reads `1 hour`, `1.5h`, `01:30:00` and `PT1H`, but each of these contains other characters.
        let plain = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'h' | b'm' | b's'));
        if !plain {
            return Err(invalid());
        }
        SpanParser::new().parse_unsigned_duration(text).map(Self).map_err(|_| invalid())
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let printer = SpanPrinter::new().spacing(Spacing::None);
        formatter.write_str(&printer.unsigned_duration_to_string(&self.0))
    }
}

impl TryFrom<String> for Duration {
    type Error = InvalidDuration;

    fn try_from(text: String) -> Result<Self, InvalidDuration> {
        text.parse()
    }
}

impl From<Duration> for String {
    fn from(duration: Duration) -> Self {
        duration.to_string()
    }
}

impl From<Duration> for std::time::Duration {
    fn from(duration: Duration) -> Self {
        duration.0
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // A CEL rule checks the pattern, because unlike `pattern` it has a message for people.
        json_schema!({
            "type": "string",
            "minLength": 1,
            "maxLength": Self::MAX_LENGTH,
            "x-kubernetes-validations": [{
                "rule": format!("self.matches('{}')", Self::PATTERN),
                "message": "write a duration as whole numbers with units, largest first: \
                            h, m, s, ms, such as `720h`, `1h30m` or `60s`",
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("720h", 720 * 3_600_000, "720h")]
    #[case("1h30m", 5_400_000, "1h30m")]
    #[case("60s", 60_000, "1m")]
    #[case("500ms", 500, "500ms")]
    #[case("1h1ms", 3_600_001, "1h1ms")]
    #[case("0s", 0, "0s")]
    #[case("90m", 5_400_000, "1h30m")]
    fn reads_and_prints(#[case] text: &str, #[case] milliseconds: u128, #[case] printed: &str) {
        let duration: Duration = text.parse().unwrap();
        assert_eq!(duration.get().as_millis(), milliseconds);
        assert_eq!(duration.to_string(), printed);
    }

    #[rstest]
    fn refuses_what_the_schema_refuses(
        #[values(
            "",
            "5",
            "h",
            "-1h",
            "+1h",
            "1.5h",
            "1d",
            "1w",
            "1us",
            "1ns",
            "1 h",
            "1h 30m",
            "30m1h",
            "1h1h",
            "PT1H",
            "1:30:00",
            "1hour",
            "1H",
            " 1h",
            "1h ",
            "1h5",
            "99999999999999999999h"
        )]
        text: &str,
    ) {
        assert_eq!(text.parse::<Duration>(), Err(InvalidDuration(text.to_owned())));
    }

    proptest! {
        #[test]
        fn reads_all_that_the_schema_accepts(
            text in "([0-9]{1,6}h)?([0-9]{1,7}m)?([0-9]{1,9}s)?([0-9]{1,12}ms)?".prop_filter("empty", |t| !t.is_empty())
        ) {
            let duration: Duration = text.parse().unwrap();
            prop_assert!(text.len() <= Duration::MAX_LENGTH as usize);
            prop_assert_eq!(duration.to_string().parse::<Duration>(), Ok(duration));
        }
    }
}
