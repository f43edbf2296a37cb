use std::collections::BTreeMap;

use model::DeviceRef;

use super::*;
use crate::NewEvent;

const AT: Timestamp = Timestamp(1_000);
const LATER: Timestamp = Timestamp(2_000);

/// A row of the tenant `acme` for every table that has such, parents first. A table that is missing here fails
/// the first test.
const PLANTS: &[(&str, &str)] = &[
    ("devices", "INSERT INTO devices (tenant, id, created_at) VALUES ('acme', 'cam-01', 0)"),
    (
        "users",
        "INSERT INTO users (tenant, id, issuer, subject, created_at) VALUES ('acme', 'usr_00000000000000000000000000000001', 'i', 's', 0)",
    ),
    (
        "grants",
        "INSERT INTO grants (tenant, user, device, level, sequence, changed_at)
         VALUES ('acme', 'usr_00000000000000000000000000000001', 'cam-01', 'owner', 1, 0)",
    ),
    (
        "grant_changes",
        "INSERT INTO grant_changes (tenant, sequence, user, device, at) VALUES ('acme', 1, 'usr_00000000000000000000000000000001', 'cam-01', 0)",
    ),
    (
        "logins",
        "INSERT INTO logins (digest, tenant, user, created_at, seen_at, expires_at)
         VALUES (zeroblob(32), 'acme', 'usr_00000000000000000000000000000001', 0, 0, 9)",
    ),
    (
        "handovers",
        "INSERT INTO handovers (digest, tenant, login, label, path, binding, created_at, expires_at)
         VALUES (x'01', 'acme', zeroblob(32), 'cam-01', '/', zeroblob(32), 0, 9)",
    ),
    (
        "visits",
        "INSERT INTO visits (digest, tenant, login, label, created_at)
         VALUES (x'02', 'acme', zeroblob(32), 'cam-01', 0)",
    ),
    (
        "passcodes",
        "INSERT INTO passcodes (id, digest, tenant, created_by, created_at, expires_at)
         VALUES ('pc_1', zeroblob(32), 'acme', 'system', 0, 9)",
    ),
    (
        "events",
        "INSERT INTO events (tenant, subject, device, at, received_at, data)
         VALUES ('acme', 'telemetry', 'cam-01', 0, 0, '{}')",
    ),
    (
        "connections",
        "INSERT INTO connections (tenant, device, generation, session, event, began_at)
         VALUES ('acme', 'cam-01', 1, 'ses_00000000000000000000000000000001', 1, 0)",
    ),
    ("event_floors", "INSERT INTO event_floors (tenant, device, seq) VALUES ('acme', 'cam-01', 1)"),
    (
        "claim_codes",
        "INSERT INTO claim_codes (tenant, device, digest, made_at)
         VALUES ('acme', 'cam-01', zeroblob(32), 0)",
    ),
    (
        "transfers",
        "INSERT INTO transfers (tenant, device, id, from_user, to_user, offered_at, expires_at)
         VALUES ('acme', 'cam-01', 't', 'usr_00000000000000000000000000000001',
             'usr_00000000000000000000000000000001', 0, 9)",
    ),
    (
        "inbox",
        "INSERT INTO inbox (tenant, user, sequence, at, data, filed_at)
         VALUES ('acme', 'usr_00000000000000000000000000000001', 1, 0, '{}', 0)",
    ),
    (
        "notification_settings",
        "INSERT INTO notification_settings (tenant, user, settings)
         VALUES ('acme', 'usr_00000000000000000000000000000001', '{}')",
    ),
    (
        "webhooks",
        "INSERT INTO webhooks (tenant, id, user, url, enabled, secret, created_at)
         VALUES ('acme', 'w', 'usr_00000000000000000000000000000001', 'https://x', 1, x'00', 0)",
    ),
    (
        "push_registrations",
        "INSERT INTO push_registrations (tenant, id, user, platform, token, created_at)
         VALUES ('acme', 'p', 'usr_00000000000000000000000000000001', 'web', 't', 0)",
    ),
    (
        "deliveries",
        "INSERT INTO deliveries (id, tenant, user, channel, target, type, body, state, next_at, created_at)
         VALUES ('d', 'acme', 'usr_00000000000000000000000000000001', 'webhook', 'w', 't', '{}', 'pending', 0, 0)",
    ),
    (
        "certificates",
        "INSERT INTO certificates (serial, issuer, tenant, device, status, spki_sha256, not_before, not_after, created_at, tbs)
         VALUES (zeroblob(18), 'devices', 'acme', 'cam-01', 'revoked', zeroblob(32), 0, 9, 0, x'00')",
    ),
];

