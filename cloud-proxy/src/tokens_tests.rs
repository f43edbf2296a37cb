use http::header::AUTHORIZATION;
use runtime::jose::SigningKey;
use serde_json::json;

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const US: &str = "https://cloud.example.com";
const OPERATOR: &str = "https://authz.example.com";
const USER: &str = "usr_0123456789abcdef0123456789abcdef";

struct Case {
    ours: SigningKey,
    operators: SigningKey,
    set: Arc<KeySet>,
    tokens: Tokens,
}

impl Case {
    fn new() -> Self {
        let (ours, operators) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let set = Arc::new(KeySet::new(vec![ours.verifying_key()]));
        let of_operator = KeySet::new(vec![operators.verifying_key()]);
        let tokens = Tokens::new(vec![
            Issuer {
                name: US.into(),
                keys: IssuerKeys::Held(Arc::clone(&set)),
                rule: IssuerRule::Authorizer,
            },
            Issuer {
                name: OPERATOR.into(),
                keys: IssuerKeys::Held(Arc::new(of_operator)),
                rule: IssuerRule::Operator("plant".parse().unwrap()),
            },
        ]);
        Self { ours, operators, set, tokens }
    }

    async fn read(&self, token: &str, now: Timestamp) -> Result<Arc<ProxyToken>, TokenError> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        self.tokens.of_request(&headers, now).await
    }

    async fn check(&self, body: &Value) -> Result<Arc<ProxyToken>, TokenError> {
        self.read(&self.ours.sign("at+jwt", body).unwrap(), NOW).await
    }

    async fn check_with(&self, member: &str, value: Value) -> Result<Arc<ProxyToken>, TokenError> {
        let mut body = body();
        body[member] = value;
        self.check(&body).await
    }

    async fn check_without(&self, member: &str) -> Result<Arc<ProxyToken>, TokenError> {
        let mut body = body();
        body.as_object_mut().unwrap().remove(member).unwrap();
        self.check(&body).await
    }
}

fn body() -> Value {
    json!({
        "iss": US, "aud": "tcpmux:proxy", "sub": USER, "tenant": "blue", "gv": 7,
        "iat": NOW.secs(), "exp": NOW.secs() + 300, "until": NOW.secs() + 3600, "jti": "x",
        "devices": {"cam-01": {"level": "operator", "services": ["web"]}, "cam-02": {"level": "viewer"}},
    })
}

#[tokio::test]
async fn a_token_of_our_authorizer_says_who_where_and_until_when() {
    let token = Case::new().check(&body()).await.unwrap();
    assert_eq!((token.issuer.as_str(), token.subject.as_str(), token.tenant.as_str()), (US, USER, "blue"));
    assert_eq!(token.user.as_ref().unwrap().as_str(), USER);
    assert_eq!(token.grant_sequence, Some(7));
    assert_eq!(
        (token.expires_at, token.until),
        (NOW.plus(Duration::from_secs(300)), NOW.plus(Duration::from_secs(3600)))
    );
    let entry = &token.devices[&"cam-01".parse().unwrap()];
    assert_eq!(entry.level, Level::Operator);
    assert!(
        entry.services.contains(&"web".parse().unwrap()) && !entry.services.contains(&"ssh".parse().unwrap())
    );
    assert!(token.devices[&"cam-02".parse().unwrap()].services.is_all());
}

#[tokio::test]
async fn a_token_made_for_anything_else_is_refused() {
    let case = Case::new();
    assert_eq!(case.check_with("aud", json!("tcpmux")).await, Err(TokenError::Audience));
    assert_eq!(case.check_with("aud", json!(["tcpmux:rest"])).await, Err(TokenError::Audience));
    assert_eq!(case.check_with("iss", json!("https://evil.example")).await, Err(TokenError::Issuer));
    assert_eq!(case.check_with("iss", json!(OPERATOR)).await, Err(TokenError::UnknownKey));
    for typ in ["JWT", "jwt", "", "id+jwt", "ticket"] {
        let token = case.ours.sign(typ, &body()).unwrap();
        assert_eq!(case.read(&token, NOW).await, Err(TokenError::Typ), "{typ}");
    }
    let stranger = SigningKey::generate().unwrap().sign("at+jwt", &body()).unwrap();
    assert_eq!(case.read(&stranger, NOW).await, Err(TokenError::UnknownKey));
    let ticket = "ab".repeat(32);
    assert!(matches!(case.read(&ticket, NOW).await, Err(TokenError::Malformed(_))));
}

