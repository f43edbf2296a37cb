//! Reading what small calls send: JSON bodies and query strings, with bounds and clear refusals.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    extract::Query,
};
use http::Uri;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use model::{Code, Refusal};
use serde::de::DeserializeOwned;

/// A JSON object of at most 16 KiB that arrives within ten seconds; no body is read as `{}`.
///
/// # Errors
/// A refusal that says which member is wrong.
pub async fn json_body<T: DeserializeOwned>(body: Body) -> Result<T, Refusal> {
    let bytes = whole_body(body, MOST_BYTES).await?;
    let bytes = if bytes.is_empty() { b"{}" } else { &bytes[..] };
    // Else a list of values would do for an object whose members they happen to fit.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(Refusal::new(Code::BadRequest, "the body of this call is a JSON object"));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        Refusal::new(Code::BadRequest, format!("the JSON body does not fit this call: {error}"))
    })
}

/// A body of at most so many bytes that arrives within ten seconds.
///
/// # Errors
/// A refusal that says whether it was too large, too slow or broken.
pub async fn whole_body(body: Body, most: usize) -> Result<Bytes, Refusal> {
    let reading = Limited::new(body, most).collect();
    let Ok(outcome) = tokio::time::timeout(TIME, reading).await else {
        return Err(Refusal::new(Code::BadRequest, "the body did not arrive in time").with_status(408));
    };
    match outcome {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let said = format!("the body of this call has at most {} KiB", most / 1024);
            Err(Refusal::new(Code::TooLarge, said))
        }
        Err(_) => Err(Refusal::new(Code::BadRequest, "the body broke off")),
    }
}

/// The query string, each parameter once.
///
/// # Errors
/// A refusal that says which parameter is wrong.
pub fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Refusal> {
    let read = Query::try_from_uri(uri).map(|Query(value)| value);
    read.map_err(|error| Refusal::new(Code::BadRequest, error.body_text()))
}

const MOST_BYTES: usize = 16 * 1024;
const TIME: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;

    async fn read(body: impl Into<Body>) -> Result<BTreeMap<String, u8>, u16> {
        json_body(body.into()).await.map_err(|refusal| refusal.http_status())
    }

    #[tokio::test]
    async fn a_body_is_json_of_the_right_shape_or_absent() {
        assert_eq!(read("").await, Ok(BTreeMap::new()));
        assert_eq!(read(r#"{"a":1}"#).await, Ok(BTreeMap::from([("a".into(), 1)])));
        for bad in ["{", r#"{"a":"b"}"#, "[]", "null", "\0"] {
            assert_eq!(read(bad).await, Err(400), "{bad:?}");
        }
        #[derive(Debug, serde::Deserialize)]
        struct Named {
            #[serde(default)]
            a: u8,
        }
        let named = async |text: &'static str| json_body::<Named>(text.into()).await.map(|named| named.a);
        assert_eq!(named(r#" {"a":1}"#).await.ok(), Some(1));
        assert!(named("[1]").await.is_err() && named("[]").await.is_err(), "a list is no object");
        let large = format!(r#"{{"a":1{}}}"#, " ".repeat(17_000));
        assert_eq!(read(large).await, Err(413));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_given_up() {
        let stream = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
        assert_eq!(read(Body::from_stream(stream)).await, Err(408));
    }

    #[test]
    fn a_query_that_does_not_fit_is_refused() {
        #[derive(Debug, serde::Deserialize)]
        struct Limit {
            limit: Option<u8>,
        }
        let read = |uri: &'static str| query::<Limit>(&Uri::from_static(uri));
        assert_eq!(read("/x?limit=5").unwrap().limit, Some(5));
        assert_eq!(read("/x").unwrap().limit, None);
        for bad in ["/x?limit=a", "/x?limit=1&limit=2"] {
            assert_eq!(read(bad).unwrap_err().http_status(), 400, "{bad}");
        }
        let _: Value = query(&Uri::from_static("/x?a=b")).unwrap();
    }
}
