use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    rsa,
    signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};
use serde_json::json;

use super::*;
use crate::jose::{Algorithm, SigningKey, VerifyingKey};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const ISSUER: &str = "https://login.example.com";

fn expected(typ: TypRule) -> Expectations<'static> {
    Expectations { issuer: ISSUER, audience: "tcpmux", typ, now: NOW, leeway: Duration::from_secs(30) }
}

fn body() -> Value {
    json!({"iss": ISSUER, "sub": "alice", "aud": "tcpmux", "exp": NOW.secs() + 300, "iat": NOW.secs(), "org": "blue"})
}

fn encode(header: &str, body: &str) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(body))
}

/// Signs exactly these texts with the key, whatever they say.
fn sign_raw(key: &SigningKey, header: &str, body: &str) -> String {
    let signed = encode(header, body);
    let pair = EcdsaKeyPair::from_pkcs8(
        &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        key.to_pkcs8().unwrap().expose(),
    )
    .unwrap();
    let signature = pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

struct Case {
    key: SigningKey,
    keys: KeySet,
}

impl Case {
    fn new() -> Self {
        let key = SigningKey::generate().unwrap();
        let keys = KeySet::new(vec![key.verifying_key()]);
        Self { key, keys }
    }

    fn header(&self) -> Value {
        json!({"alg": "ES256", "kid": self.key.id(), "typ": "JWT"})
    }

    fn check(&self, header: &Value, body: &Value) -> Result<TokenBody, TokenError> {
        self.check_raw(&header.to_string(), &body.to_string())
    }

    fn check_raw(&self, header: &str, body: &str) -> Result<TokenBody, TokenError> {
        verify(&sign_raw(&self.key, header, body), &self.keys, &expected(TypRule::Provider))
    }

    fn check_with_header(&self, member: &str, value: Value) -> Result<TokenBody, TokenError> {
        let mut header = self.header();
        header[member] = value;
        self.check(&header, &body())
    }

    fn check_with_body(&self, member: &str, value: Value) -> Result<TokenBody, TokenError> {
        let mut body = body();
        body[member] = value;
        self.check(&self.header(), &body)
    }

    fn check_without(&self, member: &str) -> Result<TokenBody, TokenError> {
        let mut body = body();
        body.as_object_mut().unwrap().remove(member);
        self.check(&self.header(), &body)
    }
}

#[test]
fn a_good_token_is_accepted_with_its_content() {
    let case = Case::new();
    let body = case.check(&case.header(), &body()).unwrap();
    assert_eq!(
        (body.issuer.as_str(), body.subject.as_str(), body.text("org")),
        (ISSUER, "alice", Some("blue"))
    );
    assert_eq!(body.audience, ["tcpmux"]);
    assert_eq!(body.expires_at, NOW.plus(Duration::from_secs(300)));
    assert_eq!((body.issued_at, body.not_before), (Some(NOW), None));
}

#[test]
fn a_token_that_our_own_signer_makes_is_accepted() {
    let case = Case::new();
    let token = case.key.sign("at+jwt", &body()).unwrap();
    assert!(verify(&token, &case.keys, &expected(TypRule::AccessToken)).is_ok());
}

#[test]
fn no_algorithm_but_the_keys_own_is_accepted() {
    let case = Case::new();
    for alg in ["none", "None", "NONE", "", "HS256", "RS256", "ES384", "EdDSA", "es256"] {
        assert_eq!(case.check_with_header("alg", alg.into()).unwrap_err(), TokenError::Algorithm, "{alg}");
    }
    for alg in [json!(null), json!(["ES256"]), json!(256)] {
        assert!(case.check_with_header("alg", alg).is_err());
    }
    let unsigned = encode(&json!({"alg": "none", "kid": case.key.id()}).to_string(), &body().to_string());
    for token in [format!("{unsigned}."), format!("{unsigned}.AA"), unsigned] {
        assert!(verify(&token, &case.keys, &expected(TypRule::Provider)).is_err(), "{token}");
    }
}

#[test]
fn a_public_key_used_as_hmac_secret_opens_nothing() {
    let case = Case::new();
    let pair = EcdsaKeyPair::from_pkcs8(
        &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        case.key.to_pkcs8().unwrap().expose(),
    )
    .unwrap();
    let jwk = case.key.public_jwk().to_string();
    for secret in [pair.public_key().as_ref(), jwk.as_bytes()] {
        let signed = encode(&json!({"alg": "HS256", "kid": case.key.id()}).to_string(), &body().to_string());
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag));
        let outcome = verify(&token, &case.keys, &expected(TypRule::Provider));
        assert_eq!(outcome.unwrap_err(), TokenError::Algorithm);
    }
}

