//! The dates that certificates and HTTP write, as points in time.

use model::Timestamp;

/// A UTCTime or GeneralizedTime of a certificate (RFC 5280 §4.1.2.5), given its tag.
pub(crate) fn certificate_time(tag: u8, text: &[u8]) -> Option<Timestamp> {
    let (year, rest) = match tag {
        UTC_TIME => {
            let year = digits(text.get(..2)?)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, text.get(2..)?)
        }
        GENERALIZED_TIME => (digits(text.get(..4)?)?, text.get(4..)?),
        _ => return None,
    };
    let [month, day, hour, minute, second] = [0, 2, 4, 6, 8].map(|at| rest.get(at..at + 2).and_then(digits));
    if rest.len() != 11 || rest[10] != b'Z' {
        return None;
    }
    moment(year, month?, day?, [hour?, minute?, second?])
}

/// An HTTP date in its preferred form, `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7).
pub(crate) fn http_date(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, rest) = text.trim().split_once(", ")?;
    let mut parts = rest.split(' ');
    let day = digits(parts.next()?.as_bytes())?;
    let name = parts.next()?;
    let month = MONTHS.iter().position(|month| *month == name)? + 1;
    let year = digits(parts.next()?.as_bytes())?;
    let time = parts.next()?.as_bytes();
    let [hour, minute, second] = [0, 3, 6].map(|at| time.get(at..at + 2).and_then(digits));
    if time.len() != 8 || parts.next() != Some("GMT") {
        return None;
    }
    moment(year, i64::try_from(month).ok()?, day, [hour?, minute?, second?])
}

/// A number of four digits at most: no date has a longer one.
fn digits(text: &[u8]) -> Option<i64> {
    if text.len() > 4 {
        return None;
    }
    text.iter().try_fold(0_i64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
}

fn moment(year: i64, month: i64, day: i64, [hour, minute, second]: [i64; 3]) -> Option<Timestamp> {
    let legal = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60
        && year <= 9999;
    // Howard Hinnant's days-from-civil, proleptic Gregorian.
    let shifted_year = year - i64::from(month <= 2);
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    legal.then(|| Timestamp::from_secs(days * 86_400 + hour * 3600 + minute * 60 + second))
}

pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_certificates() {
        for (tag, text, shown) in [
            (UTC_TIME, "261121232839Z", "2026-11-21T23:28:39Z"),
            (UTC_TIME, "500101000000Z", "1950-01-01T00:00:00Z"),
            (UTC_TIME, "000229120000Z", "2000-02-29T12:00:00Z"),
            (GENERALIZED_TIME, "20500101000000Z", "2050-01-01T00:00:00Z"),
            (GENERALIZED_TIME, "99991231235959Z", "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(certificate_time(tag, text.as_bytes()).unwrap().rfc3339(), shown);
        }
        for (tag, bad) in [
            (UTC_TIME, "2611212328Z"),
            (UTC_TIME, "261321232839Z"),
            (UTC_TIME, "261121232839+0100"),
            (GENERALIZED_TIME, "20500101000000"),
            (UTC_TIME, ""),
            (2, "261121232839Z"),
        ] {
            assert_eq!(certificate_time(tag, bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn dates_of_http() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap().secs(), 784_111_777);
        for bad in ["", "yesterday", "Sun, 06 Nov 1994 08:49:37 CET", "Sun, 06 Foo 1994 08:49:37 GMT"] {
            assert_eq!(http_date(bad), None, "{bad}");
        }
        let endless = format!("Sun, {} Nov 1994 08:49:37 GMT", "3".repeat(65));
        assert_eq!(http_date(&endless), None, "{endless}");
    }
}
