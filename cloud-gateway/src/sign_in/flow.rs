//! To the provider and back (OpenID Connect Core §3.1, RFC 7636, RFC 9207).

use std::{net::IpAddr, sync::Arc};

use axum::response::Response;
use http::{HeaderMap, header::SET_COOKIE};
use model::{Code, Refusal, Secret, UserActor};
use runtime::{
    Clock,
    jose::{Discovery, OauthError, plain, post_form},
};
use serde::Deserialize;

use super::{
    cookies::{self, LOGIN, SIGNING_IN},
    key::BrowserKey,
    pages,
    pending::{self, Pending, PendingSignIns},
};
use crate::{
    logins::{self, Logins},
    oidc::{Client, Given, Provider},
    users::Users,
};

/// Sends browsers to providers and takes them back.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) users: Arc<Users>,
    pub(super) logins: Arc<Logins>,
    /// Without a slash at its end.
    pub(super) public_url: String,
    pub(super) clock: Clock,
    pending: PendingSignIns,
}

/// What a provider's answer carries in its address (RFC 6749 §4.1.2, RFC 9207 §2); each at most once.
#[derive(Debug, Deserialize)]
pub(super) struct ComingBack {
    state: Option<String>,
    code: Option<String>,
    iss: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

impl Flow {
    pub(super) fn new(users: Arc<Users>, logins: Arc<Logins>, public_url: String, clock: Clock) -> Self {
        Self { users, logins, public_url, clock, pending: PendingSignIns::default() }
    }

    /// A redirect to the provider, which is asked first whether it answers.
    pub(super) async fn begin(
        &self,
        name: &str,
        back: String,
        headers: &HeaderMap,
        source: IpAddr,
    ) -> Result<Response, Refusal> {
        let (provider, client) = self.provider(name)?;
        let discovery = self.discovery(provider).await?;
        let endpoint = discovery.endpoint("authorization_endpoint");
        let mut endpoint = endpoint.ok_or_else(|| lacking(provider, "authorization_endpoint"))?;
        let (state, nonce, verifier) = (BrowserKey::fresh(), BrowserKey::fresh(), BrowserKey::fresh());
        // Kept where it is there already, so that two tabs do not end each other's sign-in.
        let browser = cookies::read(headers, SIGNING_IN).unwrap_or_else(BrowserKey::fresh);
        endpoint
            .query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &client.id)
            .append_pair("redirect_uri", &self.redirect_uri(provider))
            .append_pair("scope", &provider.sign_in.scopes.join(" "))
            .append_pair("state", state.expose())
            .append_pair("nonce", nonce.expose())
            .append_pair("code_challenge", &verifier.challenge())
            .append_pair("code_challenge_method", "S256");
        let (provider, began) = (provider.name().to_owned(), self.clock.now());
        let waiting = Pending { provider, verifier, nonce, browser: browser.digest(), back, began, source };
        if !self.pending.put(&state, waiting) {
            let detail = "too many people are signing in at this moment; try again in a minute";
            return Err(Refusal::new(Code::Unavailable, detail).retry_after(60));
        }
        let mut response = pages::redirect(endpoint.as_str());
        response.headers_mut().append(SET_COOKIE, cookies::set(SIGNING_IN, &browser, pending::LIFE));
        Ok(response)
    }

    /// The browser comes back. Whatever is wrong with it, its state is used up.
    pub(super) async fn finish(
        &self,
        name: &str,
        answer: ComingBack,
        headers: &HeaderMap,
    ) -> Result<Response, Refusal> {
        let refused = |detail: &'static str| Refusal::new(Code::BadRequest, detail);
        let state = answer.state.as_deref().and_then(BrowserKey::shown);
        let pending = state.and_then(|state| self.pending.take(&state, self.clock.now()));
        let pending =
            pending.ok_or_else(|| refused("this sign-in is over, or its address was used already"))?;
        let browser = cookies::read(headers, SIGNING_IN).map(|key| key.digest());
        if browser != Some(pending.browser) {
            return Err(refused("this sign-in was begun in another browser, or its cookie is gone"));
        }
        // A provider that answers in another's name is after the code meant for that other (RFC 9700 §4.4).
        if pending.provider != name {
            return Err(refused("another provider answered than the one that was asked"));
        }
        let (provider, client) = self.provider(name)?;
        let discovery = self.discovery(provider).await?;
        let must_name = discovery.is_true("authorization_response_iss_parameter_supported");
        if answer.iss.as_deref().map_or(must_name, |iss| iss != provider.keys.issuer()) {
            return Err(refused("the answer does not name the provider that was asked"));
        }
        if let Some(error) = &answer.error {
            let said = answer.error_description.as_deref().map(plain).unwrap_or_default();
            let detail = format!("the sign-in provider said no: {} {said}", plain(error));
            return Err(Refusal::new(Code::NotGranted, detail.trim_end().to_owned()));
        }
        let code = answer.code.ok_or_else(|| refused("the answer carries no code"))?;
        let given = self.redeem(provider, client, &discovery, &code, &pending).await?;
        let person = provider.vouch(&given, &client.id, pending.nonce.expose(), &self.clock).await;
        let user = self.users.of_person(person.map_err(not_believed)?).await?;
        self.welcome(&user, headers, &pending.back).await
    }

