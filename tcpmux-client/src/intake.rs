//! Where local programs leave what the cloud should know: `POST /v1/telemetry` and `POST /v1/notifications` of the
//! local API. Accepted means: it survives a power cut.

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Body;
use model::{LARGEST_REPORT, ReportId, ReportKind};
use serde_json::json;

use crate::{
    TrustedTime,
    local_api::{plain, reply},
    report,
    spool::{SpoolError, SpoolKeeper},
};

/// Takes a report in: 202 with the ids of its items.
pub(crate) async fn take_in<B>(
    kind: ReportKind,
    request: Request<B>,
    spool: Option<&SpoolKeeper>,
    time: &TrustedTime,
) -> Response<Full<Bytes>>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    if !is_json(&head.headers) {
        return plain(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send JSON, with `Content-Type: application/json`\n",
        );
    }
    let body = match Limited::new(body, LARGEST_REPORT).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return plain(StatusCode::PAYLOAD_TOO_LARGE, "a report has at most 256 KiB\n");
        }
        Err(_) => return plain(StatusCode::BAD_REQUEST, "the body broke off\n"),
    };
    let Some(spool) = spool else {
        return plain(
            StatusCode::SERVICE_UNAVAILABLE,
            "nothing can be kept here; the daemon's log says why\n",
        );
    };
    let now = time.now();
    let fresh = || ReportId::new(now, runtime::random::bytes());
    let report = match report::read(kind, &body, now, fresh) {
        Ok(report) => report,
        Err(bad) => return said(StatusCode::BAD_REQUEST, &bad),
    };
    match spool.store(report.records, now).await {
        Ok(()) => reply(
            StatusCode::ACCEPTED,
            "application/json",
            json!({"ids": report.ids}).to_string().into_bytes(),
        ),
        Err(error @ (SpoolError::Full(_) | SpoolError::DiskFull)) => {
            said(StatusCode::INSUFFICIENT_STORAGE, &error)
        }
        Err(error @ SpoolError::Disk(_)) => said(StatusCode::SERVICE_UNAVAILABLE, &error),
    }
}

/// A page in a browser cannot send this without asking first, and nobody here answers that it may.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    kind.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case("application/json")
}

fn said(status: StatusCode, why: &dyn std::fmt::Display) -> Response<Full<Bytes>> {
    reply(status, "text/plain", format!("{why}\n").into_bytes())
}
