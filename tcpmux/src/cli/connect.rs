//! `tcpmux connect`: standard input and output, joined to a TCP service of a device.
//!
//! Made for `ssh -o ProxyCommand='tcpmux connect cam-01 shell' pi@cam-01`. The bytes travel as binary
//! messages of a WebSocket (subprotocol `tcpmux.stream.v1`); an empty message ends one direction.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, Method, Request, StatusCode, header};
use model::Secret;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, Message, client::IntoClientRequest, protocol::frame::coding::CloseCode},
};

use super::{AdminArgs, ConnectArgs, admin, signed_in::SignedIn};
use crate::{
    data,
    exit::{Exit, Failure},
};

pub(super) async fn connect(args: ConnectArgs) -> Result<(), Failure> {
    let way_in = WayIn::find(&args).await?;
    let socket = way_in.open(&args).await?;
    splice(socket).await
}

/// Where the user door is, what vouches for it, and the token to show.
struct WayIn {
    cloud: url::Url,
    /// None: the system's roots.
    ca: Option<PathBuf>,
    token: Secret<String>,
}

impl WayIn {
    async fn find(args: &ConnectArgs) -> Result<Self, Failure> {
        let usage = |error: &dyn std::fmt::Display| Failure::new(Exit::Usage, error);
        if let (Some(cloud), Some(ca), Some(token_file)) = (&args.cloud, &args.ca, &args.token_file) {
            let cloud =
                url::Url::parse(cloud).map_err(|error| usage(&format!("--cloud {cloud}: {error}")))?;
            let token = data::read_secret(token_file).map_err(|error| usage(&error))?;
            return Ok(Self { cloud, ca: Some(ca.clone()), token });
        }
        let is_here = args.data.is_some() || std::path::Path::new(crate::DEFAULT_DATA).exists();
        if args.token_file.is_none() && (args.cloud.is_some() || !is_here) {
            return Self::signed_in(args).await;
        }
        if args.data.is_none() && (args.cloud.is_some() || args.token_file.is_some()) {
            return Err(usage(&"give --cloud, --ca and --token-file together, or --data alone"));
        }
        let directory = args.data.clone().unwrap_or_else(|| PathBuf::from(crate::DEFAULT_DATA));
        let admin_args = AdminArgs { data: Some(directory.clone()), admin: None, ca: None, key_file: None };
        let client = admin::AdminClient::new(&admin_args)?;
        let path = format!("/admin/api/tokens?tenant={}", args.tenant);
        let answer = client
            .call(Method::POST, &path, Some(json!({"device": args.device, "level": "operator"})))
            .await?;
        let token = Secret::new(answer["token"].as_str().unwrap_or_default().to_owned());
        let listening = data::listening(&directory).map_err(|error| Failure::new(Exit::Network, error))?;
        let Some(address) = listening.user else {
            return Err(usage(&"the cloud on this data directory has no user door"));
        };
        let cloud = url::Url::parse(&format!("https://localhost:{}", address.port()))
            .map_err(|error| usage(&error))?;
        Ok(Self { cloud, ca: Some(directory.join(data::ROOT)), token })
    }

    /// As the person who is signed in.
    async fn signed_in(args: &ConnectArgs) -> Result<Self, Failure> {
        let mut signed_in = SignedIn::require()?;
        let usage = |error: &dyn std::fmt::Display| Failure::new(Exit::Usage, error);
        let cloud = url::Url::parse(&signed_in.cloud).map_err(|error| usage(&error))?;
        let wanted = args.cloud.as_deref().map(url::Url::parse).transpose().map_err(|error| usage(&error))?;
        if wanted.is_some_and(|wanted| wanted.origin() != cloud.origin()) {
            let detail = format!(
                "you are signed in to {}; give --token-file, or run `tcpmux login` there",
                signed_in.cloud
            );
            return Err(Failure::new(Exit::Forbidden, detail));
        }
        let answer = signed_in.proxy_token(&args.device).await?;
        let token = Secret::new(answer["token"].as_str().unwrap_or_default().to_owned());
        Ok(Self { cloud, ca: args.ca.clone().or(signed_in.ca.clone()), token })
    }