    /// A new login, whatever the browser held before.
    async fn welcome(&self, user: &UserActor, headers: &HeaderMap, back: &str) -> Result<Response, Refusal> {
        if let Some(former) = cookies::read(headers, LOGIN) {
            self.logins.end(&former).await?;
        }
        let login = self.logins.begin(user).await?;
        tracing::debug!(user = %user.user(), "signed in with a browser");
        let mut response = pages::redirect(back);
        response.headers_mut().append(SET_COOKIE, cookies::set(LOGIN, &login, logins::LIFE));
        response.headers_mut().append(SET_COOKIE, cookies::clear(SIGNING_IN));
        Ok(response)
    }

    /// The tokens for a code (RFC 6749 §4.1.3).
    async fn redeem(
        &self,
        provider: &Provider,
        client: &Client,
        discovery: &Discovery,
        code: &str,
        pending: &Pending,
    ) -> Result<Given, Refusal> {
        let endpoint = discovery.endpoint("token_endpoint");
        let endpoint = endpoint.ok_or_else(|| lacking(provider, "token_endpoint"))?;
        let redirect_uri = self.redirect_uri(provider);
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri.as_str()),
            ("code_verifier", pending.verifier.expose()),
        ];
        // Discovery §3: a provider that says nothing takes `client_secret_basic`.
        let methods = "token_endpoint_auth_methods_supported";
        let wants_form = discovery.lists(methods, "client_secret_basic") == Some(false)
            && discovery.lists(methods, "client_secret_post") == Some(true);
        let basic = match &client.secret {
            Some(secret) if !wants_form => Some((client.id.as_str(), secret)),
            secret => {
                form.push(("client_id", &client.id));
                form.extend(secret.iter().map(|secret| ("client_secret", secret.expose().as_str())));
                None
            }
        };
        let answer = post_form(provider.keys.fetcher(), &endpoint, &form, basic).await;
        let answer = answer.map_err(|error| not_redeemed(provider, &error))?;
        let token = |name: &str| {
            let token = answer.get(name).and_then(|token| token.as_str());
            token.map(|token| Secret::new(token.to_owned()))
        };
        let lacking = || "the sign-in provider gave no identity token; is the scope `openid` allowed?";
        let id_token = token("id_token").ok_or_else(|| Refusal::new(Code::Unavailable, lacking()))?;
        Ok(Given { id_token, access_token: token("access_token") })
    }

    fn provider(&self, name: &str) -> Result<(&Provider, &Client), Refusal> {
        let provider = self.users.providers().for_browsers().find(|provider| provider.name() == name);
        provider
            .and_then(|provider| Some((provider, provider.sign_in.client.as_ref()?)))
            .ok_or_else(|| Refusal::new(Code::NotFound, "there is no such sign-in provider"))
    }

    async fn discovery(&self, provider: &Provider) -> Result<Arc<Discovery>, Refusal> {
        provider.keys.discovery().await.ok_or_else(away)
    }

    /// Exactly as it is registered at the provider. Each provider has its own, so that none can pass its answers
    /// off as another's.
    fn redirect_uri(&self, provider: &Provider) -> String {
        format!("{}/login/{}/callback", self.public_url, provider.name())
    }
}

fn away() -> Refusal {
    let detail = "the sign-in provider does not answer at the moment, so nobody can sign in with it anew";
    Refusal::new(Code::Unavailable, detail).retry_after(10)
}

fn lacking(provider: &Provider, member: &'static str) -> Refusal {
    tracing::error!(
        issuer = provider.keys.issuer(),
        member,
        "the discovery document lacks a usable endpoint"
    );
    Refusal::new(Code::Unavailable, "the sign-in provider does not say where to sign in; the log names it")
}

fn not_redeemed(provider: &Provider, error: &OauthError) -> Refusal {
    tracing::warn!(issuer = provider.keys.issuer(), %error, "a code was not redeemed");
    match error {
        OauthError::Refused { error, .. } if error == "invalid_grant" => Refusal::new(
            Code::BadRequest,
            "the sign-in provider does not take this code: it was used already, or belongs to another sign-in",
        ),
        OauthError::Refused { .. } => Refusal::new(
            Code::Unavailable,
            "the sign-in provider refused this cloud; the operator finds its words in the log",
        ),
        _ => away(),
    }
}

/// An identity token that does not hold says nothing of who is there.
fn not_believed(refusal: Refusal) -> Refusal {
    tracing::warn!(reason = %refusal.detail, "an identity token was not believed");
    match refusal.code {
        Code::TokenMissing | Code::TokenExpired | Code::TokenAudience | Code::TokenUnknownKey => Refusal {
            detail: format!("the identity token was not believed: {}", refusal.detail).into(),
            ..refusal
        },
        _ => refusal,
    }
}
