//! The openssl program reads and judges what is made here.

use std::fs;

use ca::{CertificateRequest, Profile, RevokedEntry, pem, pkcs7};
use model::RevocationReason;

use crate::support::{
    house::*,
    keys::Key,
    openssl::{request, run},
};

/// An hour after [`NOW`], for openssl.
const AT: &str = "-attime 1795266000";

/// Writes what the commands below need: leaf, door, CAs, list.
fn written() -> House {
    let house = House::new();
    let write = |name: &str, content: &[u8]| fs::write(house.directory.path().join(name), content).unwrap();
    write("device.pem", house.device("cam-01", &Key::p256()).pem().as_bytes());
    write(
        "door.pem",
        house.door(&["localhost", "cloud.example.com", "*.d.example.com"], &Key::p256()).pem().as_bytes(),
    );
    let entries =
        [RevocationReason::KeyCompromise, RevocationReason::Unspecified, RevocationReason::Superseded];
    let entries = entries.into_iter().zip(1..).map(|(reason, number)| RevokedEntry {
        serial: serial(number),
        reason,
        at: NOW,
    });
    let devices = house.hierarchy.devices();
    let list = devices.revocation_list(&house.keys, 300, NOW, NOW.plus(DAY), entries).unwrap();
    write("devices.crl", &list);
    write("devices.crl.pem", pem::encode(pem::X509_CRL, &list).as_bytes());
    let empty = devices.revocation_list(&house.keys, 301, NOW, NOW.plus(DAY), []).unwrap();
    write("empty.crl", &empty);
    house
}

#[test]
fn a_device_verifies_as_a_client_and_not_as_a_server() {
    let house = written();
    let verify = |purpose: &str, intermediate: &str, leaf: &str| {
        let line = format!(
            "verify -x509_strict {AT} -purpose {purpose} -CAfile ca/root.crt -untrusted ca/{intermediate}.crt {leaf}.pem"
        );
        run(house.directory.path(), &line)
    };
    verify("sslclient", "devices", "device").unwrap();
    assert!(verify("sslserver", "devices", "device").unwrap_err().contains("purpose"));
    verify("sslserver", "services", "door").unwrap();
    assert!(verify("sslclient", "services", "door").unwrap_err().contains("purpose"));
    assert!(verify("sslclient", "services", "device").is_err(), "the other intermediate did not sign it");
}

#[test]
fn a_device_verifies_with_keys_of_every_kind() {
    let house = House::new();
    for key in [Key::p256(), Key::p384(), Key::ed25519()] {
        fs::write(house.directory.path().join("device.pem"), house.device("cam-01", &key).pem()).unwrap();
        let line = format!(
            "verify -x509_strict {AT} -purpose sslclient -CAfile ca/root.crt -untrusted ca/devices.crt device.pem"
        );
        run(house.directory.path(), &line).unwrap();
        run(house.directory.path(), "x509 -in device.pem -noout -pubkey").unwrap();
    }
}

/// The algorithm of the request's signature says nothing about its key.
#[test]
fn a_key_is_certified_as_what_it_is_whatever_its_request_was_signed_with() {
    let house = House::new();
    let devices = house.hierarchy.devices();
    let directory = house.directory.path();
    for (key, hash) in [
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-256", "-sha384"),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-384", "-sha256"),
        ("-algorithm RSA -pkeyopt rsa_keygen_bits:2048", "-sha512"),
        ("-algorithm ED25519", ""),
    ] {
        let request = request(directory, key, &format!("{hash} -subj /CN=cam-01"));
        let request = CertificateRequest::parse(&request).unwrap();
        let profile = Profile::device(&device("cam-01"), house.hierarchy.domain(), 90 * DAY).unwrap();
        let prepared = devices.prepare(&profile, request.public_key(), serial(7), NOW).unwrap();
        let certificate = devices.sign(&house.keys, &prepared).unwrap();
        fs::write(directory.join("device.pem"), certificate.pem()).unwrap();
        let certified = run(directory, "x509 -in device.pem -noout -pubkey").unwrap();
        assert_eq!(certified, run(directory, "pkey -in key.pem -pubout").unwrap(), "{key} {hash}");
        let verify = "verify -x509_strict -purpose sslclient -CAfile ca/root.crt -untrusted ca/devices.crt";
        run(directory, &format!("{verify} {AT} device.pem")).unwrap();
    }
}

