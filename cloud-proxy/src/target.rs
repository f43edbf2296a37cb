//! Which device and service a request asks for, and which bytes go there. Pure.
//!
//! The path form is `/d/{device}/{service}/{path…}`; the host form is `{device}.{domain}` (service
//! `web`) or `{service}--{device}.{domain}`; a raw stream is `/v1/devices/{id}/streams/{service}`.
//! The prefix is matched on the raw bytes: nothing is decoded, nothing is normalised, and what
//! follows the prefix is forwarded byte for byte. So a `%2F`, a `..` or a `//` cannot change which
//! service is reached, only what that one service sees.

use std::net::IpAddr;

use http::{HeaderMap, Uri, Version, header::HOST, request::Parts, uri::Authority, uri::PathAndQuery};
use model::{Code, DeviceId, Refusal, ServiceName, host_label, read_host_label};

/// The names under which this proxy is reached.
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    /// Names of the cloud itself, without ports, lower case: the host of the public URL and what
    /// else its certificate covers. `localhost` and addresses are always accepted.
    pub cloud: Vec<String>,
    /// The domain of the host form; `None` offers none.
    pub device_domain: Option<String>,
}

/// How the device and the service were named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `/d/{device}/{service}/…`
    Path,
    /// `{device}.{domain}`
    Host,
    /// `/v1/devices/{id}/streams/{service}`
    Stream,
}

impl Form {
    /// The word in logs and metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Host => "host",
            Self::Stream => "stream",
        }
    }
}

/// What a request asks for, before anybody has looked at who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// How it was named.
    pub(crate) form: Form,
    /// The device, in the tenant that the token will tell.
    pub(crate) device: DeviceId,
    /// The service on it.
    pub(crate) service: ServiceName,
    /// Exactly what the device gets as its request target.
    pub(crate) forwarded: PathAndQuery,
    /// `/d/{device}/{service}` in the path form.
    pub(crate) prefix: Option<String>,
    /// The authority that the client named, as it wrote it.
    pub(crate) authority: Authority,
}

/// Whether a request is the proxy's to answer, rightly or with a refusal.
pub(crate) fn claims(hosts: &Hosts, parts: &Parts) -> bool {
    let path = parts.uri.path();
    let under_domain = authority(parts).is_ok_and(|authority| hosts.device_label(&authority).is_some());
    under_domain || path == "/d" || path.starts_with("/d/") || is_stream_path(path)
}

/// Reads the target of a request.
pub(crate) fn read(hosts: &Hosts, parts: &Parts) -> Result<Asked, Refusal> {
    let authority = authority(parts)?;
    let Some(path_and_query) = parts.uri.path_and_query().filter(|whole| whole.as_str().starts_with('/'))
    else {
        return Err(Refusal::new(Code::BadRequest, "the request target has to begin with `/`"));
    };
    if let Some(label) = hosts.device_label(&authority) {
        let (device, service) = read_label(&label)?;
        let forwarded = path_and_query.clone();
        return Ok(Asked { form: Form::Host, device, service, forwarded, prefix: None, authority });
    }
    if !hosts.is_cloud(&authority) {
        return Err(Refusal::new(
            Code::WrongHost,
            "this host name is not served here; use the cloud's public URL",
        ));
    }
    if is_stream_path(parts.uri.path()) {
        read_stream(parts.uri.path(), authority)
    } else {
        read_path(path_and_query.as_str(), authority)
    }
}

impl Hosts {
    /// The host of a device's service, where there is a host form and the names fit one label.
    pub(crate) fn host_form(&self, device: &DeviceId, service: &ServiceName) -> Option<String> {
        let domain = self.device_domain.as_ref()?;
        Some(format!("{}.{domain}", host_label(device, service)?))
    }

    /// What stands before the device domain in a host, lower case; `None` if the host is not under it.
    fn device_label(&self, authority: &Authority) -> Option<String> {
        let host = authority.host().to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        if self.cloud.iter().any(|name| name == host) {
            return None;
        }
        let label = host.strip_suffix(self.device_domain.as_ref()?.as_str())?.strip_suffix('.')?;
        Some(label.to_owned())
    }

    fn is_cloud(&self, authority: &Authority) -> bool {
        let host = authority.host().to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || bare.parse::<IpAddr>().is_ok() || self.cloud.iter().any(|name| name == host)
    }
}

/// The one authority of a request (RFC 9112 §3.2, RFC 9113 §8.3.1); two that differ are an attack.
fn authority(parts: &Parts) -> Result<Authority, Refusal> {
    let refuse = |why: &'static str| Refusal::new(Code::BadRequest, why);
    let header = host_header(&parts.headers)?;
    let named = match (parts.uri.authority(), header) {
        (Some(of_target), Some(of_header)) if !same_authority(&parts.uri, of_target, &of_header) => {
            return Err(refuse("the request target and the Host header name different hosts"));
        }
        (Some(of_target), _) => of_target.clone(),
        (None, Some(of_header)) => of_header,
        (None, None) if parts.version < Version::HTTP_11 => {
            return Err(refuse("a Host header is needed, also from HTTP/1.0"));
        }
        (None, None) => return Err(refuse("a Host header is needed")),
    };
    if named.as_str().contains('@') {
        return Err(refuse("user information has no place in a host"));
    }
    Ok(named)
}

