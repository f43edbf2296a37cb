//! The operator's side of passcodes: made and shown once, listed without themselves, taken back.

use std::{str::FromStr, sync::Arc, time::Duration};

use axum::body::Body;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, VARY},
};
use model::{
    Actor, AdminActor, Code, DeviceId, Passcode, PasscodeDigest, Refusal, TenantName, Timestamp,
    parse_duration,
};
use runtime::{
    digest,
    http::{OfTenant, Page, Paging, answer, done, json_body, ok, problem, query},
};
use serde::{Deserialize, Serialize};
use store::{NewPasscode, PasscodeRow, StoreError};

use crate::provisioning::Provisioning;

/// What an operator may choose, in the query or in a JSON body.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    device: Option<DeviceId>,
    tenant: Option<TenantName>,
    ttl: Option<String>,
}

/// A passcode in clear: the one time that it is.
#[derive(Serialize)]
struct Minted {
    id: String,
    otp: String,
    device: Option<DeviceId>,
    tenant: TenantName,
    expires_at: String,
    enroll: String,
}

/// A passcode without itself.
#[derive(Debug, Serialize)]
struct Shown {
    id: String,
    tenant: TenantName,
    device: Option<DeviceId>,
    status: &'static str,
    created_by: String,
    created_at: String,
    expires_at: String,
    redeemed_at: Option<String>,
    certificate_serial: Option<String>,
}

impl Provisioning {
    /// Answers `POST` and `GET /admin/api/otp`, and `/api/otp`.
    pub(crate) async fn mint(self: Arc<Self>, admin: AdminActor, request: Request<Body>) -> Response<Body> {
        if request.method() == Method::HEAD {
            // A probe must not make a passcode that nobody sees.
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST"));
            return response;
        }
        let (parts, body) = request.into_parts();
        let made = if parts.method == Method::POST { StatusCode::CREATED } else { StatusCode::OK };
        let wish = match read_wish(&parts, body).await {
            Ok(wish) => wish,
            Err(refusal) => return problem(&refusal),
        };
        match self.new_passcode(wish, admin).await {
            Ok(minted) => show(&parts.headers, made, &minted),
            Err(MintError::Refused(refusal)) => problem(&refusal),
            Err(MintError::Store(error)) => problem(&error.refusal("making a passcode")),
        }
    }

    /// Answers `GET /admin/api/otps`.
    pub(crate) async fn list_passcodes(self: Arc<Self>, request: Request<Body>) -> Response<Body> {
        self.passcode_page(request.uri()).await.unwrap_or_else(|refusal| problem(&refusal))
    }

    async fn passcode_page(&self, uri: &Uri) -> Result<Response<Body>, Refusal> {
        let (OfTenant { tenant }, paging): (_, Paging) = (query(uri)?, query(uri)?);
        let (limit, after) = (paging.limit()?, paging.after::<Place>()?);
        let after = after.map(|Place { at, id }| (at, id));
        let rows = self.store.passcodes(&tenant, after, limit + 1).await;
        let rows = rows.map_err(|error| error.refusal("listing passcodes"))?;
        let now = self.clock.now();
        Ok(ok(&Page::cut(rows, limit, Place::cursor).map(|row| shown(row, now))))
    }

    /// Answers `DELETE /admin/api/otps/{id}`.
    pub(crate) async fn delete_passcode(
        self: Arc<Self>,
        admin: AdminActor,
        id: String,
        request: Request<Body>,
    ) -> Response<Body> {
        let whose: OfTenant = match query(request.uri()) {
            Ok(whose) => whose,
            Err(refusal) => return problem(&refusal),
        };
        match self.store.remove_passcode(&whose.tenant, &id, &Actor::Admin(admin), self.clock.now()).await {
            Ok(()) => done(),
            Err(error) => problem(&error.refusal("removing a passcode")),
        }
    }

