//! Push messages by Firebase Cloud Messaging, HTTP v1.

use std::pin::Pin;

use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER},
};
use model::Timestamp;
use runtime::http::ClientError;
use serde_json::{Value, json};
use store::{DueDelivery, Endpoint};

use super::{
    channel::{Channel, Outcome},
    seams::Push,
    webhook_channel::retry_after,
};

/// Carries notifications to apps.
pub(crate) struct FcmChannel(pub(crate) Push);

impl Channel for FcmChannel {
    fn deliver<'a>(
        &'a self,
        delivery: &'a DueDelivery,
        endpoint: &'a Endpoint,
        now: Timestamp,
    ) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>> {
        Box::pin(async move {
            let Endpoint::Fcm { token, .. } = endpoint else {
                return Outcome::Refused { status: None, reason: "this is no app".into() };
            };
            let Ok(mut message) = serde_json::from_str::<Value>(&delivery.body) else {
                return Outcome::Refused { status: None, reason: "the message cannot be read".into() };
            };
            message["token"] = token.as_str().into();
            let body = json!({"message": message}).to_string();
            let mut refused = None;
            for _ in 0..2 {
                let authorization = match self.0.sender.authorization(refused.as_ref()).await {
                    Ok(authorization) => authorization,
                    Err(reason) => {
                        tracing::warn!(reason, "push messages cannot be sent");
                        return Outcome::failed(None, "the push account got no access token");
                    }
                };
                match self.call(authorization.clone(), body.clone()).await {
                    // A token may end before its time: once, another one is got.
                    Ok(answer) if answer.status() == StatusCode::UNAUTHORIZED => {
                        refused = Some(authorization)
                    }
                    Ok(answer) => return outcome(&answer, now),
                    Err(error) => return Outcome::failed(None, error.to_string()),
                }
            }
            Outcome::failed(Some(401), "the push service refuses the account")
        })
    }
}

impl FcmChannel {
    async fn call(
        &self,
        authorization: HeaderValue,
        body: String,
    ) -> Result<Response<impl AsRef<[u8]> + use<>>, ClientError> {
        let url = format!("{}/v1/projects/{}/messages:send", self.0.url, self.0.sender.project());
        let request = Request::post(&url)
            .header(AUTHORIZATION, authorization)
            .header(CONTENT_TYPE, "application/json")
            .body(body.into_bytes().into())
            .map_err(|_| ClientError::Address(self.0.url.clone()))?;
        self.0.client.call(request).await
    }
}

/// https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode
fn outcome(answer: &Response<impl AsRef<[u8]>>, now: Timestamp) -> Outcome {
    let status = answer.status();
    let code = status.as_u16();
    if status.is_success() {
        return Outcome::Delivered(code);
    }
    let body: Value = serde_json::from_slice(answer.body().as_ref()).unwrap_or_default();
    let details = body["error"]["details"].as_array();
    let word = details.and_then(|all| all.iter().find_map(|one| one["errorCode"].as_str()));
    let word = word.or_else(|| body["error"]["status"].as_str()).unwrap_or_default();
    let reason = match word {
        "" => format!("it answered {code}"),
        word => format!("it answered {code} {}", word.chars().take(64).collect::<String>()),
    };
    match (status, word) {
        (_, "UNREGISTERED" | "SENDER_ID_MISMATCH") => Outcome::Gone { status: code, reason },
        (StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::FORBIDDEN, _) => {
            Outcome::Refused { status: Some(code), reason }
        }
        _ => {
            let asked = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            Outcome::Failed {
                status: Some(code),
                reason,
                asked: asked.and_then(|text| retry_after(text, now)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_that_is_gone_a_bad_message_and_a_busy_service_are_three_things() {
        let of = |status: u16, word: &str| {
            let body =
                json!({"error": {"status": "X", "details": [{"@type": "…FcmError", "errorCode": word}]}});
            outcome(&Response::builder().status(status).body(body.to_string()).unwrap(), Timestamp(0))
        };
        assert_eq!(of(200, ""), Outcome::Delivered(200));
        assert!(matches!(of(404, "UNREGISTERED"), Outcome::Gone { status: 404, .. }));
        assert!(matches!(of(403, "SENDER_ID_MISMATCH"), Outcome::Gone { .. }));
        assert!(matches!(of(400, "INVALID_ARGUMENT"), Outcome::Refused { status: Some(400), .. }));
        for (status, word) in [(429, "QUOTA_EXCEEDED"), (503, "UNAVAILABLE"), (500, "INTERNAL")] {
            assert!(matches!(of(status, word), Outcome::Failed { .. }), "{word}");
        }
        let bare = Response::builder().status(502).header("retry-after", "7").body("<html>").unwrap();
        let Outcome::Failed { asked, reason, .. } = outcome(&bare, Timestamp(0)) else { panic!() };
        assert_eq!((asked, reason.as_str()), (Some(std::time::Duration::from_secs(7)), "it answered 502"));
    }
}
