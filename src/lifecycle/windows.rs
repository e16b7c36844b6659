//! Windows: the recurring times in which scheduled rotations begin.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::{
    Timestamp,
    tz::{TimeZone, TimeZoneDatabase},
};

use crate::api::RotationWindow;

/// The windows of a ServiceKey. Without a window, rotations may begin at any time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Windows(Arc<[Window]>);

/// A time that begins by a schedule, and lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Window {
    schedule: Cron,
    lasts: Duration,
    zone: TimeZone,
}

impl Hash for Window {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.schedule, self.lasts).hash(state);
    }
}

impl Windows {
    /// # Errors
    /// The first window that can't be read, or that never opens, and why.
    pub(crate) fn new(windows: &[RotationWindow]) -> Result<Self, String> {
        let window = |(number, window): (usize, &RotationWindow)| {
            Window::new(window).map_err(|why| format!("`spec.rotation.windows[{number}]`: {why}"))
        };
        windows.iter().enumerate().map(window).collect::<Result<_, _>>().map(Self)
    }

    /// The first time from `due` on at which a window is open; `due` itself without windows.
    pub(super) fn first_open(&self, due: Timestamp) -> Timestamp {
        if self.0.is_empty() || self.is_open(due) {
            return due;
        }
        self.0.iter().filter_map(|window| window.opens_after(due)).min().unwrap_or(due)
    }

    /// Whether a window is open at that time. Without windows, none is closed.
    pub(super) fn is_open(&self, time: Timestamp) -> bool {
        self.0.is_empty() || self.0.iter().any(|window| window.is_open(time))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Window {
    fn new(window: &RotationWindow) -> Result<Self, String> {
        let RotationWindow { schedule, duration, time_zone } = window;
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(schedule).map_err(|error| format!("`schedule`: {error}"))?;
        let name = time_zone.as_deref().unwrap_or("UTC");
        // Bundled with the operator: its container has no files of time zones, and all replicas know the same zones.
        let zone = TimeZoneDatabase::bundled().get(name);
        let zone = zone.map_err(|_| format!("`timeZone`: the operator knows no time zone `{name}`"))?;
        let window = Self { schedule: cron, lasts: duration.get(), zone };
        if window.opens_after(Timestamp::UNIX_EPOCH).is_none() {
            return Err("`schedule` names no date that exists".to_owned());
        }
        Ok(window)
    }

    fn opens_after(&self, time: Timestamp) -> Option<Timestamp> {
        let next = self.schedule.find_next_occurrence(&time.to_zoned(self.zone.clone()), false);
        next.ok().map(|next| next.timestamp())
    }

    fn is_open(&self, time: Timestamp) -> bool {
        let last = self.schedule.find_previous_occurrence(&time.to_zoned(self.zone.clone()), true);
        let ends = last.ok().and_then(|last| last.timestamp().checked_add(self.lasts).ok());
        ends.is_some_and(|ends| time < ends)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn window(schedule: &str, duration: &str, time_zone: Option<&str>) -> RotationWindow {
        RotationWindow {
            schedule: schedule.to_owned(),
            duration: duration.parse().unwrap(),
            time_zone: time_zone.map(str::to_owned),
        }
    }

    fn windows(all: &[RotationWindow]) -> Windows {
        Windows::new(all).unwrap()
    }

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    #[rstest]
    #[case::before("2026-11-28T01:59:59Z", "2026-11-28T02:00:00Z")]
    #[case::at_the_beginning("2026-11-28T02:00:00Z", "2026-11-28T02:00:00Z")]
    #[case::within("2026-11-28T05:59:59Z", "2026-11-28T05:59:59Z")]
    #[case::at_the_end("2026-11-28T06:00:00Z", "2026-12-05T02:00:00Z")]
    fn a_window_is_open_from_its_beginning_until_its_end(#[case] due: &str, #[case] expected: &str) {
        let saturday = windows(&[window("0 2 * * SAT", "4h", None)]);
        assert_eq!(saturday.first_open(at(due)), at(expected));
        assert_eq!(saturday.is_open(at(due)), due == expected);
        assert_eq!(Windows::default().first_open(at(due)), at(due));
    }

    #[test]
    fn the_first_of_several_windows_counts() {
        let both = windows(&[window("0 2 * * SAT", "4h", None), window("0 12 * * MON", "1h", None)]);
        assert_eq!(both.first_open(at("2026-11-28T07:00:00Z")), at("2026-11-30T12:00:00Z"));
        assert_eq!(both.first_open(at("2026-11-30T13:00:00Z")), at("2026-12-05T02:00:00Z"));
    }

    /// In Europe/London, 2026-03-29 has no time from 01:00 to 02:00, and 2026-10-25 has it twice.
    #[rstest]
    #[case::winter("2026-03-28T00:00:00Z", "2026-03-28T01:30:00Z")]
    #[case::the_hour_that_is_left_out("2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z")]
    #[case::summer("2026-03-30T00:00:00Z", "2026-03-30T00:30:00Z")]
    #[case::the_hour_that_comes_twice("2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z")]
    #[case::once("2026-10-25T01:00:00Z", "2026-10-26T01:30:00Z")]
    fn a_window_follows_its_time_zone(#[case] due: &str, #[case] expected: &str) {
        let london = windows(&[window("30 1 * * *", "15m", Some("Europe/London"))]);
        assert_eq!(london.first_open(at(due)), at(expected));
    }

    #[rstest]
    #[case::no_such_date("0 0 30 2 *", "1h", None, "no date that exists")]
    #[case::out_of_range("99 * * * *", "1h", None, "`schedule`: ")]
    #[case::six_fields("0 0 2 * * 6", "1h", None, "`schedule`: ")]
    #[case::no_schedule("every night", "1h", None, "`schedule`: ")]
    #[case::no_zone("0 2 * * *", "1h", Some("Europe/Atlantis"), "no time zone `Europe/Atlantis`")]
    #[case::a_path("0 2 * * *", "1h", Some("../etc/passwd"), "no time zone `../etc/passwd`")]
    fn a_window_that_never_opens_is_a_problem(
        #[case] schedule: &str,
        #[case] duration: &str,
        #[case] zone: Option<&str>,
        #[case] words: &str,
    ) {
        let good = window("0 2 * * *", "1h", Some("America/New_York"));
        let error = Windows::new(&[good, window(schedule, duration, zone)]).unwrap_err();
        assert!(error.starts_with("`spec.rotation.windows[1]`: ") && error.contains(words), "{error}");
    }
}
