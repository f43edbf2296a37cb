//! Targets of the fuzzer in this crate: local programs, the disk, the cloud's answers, the configuration.

use model::{LARGEST_ITEM, MOST_REPORTED, ReportKind, Timestamp};
use serde_json::Value;

use crate::{
    Proxies, calendar,
    certificate::CertificateFacts,
    config::{ConfigFile, Overrides},
    pkcs7, report,
    spool::{self, Record},
};

/// A body of a local program: taken in whole or not at all, each item with an id, and read again the same.
pub fn report(bytes: &[u8]) {
    let now = Timestamp::from_secs(1_800_000_000);
    for kind in [ReportKind::Telemetry, ReportKind::Notification] {
        let mut number = 0;
        let fresh = || {
            number += 1;
            format!("fresh-{number}").parse().expect("letters and digits are an id")
        };
        let Ok(report) = report::read(kind, bytes, now, fresh) else { continue };
        assert!((1..=MOST_REPORTED).contains(&report.ids.len()));
        assert_eq!(report.ids.len(), report.records.len());
        for (record, id) in report.records.iter().zip(&report.ids) {
            assert!(record.json.len() <= LARGEST_ITEM);
            let again = report::read(kind, &record.json, now, || panic!("it has an id"));
            let again = again.expect("what waits for the cloud makes sense");
            assert_eq!((again.ids.first(), again.records.len()), (Some(id), 1));
            let [once, twice] = [&record.json, &again.records[0].json]
                .map(|json| serde_json::from_slice::<Value>(json).expect("it was written as JSON"));
            assert!(is_same(&once, &twice), "{once} became {twice}");
        }
    }
}

/// Whether two values are the same, but for the last place of numbers, which reading JSON may change.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(name, value)| other.get(name).is_some_and(|same| is_same(value, same)))
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Value::Number(one), Value::Number(other)) => match (one.as_f64(), other.as_f64()) {
            (Some(a), Some(b)) => a == b || ((a - b) / a).abs() <= 4.0 * f64::EPSILON,
            _ => one == other,
        },
        _ => one == other,
    }
}

/// Bytes of a damaged disk: whole records are found, in order, and are what was written.
pub fn spool(bytes: &[u8]) {
    let mut end = 0;
    for (record, after) in spool::found_for_fuzzing(bytes) {
        let mut written = Vec::new();
        record.write(&mut written);
        assert_eq!(written.len() as u64, Record::size(record.json.len()));
        assert!(after <= bytes.len() && after - written.len() >= end, "records do not overlap");
        assert_eq!(written, bytes[after - written.len()..after]);
        end = after;
    }
}

/// What the cloud issues: a PKCS#7 message, certificates, dates.
pub fn issued(bytes: &[u8]) {
    if let Ok(certificates) = pkcs7::certificates(bytes) {
        assert!(certificates.iter().map(Vec::len).sum::<usize>() <= bytes.len());
        for certificate in certificates {
            let _ = CertificateFacts::read(&certificate);
        }
    }
    let _ = CertificateFacts::read(bytes);
    for tag in [0x17, 0x18] {
        let _ = calendar::certificate_time(tag, bytes);
    }
    if let Some(at) = std::str::from_utf8(bytes).ok().and_then(calendar::http_date) {
        assert!(at.rfc3339().ends_with('Z'));
    }
}

/// The daemon's configuration: nothing but loopback is exposed unless its owner says so.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(file) = toml::from_str::<ConfigFile>(text) else { return };
    let allow_lan = file.allow_lan;
    let Ok(config) = file.daemon(Overrides::default(), Proxies::none()) else { return };
    assert!(config.local_api.is_none_or(|address| address.ip().is_loopback()));
    for service in config.services.iter() {
        for address in service.target.addresses() {
            assert!(allow_lan || address.ip().is_loopback(), "{address}");
            assert!(Some(*address) != config.local_api, "the daemon's own API is no service");
        }
    }
}