    async fn new_passcode(&self, wish: Wish, admin: AdminActor) -> Result<Minted, MintError> {
        let life = match &wish.ttl {
            None => USUAL_LIFE,
            Some(text) => parse_duration(text)
                .map_err(|error| Refusal::new(Code::BadRequest, format!("ttl: {error}")))?,
        };
        if life.is_zero() || life > LONGEST_LIFE {
            return Err(Refusal::new(Code::BadRequest, "ttl: a passcode lives from 1s to 30d").into());
        }
        let (passcode, now) = (Passcode::from_random(runtime::random::bytes()), self.clock.now());
        let id = format!("pc_{}", model::hex(&runtime::random::bytes::<8>()));
        let tenant = wish.tenant.unwrap_or_default();
        let expires_at = now.plus(life);
        let new = NewPasscode {
            id: id.clone(),
            digest: PasscodeDigest(digest::of(passcode.secret_bytes())),
            tenant: tenant.clone(),
            device: wish.device.clone(),
            expires_at,
        };
        self.store.add_passcode(new, &Actor::Admin(admin), now).await?;
        metrics::counter!("tcpmux_passcodes_made_total").increment(1);
        let otp = passcode.reveal();
        let enroll = self.enrolment_string(&otp, wish.device.as_ref());
        Ok(Minted { id, otp, device: wish.device, tenant, expires_at: expires_at.rfc3339(), enroll })
    }

    /// All that a device needs, in one line for `tcpmux-client enroll -`.
    fn enrolment_string(&self, otp: &str, device: Option<&DeviceId>) -> String {
        let host = &self.config.device_url;
        let ca = self.issuing.hierarchy().root_fingerprint_text();
        let device = device.map(|device| format!("&device={device}")).unwrap_or_default();
        format!("tcpmux://{host}/?ca={ca}&otp={otp}{device}")
    }
}

enum MintError {
    Refused(Refusal),
    Store(StoreError),
}

impl From<Refusal> for MintError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<StoreError> for MintError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// The query and the body together; what both name must not differ.
async fn read_wish(parts: &http::request::Parts, body: Body) -> Result<Wish, Refusal> {
    let asked: Wish = query(&parts.uri)?;
    if parts.method != Method::POST {
        return Ok(asked);
    }
    let told: Wish = json_body(body).await?;
    Ok(Wish {
        device: one("device", asked.device, told.device)?,
        tenant: one("tenant", asked.tenant, told.tenant)?,
        ttl: one("ttl", asked.ttl, told.ttl)?,
    })
}

fn one<T: PartialEq>(name: &str, asked: Option<T>, told: Option<T>) -> Result<Option<T>, Refusal> {
    match (asked, told) {
        (Some(asked), Some(told)) if asked != told => {
            Err(Refusal::new(Code::BadRequest, format!("{name}: the query and the body differ")))
        }
        (asked, told) => Ok(asked.or(told)),
    }
}

fn show(headers: &HeaderMap, status: StatusCode, minted: &Minted) -> Response<Body> {
    let wants_json = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.to_ascii_lowercase().contains("application/json"));
    let mut response = if wants_json {
        answer(status, minted)
    } else {
        let mut response = Response::new(Body::from(minted.otp.clone()));
        *response.status_mut() = status;
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, text);
        response
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept, Authorization"));
    response
}

fn shown(row: PasscodeRow, now: Timestamp) -> Shown {
    let status = match row.redeemed_at {
        Some(_) => "redeemed",
        None if now >= row.expires_at => "expired",
        None => "open",
    };
    Shown {
        id: row.id,
        tenant: row.tenant,
        device: row.device,
        status,
        created_by: row.created_by,
        created_at: row.created_at.rfc3339(),
        expires_at: row.expires_at.rfc3339(),
        redeemed_at: row.redeemed_at.map(Timestamp::rfc3339),
        certificate_serial: row.certificate.map(|serial| serial.to_string()),
    }
}

/// Where a page ended.
struct Place {
    at: Timestamp,
    id: String,
}

impl Place {
    fn cursor(row: &PasscodeRow) -> String {
        format!("{}.{}", row.created_at.0, row.id)
    }
}

impl FromStr for Place {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (at, id) = text.split_once('.').ok_or(())?;
        Ok(Self { at: Timestamp(at.parse().map_err(drop)?), id: id.to_owned() })
    }
}

const USUAL_LIFE: Duration = Duration::from_secs(3600);
const LONGEST_LIFE: Duration = Duration::from_secs(30 * 86_400);
