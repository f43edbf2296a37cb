//! Moments as devices write them: RFC 3339 with any offset, or milliseconds since 1970.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::Timestamp;

/// A moment that somebody else wrote down. Written as RFC 3339 in UTC with milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub Timestamp);

/// A text or a number is no moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a time is written as in 2027-01-31T12:00:00.250Z, or as whole milliseconds since 1970")]
pub struct MomentError;

impl Moment {
    /// From milliseconds since 1970, between the years 0 and 9999.
    ///
    /// # Errors
    /// For any other number.
    pub fn from_millis(millis: i64) -> Result<Self, MomentError> {
        if (FIRST..=LAST).contains(&millis) { Ok(Self(Timestamp(millis))) } else { Err(MomentError) }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.rfc3339();
        write!(f, "{}.{:03}Z", seconds.trim_end_matches('Z'), self.0.millis().rem_euclid(1000))
    }
}

impl FromStr for Moment {
    type Err = MomentError;
    /// Reads `2027-01-31T12:00:00Z`, with a fraction of a second (cut after milliseconds) and any offset
    /// (RFC 3339 §5.6). A leap second is the second after it.
    fn from_str(text: &str) -> Result<Self, MomentError> {
        let bytes = text.as_bytes();
        if !(SHORTEST..=LONGEST).contains(&bytes.len()) {
            return Err(MomentError);
        }
        let marks = [(4, b"--"), (7, b"--"), (10, b"Tt"), (13, b"::"), (16, b"::")];
        if marks.iter().any(|(at, either)| !either.contains(&bytes[*at])) {
            return Err(MomentError);
        }
        let part = |from: usize, to: usize| digits(&bytes[from..to]);
        let (year, month, day) = (part(0, 4)?, part(5, 7)?, part(8, 10)?);
        let (hour, minute, second) = (part(11, 13)?, part(14, 16)?, part(17, 19)?);
        let is_legal = (1..=12).contains(&month)
            && (1..=days_in(year, month)).contains(&day)
            && hour < 24
            && minute < 60
            && second <= 60;
        if !is_legal {
            return Err(MomentError);
        }
        let (millis, rest) = fraction(&bytes[19..])?;
        let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset(rest)?;
        Self::from_millis(seconds * 1000 + millis)
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        output.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(Reader)
    }
}

struct Reader;

impl de::Visitor<'_> for Reader {
    type Value = Moment;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MomentError}")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Moment, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, millis: i64) -> Result<Moment, E> {
        Moment::from_millis(millis).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, millis: u64) -> Result<Moment, E> {
        i64::try_from(millis).map_err(|_| MomentError).and_then(Moment::from_millis).map_err(E::custom)
    }
}

fn digits(text: &[u8]) -> Result<i64, MomentError> {
    let sum = |sum: i64, byte: &u8| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0'));
    text.iter().try_fold(0, sum).ok_or(MomentError)
}

/// Milliseconds of `.250…`, and what follows.
fn fraction(text: &[u8]) -> Result<(i64, &[u8]), MomentError> {
    let Some(text) = text.strip_prefix(b".") else { return Ok((0, text)) };
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if length == 0 {
        return Err(MomentError);
    }
    let millis = [100, 10, 1].iter().zip(&text[..length]);
    Ok((millis.map(|(weight, byte)| weight * i64::from(byte - b'0')).sum(), &text[length..]))
}

/// Seconds of `Z`, `+01:00` or `-05:30`, which ends the text.
fn offset(text: &[u8]) -> Result<i64, MomentError> {
    match text {
        b"Z" | b"z" => Ok(0),
        [sign @ (b'+' | b'-'), hour @ .., b':', tens, ones] if hour.len() == 2 => {
            let (hours, minutes) = (digits(hour)?, digits(&[*tens, *ones])?);
            if hours > 23 || minutes > 59 {
                return Err(MomentError);
            }
            let seconds = hours * 3600 + minutes * 60;
            Ok(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => Err(MomentError),
    }
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970: Howard Hinnant's days-from-civil, proleptic Gregorian.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let shifted = year - i64::from(month <= 2);
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

const SHORTEST: usize = "2027-01-31T12:00:00Z".len();
const LONGEST: usize = 40;
/// The years that RFC 3339 can write.
const FIRST: i64 = -62_167_219_200_000;
const LAST: i64 = 253_402_300_799_999;

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(text: &str) -> Option<i64> {
        text.parse::<Moment>().ok().map(|moment| moment.0.millis())
    }

    #[test]
    fn a_moment_is_read_as_the_standard_writes_it() {
        assert_eq!(millis("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(millis("2026-11-21T23:28:39Z"), Some(1_795_303_719_000));
        assert_eq!(millis("2026-11-22T00:28:39.25+01:00"), Some(1_795_303_719_250));
        assert_eq!(millis("2026-11-21t17:58:39.123999999-05:30"), Some(1_795_303_719_123));
        assert_eq!(millis("2000-02-29T00:00:00z"), Some(951_782_400_000));
        assert_eq!(millis("2016-12-31T23:59:60Z"), millis("2017-01-01T00:00:00Z"));
        assert_eq!(millis("0000-01-01T00:00:00Z"), Some(FIRST));
        assert_eq!(millis("9999-12-31T23:59:59.999Z"), Some(LAST));
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for bad in [
            "",
            "2026-11-21",
            "2026-11-21 23:28:39Z",
            "2026-11-21T23:28:39",
            "2026-11-21T23:28:39.Z",
            "2026-11-21T23:28:39+1:00",
            "2026-11-21T23:28:39+24:00",
            "2026-11-21T23:28:39ZZ",
            "2026-02-29T00:00:00Z",
            "2026-04-31T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-11-21T24:00:00Z",
            "+026-11-21T23:28:39Z",
            "2026-11-21T23:28:é9Z",
            "0000-01-01T00:00:00+01:00",
            "9999-12-31T23:59:59-01:00",
        ] {
            assert_eq!(millis(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for text in ["1969-12-31T23:59:59.999Z", "2024-02-29T12:30:45.007Z", "9999-12-31T23:59:59.999Z"] {
            assert_eq!(text.parse::<Moment>().unwrap().to_string(), text);
        }
        let mut at = FIRST;
        while at < LAST {
            let moment = Moment(Timestamp(at));
            assert_eq!(moment.to_string().parse(), Ok(moment));
            at += 86_400_000 * 97 + 12_345_678;
        }
    }

    #[test]
    fn json_has_a_text_or_a_number_of_milliseconds() {
        let read = |json: &str| serde_json::from_str::<Moment>(json).map(|moment| moment.0.millis()).ok();
        assert_eq!(read("1795303719250"), Some(1_795_303_719_250));
        assert_eq!(read("-1"), Some(-1));
        assert_eq!(read(r#""2026-11-21T23:28:39.250Z""#), Some(1_795_303_719_250));
        for bad in ["1.5", "true", "null", "[]", "18446744073709551615", "\"yesterday\""] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(serde_json::to_string(&Moment(Timestamp(5))).unwrap(), r#""1970-01-01T00:00:00.005Z""#);
    }
}
