//! What the rooms' parts of the OpenAPI document have in common: how refusals are described.

use std::collections::BTreeMap;

use utoipa::{
    IntoResponses,
    openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder},
};

/// A problem document as a described response.
pub fn described_problem(why: &str) -> RefOr<Response> {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    ResponseBuilder::new().description(why).content("application/problem+json", content).build().into()
}

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident { $($status:literal: $why:literal),+ $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                [$(($status.to_owned(), described_problem($why))),+].into()
            }
        }
    )+};
}

refusals! {
    /// For every operation: what a door, a bad request, limits and a busy server answer.
    Refused {
        "400": "The request does not fit the call; `detail` names the member or parameter.",
        "default": "Anything else that stands in the way, in the same form.",
    }
    /// For every operation whose callers prove who they are.
    Unproven {
        "401": "No token, or one that is not good; `WWW-Authenticate` says which.",
    }
    /// For operations on one thing.
    Absent {
        "404": "There is no such thing, or it is not the caller's to see: one answer for both.",
    }
    /// For operations that contradict what is.
    Conflicting {
        "409": "It contradicts what is; `detail` says what stands in the way.",
    }
    /// For operations that change what the caller has read.
    Precondition {
        "412": "It was changed since it was read: read it again.",
        "428": "`If-Match` is missing.",
    }
    /// For operations that the caller's rights on the device do not cover.
    NotAllowed {
        "403": "The caller may see this, and not do that.",
    }
}
