//! The pages that a person sees on the way in: plain HTML, no scripts, nothing from elsewhere, never stored.

use axum::{body::Body, response::Response};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{
    HeaderValue, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY, RETRY_AFTER,
        X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};
use model::Refusal;

/// The choice of providers: name in addresses, and issuer to show. `query` goes along to whichever is chosen.
pub(super) fn choice(providers: &[(String, String)], query: &str) -> Response {
    let items: String = providers
        .iter()
        .map(|(name, issuer)| {
            let href = escaped(&format!("/login/{name}{query}"));
            format!("<li><a href=\"{href}\">Sign in with {}</a></li>", escaped(issuer))
        })
        .collect();
    let body = if items.is_empty() {
        "<p>No sign-in provider is set up for browsers here. The operator adds one with <code>[[oidc]]</code> and its <code>client_id</code>.</p>".to_owned()
    } else {
        format!("<ul>{items}</ul>")
    };
    page(StatusCode::OK, "Sign in", &body)
}

/// For a person who is signed in.
pub(super) fn signed_in(person: &str) -> Response {
    let body = format!(
        "<p>You are signed in as <strong>{}</strong>.</p><form method=\"post\" action=\"/logout\"><button>Sign out</button></form>",
        escaped(person)
    );
    page(StatusCode::OK, "Signed in", &body)
}

/// What went wrong, and where to begin again.
pub(super) fn trouble(refusal: &Refusal, again: &str) -> Response {
    let status = StatusCode::from_u16(refusal.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = format!(
        "<p>{} <small>[{}]</small></p><p><a href=\"{}\">Try again</a></p>",
        escaped(&refusal.detail),
        refusal.code.as_str(),
        escaped(again)
    );
    let mut response = page(status, "Not signed in", &body);
    if let Some(seconds) = refusal.retry_after {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Sends the browser on with a GET. Nothing of this address is told to where it goes.
pub(super) fn redirect(to: &str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::try_from(to) {
        headers.insert(LOCATION, location);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

fn page(status: StatusCode, title: &str, body: &str) -> Response {
    let title = escaped(title);
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>{title} · TCPMux</title><style>{STYLE}</style><main><h1>{title}</h1>{body}</main></html>\n"
    );
    let mut response = Response::new(Body::from(html));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    // Not `no-referrer`: with it a browser calls the origin of our own form `null`.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    if let Ok(policy) = HeaderValue::try_from(policy()) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    response
}

fn policy() -> String {
    let style = STANDARD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for one in text.chars() {
        match one {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

const STYLE: &str =
    "body{font:1rem/1.5 system-ui,sans-serif;margin:0}main{max-width:32rem;margin:4rem auto;padding:0 1rem}";

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use model::Code;

    use super::*;

    async fn text(response: Response) -> String {
        String::from_utf8(to_bytes(response.into_body(), 100_000).await.unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_page_has_no_script_and_nothing_of_others_becomes_markup() {
        let evil = "<script>alert(1)</script>\"'&";
        let pages = [
            choice(&[("idp".into(), evil.into())], &format!("?return={evil}")),
            signed_in(evil),
            trouble(&Refusal::new(Code::BadRequest, evil), evil),
        ];
        for page in pages {
            let policy = page.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
            assert!(policy.starts_with("default-src 'none'") && !policy.contains("script-src"), "{policy}");
            assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
            assert_eq!(page.headers()[CACHE_CONTROL], "no-store");
            let text = text(page).await;
            assert!(!text.contains("<script") && text.contains("&lt;script&gt;"), "{text}");
        }
    }

    #[tokio::test]
    async fn a_trouble_has_its_status_and_when_to_come_again() {
        let page = trouble(&Refusal::new(Code::Unavailable, "later").retry_after(10), "/login");
        assert_eq!((page.status().as_u16(), &page.headers()[RETRY_AFTER]), (503, &HeaderValue::from(10)));
        assert!(text(page).await.contains("TMX-5003"));
    }
}
