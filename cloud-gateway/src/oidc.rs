//! Sign-in providers: from a provider's token to who the person is.

use std::{path::PathBuf, sync::Arc, time::Duration};

use model::{Code, Refusal, Secret, TenantName, Timestamp};
use runtime::{
    Clock, Tasks,
    jose::{
        Expectations, FetchError, KeyFetcher, KeySource, RemoteKeySet, RemoteKeySetError, TokenBody,
        TokenError, TypRule, UnverifiedToken,
    },
};

/// A sign-in provider, as `[[oidc]]` names it.
#[derive(Debug, Clone)]
pub struct ProviderConfig {
    /// `iss` of its tokens, and where discovery begins.
    pub issuer: String,
    /// `aud` of its tokens for this cloud.
    pub audience: String,
    /// To which tenant its people belong.
    pub tenant: TenantRule,
    /// A PEM file of CA certificates to trust for this provider alone, beside the system's.
    pub ca: Option<PathBuf>,
    /// How people sign in with it here; without a client its tokens are taken, but nobody is sent to it.
    pub sign_in: SignInConfig,
}

/// The clients that are registered at a provider for this cloud.
#[derive(Debug, Clone, Default)]
pub struct SignInConfig {
    /// The provider's name in our addresses, as in `/login/{name}`; empty: the issuer's host.
    pub name: String,
    /// The client of browsers.
    pub client: Option<Client>,
    /// The public client of the command line, for the device flow.
    pub cli_client: Option<String>,
    /// What is asked for; `openid` is among them.
    pub scopes: Vec<String>,
}

/// A client at a provider.
#[derive(Debug, Clone)]
pub struct Client {
    /// `client_id`.
    pub id: String,
    /// A public client has none.
    pub secret: Option<Secret<String>>,
}

/// How the tenant of a person is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TenantRule {
    /// Everybody of this provider is in this tenant.
    Fixed(TenantName),
    /// This member of the token names it. No token ever creates a tenant.
    Member(String),
}

/// Why a provider cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// Its addresses are not allowed.
    #[error("[[oidc]] {0}")]
    Keys(#[from] RemoteKeySetError),
    /// Its CA certificates cannot be read.
    #[error("[[oidc]] `{0}`: {1}")]
    Roots(String, FetchError),
    /// Two providers share an issuer.
    #[error("[[oidc]] the issuer `{0}` occurs twice")]
    Twice(String),
    /// A provider that could mint proxy tokens, or whose tokens could be mistaken for them.
    #[error(
        "[[oidc]] issuer and audience of `{0}` must differ from this cloud's own address and from `tcpmux:proxy`"
    )]
    Ourselves(String),
    /// An empty audience or member name.
    #[error("[[oidc]] `{0}` needs an audience, and a tenant or the name of the member that tells it")]
    Incomplete(String),
    /// A name that does not fit an address, or that two providers share.
    #[error(
        "[[oidc]] `{0}` needs a `name` of its own of a-z, 0-9, `.` and `-`: it stands in the address that the provider sends browsers back to"
    )]
    Name(String),
}

/// Who a provider says is calling.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Person {
    pub(crate) tenant: TenantName,
    pub(crate) issuer: String,
    pub(crate) subject: String,
    pub(crate) email: Option<String>,
}

/// What a provider gave for a code.
#[derive(Debug)]
pub(crate) struct Given {
    /// `id_token`.
    pub(crate) id_token: Secret<String>,
    /// `access_token`, which is used for nothing here.
    pub(crate) access_token: Option<Secret<String>>,
}

/// The providers that are believed.
#[derive(Debug)]
pub(crate) struct Providers {
    providers: Vec<Provider>,
    own_issuer: String,
    clock: Clock,
}

/// A provider that is believed.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) keys: Arc<RemoteKeySet>,
    /// The audience of its tokens for us, and of the identity tokens that our command line brings.
    audiences: Vec<String>,
    tenant: TenantRule,
    pub(crate) sign_in: SignInConfig,
}

impl Providers {
    /// Checks the configuration and begins to fetch keys; a provider that is down delays nothing.
    pub(crate) fn start(
        configs: Vec<ProviderConfig>,
        own_issuer: &str,
        clock: Clock,
        tasks: &Tasks,
    ) -> Result<Self, ProviderError> {
        let mut providers: Vec<Provider> = Vec::with_capacity(configs.len());
        for config in configs {
            let provider = Provider::new(config, own_issuer)?;
            if providers.iter().any(|other| other.keys.issuer() == provider.keys.issuer()) {
                return Err(ProviderError::Twice(provider.keys.issuer().to_owned()));
            }
            let clash = |other: &Provider| other.is_for_browsers() && other.name() == provider.name();
            if provider.is_for_browsers() && providers.iter().any(clash) {
                return Err(ProviderError::Name(provider.keys.issuer().to_owned()));
            }
            providers.push(provider);
        }
        for provider in &providers {
            provider.keys.keep_fresh(tasks);
        }
        Ok(Self { providers, own_issuer: own_issuer.to_owned(), clock })
    }

    /// The person that a token speaks of, its signature and every member verified; and its end.
    pub(crate) async fn identify(&self, token: &str) -> Result<(Person, Timestamp), Refusal> {
        let token = UnverifiedToken::read(token)?;
        if token.issuer() == self.own_issuer {
            // Whatever it says, and whether or not it verifies: a proxy token is no proof of who is calling.
            let detail = "this is a proxy token; this call takes the sign-in provider's own token";
            return Err(Refusal::new(Code::TokenAudience, detail));
        }
        let provider = self.of_issuer(token.issuer()).ok_or(TokenError::Issuer)?;
        let mut outcome = Err(TokenError::Audience);
        for audience in &provider.audiences {
            outcome = provider.verify(&token, audience, &self.clock).await;
            if outcome != Err(TokenError::Audience) {
                break;
            }
        }
        let body = outcome?;
        let expires_at = body.expires_at;
        Ok((provider.person(body)?, expires_at))
    }

