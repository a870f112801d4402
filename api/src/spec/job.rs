//! What is particular to jobs: when they run, and how many at a time.

use std::{borrow::Cow, fmt, str::FromStr};

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::{Timestamp, tz::TimeZone};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What to do when a scheduled job is due and the one before still runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Concurrency {
    /// Start it beside the other one.
    Allow,
    /// Leave it out, which is told. Two backups at a time are rarely what somebody wanted.
    #[default]
    Forbid,
    /// Stop the other one, and start it.
    Replace,
}

/// How many finished jobs of a schedule are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobHistory {
    /// Of those that completed. Default 3.
    #[serde(default = "three")]
    #[schemars(range(max = 100))]
    pub completed: u32,
    /// Of those that failed. Default 1.
    #[serde(default = "one")]
    #[schemars(range(max = 100))]
    pub failed: u32,
}

fn one() -> u32 {
    1
}

fn three() -> u32 {
    3
}

impl Default for JobHistory {
    fn default() -> Self {
        Self {
            completed: three(),
            failed: one(),
        }
    }
}

impl JobHistory {
    /// Whether nothing but the defaults is said.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// When a schedule is due: five fields (minute, hour, day of month, month, day of week), or
/// `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    text: Box<str>,
    cron: Cron,
}

/// A string is not a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a schedule: write five fields (minute, hour, day of month, month, day of \
     week), like `30 3 * * mon-fri`, or `@daily` ({why})"
)]
pub struct ScheduleError {
    text: String,
    why: String,
}

impl Schedule {
    /// The first moment after `after` at which it is due in a time zone; `None` if it never is
    /// again (`0 0 30 2 *`). A time that a day has not, since clocks are put forward, is due right after
    /// the gap; one that a day has twice is due once, unless it comes every hour anyway.
    #[must_use]
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let after = after.to_zoned(zone.clone());
        let next = self.cron.find_next_occurrence(&after, false).ok()?;
        Some(next.timestamp())
    }

    /// The schedule as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Schedule {
    type Err = ScheduleError;
    fn from_str(s: &str) -> Result<Self, ScheduleError> {
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build();
        let error = |why: String| ScheduleError {
            text: s.chars().take(80).collect(),
            why,
        };
        let text = s.trim();
        // The parser looks for nicknames anywhere in the text.
        if text.contains('@') && !NICKNAMES.contains(&text) {
            return Err(error("there is no such nickname".to_owned()));
        }
        match parser.parse(text) {
            Ok(cron) => Ok(Self {
                text: text.into(),
                cron,
            }),
            Err(why) => {
                let why = why.to_string().to_lowercase();
                // In front of the colon it only says which kind of error it is.
                let why = why.split_once(": ").map_or(why.as_str(), |(_, why)| why);
                Err(error(why.trim_end_matches('.').to_owned()))
            }
        }
    }
}

const NICKNAMES: [&str; 7] = [
    "@hourly",
    "@daily",
    "@midnight",
    "@weekly",
    "@monthly",
    "@yearly",
    "@annually",
];

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Schedule {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Schedule {
    fn schema_name() -> Cow<'static, str> {
        "Schedule".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["30 3 * * mon-fri", "@daily"] })
    }
}

/// A time zone by its name in the IANA database, like `Europe/Berlin`, or `UTC`. The database is
/// part of the program, so that the same manifest means the same on every machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

/// A string is not the name of a time zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time zone: write a name like `Europe/Berlin`, or `UTC`")]
pub struct ZoneError(String);

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Self = Self(TimeZone::UTC);

    /// The zone, for calculations.
    #[must_use]
    pub fn rules(&self) -> &TimeZone {
        &self.0
    }

    /// Whether it is UTC.
    #[must_use]
    pub fn is_utc(&self) -> bool {
        *self == Self::UTC
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self::UTC
    }
}

impl FromStr for Zone {
    type Err = ZoneError;
    fn from_str(s: &str) -> Result<Self, ZoneError> {
        if s == "UTC" {
            return Ok(Self::UTC);
        }
        let zone = TimeZone::get(s)
            .ok()
            .filter(|zone| zone.iana_name() == Some(s));
        zone.map(Self)
            .ok_or_else(|| ZoneError(s.chars().take(80).collect()))
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0.iana_name().unwrap_or("UTC"))
    }
}

impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Zone {
    fn schema_name() -> Cow<'static, str> {
        "Zone".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["Europe/Berlin", "UTC"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(schedule: &str, zone: &str, after: &str) -> String {
        let schedule: Schedule = schedule.parse().unwrap();
        let zone: Zone = zone.parse().unwrap();
        let next = schedule.next(after.parse().unwrap(), zone.rules());
        next.map_or("never".to_owned(), |next| next.to_string())
    }

    #[test]
    fn it_is_due_after_a_moment_and_not_at_it() {
        let next = due("30 3 * * *", "UTC", "2026-05-01T03:29:59Z");
        assert_eq!(next, "2026-05-01T03:30:00Z");
        let next = due("30 3 * * *", "UTC", "2026-05-01T03:30:00Z");
        assert_eq!(next, "2026-05-02T03:30:00Z");
        let next = due("@daily", "UTC", "2026-05-01T03:30:00Z");
        assert_eq!(next, "2026-05-02T00:00:00Z");
        let next = due("0 9 * * mon-fri", "Europe/Berlin", "2026-05-01T12:00:00Z");
        assert_eq!(next, "2026-05-04T07:00:00Z");
        assert_eq!(due("0 0 30 2 *", "UTC", "2026-05-01T03:30:00Z"), "never");
    }

    #[test]
    fn a_time_that_clocks_leave_out_is_due_right_after_the_gap() {
        // Berlin has no 02:30 on 2026-03-29.
        let next = due("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z");
        assert_eq!(next, "2026-03-29T01:00:00Z");
        let next = due("30 2 * * *", "Europe/Berlin", "2026-03-29T01:00:00Z");
        assert_eq!(next, "2026-03-30T00:30:00Z");
    }

    #[test]
    fn a_time_that_clocks_show_twice_is_due_once() {
        // Berlin has 02:30 twice on 2026-10-25: at 00:30 and at 01:30 in UTC.
        let next = due("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z");
        assert_eq!(next, "2026-10-25T00:30:00Z");
        let next = due("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30:00Z");
        assert_eq!(next, "2026-10-26T01:30:00Z");
        // What comes every hour comes in both.
        let next = due("30 * * * *", "Europe/Berlin", "2026-10-25T00:30:00Z");
        assert_eq!(next, "2026-10-25T01:30:00Z");
    }

    #[test]
    fn what_is_no_schedule_or_zone_is_refused() {
        for text in [
            "",
            "* * * *",
            "* * * * * *",
            "61 * * * *",
            "@fortnightly",
            "* * @daily * *",
            "@",
        ] {
            assert!(text.parse::<Schedule>().is_err(), "{text}");
        }
        for text in ["", "Berlin", "europe/berlin", "../etc/passwd", "CEST"] {
            assert!(text.parse::<Zone>().is_err(), "{text}");
        }
    }
}
