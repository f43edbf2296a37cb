//! Calls to a provider's token endpoint and its neighbours (RFC 6749 §3.2 and §5, RFC 8628 §3).

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{
    HeaderValue, Request,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use http_body_util::Full;
use model::Secret;
use serde_json::{Map, Value};
use url::{Url, form_urlencoded};

use super::{KeyFetcher, json};
use crate::http::ClientError;

/// Why a provider gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum OauthError {
    /// No complete answer.
    #[error(transparent)]
    Call(#[from] ClientError),
    /// The provider says no (RFC 6749 §5.2).
    #[error("the sign-in provider refused: {error}{}", told(.description))]
    Refused {
        /// Its code, as in `invalid_grant`.
        error: String,
        /// Its words; empty where it has none.
        description: String,
    },
    /// An answer of no use, as a page of a proxy on the way.
    #[error("the sign-in provider answered {status}: {reason}")]
    Useless {
        /// The HTTP status.
        status: u16,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// Posts a form and reads the JSON answer. `client` is the id and secret of a confidential client, shown as
/// HTTP Basic (RFC 6749 §2.3.1); whoever has none, or sends it in the form, leaves it out.
///
/// # Errors
/// [`OauthError`]; its texts repeat nothing of the form.
pub async fn post_form(
    fetcher: &KeyFetcher,
    endpoint: &Url,
    form: &[(&str, &str)],
    client: Option<(&str, &Secret<String>)>,
) -> Result<Map<String, Value>, OauthError> {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let mut request = Request::post(endpoint.as_str())
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    if let Some((id, secret)) = client {
        let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let pair = Secret::new(format!("{}:{}", encoded(id), encoded(secret.expose())));
        let mut basic = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair.expose())))
            .map_err(|_| ClientError::Address(endpoint.to_string()))?;
        basic.set_sensitive(true);
        request = request.header(AUTHORIZATION, basic);
    }
    let request =
        request.body(Full::new(body.into())).map_err(|_| ClientError::Address(endpoint.to_string()))?;
    let answer = fetcher.client().call(request).await?;
    let status = answer.status();
    let useless = |reason| OauthError::Useless { status: status.as_u16(), reason };
    if status.is_success() && answer.body().is_empty() {
        return Ok(Map::new());
    }
    let members = json::object(answer.body()).map_err(useless)?;
    if status.is_success() {
        return Ok(members);
    }
    let said = |member| members.get(member).and_then(Value::as_str).map(plain).unwrap_or_default();
    match said("error") {
        error if error.is_empty() => Err(useless("and no `error` in its JSON")),
        error => Err(OauthError::Refused { error, description: said("error_description") }),
    }
}

/// What a provider says, fit for a log and a page: visible ASCII, not too long (RFC 6749 §5.2 allows no other).
pub fn plain(text: &str) -> String {
    text.chars().filter(|one| matches!(one, ' '..='~')).take(200).collect()
}

fn told(description: &str) -> String {
    if description.is_empty() { String::new() } else { format!(" ({description})") }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// Answers once with this, and gives the request.
    async fn exchange(
        answer: &'static str,
        client: Option<(&str, &Secret<String>)>,
    ) -> (Result<Map<String, Value>, OauthError>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Url::parse(&format!("http://{}/token", listener.local_addr().unwrap())).unwrap();
        let seen = Arc::new(Mutex::new(String::new()));
        let heard = Arc::clone(&seen);
        let serve = async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut bytes = vec![0; 4096];
            let count = socket.read(&mut bytes).await.unwrap();
            *heard.lock().unwrap() = String::from_utf8_lossy(&bytes[..count]).into_owned();
            socket.write_all(answer.as_bytes()).await.unwrap();
            socket.shutdown().await.unwrap();
        };
        let fetcher = KeyFetcher::new(None).unwrap();
        let form = [("grant_type", "authorization_code"), ("code", "a&b=c")];
        let (outcome, ()) = tokio::join!(post_form(&fetcher, &endpoint, &form, client), serve);
        let seen = seen.lock().unwrap().clone();
        (outcome, seen)
    }

    #[tokio::test]
    async fn a_form_is_posted_and_a_client_shows_its_secret_encoded() {
        let secret = Secret::new("p&:%".to_owned());
        let ok = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"id_token\":\"x\"}";
        let (outcome, seen) = exchange(ok, Some(("my app", &secret))).await;
        assert_eq!(outcome.unwrap()["id_token"], "x");
        let basic = STANDARD.encode("my+app:p%26%3A%25");
        assert!(seen.contains(&format!("authorization: Basic {basic}\r\n")), "{seen}");
        assert!(seen.ends_with("grant_type=authorization_code&code=a%26b%3Dc"), "{seen}");
        let (_, seen) = exchange(ok, None).await;
        assert!(!seen.contains("authorization:"), "control");
    }

    #[tokio::test]
    async fn a_refusal_is_told_in_plain_words_and_a_page_is_no_answer() {
        let refused = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n{\"error\":\"invalid_grant\",\"error_description\":\"used\\u0007 up\"}";
        let (outcome, _) = exchange(refused, None).await;
        assert_eq!(outcome.unwrap_err().to_string(), "the sign-in provider refused: invalid_grant (used up)");
        for page in [
            "HTTP/1.1 502 Bad Gateway\r\nconnection: close\r\n\r\n<html>",
            "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n<html>",
            "HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n{}",
        ] {
            assert!(matches!(exchange(page, None).await.0, Err(OauthError::Useless { .. })), "{page}");
        }
    }
}
