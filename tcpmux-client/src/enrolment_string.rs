//! The one string that an operator hands out: where the cloud is, which CA it has, the passcode.

use std::str::FromStr;

use model::{DeviceId, Fingerprint, Passcode};

use crate::ServerAddress;

/// `tcpmux://HOST:PORT/?ca=sha256:…&otp=…[&device=ID]`, read.
#[derive(Debug, Clone)]
pub struct EnrolmentString {
    /// The device door.
    pub server: ServerAddress,
    /// SHA-256 of the root certificate's DER.
    pub ca: Fingerprint,
    /// The one-time passcode.
    pub passcode: Passcode,
    /// The device that the passcode is bound to, where it is bound.
    pub device: Option<DeviceId>,
}

/// Why a text is not an enrolment string. Never repeats the text: it holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnrolmentStringError {
    /// It does not begin with `tcpmux://`.
    #[error("an enrolment string begins with tcpmux://; copy it whole from `tcpmux passcode new`")]
    Scheme,
    /// The server part cannot be read.
    #[error("the enrolment string names no server that can be read (expected tcpmux://HOST:PORT/?…)")]
    Server,
    /// A part is missing.
    #[error("the enrolment string has no `{0}=`; was it cut, or does the shell need quotes around it?")]
    Missing(&'static str),
    /// A part is there twice.
    #[error("the enrolment string has `{0}=` twice")]
    Twice(&'static str),
    /// A part cannot be read.
    #[error("the enrolment string's `{part}=`: {problem}")]
    Part {
        /// Which part.
        part: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

impl FromStr for EnrolmentString {
    type Err = EnrolmentStringError;
    fn from_str(text: &str) -> Result<Self, EnrolmentStringError> {
        let rest = text.trim().strip_prefix("tcpmux://").ok_or(EnrolmentStringError::Scheme)?;
        let (server, query) = rest.split_once('?').ok_or(EnrolmentStringError::Missing("ca"))?;
        let server = server.strip_suffix('/').unwrap_or(server);
        let server = server.parse().map_err(|_| EnrolmentStringError::Server)?;
        let (mut ca, mut otp, mut device) = (None, None, None);
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (slot, name) = match name {
                "ca" => (&mut ca, "ca"),
                "otp" => (&mut otp, "otp"),
                "device" => (&mut device, "device"),
                // A newer cloud may say more; what is not needed here does no harm.
                _ => continue,
            };
            if slot
                .replace(percent_decoded(value).ok_or_else(|| part(name, "bad percent-encoding"))?)
                .is_some()
            {
                return Err(EnrolmentStringError::Twice(name));
            }
        }
        let ca = parse_ca(&ca.ok_or(EnrolmentStringError::Missing("ca"))?).map_err(|e| part("ca", e))?;
        let otp = otp.ok_or(EnrolmentStringError::Missing("otp"))?;
        Ok(Self {
            server,
            ca,
            passcode: otp.parse().map_err(|error| part("otp", error))?,
            device: device.map(|id| id.parse()).transpose().map_err(|error| part("device", error))?,
        })
    }
}

/// Reads `sha256:<64 hex digits>`, the way in which a CA is named everywhere.
pub fn parse_ca(text: &str) -> Result<Fingerprint, String> {
    let digits = text.strip_prefix("sha256:").ok_or("a CA fingerprint is written sha256:<64 hex digits>")?;
    digits.to_ascii_lowercase().parse()
}

fn part(part: &'static str, problem: impl ToString) -> EnrolmentStringError {
    EnrolmentStringError::Part { part, problem: problem.to_string() }
}

pub(crate) fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.extend(model::unhex(digits)?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passcode() -> String {
        Passcode::from_random([7; 20]).reveal()
    }

    #[test]
    fn a_whole_string_is_read() {
        let ca = "ab".repeat(32);
        let text =
            format!("tcpmux://cloud.example.com:7443/?ca=sha256:{ca}&otp={}&device=cam-01\n", passcode());
        let read: EnrolmentString = text.parse().unwrap();
        assert_eq!(read.server.to_string(), "cloud.example.com:7443");
        assert_eq!(read.ca.to_string(), ca);
        assert_eq!(read.passcode.reveal(), passcode());
        assert_eq!(read.device.unwrap().as_str(), "cam-01");
        let encoded =
            format!("tcpmux://[::1]:9?otp={}&ca=sha256%3A{}&later=x", passcode(), ca.to_uppercase());
        let read: EnrolmentString = encoded.parse().unwrap();
        assert_eq!((read.server.to_string().as_str(), read.device), ("[::1]:9", None));
    }

    #[test]
    fn what_is_wrong_is_named_and_the_passcode_never() {
        let ca = format!("ca=sha256:{}", "ab".repeat(32));
        let otp = format!("otp={}", passcode());
        for (text, expected) in [
            (format!("https://h/?{ca}&{otp}"), "tcpmux://"),
            (format!("tcpmux:///?{ca}&{otp}"), "server"),
            (format!("tcpmux://h:1/?{otp}"), "`ca=`"),
            (format!("tcpmux://h:1/?{ca}"), "`otp=`"),
            (format!("tcpmux://h:1/?{ca}&{otp}&{otp}"), "twice"),
            (format!("tcpmux://h:1/?ca=md5:00&{otp}"), "sha256:"),
            (format!("tcpmux://h:1/?{ca}&{otp}&device=Not+Valid"), "device"),
            (format!("tcpmux://h:1/?{ca}&otp={}X", passcode()), "otp"),
            (format!("tcpmux://h:1/?{ca}&otp=%zz"), "percent"),
        ] {
            let error = text.parse::<EnrolmentString>().unwrap_err().to_string();
            assert!(error.contains(expected), "{error:?} should name {expected:?}");
            assert!(!error.contains(&passcode()));
        }
    }

    #[test]
    fn printing_it_hides_the_passcode() {
        let text = format!("tcpmux://h:1/?ca=sha256:{}&otp={}", "ab".repeat(32), passcode());
        assert!(!format!("{:?}", text.parse::<EnrolmentString>().unwrap()).contains(&passcode()));
    }
}
