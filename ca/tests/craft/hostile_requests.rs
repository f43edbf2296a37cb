//! Each row: what comes in, the word that goes out. Rows are numbered as in the threat table of the design.

use ca::{CertificateRequest, DeviceCertificate};

use crate::support::{csr::*, der::*, house::House, keys::*, openssl, table::*};

const SAN: &str = "2.5.29.17";
const BASIC_CONSTRAINTS: &str = "2.5.29.19";
const KEY_USAGE: &str = "2.5.29.15";
const EXTENDED_KEY_USAGE: &str = "2.5.29.37";
const CLIENT_AUTH: &str = "1.3.6.1.5.5.7.3.2";

#[test]
fn an_honest_request_of_every_allowed_kind_is_taken() {
    for key in [Key::p256(), Key::p384(), Key::ed25519()] {
        let request = CertificateRequest::parse(&Csr::new(&key).sign(&key)).unwrap();
        assert_eq!(request.spki_der(), key.spki());
        assert_eq!(request.common_name().unwrap().as_str(), "cam-01");
        assert!(request.dns_names().is_empty());
    }
}

#[test]
fn rows_1_and_2_the_signature_is_by_the_key_inside() {
    let (key, other, edwards) = (Key::p256(), Key::p256(), Key::ed25519());
    let good = Csr::new(&key).sign(&key);
    let mut rows = vec![
        ("control", good.clone(), "ok"),
        ("signed by another key", Csr::new(&key).sign(&other), "csr-signature"),
        (
            "an algorithm of another kind of key",
            Csr::new(&edwards).spki(key.spki()).sign(&edwards),
            "csr-signature",
        ),
    ];
    let mut bit = good.clone();
    *bit.last_mut().unwrap() ^= 1;
    rows.push(("one bit of the signature", bit, "csr-signature"));
    let mut name = good;
    let at = name.windows(6).position(|window| window == b"cam-01").unwrap();
    name[at + 5] = b'2';
    rows.push(("one letter of the name", name, "csr-signature"));
    table(&rows);
}

#[test]
fn rows_3_to_5_no_more_is_asked_for_than_a_device_gets() {
    let key = Key::p256();
    let with = |id, value| Csr::new(&key).extension(id, true, value).sign(&key);
    let usage = |unused, bits| with(KEY_USAGE, tlv(3, &[unused, bits]));
    let purpose = |purposes: &[&str]| {
        with(EXTENDED_KEY_USAGE, seq(&purposes.iter().map(|purpose| oid(purpose)).collect::<Vec<_>>()))
    };
    let truth = vec![1, 1, 0xff];
    table(&[
        ("CA:TRUE", with(BASIC_CONSTRAINTS, seq(std::slice::from_ref(&truth))), "csr-asks-ca"),
        ("CA:TRUE, pathlen", with(BASIC_CONSTRAINTS, seq(&[truth, int(&[0])])), "csr-asks-ca"),
        ("pathlen alone", with(BASIC_CONSTRAINTS, seq(&[int(&[0])])), "csr-asks-ca"),
        ("CA:FALSE", with(BASIC_CONSTRAINTS, seq(&[])), "ok"),
        ("CA:FALSE written out", with(BASIC_CONSTRAINTS, seq(&[vec![1, 1, 0]])), "der"),
        ("constraints of another type", with(BASIC_CONSTRAINTS, int(&[0])), "der"),
        ("keyCertSign", usage(2, 0x04), "csr-asks-ca"),
        ("digitalSignature and cRLSign", usage(1, 0x82), "csr-asks-ca"),
        ("keyEncipherment", usage(5, 0xa0), "csr-key-usage"),
        ("decipherOnly", with(KEY_USAGE, tlv(3, &[7, 0x00, 0x80])), "csr-key-usage"),
        ("digitalSignature", usage(7, 0x80), "ok"),
        ("serverAuth", purpose(&["1.3.6.1.5.5.7.3.1"]), "csr-eku"),
        ("clientAuth and serverAuth", purpose(&[CLIENT_AUTH, "1.3.6.1.5.5.7.3.1"]), "csr-eku"),
        ("codeSigning", purpose(&["1.3.6.1.5.5.7.3.3"]), "csr-eku"),
        ("OCSPSigning", purpose(&["1.3.6.1.5.5.7.3.9"]), "csr-eku"),
        ("anyExtendedKeyUsage", purpose(&["2.5.29.37.0"]), "csr-eku"),
        ("an unknown purpose", purpose(&["1.2.3.4"]), "csr-eku"),
        ("no purpose", purpose(&[]), "der"),
        ("clientAuth twice", purpose(&[CLIENT_AUTH, CLIENT_AUTH]), "csr-duplicate"),
        ("clientAuth", purpose(&[CLIENT_AUTH]), "ok"),
    ]);
}