#[test]
fn a_token_cannot_bring_or_name_its_own_key() {
    let case = Case::new();
    let attacker = SigningKey::generate().unwrap();
    for (member, value) in [
        ("jwk", attacker.public_jwk()),
        ("jku", json!("http://127.0.0.1:1/jwks")),
        ("x5u", json!("http://127.0.0.1:1/x5u")),
        ("x5c", json!(["MIIB"])),
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
    ] {
        assert!(matches!(case.check_with_header(member, value.clone()).unwrap_err(), TokenError::Header(_)));
        let mut header = case.header();
        header[member] = value;
        let forged = sign_raw(&attacker, &header.to_string(), &body().to_string());
        assert!(verify(&forged, &case.keys, &expected(TypRule::Provider)).is_err(), "{member}");
    }
    let forged = sign_raw(&attacker, &case.header().to_string(), &body().to_string());
    assert_eq!(verify(&forged, &case.keys, &expected(TypRule::Provider)).unwrap_err(), TokenError::Signature);
}

#[test]
fn a_kid_is_only_ever_compared() {
    let case = Case::new();
    for kid in ["../../etc/passwd", "' OR 1=1 --", "", "\0", "http://127.0.0.1:1/"] {
        assert_eq!(case.check_with_header("kid", kid.into()).unwrap_err(), TokenError::UnknownKey, "{kid:?}");
    }
    let long = "k".repeat(1000);
    assert_eq!(case.check_with_header("kid", long.into()).unwrap_err(), TokenError::UnknownKey);
    assert!(case.check_with_header("kid", json!(["a"])).is_err());
}