#[tokio::test]
async fn every_member_is_required_and_typed() {
    let case = Case::new();
    for member in ["aud", "sub", "exp", "iat", "tenant", "gv", "devices"] {
        assert_eq!(case.check_without(member).await, Err(TokenError::Lacks(member)));
    }
    for (member, bad) in [
        ("sub", json!(["a"])),
        ("sub", json!("a\nb")),
        ("exp", json!("1900000000")),
        ("exp", json!(1e300)),
        ("iat", json!("now")),
        ("tenant", json!("Blue")),
        ("tenant", json!(1)),
        ("gv", json!("7")),
        ("gv", json!(-1)),
        ("gv", json!(1.5)),
        ("until", json!("later")),
        ("devices", json!([])),
        ("devices", json!({"CAM": {"level": "viewer"}})),
        ("devices", json!({"cam": {}})),
        ("devices", json!({"cam": {"level": "admin"}})),
        ("devices", json!({"cam": {"level": "viewer", "services": "web"}})),
        ("devices", json!({"cam": {"level": "viewer", "services": ["127.0.0.1:22"]}})),
        ("devices", json!({"cam": {"level": "viewer", "services": null}})),
    ] {
        assert_eq!(
            case.check_with(member, bad.clone()).await,
            Err(TokenError::Member(member)),
            "{member}: {bad}"
        );
    }
    let many: serde_json::Map<_, _> =
        (0..51).map(|n| (format!("d{n}"), json!({"level": "viewer"}))).collect();
    assert_eq!(case.check_with("devices", Value::Object(many)).await, Err(TokenError::Member("devices")));
    assert!(
        case.check_with("devices", json!({})).await.unwrap().devices.is_empty(),
        "no devices is no error"
    );
}

#[tokio::test]
async fn the_ends_of_a_token_hold_to_the_millisecond_also_for_a_known_one() {
    let case = Case::new();
    let token = case.ours.sign("at+jwt", &body()).unwrap();
    let last = NOW.plus(Duration::from_millis(299_999));
    assert!(case.read(&token, NOW).await.is_ok());
    assert!(case.read(&token, last).await.is_ok());
    assert_eq!(case.read(&token, last.plus(Duration::from_millis(1))).await, Err(TokenError::Expired));
    assert_eq!(case.check_with("nbf", json!(NOW.secs() + 60)).await, Err(TokenError::NotYet));
    assert_eq!(case.check_with("iat", json!(NOW.secs() + 60)).await, Err(TokenError::NotYet));
    assert_eq!(case.check_with("until", json!(NOW.secs())).await, Err(TokenError::Expired));
}

#[tokio::test]
async fn a_stream_lives_as_long_as_until_but_never_beyond_twelve_hours() {
    let case = Case::new();
    let long = case.check_with("until", json!(NOW.secs() + 1_000_000)).await.unwrap();
    assert_eq!(long.until, NOW.plus(LONGEST_STREAM));
    let without = case.check_without("until").await.unwrap();
    assert_eq!(without.until, without.expires_at);
}

#[tokio::test]
async fn a_withdrawn_key_lives_on_for_a_minute_at_most() {
    let case = Case::new();
    let token = case.ours.sign("at+jwt", &body()).unwrap();
    assert!(case.read(&token, NOW).await.is_ok());
    case.set.replace(vec![SigningKey::generate().unwrap().verifying_key()]);
    assert!(case.read(&token, NOW.plus(Duration::from_secs(59))).await.is_ok(), "control: it is remembered");
    assert_eq!(case.read(&token, NOW.plus(REMEMBERED)).await, Err(TokenError::UnknownKey));
}

#[tokio::test]
async fn an_operators_token_is_of_the_operators_tenant_whatever_it_says() {
    let case = Case::new();
    let mut body = body();
    body["iss"] = OPERATOR.into();
    body["sub"] = "alice@plant".into();
    body.as_object_mut().unwrap().remove("gv");
    let read = async |body: &Value| case.read(&case.operators.sign("at+jwt", body).unwrap(), NOW).await;
    assert_eq!(read(&body).await, Err(TokenError::Member("tenant")), "it names another tenant");
    body["tenant"] = "plant".into();
    assert_eq!(read(&body).await.unwrap().tenant.as_str(), "plant");
    body.as_object_mut().unwrap().remove("tenant");
    let token = read(&body).await.unwrap();
    assert_eq!((token.tenant.as_str(), token.grant_sequence, &token.user), ("plant", None, &None));
    body["aud"] = "other".into();
    assert_eq!(read(&body).await, Err(TokenError::Audience));
}

#[tokio::test]
async fn the_memory_of_tokens_is_bounded() {
    let case = Case::new();
    let token = case.check(&body()).await.unwrap();
    for number in 0..20_000_u32 {
        let key: Digest = digest(&SHA256, &number.to_be_bytes()).as_ref().try_into().unwrap();
        case.tokens.remember(key, Arc::clone(&token), NOW);
    }
    for shard in &case.tokens.verified {
        assert!(shard.lock().unwrap().len() <= SHARD_SIZE);
    }
}