#[test]
fn row_7_only_host_names_are_passed_on_to_be_compared() {
    let key = Key::p256();
    let with = |names: &[(u8, &[u8])]| Csr::new(&key).extension(SAN, false, san(names)).sign(&key);
    let mismatch = "identity-mismatch";
    table(&[
        ("a URI", with(&[(0x86, b"https://cam-01")]), mismatch),
        ("an address", with(&[(0x87, &[127, 0, 0, 1])]), mismatch),
        ("a mailbox", with(&[(0x81, b"cam-01@example.com")]), mismatch),
        (
            "another name (UPN)",
            with(&[(0xa0, &[oid("1.3.6.1.4.1.311.20.2.3"), tlv(0xa0, &utf8("root"))].concat())]),
            mismatch,
        ),
        ("a directory name", with(&[(0xa4, &cn("cam-01"))]), mismatch),
        ("a registered id", with(&[(0x88, &[0x2a, 3])]), mismatch),
        ("a dNSName and a URI", with(&[(0x82, b"cam-01"), (0x86, b"x:y")]), mismatch),
        ("a wildcard", with(&[(0x82, b"*")]), mismatch),
        ("a wildcard label", with(&[(0x82, b"*.device.example")]), mismatch),
        ("NUL in a dNSName", with(&[(0x82, b"cam-01\0.evil")]), mismatch),
        ("an empty dNSName", with(&[(0x82, b"")]), mismatch),
        ("a dNSName of 254 bytes", with(&[(0x82, &[b'a'; 254])]), mismatch),
        ("a homograph", with(&[(0x82, "cаm-01".as_bytes())]), mismatch),
        ("no name at all", with(&[]), "der"),
        ("33 names", with(&[(0x82, &b"a"[..]); 33]), "csr-too-many"),
    ]);
    let both = with(&[(0x82, b"cam-01.acme.device.abcd2345.tcpmux.internal"), (0x82, b"other")]);
    let request = CertificateRequest::parse(&both).unwrap();
    assert_eq!(request.dns_names(), ["cam-01.acme.device.abcd2345.tcpmux.internal", "other"]);
}

#[test]
fn rows_8_to_11_the_subject_is_nothing_or_one_device_id() {
    let key = Key::p256();
    let with = |name| Csr::new(&key).subject(name).sign(&key);
    let one = |value| with(seq(&[set(&[pair("2.5.4.3", value)])]));
    let text = |text: &str| one(utf8(text));
    let bad = "csr-subject";
    let both = |a, b| set(&[pair("2.5.4.3", utf8(a)), pair("2.5.4.3", utf8(b))]);
    table(&[
        (
            "two CNs",
            with(seq(&[set(&[pair("2.5.4.3", utf8("cam-01"))]), set(&[pair("2.5.4.3", utf8("admin"))])])),
            bad,
        ),
        ("two CNs in one RDN", with(seq(&[both("cam-01", "dev-02")])), bad),
        (
            "a CN and an organisation",
            with(seq(&[set(&[pair("2.5.4.3", utf8("cam-01"))]), set(&[pair("2.5.4.10", utf8("x"))])])),
            bad,
        ),
        ("a serial number only", with(seq(&[set(&[pair("2.5.4.5", utf8("cam-01"))])])), bad),
        ("BMPString", one(tlv(0x1e, b"\0c\0a\0m")), bad),
        ("TeletexString", one(tlv(0x14, b"cam-01")), bad),
        ("IA5String", one(tlv(0x16, b"cam-01")), bad),
        ("UniversalString", one(tlv(0x1c, b"\0\0\0c")), bad),
        ("NUL", text("cam-01\0.evil"), bad),
        ("CR LF", text("cam\r\n01"), bad),
        ("a control character", text("cam\u{7}01"), bad),
        ("right-to-left override", text("cam\u{202e}10"), bad),
        ("zero width", text("cam\u{200b}01"), bad),
        ("Cyrillic", text("cаm-01"), bad),
        ("full width", text("ｃam-01"), bad),
        ("composed", text("caf\u{e9}"), bad),
        ("decomposed", text("cafe\u{301}"), bad),
        ("upper case", text("CAM-01"), bad),
        ("a dot", text("cam.01"), bad),
        ("a path", text("../../etc"), bad),
        ("empty", text(""), bad),
        ("64 characters", text(&"a".repeat(64)), bad),
        ("10 kB", text(&"a".repeat(10_000)), bad),
        ("not UTF-8", one(tlv(0x0c, &[0xff, 0xfe])), "der"),
        ("PrintableString that is not ASCII", one(tlv(0x13, &[0xff, 0xfe])), "der"),
        ("63 characters", text(&"a".repeat(63)), "ok"),
        ("PrintableString", one(tlv(0x13, b"cam-01")), "ok"),
        ("nothing", with(seq(&[])), "ok"),
    ]);
    let empty = CertificateRequest::parse(&with(seq(&[]))).unwrap();
    assert_eq!(empty.common_name(), None);
}

