//! A stand-in for Firebase Cloud Messaging and its token endpoint, which believes nothing: it checks the signed
//! assertion, the access token and the form of every message.

use std::{
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use aws_lc_rs::{
    encoding::AsDer,
    rsa::{KeyPair, KeySize},
    signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey},
};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Service, eventually, now};

/// A push service that runs until it is dropped.
#[derive(Debug)]
pub struct PushService {
    service: Service,
    directory: TempDir,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    public_key: Vec<u8>,
    issued: Vec<String>,
    messages: Vec<Value>,
    /// What was wrong with what came.
    complaints: Vec<String>,
    unregistered: Vec<String>,
}

impl PushService {
    /// Starts it, with an account of its own.
    ///
    /// # Panics
    /// If there is no port or no randomness.
    pub async fn start() -> Self {
        let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let state = Arc::new(Mutex::new(State {
            public_key: key.public_key().as_ref().to_vec(),
            issued: vec![],
            messages: vec![],
            complaints: vec![],
            unregistered: vec![],
        }));
        let shared = Arc::clone(&state);
        let service = Service::start(move |mut conversation| {
            let state = Arc::clone(&shared);
            async move {
                let Some(request) = conversation.request().await else { return };
                let request = String::from_utf8_lossy(&request).into_owned();
                let (status, body) = state.lock().unwrap().answer(&request);
                let body = body.to_string();
                let head = format!(
                    "HTTP/1.1 {status} Said\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                conversation.write(format!("{head}{body}")).await;
            }
        })
        .await;
        let directory = TempDir::new().unwrap();
        let der = key.as_der().unwrap();
        let base64 = BASE64_STANDARD.encode(der.as_ref());
        let account = json!({
            "type": "service_account",
            "project_id": "demo-1",
            "private_key_id": "key-1",
            "private_key": format!("-----BEGIN PRIVATE KEY-----\n{base64}\n-----END PRIVATE KEY-----\n"),
            "client_email": EMAIL,
            "token_uri": format!("{}/token", service.url("http")),
        });
        let path = directory.path().join("account.json");
        std::fs::write(&path, account.to_string()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        Self { service, directory, state }
    }

    /// What a cloud has to be told so that it sends through this one.
    pub fn config(&self) -> String {
        let file = self.credentials().display().to_string();
        format!("[fcm]\ncredentials_file = {file:?}\nurl = {:?}\n", self.service.url("http"))
    }

    /// The account's file.
    pub fn credentials(&self) -> PathBuf {
        self.directory.path().join("account.json")
    }

    /// An app with this token is gone.
    pub fn unregister(&self, token: &str) {
        self.state.lock().unwrap().unregistered.push(token.into());
    }

    /// The access tokens that it gave.
    pub fn access_tokens(&self) -> Vec<String> {
        self.state.lock().unwrap().issued.clone()
    }

    /// Waits for a message to this app.
    ///
    /// # Panics
    /// If none comes, or if something else came that no push service would take.
    pub async fn message_to(&self, token: &str) -> Value {
        eventually(&format!("a push message to {token}"), || async {
            let state = self.state.lock().unwrap();
            assert!(state.complaints.is_empty(), "{:?}", state.complaints);
            let found = state.messages.iter().find(|message| message["token"] == token).cloned();
            found.ok_or_else(|| state.messages.clone())
        })
        .await
    }
}

impl State {
    fn answer(&mut self, request: &str) -> (u16, Value) {
        let (head, body) = request.split_once("\r\n\r\n").unwrap_or((request, ""));
        let line = head.lines().next().unwrap_or_default();
        let outcome = match line {
            "POST /token HTTP/1.1" => self.token(body),
            "POST /v1/projects/demo-1/messages:send HTTP/1.1" => self.message(head, body),
            _ => Err((404, format!("no such call: {line}"))),
        };
        match outcome {
            Ok(answer) => answer,
            Err((status, complaint)) => {
                self.complaints.push(complaint.clone());
                (status, json!({"error": {"message": complaint}}))
            }
        }
    }

    /// RFC 7523 §3, §2.1.
    fn token(&mut self, form: &str) -> Result<(u16, Value), (u16, String)> {
        let bad = |what: &str| (400, format!("{what}: {form}"));
        let grant = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";
        let assertion = form.strip_prefix(grant).ok_or_else(|| bad("no assertion"))?;
        let (signed, signature) = assertion.rsplit_once('.').ok_or_else(|| bad("no signature"))?;
        let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| bad("no base64url"));
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public_key)
            .verify(signed.as_bytes(), &decode(signature)?)
            .map_err(|_| bad("a wrong signature"))?;
        let (head, body) = signed.split_once('.').ok_or_else(|| bad("no body"))?;
        let read = |part: &str| -> Result<Value, (u16, String)> {
            serde_json::from_slice(&decode(part)?).map_err(|_| bad("no JSON"))
        };
        let (head, body) = (read(head)?, read(body)?);
        let seconds = |name: &str| body[name].as_u64().unwrap_or_default();
        let host = body["aud"]
            .as_str()
            .is_some_and(|aud| aud.starts_with("http://127.0.0.1:") && aud.ends_with("/token"));
        let is_right = head == json!({"alg": "RS256", "typ": "JWT", "kid": "key-1"})
            && body["iss"] == EMAIL
            && body["scope"] == "https://www.googleapis.com/auth/firebase.messaging"
            && host
            && seconds("iat") <= now() + 5
            && seconds("exp") > now()
            && seconds("exp") <= seconds("iat") + 3600;
        if !is_right {
            return Err((401, format!("a wrong assertion: {head} {body}")));
        }
        let token = format!("ya29.an-access-token-{}", self.issued.len());
        self.issued.push(token.clone());
        Ok((200, json!({"access_token": token, "expires_in": 3599, "token_type": "Bearer"})))
    }

    fn message(&mut self, head: &str, body: &str) -> Result<(u16, Value), (u16, String)> {
        let head = head.to_ascii_lowercase();
        let known =
            |token: &String| head.contains(&format!("authorization: bearer {}", token.to_ascii_lowercase()));
        if !self.issued.iter().any(known) {
            return Err((401, "no access token of ours".into()));
        }
        let body: Value = serde_json::from_str(body).map_err(|error| (400, error.to_string()))?;
        let message = &body["message"];
        let texts = |value: &Value| value.as_object().is_some_and(|all| all.values().all(Value::is_string));
        let platforms =
            ["android", "apns", "webpush"].iter().filter(|name| message.get(**name).is_some()).count();
        let is_right = body.as_object().is_some_and(|all| all.len() == 1)
            && message["token"].is_string()
            && texts(&message["data"])
            && texts(&message["notification"])
            && platforms == 1
            && message.to_string().len() <= 4096;
        if !is_right {
            return Err((400, format!("a wrong message: {body}")));
        }
        if self.unregistered.iter().any(|token| message["token"] == token.as_str()) {
            let details = json!([{
                "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": "UNREGISTERED",
            }]);
            return Ok((404, json!({"error": {"code": 404, "status": "NOT_FOUND", "details": details}})));
        }
        self.messages.push(message.clone());
        Ok((200, json!({"name": format!("projects/demo-1/messages/{}", self.messages.len())})))
    }
}

const EMAIL: &str = "push@demo-1.iam.gserviceaccount.com";
