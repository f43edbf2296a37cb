//! Revocation lists for whoever does not ask our registry: one per issuer, renewed after every
//! revocation and twice a day, with numbers that never fall.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http::{
    HeaderValue, Response,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use model::Timestamp;
use store::{CrlRow, IssuerName, StoreError};
use tokio::sync::Mutex;

use crate::{issuing::ListError, provisioning::Provisioning, refusing::EstRefusal};

/// What is published just now.
#[derive(Debug, Default)]
pub(crate) struct Published {
    devices: Slot,
    services: Slot,
    /// Grows with every revocation.
    revocations: AtomicU64,
}

#[derive(Debug, Default)]
struct Slot {
    list: RwLock<Option<List>>,
    /// Held while a list is made: one at a time.
    making: Mutex<()>,
}

#[derive(Debug, Clone)]
struct List {
    der: Bytes,
    this_update: Timestamp,
    next_update: Timestamp,
    /// How many revocations there had been when it was made.
    revocations: u64,
}

impl Provisioning {
    /// Answers `GET /crl/{issuer}.crl`.
    pub(crate) async fn crl(self: Arc<Self>, issuer: IssuerName) -> Response<Body> {
        match self.list(issuer).await {
            Ok(der) => {
                let mut response = Response::new(Body::from(der));
                let headers = response.headers_mut();
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/pkix-crl"));
                headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=60"));
                response
            }
            Err(error) => {
                tracing::error!(issuer = issuer.as_str(), %error, "the revocation list cannot be made");
                EstRefusal::unavailable().into_response()
            }
        }
    }

    /// The current list; made anew if there is none, a certificate was revoked since, or it is half through.
    pub(crate) async fn list(&self, issuer: IssuerName) -> Result<Bytes, ListError> {
        if let Some(der) = self.current(issuer) {
            return Ok(der);
        }
        let _one_at_a_time = self.published.slot(issuer).making.lock().await;
        if let Some(der) = self.current(issuer) {
            return Ok(der);
        }
        match self.make_list(issuer).await {
            Ok(list) => {
                let der = list.der.clone();
                *self.published.slot(issuer).list.write().unwrap_or_else(PoisonError::into_inner) =
                    Some(list);
                metrics::counter!("tcpmux_crls_published_total", "issuer" => issuer.as_str()).increment(1);
                Ok(der)
            }
            // The last list, while it is still good, is better than none.
            Err(error) => match self.published.slot(issuer).read() {
                Some(list) if self.clock.now() < list.next_update => {
                    tracing::error!(issuer = issuer.as_str(), %error, "serving the last revocation list");
                    Ok(list.der)
                }
                _ => Err(error),
            },
        }
    }

    /// The lists are made anew at the next look, which begins now.
    pub(crate) fn renew_lists(self: &Arc<Self>) {
        self.published.revocations.fetch_add(1, Ordering::SeqCst);
        let this = Arc::clone(self);
        self.tasks.spawn(async move {
            for issuer in [IssuerName::Devices, IssuerName::Services] {
                if let Err(error) = this.list(issuer).await {
                    tracing::error!(issuer = issuer.as_str(), %error, "the revocation list was not renewed");
                }
            }
        });
    }

    fn current(&self, issuer: IssuerName) -> Option<Bytes> {
        let list = self.published.slot(issuer).read()?;
        let fresh = list.revocations == self.published.revocations.load(Ordering::SeqCst);
        let due = list.this_update.plus(LIFE / 2);
        (fresh && self.clock.now() < due).then_some(list.der)
    }

    async fn make_list(&self, issuer: IssuerName) -> Result<List, ListError> {
        let revocations = self.published.revocations.load(Ordering::SeqCst);
        let now = self.clock.now();
        let (this_update, next_update) = (now, now.plus(LIFE));
        let revoked = self.store.revoked(issuer, now).await?;
        let floor = u64::try_from(now.secs()).unwrap_or(0);
        let number = self.store.next_crl_number(issuer, floor).await?;
        let der = self.issuing.revocation_list(issuer, number, (this_update, next_update), revoked).await?;
        let row = CrlRow { number, der: der.clone(), this_update, next_update };
        match self.store.put_crl(issuer, row).await {
            // Another writer published a newer one; it knows at least what this one knows.
            Err(StoreError::Conflict { .. }) => {
                let newest = self.store.crl(issuer).await?.ok_or(StoreError::NotFound("revocation list"))?;
                let (this_update, next_update) = (newest.this_update, newest.next_update);
                Ok(List { der: newest.der.into(), this_update, next_update, revocations })
            }
            Err(error) => Err(error.into()),
            Ok(()) => Ok(List { der: der.into(), this_update, next_update, revocations }),
        }
    }
}

impl Published {
    fn slot(&self, issuer: IssuerName) -> &Slot {
        match issuer {
            IssuerName::Devices => &self.devices,
            IssuerName::Services => &self.services,
        }
    }
}

impl Slot {
    fn read(&self) -> Option<List> {
        self.list.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// From one list to the day when the next is overdue.
const LIFE: Duration = Duration::from_secs(86_400);