fn host_header(headers: &HeaderMap) -> Result<Option<Authority>, Refusal> {
    let mut values = headers.get_all(HOST).iter();
    let Some(first) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refusal::new(Code::BadRequest, "more than one Host header"));
    }
    let parsed = first.to_str().ok().and_then(|text| text.parse::<Authority>().ok());
    parsed.map(Some).ok_or_else(|| Refusal::new(Code::BadRequest, "the Host header is not a host and port"))
}

fn same_authority(uri: &Uri, of_target: &Authority, of_header: &Authority) -> bool {
    let default_port = if uri.scheme_str() == Some("http") { 80 } else { 443 };
    of_target.host().eq_ignore_ascii_case(of_header.host())
        && of_target.port_u16().unwrap_or(default_port) == of_header.port_u16().unwrap_or(default_port)
}

fn read_label(label: &str) -> Result<(DeviceId, ServiceName), Refusal> {
    read_host_label(label).ok_or_else(|| {
        let detail = "under the device domain a host is {device} or {service}--{device}, in one label";
        Refusal::new(Code::WrongHost, detail)
    })
}

fn read_path(whole: &str, authority: Authority) -> Result<Asked, Refusal> {
    let split = whole.find('?').unwrap_or(whole.len());
    let (path, query) = whole.split_at(split);
    let mut pieces = path.strip_prefix(PATH_PREFIX).unwrap_or_default().splitn(3, '/');
    let (device, service) = (pieces.next().unwrap_or_default(), pieces.next().unwrap_or_default());
    let rest = pieces.next().unwrap_or_default();
    if device.is_empty() || service.is_empty() {
        return Err(Refusal::new(Code::NoSuchRoute, "a device's service is at /d/{device}/{service}/"));
    }
    let prefix = format!("{PATH_PREFIX}{device}/{service}");
    let (device, service) = read_names(device, service)?;
    let forwarded = format!("/{rest}{query}")
        .parse()
        .map_err(|_| Refusal::new(Code::BadRequest, "what follows the service is not a path and query"))?;
    Ok(Asked { form: Form::Path, device, service, forwarded, prefix: Some(prefix), authority })
}

fn read_stream(path: &str, authority: Authority) -> Result<Asked, Refusal> {
    let mut pieces = path.strip_prefix(STREAM_PREFIX).unwrap_or_default().split('/');
    let (device, service) = (pieces.next().unwrap_or_default(), pieces.nth(1).unwrap_or_default());
    let (device, service) = read_names(device, service)?;
    let forwarded = PathAndQuery::from_static("/");
    Ok(Asked { form: Form::Stream, device, service, forwarded, prefix: None, authority })
}

/// `/v1/devices/{id}/streams/{service}`, both names non-empty.
fn is_stream_path(path: &str) -> bool {
    let Some(rest) = path.strip_prefix(STREAM_PREFIX) else { return false };
    let pieces: Vec<&str> = rest.splitn(4, '/').collect();
    matches!(pieces[..], [device, "streams", service] if !device.is_empty() && !service.is_empty())
}

fn read_names(device: &str, service: &str) -> Result<(DeviceId, ServiceName), Refusal> {
    let device =
        device.parse().map_err(|error| Refusal::new(Code::BadRequest, format!("device: {error}")))?;
    let service =
        service.parse().map_err(|error| Refusal::new(Code::BadRequest, format!("service: {error}")))?;
    Ok((device, service))
}

