//! Who gets a session: the certificate alone decides.

use std::{sync::Arc, time::Duration};

use model::{CertificateStatus, NodeId, TenantName};
use rcgen::{BasicConstraints, DnType, ExtendedKeyUsagePurpose, IsCa, SanType};
use registry::{AnyOfThisAuthority, Registry};
use tcpmux_proto::RefusedReason;
use tcpmux_server::Config;

use crate::{
    certificates::{START, moment},
    support::{Cloud, hello, reason, refusal},
};

#[tokio::test(start_paused = true)]
async fn an_enrolled_device_is_welcomed_and_stands_in_the_registry() {
    let cloud = Cloud::start();
    let camera = cloud.enrolled("cam-01");
    let device = cloud.connect(&camera, "boot-a").await;
    let record = cloud.registry.lookup(&camera.device).await.unwrap();
    assert_eq!(record.session, device.welcome.session);
    assert_eq!(record.generation, device.welcome.generation);
    assert_eq!(record.certificate, camera.fingerprint());
    assert_eq!((record.boot_id.as_str(), record.since), ("boot-a", START));
    assert_eq!(device.welcome.heartbeat, Duration::from_secs(20));
    assert_eq!(cloud.server.session_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_certificate_of_our_ca_that_nobody_registered_gets_no_session_and_no_row() {
    let cloud = Cloud::start();
    let stranger = cloud.authority.issue("cam-01");
    let refused = refusal(cloud.try_connect(&stranger, "boot").await);
    assert_eq!((refused.reason, refused.retry_after), (RefusedReason::NotAdmitted, None));
    assert_eq!(cloud.registry.lookup(&stranger.device).await, None);
    assert_eq!((cloud.server.session_count(), cloud.registry.session_count()), (0, 0));
    // The control: it is the registry that made the difference.
    cloud.register(&stranger);
    cloud.connect(&stranger, "boot").await;
}

#[tokio::test(start_paused = true)]
async fn pending_retired_revoked_and_foreign_rows_open_nothing() {
    for status in [CertificateStatus::Pending, CertificateStatus::Retired, CertificateStatus::Revoked] {
        let cloud = Cloud::start();
        let camera = cloud.enrolled("cam-01");
        cloud.registry.certificates().set_status(camera.fingerprint(), status);
        assert_eq!(
            reason(cloud.try_connect(&camera, "boot").await),
            RefusedReason::NotAdmitted,
            "{status:?}"
        );
    }
    let cloud = Cloud::start();
    let mut camera = cloud.authority.issue("cam-01");
    camera.device.device = "cam-02".parse().unwrap();
    cloud.register(&camera);
    assert_eq!(reason(cloud.try_connect(&camera, "boot").await), RefusedReason::NotAdmitted);
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_is_not_exactly_a_devices_gets_no_session_even_if_registered() {
    type Change = fn(&mut rcgen::CertificateParams);
    let cloud = Cloud::start();
    let changes: &[(&str, Change)] = &[
        ("server's key usage", |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        }),
        ("both key usages", |params| {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }),
        ("no extended key usage", |params| params.extended_key_usages.clear()),
        ("a CA", |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
        ("two names", |params| {
            let second = "cam-02.default.device.abcd2345.tcpmux.internal";
            params.subject_alt_names.push(SanType::DnsName(second.try_into().unwrap()));
        }),
        ("no name", |params| params.subject_alt_names.clear()),
        ("a name of another kind beside", |params| {
            params.subject_alt_names.push(SanType::Rfc822Name("a@example.com".try_into().unwrap()));
        }),
        ("another deployment", |params| {
            let other = "cam-01.default.device.zzzz2345.tcpmux.internal";
            params.subject_alt_names = vec![SanType::DnsName(other.try_into().unwrap())];
        }),
        ("another common name", |params| {
            params.distinguished_name.push(DnType::CommonName, "cam-02");
        }),
        ("expired", |params| params.not_after = moment(START)),
    ];
    for (what, change) in changes {
        let mut wrong = cloud.authority.sign("cam-01", START.plus(Duration::from_secs(86_400)), change);
        wrong.not_after = START.plus(Duration::from_secs(86_400));
        if ca::DeviceCertificate::read(&wrong.der).is_ok() {
            cloud.register(&wrong);
        }
        assert_eq!(reason(cloud.try_connect(&wrong, "boot").await), RefusedReason::NotAdmitted, "{what}");
    }
    assert_eq!(cloud.registry.session_count(), 0);
    // The control: the same without a change.
    let right = cloud.enrolled("cam-01");
    cloud.connect(&right, "boot").await;
}

#[tokio::test(start_paused = true)]
async fn what_a_hello_says_names_nobody() {
    let cloud = Cloud::start();
    let (one, two) = (cloud.enrolled("cam-01"), cloud.enrolled("cam-02"));
    let mut claims_to_be_two = hello("boot");
    claims_to_be_two.agent_version = "cam-02".into();
    claims_to_be_two.features = vec!["device=cam-02".into(), "default/cam-02".into()];
    let device = cloud.device(&one.der).greet(claims_to_be_two, Duration::from_secs(60)).await.unwrap();
    let record = cloud.registry.lookup(&one.device).await.unwrap();
    assert_eq!(record.session, device.welcome.session);
    assert_eq!(cloud.registry.lookup(&two.device).await, None);
}

#[tokio::test(start_paused = true)]
async fn devices_of_the_operators_own_ca_are_named_by_cn_in_the_operators_tenant() {
    let tenant: TenantName = "plant-7".parse().unwrap();
    let naming = ca::DeviceNaming::Operator { source: ca::NameSource::CommonName, tenant: tenant.clone() };
    let registry = Registry::in_process(NodeId::from_random([7; 16]), 1);
    let admission = Arc::new(AnyOfThisAuthority::new(tenant.clone()));
    let cloud = Cloud::start_as(Config::default(), registry, admission, naming);
    let mut pump = cloud.authority.sign("pump-1", START.plus(Duration::from_secs(60)), |params| {
        params.subject_alt_names.clear();
    });
    pump.device.tenant = tenant;
    cloud.connect(&pump, "boot").await;
    assert!(cloud.registry.lookup(&pump.device).await.is_some());
    cloud.hand.advance(Duration::from_secs(60));
    assert_eq!(reason(cloud.try_connect(&pump, "boot").await), RefusedReason::NotAdmitted);
}
