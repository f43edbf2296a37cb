//! Sign-in providers: from a provider's token to who the person is.

use std::{sync::Arc, time::Duration};

use model::{Code, Refusal, TenantName};
use runtime::{
    Clock, Tasks,
    jose::{
        Expectations, KeyFetcher, KeySource, RemoteKeySet, RemoteKeySetError, TokenBody, TokenError, TypRule,
        UnverifiedToken,
    },
};

/// A sign-in provider, as `[[oidc]]` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderConfig {
    /// `iss` of its tokens, and where discovery begins.
    pub issuer: String,
    /// `aud` of its tokens for this cloud.
    pub audience: String,
    /// To which tenant its people belong.
    pub tenant: TenantRule,
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
}

/// Who a provider says is calling.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Person {
    pub(crate) tenant: TenantName,
    pub(crate) issuer: String,
    pub(crate) subject: String,
    pub(crate) email: Option<String>,
}

/// The providers that are believed.
#[derive(Debug)]
pub(crate) struct Providers {
    providers: Vec<Provider>,
    own_issuer: String,
    clock: Clock,
}

#[derive(Debug)]
struct Provider {
    keys: Arc<RemoteKeySet>,
    audience: String,
    tenant: TenantRule,
}

impl Providers {
    /// Checks the configuration and begins to fetch keys; a provider that is down delays nothing.
    pub(crate) fn start(
        configs: Vec<ProviderConfig>,
        own_issuer: &str,
        fetcher: &KeyFetcher,
        clock: Clock,
        tasks: &Tasks,
    ) -> Result<Self, ProviderError> {
        let mut providers: Vec<Provider> = Vec::with_capacity(configs.len());
        for config in configs {
            if config.issuer == own_issuer || config.audience == crate::AUDIENCE {
                return Err(ProviderError::Ourselves(config.issuer));
            }
            if config.audience.is_empty() || config.tenant == TenantRule::Member(String::new()) {
                return Err(ProviderError::Incomplete(config.issuer));
            }
            if providers.iter().any(|provider| provider.keys.issuer() == config.issuer) {
                return Err(ProviderError::Twice(config.issuer));
            }
            let keys = RemoteKeySet::new(&config.issuer, KeySource::Discovery, fetcher.clone())?;
            providers.push(Provider { keys, audience: config.audience, tenant: config.tenant });
        }
        for provider in &providers {
            provider.keys.keep_fresh(tasks);
        }
        Ok(Self { providers, own_issuer: own_issuer.to_owned(), clock })
    }

    /// The person that a token speaks of, its signature and every member verified.
    pub(crate) async fn identify(&self, token: &str) -> Result<Person, Refusal> {
        let token = UnverifiedToken::read(token)?;
        if token.issuer() == self.own_issuer {
            // Whatever it says, and whether or not it verifies: a proxy token is no proof of who is calling.
            let detail = "this is a proxy token; this call takes the sign-in provider's own token";
            return Err(Refusal::new(Code::TokenAudience, detail));
        }
        let provider = self.providers.iter().find(|provider| provider.keys.issuer() == token.issuer());
        let provider = provider.ok_or(TokenError::Issuer)?;
        let expected = Expectations {
            issuer: provider.keys.issuer(),
            audience: &provider.audience,
            typ: TypRule::Provider,
            now: self.clock.now(),
            leeway: LEEWAY,
        };
        let body = provider.keys.verify(&token, &expected).await?;
        let tenant = provider.tenant.of(&body)?;
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
const LEEWAY: Duration = Duration::from_secs(30);
