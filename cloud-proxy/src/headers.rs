//! Names of headers that never pass as they are, in either direction.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        CONNECTION, CONTENT_LENGTH, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
        TRANSFER_ENCODING, UPGRADE,
    },
};
use model::{Code, Refusal};

/// Names that the `Connection` headers nominate (RFC 9110 §7.6.1), lower case.
#[derive(Debug, Default)]
pub(crate) struct Nominated(Vec<HeaderName>);

impl Nominated {
    /// Reads them. Nominating what frames or routes a message is an attack on whoever comes next.
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, Refusal> {
        let mut names = Vec::new();
        for option in list(headers, &CONNECTION) {
            let Ok(name) = HeaderName::from_bytes(option.as_bytes()) else {
                return Err(Refusal::new(Code::BadRequest, "the Connection header is not a list of names"));
            };
            if [HOST, CONTENT_LENGTH, TRANSFER_ENCODING].contains(&name) {
                return Err(Refusal::new(
                    Code::BadRequest,
                    "the Connection header names a header it must not",
                ));
            }
            names.push(name);
        }
        Ok(Self(names))
    }

    /// Whether this header was nominated, or belongs to one connection alone in any case.
    pub(crate) fn is_hop_by_hop(&self, name: &HeaderName) -> bool {
        HOP_BY_HOP.contains(name)
            || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings")
            || self.0.contains(name)
    }

    /// Whether the option is in the list, as `upgrade` or `close`.
    pub(crate) fn has(&self, option: &str) -> bool {
        self.0.iter().any(|name| name.as_str() == option)
    }
}

/// Whether a name is one that only the proxy may set toward a device.
///
/// Compared in a canonical form: what a CGI-like server would fold into the same variable is the same name.
pub(crate) fn is_reserved(name: &HeaderName) -> bool {
    let canonical: String = name
        .as_str()
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' })
        .collect();
    RESERVED.contains(&canonical.as_str())
        || RESERVED_PREFIXES.iter().any(|prefix| canonical.starts_with(prefix))
}

/// Refuses names with underscores: many servers read `_` as `-`, and would see a second copy of our headers.
pub(crate) fn refuse_underscores(headers: &HeaderMap) -> Result<(), Refusal> {
    match headers.keys().find(|name| name.as_str().contains('_')) {
        Some(_) => {
            Err(Refusal::new(Code::BadRequest, "header names with underscores are refused; use hyphens"))
        }
        None => Ok(()),
    }
}

/// The elements of a comma-separated header, over all its lines, lower case. A line that is no text counts as one
/// element that is no name.
pub(crate) fn list(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let lines = headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("\0"));
    lines
        .flat_map(|line| line.split(','))
        .map(|element| element.trim_matches([' ', '\t']).to_ascii_lowercase())
        .filter(|element| !element.is_empty())
        .collect()
}

/// What a `Trailer` header may announce after our rules: the names, and none of those that never pass.
pub(crate) fn announced_trailers(headers: &HeaderMap, nominated: &Nominated) -> Option<HeaderValue> {
    let names: Vec<String> = list(headers, &TRAILER)
        .into_iter()
        .filter(|name| HeaderName::from_bytes(name.as_bytes()).is_ok_and(|name| may_trail(&name, nominated)))
        .collect();
    (!names.is_empty()).then(|| HeaderValue::from_str(&names.join(", ")).ok()).flatten()
}

/// Drops the trailer fields that must not come after a body (RFC 9110 §6.5.1): whoever merges trailers into the
/// headers must not get anything that the header rules kept out.
pub(crate) fn filter_trailers(trailers: HeaderMap) -> HeaderMap {
    let none = Nominated::default();
    let mut name = None;
    let mut kept = HeaderMap::new();
    for (next, value) in trailers {
        name = next.or(name);
        if let Some(name) = name.as_ref().filter(|name| may_trail(name, &none)) {
            kept.append(name.clone(), value);
        }
    }
    kept
}

