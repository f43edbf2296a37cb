//! Who may not have a tunnel: everybody but a registered device with its own certificate.

use http::Method;
use rcgen::ExtendedKeyUsagePurpose::{Any, ClientAuth, ServerAuth};
use serde_json::Value;
use tests::{Cloud, EnrolledDevice, Identity};

use super::{
    forger::{Forger, Leaf},
    peer::{Greeted, Peer},
};

#[tokio::test]
async fn no_certificate_but_a_registered_devices_own_opens_a_tunnel() {
    let cloud = Cloud::start().await;
    let other = Cloud::start().await;
    let real = EnrolledDevice::enrol(&cloud, "cam-01").await;
    let stranger = EnrolledDevice::enrol(&other, "cam-01").await;
    let devices = Forger::with_stolen_key(&cloud, "devices").await;
    let services = Forger::with_stolen_key(&cloud, "services").await;
    let self_made = Forger::self_made(&cloud, "devices").await;
    let leaf = Leaf::of_device(&cloud, "cam-01").await;
    let name = leaf.dns_names[0].clone();
    let two = vec![name.clone(), name.replace("cam-01", "cam-02")];
    let elsewhere = vec!["cam-01.default.device.abcd2345.tcpmux.internal".to_owned()];
    let read = |file: &str| std::fs::read(cloud.data().join("ca").join(file)).unwrap();
    let intermediate = Identity::from_pem(&read("devices.crt"), &read("devices.key"));

    // What the chain, the purpose or the time forbids is refused in the handshake.
    let by_handshake = [
        ("a self-made CA with our names", self_made.sign(&leaf)),
        ("the leaf of another deployment", stranger.identity()),
        ("signed by the doors' issuer", services.sign(&leaf)),
        ("a door's certificate", services.sign(&Leaf::of_server("localhost"))),
        ("for servers only", devices.sign(&Leaf { purposes: vec![ServerAuth], ..leaf.clone() })),
        ("expired", devices.sign(&Leaf { end_year: 2021, ..leaf.clone() })),
        ("of a year to come", devices.sign(&Leaf { first_year: 2039, ..leaf.clone() })),
        ("a name outside the subtree", devices.sign(&Leaf { dns_names: elsewhere, ..leaf.clone() })),
        ("a CA's certificate", devices.sign(&Leaf { is_ca: true, ..leaf.clone() })),
        ("the intermediate itself", intermediate),
    ];
    for (what, identity) in by_handshake {
        assert_eq!(attempt(&cloud, &identity).await, Greeted::Closed, "{what}");
    }
    // What only the registry can tell is told by its answer to the hello.
    let by_registry = [
        ("perfect, signed with the stolen key, and in no registry", devices.sign(&leaf)),
        ("a device that does not exist", devices.sign(&Leaf::of_device(&cloud, "ghost").await)),
        ("two names", devices.sign(&Leaf { dns_names: two, ..leaf.clone() })),
        ("no name", devices.sign(&Leaf { dns_names: vec![], ..leaf.clone() })),
        ("another CN", devices.sign(&Leaf { common_name: "cam-02".into(), ..leaf.clone() })),
        ("for everything", devices.sign(&Leaf { purposes: vec![ClientAuth, Any], ..leaf.clone() })),
        ("for servers too", devices.sign(&Leaf { purposes: vec![ClientAuth, ServerAuth], ..leaf.clone() })),
    ];
    for (what, identity) in by_registry {
        assert_eq!(attempt(&cloud, &identity).await, Greeted::Refused("not_admitted".into()), "{what}");
    }
    let none = cloud.device().tls().clone().with_alpn(&[tcpmux_proto::ALPN]);
    let without = none.connect(cloud.device_address()).await;
    if let Ok(mut stream) = without {
        use tokio::io::AsyncReadExt;
        assert!(matches!(stream.read(&mut [0; 64]).await, Ok(0) | Err(_)), "no certificate at all");
    }

    // None of it left a trace in the registry, and none of it kept the real one out.
    let listed = cloud.administer(Method::GET, "/admin/api/certificates", Value::Null).await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "{listed}");
    let known = cloud.administer(Method::GET, "/admin/api/devices", Value::Null).await;
    assert_eq!(known["items"].as_array().unwrap().len(), 1, "{known}");
    assert_eq!(known["items"][0]["online"], false);
    assert!(cloud.log().contains("device refused"), "a refusal of the registry's is logged");
    assert_eq!(attempt(&cloud, &real.identity()).await, Greeted::Welcome);
}

async fn attempt(cloud: &Cloud, identity: &Identity) -> Greeted {
    match Peer::dial(cloud, identity).await {
        Ok(mut peer) => peer.greet("impostor").await,
        Err(_) => Greeted::Closed,
    }
}
