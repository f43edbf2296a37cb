//! What the cloud can do at enrolments: clients that speak EST and nothing else, each with a ready passcode, key and
//! request, so that no disk but the cloud's own is waited for.

use std::{collections::HashSet, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::{StreamExt, stream};
use hdrhistogram::Histogram;
use http::Method;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use serde_json::json;
use tests::{Cloud, Door};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use crate::report::{OURS, Report};

/// Five samples; in each, so many clients at once enrol one after the other, with a TLS handshake for each enrolment.
pub(super) async fn measure(report: &mut Report) {
    println!("fleet: EST clients enrol, {AT_ONCE} at a time");
    let cloud = Cloud::plan().log_level("warn").start().await;
    let mut seen = HashSet::new();
    for sample in 0..SAMPLES {
        let requests = stream::iter(0..EACH).map(|index| ready(&cloud, format!("est-{sample}-{index}")));
        let requests: Vec<Vec<u8>> = requests.buffered(AT_ONCE).collect().await;
        let (start, door) = (Instant::now(), cloud.device());
        let all = stream::iter(&requests).map(|request| enrol(&door, request));
        let answers: Vec<(Duration, Vec<u8>)> = all.buffer_unordered(AT_ONCE).collect().await;
        let rate = EACH as f64 / start.elapsed().as_secs_f64();
        let mut times = Histogram::<u64>::new(3).unwrap();
        for (time, certificate) in answers {
            times.record(u64::try_from(time.as_micros()).unwrap()).unwrap();
            assert!(seen.insert(certificate), "two devices have one certificate");
        }
        report.put("P10", &format!("{WHO}, enrolments"), "/s", OURS, rate);
        for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
            let time = times.value_at_quantile(quantile) as f64 / 1000.0;
            report.put("P10", &format!("{WHO}, an enrolment, {name}"), "ms", OURS, time);
        }
    }
}

/// A whole HTTP request for a first certificate, with a passcode that was made for it.
async fn ready(cloud: &Cloud, device: String) -> Vec<u8> {
    let made = cloud.administer(Method::POST, "/admin/api/otp", json!({"device": device, "ttl": "1h"})).await;
    let pair = format!("{device}:{}", made["otp"].as_str().unwrap());
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&KeyPair::generate().unwrap()).unwrap();
    let body = BASE64_STANDARD.encode(request.der());
    format!(
        "POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Authorization: Basic {}\r\nContent-Type: application/pkcs10\r\nContent-Length: {}\r\n\r\n{body}",
        BASE64_STANDARD.encode(pair),
        body.len()
    )
    .into_bytes()
}

/// Handshake, request, answer: how long that took, and the certificate.
async fn enrol(door: &Door, request: &[u8]) -> (Duration, Vec<u8>) {
    let start = Instant::now();
    let mut stream = door.connect().await;
    stream.write_all(request).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = vec![];
    stream.read_to_end(&mut answer).await.unwrap();
    let time = start.elapsed();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{answer}");
    (time, BASE64_STANDARD.decode(body.trim_end()).unwrap())
}

/// As the figures name them.
const WHO: &str = "EST clients, 32 at once";
const AT_ONCE: usize = 32;
const SAMPLES: usize = 5;
const EACH: usize = 1000;
