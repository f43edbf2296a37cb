//! `tcpmux login`: a person signs in from the command line, by the device flow of RFC 8628 with the sign-in
//! provider itself. The cloud only tells which providers it believes, and as which client to ask them.

use std::{path::PathBuf, time::Duration};

use http::{Method, StatusCode};
use runtime::jose::{Discovery, KeyFetcher, OauthError, plain, post_form};
use serde_json::{Map, Value};
use tokio::time::{Instant, sleep};

use super::{
    admin, output,
    signed_in::{self, SignedIn},
};
use crate::exit::{Exit, Failure};

/// `tcpmux login …`
#[derive(Debug, Clone, clap::Args)]
pub struct LoginArgs {
    /// Address of the cloud's user door, as in `https://cloud.example.com` [default: that of the last sign-in]
    #[arg(long, env = "TCPMUX_CLOUD", value_name = "URL")]
    pub cloud: Option<String>,
    /// PEM file with the CA of the cloud's certificate, if the system does not trust it
    #[arg(long, env = "TCPMUX_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Which sign-in provider, where the cloud believes several: its issuer or its name
    #[arg(long, value_name = "ISSUER")]
    pub issuer: Option<String>,
    /// PEM file with the CA of the provider's certificate, if the system does not trust it
    #[arg(long, value_name = "FILE")]
    pub provider_ca: Option<PathBuf>,
}

/// Signs in and keeps what the provider gave.
pub(super) async fn login(args: LoginArgs) -> Result<(), Failure> {
    let (cloud, ca) = which_cloud(&args)?;
    let about =
        signed_in::cloud_call(&cloud, ca.as_deref(), Method::GET, "/.well-known/tcpmux", None, None).await?;
    let provider = which_provider(&about["sign_in"], args.issuer.as_deref())?;
    let fetcher = signed_in::fetcher(args.provider_ca.as_deref())?;
    let discovery = signed_in::discover(&provider.issuer, &fetcher).await?;
    let answer = ask(&fetcher, &discovery, &provider).await?;
    let mut signed_in = SignedIn {
        cloud,
        ca,
        issuer: provider.issuer,
        provider_ca: args.provider_ca.map(|path| std::path::absolute(&path).unwrap_or(path)),
        client_id: provider.client_id,
        token: String::new(),
        expires_at: 0,
        refresh_token: None,
    };
    signed_in.take(&answer)?;
    let me = signed_in.call(Method::GET, "/v1/me", None).await?;
    signed_in.keep()?;
    let name = me["email"].as_str().or(me["subject"].as_str()).unwrap_or_default();
    output::line(format!(
        "Signed in to {} as {} ({}).",
        signed_in.cloud,
        plain(name),
        plain(me["id"].as_str().unwrap_or_default())
    ));
    Ok(())
}

/// Forgets the sign-in, and asks the provider to.
pub(super) async fn logout() -> Result<(), Failure> {
    let Some(signed_in) = SignedIn::load()? else {
        output::line("Nobody was signed in.");
        return Ok(());
    };
    signed_in::forget()?;
    if let Some(refresh_token) = &signed_in.refresh_token
        && let Err(failure) = revoke(&signed_in, refresh_token).await
    {
        tracing::warn!(%failure, "the provider did not take back its refresh token; it ends by itself");
    }
    output::line(format!("Signed out of {}.", signed_in.cloud));
    Ok(())
}

async fn revoke(signed_in: &SignedIn, refresh_token: &str) -> Result<(), Failure> {
    let fetcher = signed_in::fetcher(signed_in.provider_ca.as_deref())?;
    let discovery = signed_in::discover(&signed_in.issuer, &fetcher).await?;
    // RFC 7009 is optional for a provider.
    let Some(endpoint) = discovery.endpoint("revocation_endpoint") else { return Ok(()) };
    let form =
        [("token", refresh_token), ("token_type_hint", "refresh_token"), ("client_id", &signed_in.client_id)];
    post_form(&fetcher, &endpoint, &form, None).await.map_err(|error| signed_in::not_given(&error))?;
    Ok(())
}

fn which_cloud(args: &LoginArgs) -> Result<(String, Option<PathBuf>), Failure> {
    match &args.cloud {
        Some(cloud) => {
            let url = url::Url::parse(cloud).ok().filter(|url| url.scheme() == "https" && url.has_host());
            let url = url.ok_or_else(|| Failure::new(Exit::Usage, "--cloud has to be an https address"))?;
            let ca = args.ca.as_ref().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()));
            Ok((url.origin().ascii_serialization(), ca))
        }
        None => {
            let last = SignedIn::load()?;
            let last = last.ok_or_else(|| {
                Failure::new(Exit::Usage, "say where the cloud is, with --cloud (and --ca)")
            })?;
            Ok((last.cloud, last.ca))
        }
    }
}

struct Provider {
    issuer: String,
    client_id: String,
    scopes: Vec<String>,
}

