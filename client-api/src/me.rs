//! Who am I?

use std::{
    future::{Ready, ready},
    sync::Arc,
};

use axum::response::Response;
use model::{Refusal, UserActor};
use runtime::http::ok;
use serde_json::json;

use crate::{api::Inner, call::Call};

/// `GET /v1/me`. The user exists since the door proved them.
pub(crate) fn show(_: Arc<Inner>, call: Call<UserActor>) -> Ready<Result<Response, Refusal>> {
    let user = &call.actor;
    ready(Ok(ok(&json!({
        "id": user.user(),
        "issuer": user.issuer(),
        "subject": user.subject(),
        "email": user.email(),
        "tenant": user.tenant(),
    }))))
}