#[test]
fn openssl_shows_what_the_profile_says() {
    let house = written();
    let text = run(house.directory.path(), "x509 -in device.pem -noout -text").unwrap();
    for expected in [
        "Version: 3",
        "Subject: CN = cam-01",
        "Issuer: CN = tcpmux devices abcd2345.tcpmux.internal",
        "DNS:cam-01.acme.device.abcd2345.tcpmux.internal",
        "X509v3 Key Usage: critical\n                Digital Signature\n",
        "X509v3 Basic Constraints: critical\n                CA:FALSE",
        "TLS Web Client Authentication\n",
        "URI:http://cloud.example.com:7443/crl/devices.crl",
        "Not Before: Nov 21 11:00:00 2026 GMT",
        "Not After : Feb 19 12:00:00 2027 GMT",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    assert!(!text.contains("Server Authentication"));
    let text = run(house.directory.path(), "x509 -in ca/devices.crt -noout -text").unwrap();
    for expected in [
        "CA:TRUE, pathlen:0",
        "Certificate Sign, CRL Sign",
        "X509v3 Name Constraints: critical\n                Permitted:\n                  DNS:device.abcd2345.tcpmux.internal",
        "TLS Web Client Authentication",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    let text = run(house.directory.path(), "x509 -in ca/root.crt -noout -text").unwrap();
    assert!(text.contains("CA:TRUE, pathlen:1") && text.contains("secp384r1"), "{text}");
    let fingerprint =
        run(house.directory.path(), "x509 -in ca/root.crt -noout -fingerprint -sha256").unwrap();
    let fingerprint = fingerprint.trim().rsplit('=').next().unwrap().replace(':', "").to_lowercase();
    assert_eq!(house.hierarchy.root_fingerprint_text(), format!("sha256:{fingerprint}"));
}

#[test]
fn openssl_reads_and_verifies_the_revocation_list() {
    let house = written();
    let text =
        run(house.directory.path(), "crl -inform DER -in devices.crl -noout -text -CAfile ca/devices.crt")
            .unwrap();
    for expected in [
        "verify OK",
        "X509v3 CRL Number: \n                300",
        "Key Compromise",
        "Superseded",
        "Next Update: Nov 22",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    assert_eq!(text.matches("Serial Number:").count(), 3);
    assert!(!text.contains("Unspecified") && !text.contains("Issuing Distribution Point"));
    let text =
        run(house.directory.path(), "crl -inform DER -in empty.crl -noout -text -CAfile ca/devices.crt")
            .unwrap();
    assert!(text.contains("verify OK") && text.contains("No Revoked Certificates"), "{text}");
}

#[test]
fn a_listed_certificate_is_revoked_for_openssl() {
    let house = written();
    let check = format!(
        "verify {AT} -crl_check -CAfile ca/root.crt -untrusted ca/devices.crt -CRLfile devices.crl.pem device.pem"
    );
    run(house.directory.path(), &check).unwrap();
    let mine = RevokedEntry { serial: serial(7), reason: RevocationReason::KeyCompromise, at: NOW };
    let list =
        house.hierarchy.devices().revocation_list(&house.keys, 302, NOW, NOW.plus(DAY), [mine]).unwrap();
    fs::write(house.directory.path().join("devices.crl.pem"), pem::encode(pem::X509_CRL, &list)).unwrap();
    assert!(run(house.directory.path(), &check).unwrap_err().contains("certificate revoked"));
}

#[test]
fn openssl_unpacks_the_certificates_of_a_cms() {
    let house = written();
    let [root, devices, services] = house.hierarchy.certificates();
    let packed = pkcs7::certs_only(&[root, devices, services]);
    assert_eq!(packed, pkcs7::certs_only(&[services, root, devices]), "the order does not matter");
    fs::write(house.directory.path().join("cacerts.p7"), &packed).unwrap();
    let text = run(house.directory.path(), "pkcs7 -inform DER -in cacerts.p7 -print_certs").unwrap();
    for certificate in [root, devices, services] {
        assert!(text.contains(&pem::encode(pem::CERTIFICATE, certificate)), "{text}");
    }
    assert_eq!(text.matches("BEGIN CERTIFICATE").count(), 3);
}