#[test]
fn row_12_nothing_is_there_twice() {
    let key = Key::p256();
    let ski = || extension("2.5.29.14", false, octets(&[1; 20]));
    let names = |name: &[u8]| extension(SAN, false, san(&[(0x82, name)]));
    let duplicate = "csr-duplicate";
    table(&[
        ("one extension twice", Csr::new(&key).extensions(&[ski(), ski()]).sign(&key), duplicate),
        ("SAN twice", Csr::new(&key).extensions(&[names(b"a"), names(b"b")]).sign(&key), duplicate),
        (
            "two extension requests",
            Csr::new(&key).extensions(&[ski()]).extensions(&[names(b"a")]).sign(&key),
            duplicate,
        ),
        (
            "two values",
            Csr::new(&key).attribute(EXTENSION_REQUEST, &[seq(&[ski()]), seq(&[])]).sign(&key),
            "der",
        ),
        (
            "two values in order",
            Csr::new(&key).attribute(EXTENSION_REQUEST, &[seq(&[]), seq(&[ski()])]).sign(&key),
            duplicate,
        ),
        (
            "the vendor's form",
            Csr::new(&key).attribute("1.3.6.1.4.1.311.2.1.14", &[seq(&[ski()])]).sign(&key),
            duplicate,
        ),
        ("an attribute without value", Csr::new(&key).attribute(EXTENSION_REQUEST, &[]).sign(&key), "der"),
        (
            "an unknown attribute twice",
            Csr::new(&key).attribute("1.2.3", &[int(&[1])]).attribute("1.2.3", &[int(&[2])]).sign(&key),
            duplicate,
        ),
        (
            "an extension request that is a SET",
            Csr::new(&key).attribute(EXTENSION_REQUEST, &[set(&[])]).sign(&key),
            "der",
        ),
        ("an empty extension request", Csr::new(&key).extensions(&[]).sign(&key), "ok"),
    ]);
}

#[test]
fn rows_13_to_15_extensions_are_ignored_or_refused_but_never_granted() {
    let key = Key::p256();
    let with = |id: &str, critical| Csr::new(&key).extension(id, critical, seq(&[])).sign(&key);
    let mut rows = vec![
        ("an unknown one", with("1.2.3.4.5", false), "ok"),
        ("an unknown critical one", with("1.2.3.4.5", true), "csr-extension"),
    ];
    for id in [
        "2.5.29.30",
        "2.5.29.36",
        "2.5.29.31",
        "2.5.29.46",
        "2.5.29.32",
        "2.5.29.33",
        "2.5.29.54",
        "2.5.29.18",
        "2.5.29.9",
        "2.5.29.16",
        "1.3.6.1.5.5.7.1.1",
        "1.3.6.1.5.5.7.1.11",
        "1.3.6.1.5.5.7.1.24",
        "1.3.6.1.5.5.7.48.1.5",
        "1.3.6.1.4.1.11129.2.4.2",
        "1.3.6.1.4.1.11129.2.4.3",
        "2.16.840.1.113730.1.1",
    ] {
        rows.push((id, with(id, false), "csr-extension"));
        rows.push((id, with(id, true), "csr-extension"));
    }
    rows.push((
        "what libest copies from the certificate before",
        Csr::new(&key)
            .extensions(&[
                extension(BASIC_CONSTRAINTS, true, seq(&[])),
                extension(KEY_USAGE, true, tlv(3, &[7, 0x80])),
                extension(EXTENDED_KEY_USAGE, false, seq(&[oid(CLIENT_AUTH)])),
                extension("2.5.29.14", false, octets(&[1; 20])),
                extension("2.5.29.35", false, seq(&[tlv(0x80, &[2; 20])])),
            ])
            .sign(&key),
        "ok",
    ));
    let flag = seq(&[oid("1.2.3.4.5"), vec![1, 1, 0], octets(&seq(&[]))]);
    rows.push(("critical FALSE written out", Csr::new(&key).extensions(&[flag]).sign(&key), "der"));
    rows.push((
        "more in an extension than its three parts",
        Csr::new(&key).extensions(&[seq(&[oid("1.2.3"), octets(&[]), int(&[1])])]).sign(&key),
        "der",
    ));
    rows.push((
        "trailing bytes in an extension's value",
        Csr::new(&key).extension(KEY_USAGE, false, [tlv(3, &[7, 0x80]), vec![5, 0]].concat()).sign(&key),
        "der",
    ));
    table(&rows);
}

