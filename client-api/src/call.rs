//! One call: who, what of the path, the query, the body.

use std::{future::Future, net::IpAddr, pin::Pin, str::FromStr, sync::Arc};

use axum::{
    Extension,
    body::Bytes,
    extract::{RawPathParams, Request, rejection::RawPathParamsRejection},
    response::Response,
};
use http::{HeaderMap, HeaderValue};
use model::{Actor, AdminActor, Code, Refusal, TenantName};
use runtime::http::{ConnectionInfo, OfTenant, json_body, problem, query, whole_body};
use serde::de::DeserializeOwned;

use crate::api::Inner;

/// A call under an actor.
pub(crate) struct Call<A> {
    pub(crate) actor: A,
    path: Vec<(String, String)>,
    request: Request,
}

/// Makes a route's handler of a function.
pub(crate) fn handler<A, F, O>(
    api: &Arc<Inner>,
    function: F,
) -> impl Fn(Extension<A>, Result<RawPathParams, RawPathParamsRejection>, Request) -> Answer
+ Clone
+ Send
+ Sync
+ 'static
where
    A: Send + 'static,
    F: Fn(Arc<Inner>, Call<A>) -> O + Copy + Send + Sync + 'static,
    O: Future<Output = Result<Response, Refusal>> + Send + 'static,
{
    let api = Arc::clone(api);
    move |Extension(actor), path, request| {
        // A path that is not text names nothing; its parameters are then absent.
        let path = path.iter().flatten().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let outcome = function(Arc::clone(&api), Call { actor, path, request });
        Box::pin(async move { outcome.await.unwrap_or_else(|refusal| problem(&refusal)) })
    }
}

type Answer = Pin<Box<dyn Future<Output = Response> + Send>>;

impl<A> Call<A> {
    /// A name in the path; what is no name cannot exist.
    pub(crate) fn name<T: FromStr>(&self, parameter: &str) -> Option<T> {
        self.path.iter().find(|(name, _)| name == parameter)?.1.parse().ok()
    }

    /// Where the call came from, where that is known.
    pub(crate) fn source(&self) -> Option<IpAddr> {
        self.request.extensions().get::<ConnectionInfo>().map(|connection| connection.peer.ip())
    }

    /// The query string.
    pub(crate) fn query<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        query(self.request.uri())
    }

    /// The header fields; no credential is among them.
    pub(crate) fn headers(&self) -> &HeaderMap {
        self.request.headers()
    }

    /// The query string, as it was written.
    pub(crate) fn raw_query(&self) -> &str {
        self.request.uri().query().unwrap_or_default()
    }

    /// A header that is there once.
    pub(crate) fn header(&self, name: &str) -> Option<&HeaderValue> {
        self.request.headers().get(name)
    }

    /// The JSON body.
    pub(crate) async fn json<T: DeserializeOwned>(self) -> Result<T, Refusal> {
        json_body(self.request.into_body()).await
    }

    /// The body as it came, of at most so many bytes.
    pub(crate) async fn body(self, most: usize) -> Result<Bytes, Refusal> {
        whole_body(self.request.into_body(), most).await
    }
}

impl Call<AdminActor> {
    /// The operator, as audit rows name them.
    pub(crate) fn by(&self) -> Actor {
        Actor::Admin(self.actor.clone())
    }

    /// The tenant that `?tenant=` names, which must exist.
    pub(crate) fn tenant<'a>(
        &self,
        api: &'a Inner,
    ) -> impl Future<Output = Result<TenantName, Refusal>> + Send + use<'a> {
        let asked = self.query();
        async move {
            let OfTenant { tenant } = asked?;
            let exists = api.store.tenant_exists(&tenant).await;
            if exists.map_err(|error| error.refusal("finding a tenant"))? {
                Ok(tenant)
            } else {
                Err(Refusal::new(Code::NotFound, "there is no such tenant"))
            }
        }
    }
}