fn acme() -> TenantName {
    "acme".parse().unwrap()
}

/// Runs statements as they are.
async fn run(store: &Store, sql: String) {
    let ran = store.write(move |c| {
        Box::pin(async move {
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(c).await?;
            Ok(())
        })
    });
    ran.await.unwrap();
}

/// How many rows of `acme` every table has that can have some.
async fn rows_of_acme(store: &Store) -> BTreeMap<String, i64> {
    store
        .read(|c| {
            Box::pin(async move {
                let names: Vec<String> = sqlx::query_scalar(
                    "SELECT t.name FROM pragma_table_list AS t, pragma_table_info (t.name) AS c
                     WHERE t.type = 'table' AND c.name = 'tenant'",
                )
                .fetch_all(&mut *c)
                .await?;
                let mut counts = BTreeMap::new();
                for name in names {
                    let sql = format!("SELECT count(*) FROM {name} WHERE tenant = 'acme'");
                    let count = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut *c).await?;
                    counts.insert(name, count);
                }
                Ok(counts)
            })
        })
        .await
        .unwrap()
}

/// A store in which `acme` has a row wherever it can have one.
async fn planted() -> Store {
    let store = Store::in_memory().await.unwrap();
    store.create_tenant(&acme(), &Actor::System, AT).await.unwrap();
    for (_, sql) in PLANTS {
        run(&store, (*sql).to_owned()).await;
    }
    store
}

#[tokio::test]
async fn of_a_deleted_tenant_only_its_certificates_and_the_audit_are_left() {
    let store = planted().await;
    let before = rows_of_acme(&store).await;
    let bare: Vec<_> = before.iter().filter(|(_, count)| **count == 0).collect();
    assert!(bare.is_empty(), "plant a row of acme for these tables, in PLANTS: {bare:?}");

    assert!(store.begin_tenant_deletion(&acme(), &Actor::System, LATER).await.unwrap());
    assert!(!store.begin_tenant_deletion(&acme(), &Actor::System, LATER).await.unwrap(), "it goes on");
    let early = store.end_tenant_deletion(&acme(), LATER).await;
    assert!(matches!(early, Err(StoreError::Conflict { .. })), "{early:?}");
    let mut gone = 0;
    loop {
        match store.purge_tenant(&acme(), 100).await.unwrap() {
            0 => break,
            more => gone += more,
        }
    }
    assert!(gone >= 5, "{gone}");
    store.end_tenant_deletion(&acme(), LATER).await.unwrap();

    let left: Vec<_> = rows_of_acme(&store).await.into_iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(left, [("certificates".to_owned(), 1)]);
    assert!(store.tenants().await.unwrap().iter().all(|tenant| tenant.name != acme()));
    let audited: Vec<_> =
        store.audit(0, 10).await.unwrap().into_iter().map(|row| (row.action, row.outcome)).collect();
    let expected = [("tenant.create", "ok"), ("tenant.remove", "begun"), ("tenant.remove", "ok")];
    assert_eq!(audited, expected.map(|(action, outcome)| (action.to_owned(), outcome.to_owned())));
    let told: Vec<_> = store.events_after(0, 10).await.unwrap().into_iter().map(|row| row.event).collect();
    let expected = [("tenant.created", AT), ("tenant.deleted", LATER)]
        .map(|(s, at)| tenants::announcement(&acme(), s, at));
    assert_eq!(told, expected);
    let gone = store.begin_tenant_deletion(&acme(), &Actor::System, LATER).await;
    assert!(matches!(gone, Err(StoreError::NotFound("tenant"))));
    let late = NewEvent::of_device(&DeviceRef::new(acme(), "cam-01".parse().unwrap()), "telemetry", LATER);
    assert_eq!(store.append_events(vec![late], LATER).await.unwrap(), [None], "it came too late");
}

