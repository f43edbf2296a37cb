//! Calling the admin door.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use model::Secret;
use runtime::http::{ClientError, HttpClient};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde_json::Value;

use crate::{
    data,
    exit::{Exit, Failure},
};

/// Where the admin door is and how to come in.
#[derive(Debug, Clone, clap::Args)]
pub struct AdminArgs {
    /// Data directory of a cloud on this machine: address, CA and key lie there
    #[arg(long, env = "TCPMUX_DATA", value_name = "DIR", global = true)]
    pub data: Option<PathBuf>,
    /// Address of the admin door, as in `https://127.0.0.1:9443`
    #[arg(long, env = "TCPMUX_ADMIN", value_name = "URL", requires = "ca", requires = "key_file")]
    pub admin: Option<String>,
    /// PEM file with the CA of the cloud's certificates
    #[arg(long, env = "TCPMUX_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// File with the admin key (mode 0600)
    #[arg(long, env = "TCPMUX_KEY_FILE", value_name = "FILE")]
    pub key_file: Option<PathBuf>,
}

impl AdminArgs {
    /// Whether somebody named a cloud to administer, or one lies where it usually does.
    pub(super) fn is_given(&self) -> bool {
        let usual = Path::new(crate::DEFAULT_DATA);
        self.data.is_some() || self.admin.is_some() || usual.exists()
    }
}

/// A caller of the admin door who holds its key.
#[derive(Debug)]
pub(super) struct AdminClient {
    base: String,
    key: Secret<String>,
    client: HttpClient,
}

impl AdminClient {
    /// Finds the door and the key.
    ///
    /// # Errors
    /// Says which file is missing or which flag to give.
    pub(super) fn new(args: &AdminArgs) -> Result<Self, Failure> {
        let wrong = |error: &dyn std::fmt::Display| Failure::new(Exit::Usage, error);
        if let (Some(base), Some(ca), Some(key_file)) = (&args.admin, &args.ca, &args.key_file) {
            let key = data::read_secret(key_file).map_err(|error| wrong(&error))?;
            return Ok(Self { base: base.trim_end_matches('/').to_owned(), key, client: admin_client(ca)? });
        }
        let directory = args.data.clone().unwrap_or_else(|| PathBuf::from(crate::DEFAULT_DATA));
        let listening = data::listening(&directory).map_err(|_| {
            Failure::new(
                Exit::Network,
                format!(
                    "no cloud runs on {}; start one with `tcpmux up`, or name another with --data, or --admin with --ca and --key-file",
                    directory.display()
                ),
            )
        })?;
        let Some(address) = listening.admin else {
            return Err(Failure::new(Exit::Usage, "the cloud on this data directory has no admin door"));
        };
        let key = data::read_secret(&directory.join(data::ADMIN_KEY)).map_err(|error| wrong(&error))?;
        Ok(Self {
            base: format!("https://{address}"),
            key,
            client: admin_client(&directory.join(data::ROOT))?,
        })
    }

    /// The door's address.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Calls the door; the answer as JSON, `null` if it has no body.
    ///
    /// # Errors
    /// With the exit code that the status stands for, and the door's own words.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, Failure> {
        let (status, answer) = self.call_raw(method, path, body).await?;
        let value: Value = serde_json::from_slice(&answer)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&answer).into_owned()));
        if status.is_success() {
            return Ok(if answer.is_empty() { Value::Null } else { value });
        }
        Err(refused(status, &value))
    }

    /// Calls the door; status and bytes as they are.
    ///
    /// # Errors
    /// If there is no answer.
    pub(super) async fn call_raw(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(header::AUTHORIZATION, format!("PROV-ADMIN {}", self.key.expose()))
            .header(header::ACCEPT, "application/json");
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let request = request
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| Failure::new(Exit::Usage, format!("{}{path}: {error}", self.base)))?;
        let response = self.client.call(request).await.map_err(|error| unreachable(&error))?;
        let (parts, body) = response.into_parts();
        Ok((parts.status, body))
    }
}

/// A client that trusts the roots in a PEM file.
pub fn admin_client(ca: &Path) -> Result<HttpClient, Failure> {
    let wrong = |error: String| Failure::new(Exit::Usage, format!("{}: {error}", ca.display()));
    HttpClient::new(roots(ca)?).map_err(|error| wrong(error.to_string()))
}

/// The roots in a PEM file.
pub(super) fn roots(ca: &Path) -> Result<RootCertStore, Failure> {
    let wrong = |error: String| Failure::new(Exit::Usage, format!("{}: {error}", ca.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(|error| wrong(error.to_string()))? {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("holds no certificate".into()));
    }
    Ok(roots)
}

/// The failure that an HTTP status stands for.
pub(super) fn refused(status: StatusCode, body: &Value) -> Failure {
    let exit = match (status.as_u16(), body["code"].as_str()) {
        (_, Some("TMX-3001")) => Exit::DeviceOffline,
        (401 | 403, _) => Exit::Forbidden,
        (404, _) => Exit::NotFound,
        (409, _) => Exit::Conflict,
        _ => Exit::Failed,
    };
    let said = body["detail"].as_str().or(body.as_str()).unwrap_or_default();
    let code = body["code"].as_str().map(|code| format!(" [{code}]")).unwrap_or_default();
    Failure::new(exit, format!("{status}: {said}{code}"))
}

fn unreachable(error: &ClientError) -> Failure {
    Failure::new(Exit::Network, error)
}
