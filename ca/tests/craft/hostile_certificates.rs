//! Certificates that someone may present, each with what is wrong with it.

use ca::{CaCertificate, CaCertificateError, DeviceCertificate, IdentityError, NameSource};
use model::{DeviceRef, TenantName};

use crate::support::{der::*, house::*, keys::Key};

const NAME: &str = "cam-01.acme.device.abcd2345.tcpmux.internal";

/// A certificate as its parts; nobody checks its signature here, TLS did before.
struct Parts {
    version: Vec<u8>,
    serial: Vec<u8>,
    subject: Vec<u8>,
    extensions: Vec<Vec<u8>>,
}

impl Parts {
    fn new() -> Self {
        Self {
            version: tlv(0xa0, &int(&[2])),
            serial: int(&serial(7).0),
            subject: cn("cam-01"),
            extensions: vec![
                constraints(seq(&[])),
                usage(0x80),
                purposes(&["1.3.6.1.5.5.7.3.2"]),
                names(&[(0x82, NAME.as_bytes())]),
            ],
        }
    }

    fn extension(mut self, at: usize, extension: Vec<u8>) -> Self {
        self.extensions[at] = extension;
        self
    }

    fn without(mut self, at: usize) -> Self {
        self.extensions.remove(at);
        self
    }

    fn and(mut self, extension: Vec<u8>) -> Self {
        self.extensions.push(extension);
        self
    }

    fn subject(mut self, subject: Vec<u8>) -> Self {
        self.subject = subject;
        self
    }

    fn build(self) -> Vec<u8> {
        let key = Key::p256();
        let validity = seq(&[tlv(0x17, b"261121110000Z"), tlv(0x17, b"270219120000Z")]);
        let tbs = seq(&[
            self.version,
            self.serial,
            key.algorithm(),
            cn("tcpmux devices abcd2345.tcpmux.internal"),
            validity,
            self.subject,
            key.spki(),
            tlv(0xa3, &seq(&self.extensions)),
        ]);
        seq(&[tbs.clone(), key.algorithm(), bits(&key.sign(&tbs))])
    }
}

fn constraints(value: Vec<u8>) -> Vec<u8> {
    extension("2.5.29.19", true, value)
}

fn usage(octet: u8) -> Vec<u8> {
    extension("2.5.29.15", true, tlv(3, &[octet.trailing_zeros() as u8, octet]))
}

fn purposes(purposes: &[&str]) -> Vec<u8> {
    extension("2.5.29.37", false, seq(&purposes.iter().map(|purpose| oid(purpose)).collect::<Vec<_>>()))
}

fn names(names: &[(u8, &[u8])]) -> Vec<u8> {
    extension("2.5.29.17", false, san(names))
}

fn identify(der: &[u8]) -> Result<DeviceRef, IdentityError> {
    DeviceCertificate::read(der)?.device(&domain())
}

#[test]
fn a_certificate_of_ours_names_its_device() {
    let house = House::new();
    let key = Key::p256();
    let issued = house.device("cam-01", &key);
    let read = DeviceCertificate::read(&issued.der).unwrap();
    assert_eq!(read.device(&domain()), Ok(device("cam-01")));
    assert_eq!(read.fingerprint(), issued.fingerprint);
    assert_eq!(read.serial(), Some(issued.serial));
    assert_eq!((read.not_before(), read.not_after()), (issued.not_before, issued.not_after));
    assert_eq!(read.spki_sha256(), ca::PublicKey::from_spki(&key.spki()).unwrap().spki_sha256());
    assert_eq!(read.der(), issued.der);
}