#[test]
fn an_extension_that_the_current_certificate_has_asks_for_nothing_more() {
    let house = House::new();
    let key = Key::p256();
    let current = DeviceCertificate::read(&house.device("cam-01", &key).der).unwrap();
    let points = |url: &str| seq(&[seq(&[tlv(0xa0, &tlv(0xa0, &tlv(0x86, url.as_bytes())))])]);
    let with = |url| Csr::new(&key).extension("2.5.29.31", false, points(url)).sign(&key);

    let same = with("http://cloud.example.com:7443/crl/devices.crl");
    assert!(CertificateRequest::parse_successor(&same, &current).is_ok());
    assert_eq!(word(&same), "csr-extension");
    let other = with("http://evil.example.com/devices.crl");
    assert_eq!(CertificateRequest::parse_successor(&other, &current).unwrap_err().word(), "csr-extension");
}

#[test]
fn row_16_a_challenge_password_is_refused() {
    let key = Key::p256();
    let with = |value| Csr::new(&key).attribute("1.2.840.113549.1.9.7", &[value]).sign(&key);
    table(&[
        ("a password", with(utf8("secret")), "pop-binding-unsupported"),
        ("an empty one", with(utf8("")), "ok"),
        (
            "a change of subject",
            Csr::new(&key).attribute("1.3.6.1.5.5.7.7.36", &[seq(&[])]).sign(&key),
            "identity-mismatch",
        ),
        (
            "an unknown attribute",
            Csr::new(&key).attribute("1.2.840.113549.1.9.2", &[utf8("name")]).sign(&key),
            "ok",
        ),
    ]);
}

#[test]
fn row_17_size_and_depth_are_bounded() {
    let key = Key::p256();
    let attributes = |count: u8| {
        (0..count)
            .fold(Csr::new(&key), |csr, at| csr.attribute(&format!("1.2.3.{at}"), &[int(&[1])]))
            .sign(&key)
    };
    let extensions = |count: u8| {
        let all: Vec<_> = (0..count).map(|at| extension(&format!("1.2.3.{at}"), false, Vec::new())).collect();
        Csr::new(&key).extensions(&all).sign(&key)
    };
    let nested = |levels: usize, tag| (0..levels).fold(Vec::new(), |inner, _| tlv(tag, &inner));
    let deep = |levels, tag| Csr::new(&key).attribute("1.2.3", &[nested(levels, tag)]).sign(&key);
    table(&[
        ("33 attributes", attributes(33), "csr-too-many"),
        ("50 attributes", attributes(50), "csr-too-many"),
        ("32 attributes", attributes(32), "ok"),
        ("33 extensions", extensions(33), "csr-too-many"),
        ("32 extensions", extensions(32), "ok"),
        ("SETs, 16 deep", deep(16, 0x31), "der"),
        ("SETs, 5 deep", deep(5, 0x31), "ok"),
        ("SEQUENCEs, 3000 deep", deep(3000, 0x30), "der"),
        ("10,000 deep, nothing else", nested(10_000, 0x30), "csr-too-large"),
        ("4,000 deep, nothing else", nested(4_000, 0x30), "der"),
        (
            "16 KiB and more",
            Csr::new(&key).attribute("1.2.3", &[octets(&[0; 16_384])]).sign(&key),
            "csr-too-large",
        ),
        ("15 KiB", Csr::new(&key).attribute("1.2.3", &[octets(&[0; 15_000])]).sign(&key), "ok"),
    ]);
}

#[test]
fn row_18_the_version_is_one() {
    let key = Key::p256();
    let with = |version: Vec<u8>| {
        let mut csr = Csr::new(&key);
        csr.version = version;
        csr.sign(&key)
    };
    table(&[
        ("5", with(int(&[5])), "csr-version"),
        ("v2", with(int(&[1])), "csr-version"),
        ("negative", with(int(&[0xff])), "csr-version"),
        ("huge", with(int(&[0x7f; 200])), "csr-version"),
        ("not minimal", with(int(&[0, 0])), "der"),
        ("no number", with(tlv(4, &[0])), "der"),
    ]);
}