/// What stands before the names in the path form.
const PATH_PREFIX: &str = "/d/";
const STREAM_PREFIX: &str = "/v1/devices/";

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn hosts() -> Hosts {
        Hosts { cloud: vec!["cloud.example.com".into()], device_domain: Some("dev.example.com".into()) }
    }

    fn parts(uri: &str, host: &[&str]) -> Parts {
        let mut request = Request::builder().uri(uri);
        for host in host {
            request = request.header(HOST, *host);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn path(uri: &str) -> Result<Asked, Refusal> {
        read(&hosts(), &parts(uri, &["cloud.example.com"]))
    }

    #[test]
    fn what_follows_the_prefix_is_forwarded_byte_for_byte() {
        for (uri, forwarded) in [
            ("/d/cam/web", "/"),
            ("/d/cam/web/", "/"),
            ("/d/cam/web?a=b", "/?a=b"),
            (
                "/d/cam/web/a%2Fb%2e%2E/../c//d/;e/\\f?x=%00&y=/../&ticket=1",
                "/a%2Fb%2e%2E/../c//d/;e/\\f?x=%00&y=/../&ticket=1",
            ),
            ("/d/cam/web//evil.example/x", "//evil.example/x"),
            ("/d/cam/web/../other/x", "/../other/x"),
            ("/d/cam/web/%252e%252e/?", "/%252e%252e/?"),
            ("/d/cam/web/http://10.0.0.1/", "/http://10.0.0.1/"),
        ] {
            let asked = path(uri).unwrap();
            assert_eq!(asked.forwarded.as_str(), forwarded, "{uri}");
            assert_eq!((asked.device.as_str(), asked.service.as_str()), ("cam", "web"));
            assert_eq!(asked.prefix.as_deref(), Some("/d/cam/web"));
        }
    }

    #[test]
    fn the_prefix_is_matched_on_raw_bytes() {
        for uri in [
            "/d/c%61m/web/",
            "/d/cam/w%65b/",
            "/d/cam%2Fweb/x",
            "/d/cam/127.0.0.1:22/",
            "/d/cam/a--b/",
            "/d/../web/",
            "/d/cam/./x",
            "/d/CAM/web/",
        ] {
            assert_eq!(path(uri).unwrap_err().code, Code::BadRequest, "{uri}");
        }
        for uri in ["/d/", "/d/cam", "/d/cam/", "/d//web/", "/d"] {
            assert_eq!(path(uri).unwrap_err().code, Code::NoSuchRoute, "{uri}");
        }
    }

    #[test]
    fn a_host_names_a_device_or_a_service_of_it() {
        let read = |host: &str| read(&hosts(), &parts("/d/x/y?z", &[host]));
        let asked = read("cam-01.dev.example.com").unwrap();
        assert_eq!((asked.device.as_str(), asked.service.as_str()), ("cam-01", "web"));
        assert_eq!((asked.form, asked.forwarded.as_str()), (Form::Host, "/d/x/y?z"));
        let asked = read("API--Cam-01.Dev.Example.Com:8443").unwrap();
        assert_eq!((asked.device.as_str(), asked.service.as_str()), ("cam-01", "api"));
        for host in
            ["a.b.dev.example.com", "--cam.dev.example.com", "a--b--c.dev.example.com", ".dev.example.com"]
        {
            assert_eq!(read(host).unwrap_err().code, Code::WrongHost, "{host}");
        }
        assert_eq!(read("evil.example").unwrap_err().code, Code::WrongHost);
        assert_eq!(read("evildev.example.com").unwrap_err().code, Code::WrongHost);
        for host in
            ["127.0.0.1:8443", "[::1]:8443", "localhost", "CLOUD.example.com:8443", "cloud.example.com."]
        {
            assert_eq!(read(host).unwrap().form, Form::Path, "{host}");
        }
    }

    #[test]
    fn the_host_form_is_offered_where_the_label_fits() {
        let hosts = hosts();
        let name = |device: &str, service: &str| {
            hosts.host_form(&device.parse().unwrap(), &service.parse().unwrap())
        };
        assert_eq!(name("cam", "web").unwrap(), "cam.dev.example.com");
        assert_eq!(name("cam", "api").unwrap(), "api--cam.dev.example.com");
        assert_eq!(name(&"x".repeat(63), "api"), None);
        assert_eq!(Hosts::default().host_form(&"cam".parse().unwrap(), &"web".parse().unwrap()), None);
    }

    #[test]
    fn two_hosts_that_differ_are_refused() {
        let read = |uri: &str, host: &[&str]| read(&hosts(), &parts(uri, host)).map(|asked| asked.form);
        let bad = |result: Result<Form, Refusal>| assert_eq!(result.unwrap_err().code, Code::BadRequest);
        bad(read("/d/cam/web/", &[]));
        bad(read("/d/cam/web/", &["cloud.example.com", "cloud.example.com"]));
        bad(read("https://cloud.example.com/d/cam/web/", &["evil.example"]));
        bad(read("https://a@cloud.example.com/d/cam/web/", &["cloud.example.com"]));
        bad(read("/d/cam/web/", &["a@cloud.example.com"]));
        bad(read("/d/cam/web/", &["cloud.example.com/x"]));
        bad(read("*", &["cam.dev.example.com"]));
        assert_eq!(read("https://cloud.example.com/d/cam/web/", &["cloud.example.com:443"]), Ok(Form::Path));
        assert_eq!(read("https://cam.dev.example.com/", &[]), Ok(Form::Host));
    }

    #[test]
    fn the_proxy_claims_its_paths_and_its_domain_and_nothing_else() {
        let claims = |uri: &str, host: &str| claims(&hosts(), &parts(uri, &[host]));
        for uri in ["/d/", "/d", "/d/cam/web/x", "/v1/devices/cam/streams/ssh", "/v1/devices/CAM/streams/x?y"]
        {
            assert!(claims(uri, "cloud.example.com"), "{uri}");
        }
        for uri in [
            "/",
            "/dd/",
            "/v1/devices",
            "/v1/devices/cam",
            "/v1/devices/cam/streams",
            "/v1/devices/cam/streams/a/b",
            "/v1/me",
        ] {
            assert!(!claims(uri, "cloud.example.com"), "{uri}");
            assert!(claims(uri, "cam.dev.example.com"), "{uri}");
        }
        assert!(!claims("/", "dev.example.com"));
        let mut hosts = hosts();
        hosts.cloud.push("console.dev.example.com".into());
        assert!(!super::claims(&hosts, &parts("/v1/me", &["console.dev.example.com"])));
    }
}