/// The provider to ask, of those that the cloud names.
fn which_provider(offered: &Value, wanted: Option<&str>) -> Result<Provider, Failure> {
    let offered = offered.as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
    let fits = |one: &&Value| wanted.is_none_or(|wanted| one["issuer"] == wanted || one["name"] == wanted);
    let found: Vec<&Value> = offered.iter().filter(fits).collect();
    let names: Vec<String> = offered.iter().map(|one| plain(&text(one, "issuer"))).collect();
    match found[..] {
        [one] => Ok(Provider {
            issuer: text(one, "issuer"),
            client_id: text(one, "client_id"),
            scopes: one["scopes"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(Into::into)
                .collect(),
        }),
        [] if offered.is_empty() => Err(Failure::new(
            Exit::Failed,
            "this cloud names no sign-in provider for the command line; its operator sets one up with [[oidc]] cli_client_id",
        )),
        _ => Err(Failure::new(Exit::Usage, format!("choose a provider with --issuer: {}", names.join(", ")))),
    }
}

/// RFC 8628 §3: asks for a code, shows it, and waits until somebody has entered it.
async fn ask(
    fetcher: &KeyFetcher,
    discovery: &Discovery,
    provider: &Provider,
) -> Result<Map<String, Value>, Failure> {
    let lacks = |what: &str| Failure::new(Exit::Failed, format!("{} offers no {what}", provider.issuer));
    let begin = discovery.endpoint("device_authorization_endpoint").ok_or_else(|| lacks("device flow"))?;
    let poll = discovery.endpoint("token_endpoint").ok_or_else(|| lacks("token endpoint"))?;
    let mut scopes = provider.scopes.clone();
    if discovery.lists("scopes_supported", REFRESHABLE) == Some(true) {
        scopes.push(REFRESHABLE.into());
    }
    let scope = scopes.join(" ");
    let form = [("client_id", provider.client_id.as_str()), ("scope", &scope)];
    let begun =
        post_form(fetcher, &begin, &form, None).await.map_err(|error| signed_in::not_given(&error))?;
    let text = |key: &str| begun.get(key).and_then(Value::as_str);
    let seconds = |key: &str| begun.get(key).and_then(Value::as_u64).map(Duration::from_secs);
    let (Some(device_code), Some(user_code), Some(address)) =
        (text("device_code"), text("user_code"), text("verification_uri"))
    else {
        return Err(lacks("usable device flow: its answer lacks a code or an address"));
    };
    output::line(format!(
        "To sign in, open this address in a browser:\n\n    {}\n\nand enter the code {}",
        plain(address),
        plain(user_code)
    ));
    if let Some(complete) = text("verification_uri_complete") {
        output::line(format!("or open {}", plain(complete)));
    }
    let end = Instant::now() + seconds("expires_in").unwrap_or(USUAL_LIFE).min(LONGEST_LIFE);
    let mut interval =
        seconds("interval").unwrap_or(USUAL_INTERVAL).clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL);
    let form =
        [("grant_type", DEVICE_GRANT), ("device_code", device_code), ("client_id", &provider.client_id)];
    let over = || Failure::new(Exit::Forbidden, "nobody entered the code in time; run `tcpmux login` again");
    loop {
        if Instant::now() + interval >= end {
            return Err(over());
        }
        sleep(interval).await;
        match post_form(fetcher, &poll, &form, None).await {
            Ok(answer) => return Ok(answer),
            Err(OauthError::Refused { error, .. }) if error == "authorization_pending" => {}
            Err(OauthError::Refused { error, .. }) if error == "slow_down" => interval += SLOWER,
            Err(OauthError::Refused { error, .. }) if error == "expired_token" => return Err(over()),
            // RFC 8628 §3.5: a provider that does not answer is asked less often.
            Err(OauthError::Call(error)) => {
                tracing::debug!(%error, "the provider does not answer; asking on");
                interval = (interval * 2).min(LONGEST_INTERVAL);
            }
            Err(OauthError::Useless { status, .. }) if status >= 500 => {
                interval = (interval * 2).min(LONGEST_INTERVAL)
            }
            Err(error) => return Err(signed_in::not_given(&error)),
        }
    }
}

/// The failure that the cloud's answer to a signed-in person stands for.
pub(super) fn refused(status: StatusCode, body: &Value) -> Failure {
    let failure = admin::refused(status, body);
    if status == StatusCode::UNAUTHORIZED {
        let hint = "the cloud does not take what the sign-in provider gave; run `tcpmux login` again, or ask the operator whether [[oidc]] names this client";
        return Failure::new(Exit::Forbidden, format!("{failure}\n{hint}"));
    }
    failure
}

const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// The scope that asks for a refresh token (OpenID Connect Core §11).
const REFRESHABLE: &str = "offline_access";
const USUAL_LIFE: Duration = Duration::from_secs(600);
const LONGEST_LIFE: Duration = Duration::from_secs(3600);
/// RFC 8628 §3.2.
const USUAL_INTERVAL: Duration = Duration::from_secs(5);
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
const LONGEST_INTERVAL: Duration = Duration::from_secs(60);
const SLOWER: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_provider_is_chosen_only_where_there_is_a_choice() {
        let one = json!([{"name": "a", "issuer": "https://a", "client_id": "cli", "scopes": ["openid"]}]);
        assert_eq!(which_provider(&one, None).unwrap_or_else(|failure| panic!("{failure}")).client_id, "cli");
        let two = json!([one[0], {"name": "b", "issuer": "https://b", "client_id": "x", "scopes": []}]);
        assert_eq!(which_provider(&two, None).err().map(|failure| failure.exit()), Some(Exit::Usage));
        assert_eq!(
            which_provider(&two, Some("b")).unwrap_or_else(|failure| panic!("{failure}")).issuer,
            "https://b"
        );
        assert_eq!(which_provider(&two, Some("c")).err().map(|failure| failure.exit()), Some(Exit::Usage));
        assert_eq!(which_provider(&json!([]), None).err().map(|failure| failure.exit()), Some(Exit::Failed));
    }
}
