//! Every address that this room answers, on one screen.

use std::sync::Arc;

use axum::{
    Extension,
    body::Body,
    extract::{Path, Request},
};
use http::{HeaderMap, Response};
use model::AdminActor;
use runtime::http::{Caller, ConnectionInfo, Routes};
use store::IssuerName;

use crate::{est, provisioning::Provisioning};

/// A handler that shares the room.
macro_rules! with {
    ($room:expr, |$this:ident $(, $argument:pat_param => $type:ty)*| $body:expr) => {{
        let room = Arc::clone($room);
        move |$($argument: $type),*| {
            let $this = Arc::clone(&room);
            async move { $body }
        }
    }};
}

impl Provisioning {
    /// For the admin door.
    pub fn admin_routes(self: &Arc<Self>) -> Routes {
        let mint = with!(self, |this, Extension(admin) => Extension<AdminActor>, request => Request| {
            this.mint(admin, request).await
        });
        Routes::new()
            .post("/admin/api/otp", Caller::Admin, mint.clone())
            .get("/admin/api/otp", Caller::Admin, mint.clone())
            .post("/api/otp", Caller::Admin, mint.clone())
            .get("/api/otp", Caller::Admin, mint)
            .get(
                "/admin/api/otps",
                Caller::Admin,
                with!(self, |this, request => Request| this.list_passcodes(request).await),
            )
            .delete(
                "/admin/api/otps/{id}",
                Caller::Admin,
                with!(self, |this, Extension(admin) => Extension<AdminActor>, Path(id) => Path<String>,
                    request => Request| this.delete_passcode(admin, id, request).await),
            )
            .get(
                "/admin/api/certificates",
                Caller::Admin,
                with!(self, |this, request => Request| this.list_certificates(request).await),
            )
            .get(
                "/admin/api/certificates/{fingerprint}",
                Caller::Admin,
                with!(self, |this, Path(fingerprint) => Path<String>| this.show_certificate(fingerprint).await),
            )
            .post(
                "/admin/api/certificates/{fingerprint}/revoke",
                Caller::Admin,
                with!(self, |this, Extension(admin) => Extension<AdminActor>,
                    Path(fingerprint) => Path<String>, request => Request| {
                    this.revoke(admin, fingerprint, request).await
                }),
            )
            .get("/admin/api/ca", Caller::Admin, with!(self, |this| this.show_authority()))
    }

    /// For the device door.
    pub fn device_routes(self: &Arc<Self>) -> Routes {
        Routes::new()
            .get(
                "/.well-known/est/cacerts",
                Caller::Anyone,
                with!(self, |this, headers => HeaderMap| this.ca_certificates(&headers)),
            )
            .get("/.well-known/est/csrattrs", Caller::Anyone, with!(self, |_this| est::csr_attributes()))
            .post(
                "/.well-known/est/simpleenroll",
                Caller::Passcode,
                with!(self, |this, Extension(info) => Extension<ConnectionInfo>, request => Request| {
                    this.simpleenroll(info, request).await
                }),
            )
            .post(
                "/.well-known/est/simplereenroll",
                Caller::Certificate,
                with!(self, |this, Extension(info) => Extension<ConnectionInfo>, request => Request| {
                    this.simplereenroll(info, request).await
                }),
            )
            .get("/crl/devices.crl", Caller::Anyone, with!(self, |this| this.crl(IssuerName::Devices).await))
            .get(
                "/crl/services.crl",
                Caller::Anyone,
                with!(self, |this| this.crl(IssuerName::Services).await),
            )
    }

    /// The root and both intermediates: the root for whoever has its fingerprint, the others to build chains.
    fn ca_certificates(&self, headers: &HeaderMap) -> Response<Body> {
        let hierarchy = self.issuing.hierarchy();
        est::ca_certificates(
            headers,
            &ca::pkcs7::certs_only(&hierarchy.certificates()),
            hierarchy.chain_pem(),
        )
    }
}