#[test]
fn every_certificate_that_is_not_a_devices_is_refused() {
    let (client, server) = ("1.3.6.1.5.5.7.3.2", "1.3.6.1.5.5.7.3.1");
    let dns = |name: &str| Parts::new().extension(3, names(&[(0x82, name.as_bytes())])).build();
    let truth = vec![1, 1, 0xff];
    let two_names = seq(&[set(&[pair("2.5.4.3", utf8("cam-01"))]), set(&[pair("2.5.4.3", utf8("cam-02"))])]);
    let bmp = seq(&[set(&[pair("2.5.4.3", tlv(0x1e, b"\0c\0a\0m\0-\x000\x001"))])]);
    let rows: Vec<(&str, Vec<u8>, IdentityError)> = vec![
        ("CA:TRUE", Parts::new().extension(0, constraints(seq(&[truth]))).build(), IdentityError::Authority),
        ("keyCertSign", Parts::new().extension(1, usage(0x84)).build(), IdentityError::Authority),
        ("cRLSign", Parts::new().extension(1, usage(0x82)).build(), IdentityError::Authority),
        ("no digitalSignature", Parts::new().extension(1, usage(0x20)).build(), IdentityError::Usage),
        ("serverAuth", Parts::new().extension(2, purposes(&[server])).build(), IdentityError::Usage),
        (
            "serverAuth too",
            Parts::new().extension(2, purposes(&[client, server])).build(),
            IdentityError::Usage,
        ),
        (
            "any purpose too",
            Parts::new().extension(2, purposes(&[client, "2.5.29.37.0"])).build(),
            IdentityError::Usage,
        ),
        (
            "an unknown purpose too",
            Parts::new().extension(2, purposes(&[client, "1.2.3"])).build(),
            IdentityError::Usage,
        ),
        ("no EKU", Parts::new().without(2).build(), IdentityError::Usage),
        ("no SAN", Parts::new().without(3).build(), IdentityError::Name),
        (
            "two names",
            Parts::new()
                .extension(
                    3,
                    names(&[(0x82, NAME.as_bytes()), (0x82, b"cam-02.acme.device.abcd2345.tcpmux.internal")]),
                )
                .build(),
            IdentityError::Name,
        ),
        (
            "a URI too",
            Parts::new().extension(3, names(&[(0x82, NAME.as_bytes()), (0x86, b"x:y")])).build(),
            IdentityError::Name,
        ),
        ("a URI", Parts::new().extension(3, names(&[(0x86, NAME.as_bytes())])).build(), IdentityError::Name),
        (
            "an address",
            Parts::new().extension(3, names(&[(0x87, &[127, 0, 0, 1])])).build(),
            IdentityError::Name,
        ),
        ("another domain", dns("cam-01.acme.device.abcd2346.tcpmux.internal"), IdentityError::Name),
        (
            "a domain that ends alike",
            dns("cam-01.acme.device.x.abcd2345.tcpmux.internal"),
            IdentityError::Name,
        ),
        ("not under device", dns("cam-01.acme.server.abcd2345.tcpmux.internal"), IdentityError::Name),
        ("no tenant", dns("cam-01.device.abcd2345.tcpmux.internal"), IdentityError::Name),
        ("a label too many", dns("x.cam-01.acme.device.abcd2345.tcpmux.internal"), IdentityError::Name),
        ("upper case", dns("CAM-01.acme.device.abcd2345.tcpmux.internal"), IdentityError::Name),
        ("a dot at the end", dns("cam-01.acme.device.abcd2345.tcpmux.internal."), IdentityError::Name),
        ("a wildcard", dns("*.acme.device.abcd2345.tcpmux.internal"), IdentityError::Name),
        ("NUL", dns("cam-01\0.acme.device.abcd2345.tcpmux.internal"), IdentityError::Name),
        ("empty", dns(""), IdentityError::Name),
        ("CN of another device", Parts::new().subject(cn("cam-02")).build(), IdentityError::CommonName),
        ("CN of the whole name", Parts::new().subject(cn(NAME)).build(), IdentityError::CommonName),
        ("no CN", Parts::new().subject(seq(&[])).build(), IdentityError::CommonName),
        ("two CNs", Parts::new().subject(two_names).build(), IdentityError::CommonName),
        ("CN as BMPString", Parts::new().subject(bmp).build(), IdentityError::CommonName),
        ("SAN twice", Parts::new().and(names(&[(0x82, NAME.as_bytes())])).build(), IdentityError::Unreadable),
        ("EKU twice", Parts::new().and(purposes(&[client])).build(), IdentityError::Unreadable),
        ("version 1", Parts { version: Vec::new(), ..Parts::new() }.build(), IdentityError::Version),
        ("a short serial", Parts { serial: int(&[1]), ..Parts::new() }.build(), IdentityError::Serial),
        (
            "a negative serial",
            Parts { serial: int(&[0x81; 18]), ..Parts::new() }.build(),
            IdentityError::Serial,
        ),
    ];
    for (what, der, expected) in rows {
        assert_eq!(identify(&der), Err(expected), "{what}");
    }
    assert_eq!(identify(&Parts::new().build()), Ok(device("cam-01")), "the control");
}