    /// The provider of an issuer.
    pub(crate) fn of_issuer(&self, issuer: &str) -> Option<&Provider> {
        self.providers.iter().find(|provider| provider.keys.issuer() == issuer)
    }

    /// Those that browsers can be sent to.
    pub(crate) fn for_browsers(&self) -> impl Iterator<Item = &Provider> {
        self.providers.iter().filter(|provider| provider.is_for_browsers())
    }

    /// All of them.
    pub(crate) fn all(&self) -> &[Provider] {
        &self.providers
    }
}

impl Provider {
    fn new(config: ProviderConfig, own_issuer: &str) -> Result<Self, ProviderError> {
        let ProviderConfig { issuer, audience, tenant, ca, mut sign_in } = config;
        if issuer == own_issuer || audience == crate::AUDIENCE {
            return Err(ProviderError::Ourselves(issuer));
        }
        if audience.is_empty() || tenant == TenantRule::Member(String::new()) {
            return Err(ProviderError::Incomplete(issuer));
        }
        let fetcher = KeyFetcher::new(ca.as_deref());
        let fetcher = fetcher.map_err(|error| ProviderError::Roots(issuer.clone(), error))?;
        let keys = RemoteKeySet::new(&issuer, KeySource::Discovery, fetcher)?;
        if sign_in.name.is_empty() {
            let host = url::Url::parse(&issuer).ok().and_then(|url| url.host_str().map(str::to_owned));
            sign_in.name = host.unwrap_or_default().trim_matches(['[', ']']).replace(':', "-");
        }
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
        let is_name = (1..=64).contains(&sign_in.name.len()) && sign_in.name.bytes().all(fits);
        if sign_in.client.is_some() && !is_name {
            return Err(ProviderError::Name(issuer));
        }
        let mut audiences = vec![audience];
        audiences.extend(sign_in.cli_client.clone());
        Ok(Self { keys, audiences, tenant, sign_in })
    }

    /// Its name in our addresses.
    pub(crate) fn name(&self) -> &str {
        &self.sign_in.name
    }

    fn is_for_browsers(&self) -> bool {
        self.sign_in.client.is_some()
    }

    /// The person of an identity token that this provider has just given us (OpenID Connect Core §3.1.3.7):
    /// made for our client, for this sign-in, and for nobody else as well; if it names an access token, for the one
    /// that came with it (§3.1.3.8).
    pub(crate) async fn vouch(
        &self,
        given: &Given,
        client: &str,
        nonce: &str,
        clock: &Clock,
    ) -> Result<Person, Refusal> {
        let token = UnverifiedToken::read(given.id_token.expose())?;
        let body = self.verify(&token, client, clock).await?;
        let refused = |detail| Err(Refusal::new(Code::TokenUnknownKey, detail));
        if body.text("nonce") != Some(nonce) {
            return refused("the identity token belongs to another sign-in");
        }
        let is_party = body.members.get("azp").is_none_or(|party| party.as_str() == Some(client));
        let is_alone = body.audience.len() == 1 || body.members.contains_key("azp");
        if !is_party || !is_alone {
            return refused("the identity token was made for another client");
        }
        let access_token = given.access_token.as_ref().map(|access| token.half_hash(access.expose()));
        if body.members.get("at_hash").is_some_and(|stated| stated.as_str() != access_token.as_deref()) {
            return refused("the identity token came with another access token than it was made with");
        }
        self.person(body)
    }

    async fn verify(
        &self,
        token: &UnverifiedToken<'_>,
        audience: &str,
        clock: &Clock,
    ) -> Result<TokenBody, TokenError> {
        let expected = Expectations {
            issuer: self.keys.issuer(),
            audience,
            typ: TypRule::Provider,
            now: clock.now(),
            leeway: LEEWAY,
        };
        self.keys.verify(token, &expected).await
    }

    fn person(&self, body: TokenBody) -> Result<Person, Refusal> {
        let tenant = self.tenant.of(&body)?;
        let email = email(&body);
        Ok(Person { tenant, issuer: body.issuer, subject: body.subject, email })
    }
}

impl TenantRule {
    fn of(&self, body: &TokenBody) -> Result<TenantName, Refusal> {
        match self {
            Self::Fixed(tenant) => Ok(tenant.clone()),
            Self::Member(member) => {
                let name = body.text(member).and_then(|text| text.parse().ok());
                name.ok_or_else(|| no_tenant(&format!("the token's `{member}` names no tenant")))
            }
        }
    }
}

/// The refusal for people of no tenant: the same whether the name is absent, malformed or unknown here.
pub(crate) fn no_tenant(detail: &str) -> Refusal {
    Refusal::new(Code::NotGranted, format!("{detail}; ask the operator to add you to one"))
}

/// For showing only, so a doubtful address is left out rather than refused.
fn email(body: &TokenBody) -> Option<String> {
    let is_disowned = body.members.get("email_verified") == Some(&false.into());
    let email = body.text("email").filter(|email| email.len() <= 254 && !email.chars().any(char::is_control));
    email.filter(|_| !is_disowned).map(str::to_owned)
}

/// How far a provider's clock may be off.
const LEEWAY: Duration = Duration::from_secs(60);