    async fn open(&self, args: &ConnectArgs) -> Result<WebSocketStream<TlsStream<TcpStream>>, Failure> {
        let network = |error: &dyn std::fmt::Display| {
            Failure::new(Exit::Network, format!("cannot reach {}: {error}", self.cloud))
        };
        let host = self.cloud.host_str().unwrap_or_default().to_owned();
        let port = self.cloud.port_or_known_default().unwrap_or(443);
        if self.cloud.scheme() != "https" {
            return Err(Failure::new(Exit::Usage, "--cloud has to be an https address"));
        }
        let roots = match &self.ca {
            Some(ca) => admin::roots(ca)?,
            None => runtime::http::system_roots(None).map_err(|error| network(&error))?,
        };
        let mut tls = ClientConfig::builder_with_provider(runtime::tls::provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| network(&error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let socket = TcpStream::connect((name.as_str(), port)).await.map_err(|error| network(&error))?;
        socket.set_nodelay(true).map_err(|error| network(&error))?;
        let name = ServerName::try_from(name).map_err(|error| network(&error))?;
        let socket =
            TlsConnector::from(Arc::new(tls)).connect(name, socket).await.map_err(|error| network(&error))?;
        let request = self.request(args, &host, port).map_err(|error| network(&error))?;
        match tokio_tungstenite::client_async(request, socket).await {
            Ok((socket, _)) => Ok(socket),
            Err(tungstenite::Error::Http(response)) => {
                let body: Value = response
                    .body()
                    .as_deref()
                    .and_then(|body| serde_json::from_slice(body).ok())
                    .unwrap_or_default();
                let status = StatusCode::from_u16(response.status().as_u16()).unwrap_or_default();
                Err(admin::refused(status, &body))
            }
            Err(error) => Err(network(&error)),
        }
    }

    fn request(&self, args: &ConnectArgs, host: &str, port: u16) -> Result<Request<()>, tungstenite::Error> {
        let path = format!("/v1/devices/{}/streams/{}", args.device, args.service);
        let mut request = format!("wss://{host}:{port}{path}").into_client_request()?;
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", self.token.expose()))?;
        bearer.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, bearer);
        request
            .headers_mut()
            .insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(cloud_proxy::SUBPROTOCOL));
        Ok(request)
    }
}

/// Copies both ways until the device has ended its direction.
async fn splice(socket: WebSocketStream<TlsStream<TcpStream>>) -> Result<(), Failure> {
    let lost = |error: &dyn std::fmt::Display| {
        Failure::new(Exit::Network, format!("the stream was lost, its end is missing: {error}"))
    };
    let (mut sink, mut stream) = socket.split();
    let up = async {
        let mut input = tokio::io::stdin();
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let count = input.read(&mut buffer).await.map_err(|error| lost(&error))?;
            sink.send(Message::Binary(Bytes::copy_from_slice(&buffer[..count])))
                .await
                .map_err(|error| lost(&error))?;
            if count == 0 {
                // The other direction decides when all is over.
                return std::future::pending::<Result<(), Failure>>().await;
            }
        }
    };
    let down = async {
        let mut output = tokio::io::stdout();
        while let Some(message) = stream.next().await {
            match message.map_err(|error| lost(&error))? {
                Message::Binary(bytes) if bytes.is_empty() => return Ok(()),
                Message::Binary(bytes) => {
                    output.write_all(&bytes).await.map_err(|error| lost(&error))?;
                    output.flush().await.map_err(|error| lost(&error))?;
                }
                Message::Close(Some(frame)) if frame.code != CloseCode::Normal => {
                    return Err(lost(&format!("{} {}", frame.code, frame.reason)));
                }
                Message::Close(_) => return Ok(()),
                _ => {}
            }
        }
        Err(lost(&"no close"))
    };
    tokio::select! { ended = up => ended, ended = down => ended }
}