fn may_trail(name: &HeaderName, nominated: &Nominated) -> bool {
    let forbidden = [
        "authorization",
        "x-device-authorization",
        "cookie",
        "set-cookie",
        "host",
        "content-length",
        "content-encoding",
        "content-type",
        "content-range",
        "location",
        "expect",
        "range",
        "cache-control",
        "age",
        "date",
        "expires",
        "vary",
        "www-authenticate",
        "proxy-status",
        "max-forwards",
    ];
    !nominated.is_hop_by_hop(name)
        && !is_reserved(name)
        && !name.as_str().contains('_')
        && !forbidden.contains(&name.as_str())
}

const HOP_BY_HOP: [HeaderName; 7] =
    [CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

/// Names by which servers are told who is calling and how; only ours count.
const RESERVED: [&str; 14] = [
    "forwarded",
    "x-forwarded",
    "x-real-ip",
    "x-request-id",
    "x-original-url",
    "x-rewrite-url",
    "x-original-host",
    "x-host",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "client-ip",
    "remote-user",
    "proxy",
];
const RESERVED_PREFIXES: [&str; 6] =
    ["x-forwarded-", "x-tcpmux-", "x-remote-", "x-ssl-", "client-cert", "x-client-cert"];

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn reserved_names_are_recognised_however_they_are_written() {
        for name in [
            "X-Forwarded-For",
            "x-forwarded-anything",
            "X.Forwarded.For",
            "Forwarded",
            "x-real-ip",
            "X-Request-ID",
            "X-Remote-User",
            "X-Tcpmux-Level",
            "X_Tcpmux_User",
            "Client-Cert",
            "Client-Cert-Chain",
            "X-SSL-Client-S-DN",
        ] {
            assert!(is_reserved(&name.parse().unwrap()), "{name}");
        }
        for name in ["x-forward", "accept", "x-requested-with", "x-device", "ssl", "traceparent"] {
            assert!(!is_reserved(&name.parse().unwrap()), "{name}");
        }
    }

    #[test]
    fn what_connection_names_stays_on_the_connection() {
        let lines = headers(&[("connection", "close, X-One"), ("connection", "x-TWO ,")]);
        let nominated = Nominated::read(&lines).unwrap();
        for name in
            ["x-one", "x-two", "close", "keep-alive", "te", "upgrade", "connection", "proxy-authorization"]
        {
            assert!(nominated.is_hop_by_hop(&name.parse().unwrap()), "{name}");
        }
        assert!(!nominated.is_hop_by_hop(&"x-three".parse().unwrap()));
        for bad in ["host", "Content-Length", "close, transfer-encoding", "a b"] {
            assert_eq!(
                Nominated::read(&headers(&[("connection", bad)])).unwrap_err().code,
                Code::BadRequest,
                "{bad}"
            );
        }
    }

    #[test]
    fn a_header_name_with_an_underscore_is_refused() {
        assert!(refuse_underscores(&headers(&[("x-a", "1")])).is_ok());
        assert!(refuse_underscores(&headers(&[("x_forwarded_for", "1")])).is_err());
    }

    #[test]
    fn trailers_bring_nothing_that_headers_may_not() {
        let trailers = headers(&[
            ("grpc-status", "0"),
            ("grpc-status", "1"),
            ("x-tcpmux-user", "root"),
            ("set-cookie", "a=b"),
            ("authorization", "x"),
            ("content-length", "3"),
            ("x_a", "1"),
            ("te", "trailers"),
        ]);
        let kept = filter_trailers(trailers);
        assert_eq!(kept.len(), 2);
        assert_eq!(kept.get_all("grpc-status").iter().count(), 2);
        let announced =
            headers(&[("trailer", "Grpc-Status, X-Tcpmux-User"), ("trailer", "transfer-encoding")]);
        assert_eq!(announced_trailers(&announced, &Nominated::default()).unwrap(), "grpc-status");
    }
}