#[test]
fn rows_26_to_28_one_value_has_one_encoding() {
    let key = Key::p256();
    let csr = Csr::new(&key);
    let good = csr.sign(&key);
    let content = good[3..].to_vec();
    let length = content.len();
    let mut claims_more = good.clone();
    claims_more[2] += 1;
    let mut rows = vec![
        ("control", good.clone(), "ok"),
        ("a byte after it", [&good[..], &[0]].concat(), "der"),
        ("two requests", [&good[..], &good].concat(), "der"),
        ("indefinite length", [&[0x30, 0x80][..], &content, &[0, 0]].concat(), "der"),
        ("a length in more octets", [&[0x30, 0x82, 0, length as u8][..], &content].concat(), "der"),
        ("a length of 2^32", [&[0x30, 0x85, 1, 0, 0, 0, 0][..], &content].concat(), "der"),
        ("a length of 2^31", [&[0x30, 0x84, 0x80, 0, 0, 0][..], &content].concat(), "der"),
        ("a length beyond the end", claims_more, "der"),
        ("nothing", Vec::new(), "der"),
        ("base64", b"MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A".to_vec(), "der"),
        ("PEM", b"-----BEGIN CERTIFICATE REQUEST-----\n".to_vec(), "der"),
        ("no attributes element", csr.sign_info(&csr.info_with(&[]), &key), "der"),
        (
            "more in the info",
            csr.sign_info(&csr.info_with(&[tlv(0xa0, &[]), int(&[1])].concat()), &key),
            "der",
        ),
        (
            "private class",
            csr.sign_info(
                &csr.info_with(&[tlv(0xa0, &seq(&[oid("1.2.3"), set(&[tlv(0xc0, &[])])]))].concat()),
                &key,
            ),
            "der",
        ),
        (
            "a high tag number",
            csr.sign_info(
                &csr.info_with(&[tlv(0xa0, &seq(&[oid("1.2.3"), set(&[vec![0x1f, 0x81, 1, 0]])]))].concat()),
                &key,
            ),
            "der",
        ),
    ];
    let value = |value: Vec<u8>| Csr::new(&key).attribute("1.2.3", &[value]).sign(&key);
    rows.extend([
        ("BOOLEAN 01", value(tlv(1, &[1])), "der"),
        ("BOOLEAN of two octets", value(tlv(1, &[0, 0])), "der"),
        ("a constructed string", value(tlv(0x24, &octets(b"x"))), "der"),
        ("a primitive SEQUENCE", value(tlv(0x10, &[])), "der"),
        ("INTEGER 00 01", value(int(&[0, 1])), "der"),
        ("NULL with content", value(tlv(5, &[0])), "der"),
        ("an OID with a needless octet", value(tlv(6, &[0x2a, 0x80, 1])), "der"),
        ("end of contents", value(vec![0, 0]), "der"),
        ("padding bits", value(tlv(3, &[4, 0xff])), "der"),
    ]);
    for cut in (0..good.len()).step_by(7) {
        rows.push(("cut short", good[..cut].to_vec(), "der"));
    }
    let attributes = [seq(&[oid("1.2.4"), set(&[int(&[1])])]), seq(&[oid("1.2.3"), set(&[int(&[1])])])];
    let unsorted = csr.info_with(&tlv(0xa0, &attributes.concat()));
    rows.push(("attributes out of order", csr.sign_info(&unsorted, &key), "der"));
    let values = Csr::new(&key).attribute("1.2.3", &[int(&[2]), int(&[1])]);
    rows.push(("values out of order", values.sign(&key), "der"));
    let values = Csr::new(&key).attribute("1.2.3", &[int(&[1]), int(&[2])]);
    rows.push(("values in order", values.sign(&key), "ok"));
    table(&rows);
}

#[test]
fn what_real_programs_make_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    for (key, arguments) in [
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-256", "-subj /CN=cam-01"),
        ("-algorithm ED25519", "-subj /CN=cam-01"),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-256", "-subj /"),
        (
            "-algorithm EC -pkeyopt ec_paramgen_curve:P-256",
            "-subj /CN=cam-01 -addext extendedKeyUsage=clientAuth -addext keyUsage=critical,digitalSignature \
             -addext subjectAltName=DNS:cam-01 -addext basicConstraints=critical,CA:FALSE",
        ),
    ] {
        let der = openssl::request(directory.path(), key, arguments);
        assert_eq!(word(&der), "ok", "{arguments}: {:?}", CertificateRequest::parse(&der).err());
    }
    let key = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:explicit";
    assert_eq!(word(&openssl::request(directory.path(), key, "-subj /CN=cam-01")), "key-type");
    let pss = "-subj /CN=cam-01 -sigopt rsa_padding_mode:pss";
    assert_eq!(word(&openssl::request(directory.path(), "-algorithm RSA", pss)), "sig-alg");
}
