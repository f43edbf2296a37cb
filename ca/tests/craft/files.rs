//! The ceremony and the key files.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
};

use ca::{DeploymentDomain, FileKeys, FileKeysError, Hierarchy, HierarchyError};
use model::Serial;

use crate::support::{house::*, keys::Key};

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

fn snapshot(house: &House) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(house.path())
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn the_ceremony_leaves_three_certificates_and_three_keys_for_the_owner_alone() {
    let house = House::new();
    let names: Vec<String> = snapshot(&house).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["devices.crt", "devices.key", "root.crt", "root.key", "services.crt", "services.key"]);
    assert_eq!(mode(&house.path()), 0o700);
    for name in ["root.key", "devices.key", "services.key"] {
        assert_eq!(mode(&house.path().join(name)), 0o600, "{name}");
    }
    let beside = fs::read_dir(house.directory.path()).unwrap().count();
    assert_eq!(beside, 1, "nothing of the ceremony is left beside it");
}

#[test]
fn a_second_ceremony_changes_nothing() {
    let house = House::new();
    let before = snapshot(&house);
    let other: DeploymentDomain = "other234.tcpmux.internal".parse().unwrap();
    let again = Hierarchy::create(&house.path(), &other, NOW.plus(DAY), [Serial([1; 18]); 3]).unwrap();
    assert_eq!(again.domain(), &domain());
    assert_eq!(again.root_fingerprint(), house.hierarchy.root_fingerprint());
    assert_eq!(snapshot(&house), before);
}

#[test]
fn a_ceremony_that_a_crash_cut_short_is_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca");
    let half = directory.path().join("ca.ceremony");
    fs::create_dir(&half).unwrap();
    fs::write(half.join("root.key"), "half a k").unwrap();
    fs::write(half.join("root.crt"), "half a c").unwrap();
    let made = Hierarchy::create(&path, &domain(), NOW, serials()).unwrap();
    assert!(!half.exists());
    assert_eq!(Hierarchy::load(&path).unwrap().root_fingerprint(), made.root_fingerprint());
}

#[test]
fn an_empty_directory_is_used_and_a_strange_one_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca");
    fs::create_dir(&path).unwrap();
    assert!(Hierarchy::create(&path, &domain(), NOW, serials()).is_ok());
    assert_eq!(mode(&path), 0o700);

    let strange = directory.path().join("photos");
    fs::create_dir(&strange).unwrap();
    fs::write(strange.join("cat.jpg"), "meow").unwrap();
    let error = Hierarchy::create(&strange, &domain(), NOW, serials()).unwrap_err();
    assert!(matches!(error, HierarchyError::NotEmpty(_)), "{error}");
    assert_eq!(fs::read(strange.join("cat.jpg")).unwrap(), b"meow");
}

#[test]
fn without_the_root_key_everything_but_a_new_ceremony_works() {
    let house = House::new();
    fs::remove_file(house.path().join("root.key")).unwrap();
    let hierarchy = Hierarchy::load(&house.path()).unwrap();
    let keys = FileKeys::open(&house.path()).unwrap();
    let without = House { hierarchy, keys, ..house };
    without.device("cam-01", &Key::p256());
    without.door(&["localhost"], &Key::p256());
    without.hierarchy.devices().revocation_list(&without.keys, 1, NOW, NOW.plus(DAY), []).unwrap();
    assert!(Hierarchy::create(&without.path(), &domain(), NOW, serials()).is_ok());
}

#[test]
fn a_damaged_hierarchy_is_refused_with_the_files_name() {
    let other = House::new();
    for (name, content) in [
        ("root.crt", "not PEM".to_owned()),
        ("devices.crt", String::new()),
        ("devices.crt", fs::read_to_string(other.path().join("devices.crt")).unwrap()),
        ("services.crt", fs::read_to_string(other.path().join("root.crt")).unwrap()),
        ("root.crt", fs::read_to_string(other.path().join("root.crt")).unwrap()),
        ("devices.crt", House::new().device("cam-01", &Key::p256()).pem()),
    ] {
        let house = House::new();
        assert!(Hierarchy::load(&house.path()).is_ok(), "the control");
        fs::write(house.path().join(name), &content).unwrap();
        let error = Hierarchy::load(&house.path()).unwrap_err().to_string();
        assert!(error.contains(".crt") && error.contains("backup"), "{name}: {error}");
    }
    let house = House::new();
    fs::copy(house.path().join("services.crt"), house.path().join("devices.crt")).unwrap();
    assert!(Hierarchy::load(&house.path()).is_err(), "the services intermediate is not the devices one");
}

#[test]
fn keys_that_others_can_read_are_refused_with_the_remedy() {
    let house = House::new();
    let key = house.path().join("devices.key");
    for open in [0o640, 0o604, 0o660, 0o666] {
        fs::set_permissions(&key, fs::Permissions::from_mode(open)).unwrap();
        let error = FileKeys::open(&house.path()).unwrap_err();
        assert!(matches!(error, FileKeysError::OpenToOthers { .. }), "{open:o}: {error}");
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(FileKeys::open(&house.path()).is_ok(), "the control");
    fs::set_permissions(house.path(), fs::Permissions::from_mode(0o750)).unwrap();
    assert!(FileKeys::open(&house.path()).unwrap_err().to_string().contains("chmod 700"));
}

#[test]
fn a_file_that_is_no_key_is_refused_and_not_printed() {
    let house = House::new();
    let key = house.path().join("services.key");
    let good = fs::read_to_string(&key).unwrap();
    for content in
        [String::new(), good.replace("PRIVATE", "PUBLIC"), good[..80].to_owned(), "x".repeat(100_000)]
    {
        fs::write(&key, &content).unwrap();
        let error = FileKeys::open(&house.path()).unwrap_err().to_string();
        assert!(error.contains("services.key") && error.len() < 300, "{error}");
    }
    fs::remove_file(&key).unwrap();
    assert!(matches!(FileKeys::open(&house.path()), Err(FileKeysError::Io { .. })));
}

#[test]
fn keys_of_another_hierarchy_are_noticed_at_start() {
    let (house, other) = (House::new(), House::new());
    house.hierarchy.check_keys(&house.keys).unwrap();
    let error = house.hierarchy.check_keys(&other.keys).unwrap_err();
    assert!(matches!(error, HierarchyError::OtherKey(_)) && error.to_string().contains("backup"), "{error}");
}

#[test]
fn no_key_is_printed_by_a_debug_line() {
    let house = House::new();
    let pem = fs::read_to_string(house.path().join("devices.key")).unwrap();
    let der = ca::pem::decode(ca::pem::PRIVATE_KEY, &pem).unwrap();
    // The 32 octets of the private scalar follow the header of the inner ECPrivateKey.
    let at = der.windows(2).position(|window| window == [0x04, 0x20]).unwrap() + 2;
    let scalar = model::hex(&der[at..at + 32]);
    let decimal = format!("{:?}", &der[at..at + 32]);
    let shown = format!("{:?} {:?}", house.keys, ca::PrivateKey::from_pkcs8(&der).unwrap());
    assert!(!shown.contains(&scalar) && !shown.contains(decimal.trim_matches(['[', ']'])));
    assert!(shown.contains("PrivateKey"), "the control");
}