#[test]
fn times_must_be_numbers_in_range() {
    let case = Case::new();
    assert!(
        case.check_with_body("exp", json!(NOW.secs() as f64 + 60.5)).is_ok(),
        "broken seconds are allowed"
    );
    for exp in
        [json!("1900000000"), json!(null), json!(true), json!([1_900_000_000]), json!(-1), json!(1e300)]
    {
        assert_eq!(case.check_with_body("exp", exp.clone()).unwrap_err(), TokenError::Member("exp"), "{exp}");
    }
    assert_eq!(
        case.check_with_body("exp", json!(u64::MAX)).unwrap_err(),
        TokenError::Member("exp"),
        "a huge exp is no way to live for ever"
    );
    assert_eq!(
        case.check_raw(
            &case.header().to_string(),
            &body().to_string().replace(r#""exp":"#, r#""exp":1e999,"x":"#)
        )
        .unwrap_err(),
        TokenError::Malformed("is not well-formed JSON with each member once")
    );
    for member in ["nbf", "iat"] {
        assert_eq!(
            case.check_with_body(member, json!("1")).unwrap_err(),
            TokenError::Member(if member == "nbf" { "nbf" } else { "iat" })
        );
    }
}

#[test]
fn a_token_lives_from_nbf_to_exp_give_or_take_the_leeway() {
    let case = Case::new();
    let at = |offset: i64| json!(NOW.secs() + offset);
    assert!(case.check_with_body("exp", at(-29)).is_ok());
    assert_eq!(case.check_with_body("exp", at(-30)).unwrap_err(), TokenError::Expired);
    assert!(case.check_with_body("nbf", at(30)).is_ok());
    assert_eq!(case.check_with_body("nbf", at(31)).unwrap_err(), TokenError::NotYet);
    assert!(case.check_with_body("iat", at(30)).is_ok());
    assert_eq!(case.check_with_body("iat", at(3600)).unwrap_err(), TokenError::NotYet);
}

#[test]
fn what_must_be_there_is_there_and_of_its_type() {
    let case = Case::new();
    for member in ["iss", "sub", "aud", "exp"] {
        assert!(matches!(case.check_without(member), Err(TokenError::Lacks(name)) if name == member));
        for value in [json!(null), json!({}), json!(true), json!([1])] {
            assert!(case.check_with_body(member, value).is_err(), "{member}");
        }
    }
    assert!(case.check_without("iat").is_ok(), "control: iat is optional");
    for sub in [json!(""), json!("a\nb"), json!("x".repeat(256))] {
        assert_eq!(case.check_with_body("sub", sub).unwrap_err(), TokenError::Member("sub"));
    }
}

#[test]
fn issuer_and_audience_are_compared_exactly() {
    let case = Case::new();
    for iss in ["https://login.example.com/", "https://LOGIN.example.com", "https://login.example.com.evil"] {
        assert_eq!(case.check_with_body("iss", iss.into()).unwrap_err(), TokenError::Issuer, "{iss}");
    }
    assert!(case.check_with_body("aud", json!(["other", "tcpmux"])).is_ok(), "control");
    for aud in [json!("Tcpmux"), json!("tcpmux:proxy"), json!(["other"]), json!([]), json!("")] {
        assert_eq!(case.check_with_body("aud", aud.clone()).unwrap_err(), TokenError::Audience, "{aud}");
    }
}

#[test]
fn typ_follows_the_rule_of_the_place() {
    let case = Case::new();
    let outcome = |typ: Option<&str>, rule| {
        let mut header = case.header();
        match typ {
            Some(typ) => header["typ"] = typ.into(),
            None => drop(header.as_object_mut().unwrap().remove("typ")),
        }
        verify(&sign_raw(&case.key, &header.to_string(), &body().to_string()), &case.keys, &expected(rule))
    };
    for typ in [None, Some("JWT"), Some("jwt"), Some("at+jwt"), Some("application/at+jwt"), Some("AT+JWT")] {
        assert!(outcome(typ, TypRule::Provider).is_ok(), "{typ:?}");
    }
    for typ in [Some("at+jwt"), Some("Application/AT+JWT")] {
        assert!(outcome(typ, TypRule::AccessToken).is_ok(), "{typ:?}");
    }
    for typ in [None, Some("JWT"), Some("logout+jwt"), Some("application/jwt"), Some("")] {
        assert_eq!(outcome(typ, TypRule::AccessToken).unwrap_err(), TokenError::Typ, "{typ:?}");
    }
    assert_eq!(outcome(Some("logout+jwt"), TypRule::Provider).unwrap_err(), TokenError::Typ);
    assert!(outcome(Some("application/OWN+jwt"), TypRule::Only("own+jwt")).is_ok());
    for typ in [None, Some("JWT"), Some("at+jwt"), Some("own")] {
        assert_eq!(outcome(typ, TypRule::Only("own+jwt")).unwrap_err(), TokenError::Typ, "{typ:?}");
    }
}

#[test]
fn duplicate_members_are_refused_in_header_and_body() {
    let case = Case::new();
    let (header, body) = (case.header().to_string(), body().to_string());
    assert!(case.check_raw(&header, &body).is_ok(), "control");
    let twice_header = header.replacen('{', r#"{"alg":"ES256","#, 1);
    let twice_body = body.replacen('{', r#"{"sub":"root","#, 1);
    let escaped = body.replacen('{', r#"{"su\u0062":"root","#, 1);
    for (header, body) in [(&twice_header, &body), (&header, &twice_body), (&header, &escaped)] {
        assert!(matches!(case.check_raw(header, body), Err(TokenError::Malformed(_))), "{header} {body}");
    }
}

#[test]
fn what_is_not_three_parts_of_base64url_is_refused() {
    let case = Case::new();
    let good = case.key.sign("JWT", &body()).unwrap();
    let check = |token: &str| verify(token, &case.keys, &expected(TypRule::Provider));
    assert!(check(&good).is_ok(), "control");
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header, middle) = signed.split_once('.').unwrap();
    for bad in [
        format!("{good}.").as_str(),
        &format!("{good}.x"),
        &format!(" {good}"),
        &format!("{good}="),
        &format!("{good}\n"),
        signed,
        &format!("{signed}."),
        &format!(".{middle}.{signature}"),
        &format!("{header}..{signature}"),
        "..",
        ".",
        "x",
        "{\"payload\":\"\"}",
    ] {
        assert!(check(bad).is_err(), "{bad}");
    }
    let mut flipped = good.clone().into_bytes();
    for position in [5, header.len() + 5, signed.len() + 5] {
        let old = flipped[position];
        flipped[position] = if old == b'A' { b'B' } else { b'A' };
        assert!(check(std::str::from_utf8(&flipped).unwrap()).is_err(), "flipped at {position}");
        flipped[position] = old;
    }
}

#[test]
fn an_oversized_token_is_refused_before_it_is_read() {
    let case = Case::new();
    let mut wide = body();
    wide["x"] = "x".repeat(5_000).into();
    assert!(case.check(&case.header(), &wide).is_ok(), "control");
    wide["x"] = "x".repeat(7_000).into();
    assert_eq!(case.check(&case.header(), &wide).unwrap_err(), TokenError::TooLong);
    assert_eq!(UnverifiedToken::read(&"a".repeat(10_000_000)).err(), Some(TokenError::TooLong));
}

/// Signatures made without the library that checks them.
#[test]
fn tokens_of_every_algorithm_verify_with_their_own_key_alone() {
    let random = SystemRandom::new();
    let rsa = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
    let p384 = EcdsaKeyPair::generate(&signature::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let ed25519 = Ed25519KeyPair::generate().unwrap();
    let by_rsa = |padding, message: &[u8]| {
        let mut signature = vec![0; rsa.public_modulus_len()];
        rsa.sign(padding, &random, message, &mut signature).unwrap();
        signature
    };
    let rs256 = |message: &[u8]| by_rsa(&signature::RSA_PKCS1_SHA256, message);
    let ps256 = |message: &[u8]| by_rsa(&signature::RSA_PSS_SHA256, message);
    let es384 = |message: &[u8]| p384.sign(&random, message).unwrap().as_ref().to_vec();
    let eddsa = |message: &[u8]| ed25519.sign(message).as_ref().to_vec();

    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let modulus = text(rsa.public_key().modulus().big_endian_without_leading_zero());
    let exponent = text(rsa.public_key().exponent().big_endian_without_leading_zero());
    let (x, y) = p384.public_key().as_ref()[1..].split_at(48);
    let rsa = |alg: &str| json!({"kty": "RSA", "n": modulus, "e": exponent, "alg": alg, "kid": "k"});
    let p384 = json!({"kty": "EC", "crv": "P-384", "x": text(x), "y": text(y), "kid": "k"});
    let ed25519 =
        json!({"kty": "OKP", "crv": "Ed25519", "x": text(ed25519.public_key().as_ref()), "kid": "k"});
    type Sign<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;
    let rows: [(Algorithm, Value, Sign<'_>); 4] = [
        (Algorithm::Rs256, rsa("RS256"), &rs256),
        (Algorithm::Ps256, rsa("PS256"), &ps256),
        (Algorithm::Es384, p384, &es384),
        (Algorithm::EdDsa, ed25519, &eddsa),
    ];
    for (algorithm, jwk, _) in &rows {
        let key = VerifyingKey::from_jwk(jwk.as_object().unwrap()).unwrap();
        assert_eq!(key.algorithm(), *algorithm);
        let keys = KeySet::new(vec![key]);
        for (signer, _, sign) in &rows {
            // The header names the key's algorithm in every row, so it is the signature that decides.
            let signed =
                encode(&json!({"alg": algorithm.as_str(), "kid": "k"}).to_string(), &body().to_string());
            let token = format!("{signed}.{}", text(&sign(signed.as_bytes())));
            let outcome = verify(&token, &keys, &expected(TypRule::Provider)).map(|_| ());
            let wanted = if signer == algorithm { Ok(()) } else { Err(TokenError::Signature) };
            assert_eq!(outcome, wanted, "{algorithm:?}, signed as {signer:?}");
        }
    }
}
