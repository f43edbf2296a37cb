//! Every "no" that EST says: a status, a stable word, a sentence. As text, which RFC 8951 §3.2 asks for.

use std::borrow::Cow;

use axum::body::Body;
use ca::RequestError;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use store::{RedemptionRefusal, RenewalRefusal, StoreError};

use crate::issuing::IssueError;

/// A refusal, not yet an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EstRefusal {
    pub(crate) status: StatusCode,
    pub(crate) word: &'static str,
    sentence: Cow<'static, str>,
    retry_after: Option<u64>,
    closes: bool,
}

impl EstRefusal {
    pub(crate) fn new(
        status: StatusCode,
        word: &'static str,
        sentence: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { status, word, sentence: sentence.into(), retry_after: None, closes: false }
    }

    /// No proof was offered. Not a failure: some clients always ask once without (RFC 7030 §3.2.3).
    pub(crate) fn challenge() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "passcode-required",
            "send the passcode as the password of HTTP Basic",
        )
    }

    /// The same octets for every passcode that does not serve, whatever the reason.
    pub(crate) fn passcode() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "passcode-invalid",
            "this passcode cannot be redeemed with this request; ask the operator for a new one",
        )
    }

    /// The client certificate does not serve. It never will on this connection, which therefore ends.
    pub(crate) fn certificate(sentence: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "certificate-invalid", sentence).closing()
    }

    pub(crate) fn identity(sentence: &'static str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "identity-mismatch", sentence)
    }

    pub(crate) fn too_many(seconds: u64) -> Self {
        let refusal = Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too-many-attempts",
            "too many attempts failed; wait and try again",
        );
        Self { retry_after: Some(seconds.max(1)), ..refusal }
    }

    pub(crate) fn unavailable() -> Self {
        let refusal = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "certificates cannot be issued just now; nothing is lost, try again",
        );
        Self { retry_after: Some(RETRY_SECONDS), ..refusal }
    }

    /// Something here is broken: the log gets the cause, the caller a bare 500.
    pub(crate) fn fault(doing: &'static str, error: &dyn std::fmt::Display) -> Self {
        tracing::error!(doing, %error, "internal fault");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "something here is broken; the server's log says what",
        )
    }

    /// The connection ends with the answer: the rest of the request is not read.
    pub(crate) fn closing(self) -> Self {
        Self { closes: true, ..self }
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(format!("{}: {}\n", self.word, self.sentence)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"est\""));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.closes {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<RequestError> for EstRefusal {
    fn from(error: RequestError) -> Self {
        let status = match error {
            RequestError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error.word(), error.to_string())
    }
}

impl From<StoreError> for EstRefusal {
    fn from(error: StoreError) -> Self {
        if error.is_passing() {
            tracing::warn!(%error, "the store is not available to provisioning");
            return Self::unavailable();
        }
        Self::fault("storing an issuance", &error)
    }
}

impl From<IssueError> for EstRefusal {
    fn from(error: IssueError) -> Self {
        match error {
            IssueError::Store(error) => error.into(),
            IssueError::Key(error) => Self::new(StatusCode::BAD_REQUEST, "key-blocked", error.to_string()),
            IssueError::RevokedMeanwhile => Self::certificate("the device was revoked meanwhile"),
            passing if passing.is_passing() => {
                tracing::error!(error = %passing, "no certificates can be issued");
                Self::unavailable()
            }
            broken => Self::fault("issuing a certificate", &broken),
        }
    }
}

impl From<RedemptionRefusal> for EstRefusal {
    fn from(refusal: RedemptionRefusal) -> Self {
        match refusal {
            RedemptionRefusal::Unknown
            | RedemptionRefusal::Expired
            | RedemptionRefusal::Replay
            | RedemptionRefusal::Spent => Self::passcode(),
            RedemptionRefusal::OtherDevice => Self::identity("the passcode is for another device"),
            RedemptionRefusal::DeviceExists => Self::new(
                StatusCode::CONFLICT,
                "device-exists",
                "this passcode makes new devices only and the id is taken; ask for one bound to the device",
            ),
            RedemptionRefusal::KeyBlocked => key_blocked(),
        }
    }
}

impl From<RenewalRefusal> for EstRefusal {
    fn from(refusal: RenewalRefusal) -> Self {
        match refusal {
            RenewalRefusal::Unknown | RenewalRefusal::Status(_) | RenewalRefusal::DeviceRemoved => {
                Self::certificate(RE_PROVISION)
            }
            RenewalRefusal::OtherDevice => Self::identity("the certificate is another device's"),
            RenewalRefusal::KeyBlocked => key_blocked(),
            RenewalRefusal::TooMany => {
                let refusal = Self::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "too-many-renewals",
                    "this device got many certificates of late; use the last one",
                );
                Self { retry_after: Some(RENEWAL_RETRY_SECONDS), ..refusal }
            }
        }
    }
}

fn key_blocked() -> EstRefusal {
    EstRefusal::new(
        StatusCode::BAD_REQUEST,
        "key-blocked",
        "this key belongs to another device or was revoked; make a new one",
    )
}

/// What a device is told whose certificate is good for nothing any more.
pub(crate) const RE_PROVISION: &str =
    "this certificate cannot be renewed; re-provision the device with a new passcode";
const RETRY_SECONDS: u64 = 5;
const RENEWAL_RETRY_SECONDS: u64 = 600;
