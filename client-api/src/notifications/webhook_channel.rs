//! Webhooks: a signed POST of the event to an address of the user's own (Standard Webhooks 1.0).

use std::{pin::Pin, sync::Arc, time::Duration};

use http::{
    HeaderMap, Request, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT},
};
use model::Timestamp;
use runtime::http::Outbound;
use store::{DueDelivery, Endpoint};
use time::{OffsetDateTime, format_description::well_known::Rfc2822};

use super::{
    channel::{Channel, Outcome},
    seams::WebhookSigner,
};

/// Carries events to webhooks.
pub(crate) struct WebhookChannel {
    pub(crate) signer: Arc<dyn WebhookSigner>,
    pub(crate) outbound: Outbound,
}

impl Channel for WebhookChannel {
    fn deliver<'a>(
        &'a self,
        delivery: &'a DueDelivery,
        endpoint: &'a Endpoint,
        now: Timestamp,
    ) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>> {
        Box::pin(async move {
            let Endpoint::Webhook { url, secrets, .. } = endpoint else {
                return Outcome::Refused { status: None, reason: "this is no webhook".into() };
            };
            let (id, body) = (delivery.id.as_str(), delivery.body.as_bytes());
            // The time of this attempt: receivers refuse old ones.
            let signature = match self.signer.sign(&delivery.target, secrets, id, now.secs(), body) {
                Ok(signature) => signature,
                Err(reason) => return Outcome::Refused { status: None, reason },
            };
            let request = Request::post("/")
                .header(CONTENT_TYPE, "application/cloudevents+json; charset=utf-8")
                .header(USER_AGENT, concat!("tcpmux/", env!("CARGO_PKG_VERSION")))
                .header("webhook-id", id)
                .header("webhook-timestamp", now.secs())
                .header("webhook-signature", signature)
                .body(delivery.body.clone().into_bytes().into());
            let Ok(request) = request else {
                return Outcome::Refused { status: None, reason: "the request could not be written".into() };
            };
            match self.outbound.send(url, request).await {
                Ok(answer) => outcome(answer.status, &answer.headers, now),
                Err(error) => Outcome::failed(None, error.to_string()),
            }
        })
    }
}

fn outcome(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Outcome {
    let code = status.as_u16();
    match status {
        _ if status.is_success() => Outcome::Delivered(code),
        StatusCode::GONE => Outcome::Gone { status: code, reason: "it answered 410 Gone".into() },
        _ => {
            let busy = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&status);
            let asked = headers
                .get(RETRY_AFTER)
                .filter(|_| busy)
                .and_then(|value| retry_after(value.to_str().ok()?, now));
            let more = if status.is_redirection() { "; redirects are not followed" } else { "" };
            Outcome::Failed { status: Some(code), reason: format!("it answered {code}{more}"), asked }
        }
    }
}

/// RFC 9110 §10.2.3: seconds, or a date.
pub(crate) fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let date = OffsetDateTime::parse(text.trim(), &Rfc2822).ok()?;
    Some(Timestamp::from_secs(date.unix_timestamp()).since(now))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn of(status: u16, wait: Option<&'static str>) -> Outcome {
        let mut headers = HeaderMap::new();
        headers.extend(wait.map(|wait| (RETRY_AFTER, HeaderValue::from_static(wait))));
        outcome(StatusCode::from_u16(status).unwrap(), &headers, NOW)
    }

    #[test]
    fn any_success_is_a_delivery_410_the_end_and_all_else_a_failure() {
        assert_eq!(of(200, None), Outcome::Delivered(200));
        assert_eq!(of(204, None), Outcome::Delivered(204));
        assert!(matches!(of(410, None), Outcome::Gone { status: 410, .. }));
        for status in [301, 307, 400, 401, 404, 429, 500, 503] {
            assert!(matches!(of(status, None), Outcome::Failed { asked: None, .. }), "{status}");
        }
    }

    #[test]
    fn those_who_are_busy_say_for_how_long() {
        for status in [429, 503] {
            let Outcome::Failed { asked, .. } = of(status, Some("120")) else { panic!("{status}") };
            assert_eq!(asked, Some(Duration::from_secs(120)));
        }
        let Outcome::Failed { asked, .. } = of(500, Some("120")) else { panic!() };
        assert_eq!(asked, None, "only of those two");
        assert_eq!(retry_after("Fri, 15 Jan 2027 08:01:00 GMT", NOW), Some(Duration::from_secs(60)));
        assert_eq!(retry_after("Thu, 14 Jan 2027 08:01:00 GMT", NOW), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", NOW), None);
        assert_eq!(retry_after("-5", NOW), None);
    }
}
