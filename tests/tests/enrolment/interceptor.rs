//! Somebody between a device and its cloud, with a certificate authority of his own: he ends the device's TLS,
//! reads what comes, and writes down every octet.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tests::{TlsClient, run};
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// What he does with what he hears.
#[derive(Debug, Clone)]
pub(super) enum Habit {
    /// Passes everything on to the cloud and back.
    Relays(SocketAddr),
    /// Answers himself: the CA certificates are his own, everything else is refused.
    Answers,
    /// Listens and says nothing.
    KeepsSilent,
}

/// An interceptor that works until it is dropped.
pub(super) struct Interceptor {
    address: SocketAddr,
    fingerprint: String,
    heard: Arc<Mutex<Vec<u8>>>,
    _accepting: JoinSet<()>,
}

impl Interceptor {
    pub(super) async fn start(habit: Habit) -> Self {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "tcpmux root");
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.use_authority_key_identifier_extension = true;
        let leaf = leaf.signed_by(&key, &authority).unwrap();
        let root: CertificateDer<'static> = authority.der().clone();
        let tls =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(
                    vec![leaf.der().clone()],
                    PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
                )
                .unwrap();
        let (acceptor, heard) = (TlsAcceptor::from(Arc::new(tls)), Arc::new(Mutex::new(vec![])));
        let own = certs_only(&root).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut accepting = JoinSet::new();
        let writing_down = Arc::clone(&heard);
        accepting.spawn(async move {
            let mut victims = JoinSet::new();
            loop {
                let Ok((socket, _)) = listener.accept().await else { return };
                let (acceptor, heard) = (acceptor.clone(), Arc::clone(&writing_down));
                let (habit, own) = (habit.clone(), own.clone());
                victims.spawn(async move {
                    // A victim that noticed the false certificate does not finish the handshake.
                    if let Ok(stream) = acceptor.accept(socket).await {
                        attend(stream, habit, &own, &heard).await;
                    }
                });
            }
        });
        let fingerprint = format!("sha256:{}", model::hex(sha256(&root).as_ref()));
        Self { address, fingerprint, heard, _accepting: accepting }
    }

    /// Where he stands.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The fingerprint of his authority.
    pub(super) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// All that was said to him, TLS taken off.
    pub(super) fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().unwrap()).into_owned()
    }
}

async fn attend(victim: TlsStream<TcpStream>, habit: Habit, own: &str, heard: &Mutex<Vec<u8>>) {
    let (mut from_victim, mut to_victim) = split(victim);
    let mut said = vec![0; 16 * 1024];
    let mut hear = async move || match from_victim.read(&mut said).await {
        Ok(count @ 1..) => {
            heard.lock().unwrap().extend(&said[..count]);
            Some(said[..count].to_vec())
        }
        _ => None,
    };
    match habit {
        Habit::KeepsSilent => while hear().await.is_some() {},
        Habit::Answers => {
            while let Some(said) = hear().await {
                let (status, body) = if String::from_utf8_lossy(&said).contains("/cacerts ") {
                    ("200 OK", own)
                } else {
                    ("401 Unauthorized", "passcode-invalid: thank you\n")
                };
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
                if say(&mut to_victim, (head + body).as_bytes()).await.is_none() {
                    return;
                }
            }
        }
        Habit::Relays(address) => {
            let tls = TlsClient::trusting_anybody().with_alpn(&[b"http/1.1"]);
            let (mut from_cloud, mut to_cloud) = split(tls.connect(address).await.unwrap());
            let onward = async {
                while let Some(said) = hear().await {
                    if say(&mut to_cloud, &said).await.is_none() {
                        return;
                    }
                }
            };
            let back = async {
                let mut answered = vec![0; 16 * 1024];
                while let Ok(count @ 1..) = from_cloud.read(&mut answered).await {
                    if say(&mut to_victim, &answered[..count]).await.is_none() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = onward => {}
                () = back => {}
            }
        }
    }
}

async fn say(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Option<()> {
    stream.write_all(bytes).await.ok()?;
    stream.flush().await.ok()
}

/// A certificate as the answer of `cacerts`.
async fn certs_only(certificate: &[u8]) -> String {
    let pem = format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        BASE64_STANDARD
            .encode(certificate)
            .as_bytes()
            .chunks(64)
            .map(String::from_utf8_lossy)
            .collect::<Vec<_>>()
            .join("\n")
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, pem).unwrap();
    let file = file.display().to_string();
    let made = run("openssl", ["crl2pkcs7", "-nocrl", "-certfile", &file, "-outform", "DER"], b"").await;
    assert_eq!(made.code, 0, "{}", made.stderr);
    BASE64_STANDARD.encode(made.bytes) + "\n"
}

fn sha256(bytes: &[u8]) -> aws_lc_rs::digest::Digest {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes)
}