#[tokio::test]
async fn from_the_first_moment_a_tenant_being_deleted_is_none() {
    let store = planted().await;
    let fresh = model::UserId::from_random([7; 16]);
    let user = async || store.find_or_create_user(&acme(), "i", "s", None, fresh.clone(), AT).await;
    let passcode = async || store.passcode_by_digest(model::PasscodeDigest([0; 32])).await.unwrap();
    assert_eq!((user().await.unwrap().id.as_str().len(), passcode().await.is_some()), (36, true));
    store.begin_tenant_deletion(&acme(), &Actor::System, LATER).await.unwrap();
    assert!(!store.tenant_exists(&acme()).await.unwrap());
    assert!(matches!(user().await, Err(StoreError::NotFound("tenant"))));
    assert_eq!(passcode().await, None);
    let again = store.create_tenant(&acme(), &Actor::System, LATER).await;
    assert!(matches!(again, Err(StoreError::Conflict { what }) if what.contains("being deleted")));
    assert_eq!(store.tenants().await.unwrap()[0].deleting_at, Some(LATER), "operators still see it");
}

#[tokio::test]
async fn a_purge_is_bounded_and_touches_no_other_tenant() {
    let store = planted().await;
    let many: String = (0..25)
        .map(|n| {
            format!(
                "INSERT INTO grant_changes (tenant, sequence, device, at) VALUES ('acme', {}, 'x', 0);",
                n + 2
            )
        })
        .collect();
    run(&store, many).await;
    run(
        &store,
        "INSERT INTO grant_changes (tenant, sequence, device, at) VALUES ('default', 9, 'x', 0)".into(),
    )
    .await;
    let unmarked = store.purge_tenant(&acme(), 10).await;
    assert!(matches!(unmarked, Err(StoreError::NotFound(_))), "nothing goes of a tenant that lives");
    store.begin_tenant_deletion(&acme(), &Actor::System, LATER).await.unwrap();
    let mut steps = vec![];
    loop {
        match store.purge_tenant(&acme(), 10).await.unwrap() {
            0 => break,
            rows => steps.push(rows),
        }
    }
    assert!(steps.iter().all(|rows| *rows <= 10) && steps.iter().sum::<u64>() >= 30, "{steps:?}");
    let kept = store.grant_changes_since(Timestamp(0)).await.unwrap();
    assert_eq!(kept.iter().map(|change| change.tenant.as_str()).collect::<Vec<_>>(), ["default"]);
}

#[tokio::test]
async fn the_next_tenant_of_a_name_begins_past_every_token_of_the_last() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tcpmux.db");
    let store = Store::open(&path).await.unwrap();
    store.create_tenant(&acme(), &Actor::System, AT).await.unwrap();
    run(&store, "UPDATE tenants SET grant_sequence = 41 WHERE name = 'acme'".into()).await;
    store.begin_tenant_deletion(&acme(), &Actor::System, LATER).await.unwrap();
    // As after a crash in the middle.
    store.close().await;
    let store = Store::open(&path).await.unwrap();
    store.end_tenant_deletion(&acme(), LATER).await.unwrap();
    assert_eq!(store.create_tenant(&acme(), &Actor::System, LATER).await.unwrap(), 42);
    assert_eq!(store.grant_sequence(&acme()).await.unwrap(), 42);
    assert_eq!(store.first_sequences().await.unwrap(), [(acme(), 42)]);
}

#[tokio::test]
async fn the_default_tenant_stays() {
    let store = Store::in_memory().await.unwrap();
    let kept = store.begin_tenant_deletion(&TenantName::default(), &Actor::System, AT).await;
    assert!(matches!(kept, Err(StoreError::Conflict { .. })));
}