#[test]
fn what_is_no_certificate_is_an_error() {
    let good = Parts::new().build();
    for bad in [
        Vec::new(),
        vec![0x30, 0],
        [&good[..], &[0]].concat(),
        good[..good.len() - 1].to_vec(),
        b"-----BEGIN".to_vec(),
    ] {
        assert!(DeviceCertificate::read(&bad).is_err(), "{bad:.20?}");
    }
    let house = House::new();
    for authority in house.hierarchy.certificates() {
        assert_eq!(identify(authority), Err(IdentityError::Authority));
    }
    assert_eq!(identify(&house.door(&["localhost"], &Key::p256()).der), Err(IdentityError::Usage));
}

#[test]
fn the_operators_own_certificates_name_devices_as_configured() {
    let tenant = TenantName::default();
    let by = |parts: Parts, source| {
        let read = DeviceCertificate::read(&parts.build()).unwrap();
        read.operator_device(source, &tenant).map(|found| found.device.as_str().to_owned())
    };
    let dns =
        |name: &str| Parts::new().subject(cn("Anything Ltd")).extension(3, names(&[(0x82, name.as_bytes())]));
    let rich =
        seq(&[set(&[pair("2.5.4.10", utf8("Operator Ltd"))]), set(&[pair("2.5.4.3", utf8("pump-7"))])]);
    assert_eq!(by(Parts::new().subject(rich).without(3), NameSource::CommonName), Ok("pump-7".into()));
    assert_eq!(by(dns("pump-7.factory.example"), NameSource::SanDns), Ok("pump-7".into()));
    assert_eq!(by(dns("pump-7"), NameSource::SanDns), Ok("pump-7".into()));
    assert_eq!(by(dns("pump-7"), NameSource::CommonName), Err(IdentityError::Name));
    assert_eq!(by(Parts::new().without(3), NameSource::SanDns), Err(IdentityError::Name));
    assert_eq!(by(dns("*.factory.example"), NameSource::SanDns), Err(IdentityError::Name));
    assert_eq!(by(Parts::new().subject(seq(&[])), NameSource::CommonName), Err(IdentityError::Name));
}

#[test]
fn a_ca_certificate_is_named_as_the_ceremony_names_it() {
    let read = |subject: Vec<u8>| {
        let truth = constraints(seq(&[vec![1, 1, 0xff]]));
        let parts = Parts::new().extension(0, truth).extension(1, usage(0x06)).without(3).without(2);
        CaCertificate::read(&parts.subject(subject).build())
    };
    let name = |value: Vec<u8>| set(&[pair("2.5.4.3", value)]);
    assert!(read(cn("tcpmux devices")).is_ok(), "the control");
    for (what, subject) in [
        ("no name", seq(&[])),
        ("two CNs", seq(&[name(utf8("a")), name(utf8("b"))])),
        ("a name with an organisation", seq(&[set(&[pair("2.5.4.10", utf8("a"))]), name(utf8("b"))])),
        ("a PrintableString", seq(&[name(tlv(0x13, b"a"))])),
        ("no CN", seq(&[set(&[pair("2.5.4.10", utf8("a"))])])),
    ] {
        assert!(matches!(read(subject), Err(CaCertificateError::Shape(_))), "{what}");
    }
}
