//! The mistakes that systems of this kind have made, and where it is tested that this one does not.
//!
//! | trap | here | where |
//! |---|---|---|
//! | substring identity match | one certificate is one device, by fingerprint and whole name | `tcpmux-server/tests/it/identity.rs::pending_retired_revoked_and_foreign_rows_open_nothing` |
//! | substring identity match | nor is a name that contains another's, or lies in one | `cloud-gateway/src/doors_tests.rs::a_row_of_a_device_with_a_similar_name_admits_nobody` |
//! | prefix without delimiter | a topic is of one's own tenant to the dot | `client-api/src/events/topic.rs::a_topic_is_of_ones_own_tenant_to_the_dot` |
//! | prefix without delimiter | the path of a device is matched on raw bytes, segment by segment | `cloud-proxy/src/target.rs::the_prefix_is_matched_on_raw_bytes` |
//! | same-second tickets | a ticket is 32 random octets and taken once | `registry/src/tickets.rs::in_ten_thousand_races_of_fifty_each_ticket_is_given_once` |
//! | same-second tickets | nothing in one tells of the others of its moment | `cloud-gateway/src/subscriber_tests.rs::tickets_of_the_same_moment_have_nothing_in_common` |
//! | larger-of lifetimes | a token ends no later than any grant in it | `cloud-gateway/src/gateway_tests.rs::a_token_ends_no_later_than_the_grants_in_it` |
//! | larger-of lifetimes | a topic ends with the grant it stands on | `client-api/src/events/tests.rs::a_grant_that_ends_by_itself_ends_a_topic` |
//! | unverified JWT behind a gateway | every room that is shown a token verifies it | `tests/tests/tokens.rs::spoilt_tokens_for_the_proxy_never_reach_a_device` |
//! | unverified JWT behind a gateway | and the provider's | `tests/tests/tokens.rs::every_spoilt_token_of_a_provider_is_refused_at_the_api` |
//! | success reply for a refused subscription | a condition that is none is refused with its reason | `client-api/src/events/conditions.rs::what_is_no_condition_is_refused_with_its_reason` |
//! | success reply for a refused subscription | and so is everything else that is asked of a topic | `tests/tests/events.rs::topics_are_refused_with_the_status_or_code_of_what_is_wrong` |
//! | publish without ACL | only devices report, and no longer than their certificates are good | `tests/tests/device_gateway.rs::the_device_gateway_takes_devices_alone_and_no_longer_than_their_certificates` |
//! | publish without ACL | what is said of a device is seen by those with a right on it alone | `client-api/src/events/tests.rs::people_hear_of_their_own_devices_in_order_and_of_no_other` |
//! | 204 hiding batch errors | each item of a batch is answered for itself | `client-api/src/reports_tests.rs::good_items_are_kept_and_bad_ones_say_why` |
//! | CRL-lag revocation | a revoked device loses its streams before the receipt is written | `tests/tests/revocation.rs::a_revoked_device_loses_twenty_live_streams_within_a_second_and_never_comes_back` |
//! | permission cache lag | a changed grant refuses the next request | `cloud-proxy/tests/stories/leases.rs::a_changed_grant_refuses_new_requests_at_once_and_ends_live_ones_within_ten_seconds` |
//! | secret-creating GET | a HEAD makes no passcode, and no cache keeps one | `tests/tests/enrolment/passcodes.rs::a_probe_makes_no_passcode_and_nothing_of_one_is_kept_on_the_way` |
//! | TOFU CA fetch | the daemon knows the authority's fingerprint before it asks | `tests/tests/main_path.rs::the_daemon_refuses_a_cloud_whose_authority_is_not_the_one_in_the_string` |
//! | Upgrade header stripping | a WebSocket passes, with its echo and its close | `cloud-proxy/tests/stories/upgrades.rs::a_websocket_echoes_and_closes_cleanly` |
//! | Upgrade header stripping | and nothing else passes as one | `cloud-proxy/tests/stories/upgrades.rs::upgrades_that_are_no_websocket_reach_no_device` |
//! | algorithm confusion | a key has one algorithm, and a token does not choose it | `runtime/src/jose/token_tests.rs::no_algorithm_but_the_keys_own_is_accepted` |
//! | CN-trusted identity | a device is who its admitted certificate's one device name says | `cloud-gateway/src/doors_tests.rs::a_device_is_who_its_admitted_certificate_names` |
//! | sender id taken from payload | what a hello says names nobody | `tcpmux-server/tests/it/identity.rs::what_a_hello_says_names_nobody` |
//! | sender id taken from payload | nor does a report | `client-api/src/reports_tests.rs::a_report_is_of_whoever_sent_it_whatever_it_says` |
//! | subscription kept after refusal | a right that is lost ends what stood on it | `client-api/src/events/tests.rs::a_right_that_is_lost_ends_a_topic_and_silences_a_stream` |

use std::collections::BTreeSet;

#[test]
fn every_trap_has_a_test_that_exists() {
    let mut held = BTreeSet::new();
    for line in include_str!("traps.rs").lines().filter_map(|line| line.strip_prefix("//! | ")) {
        let cells: Vec<&str> = line.trim_end_matches(" |").split(" | ").collect();
        let [trap, _, place] = cells[..] else { panic!("three cells: {line}") };
        if trap == "trap" {
            continue;
        }
        let (file, name) = place.trim_matches('`').split_once("::").expect("file::test");
        let path = tests::workspace().join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(text.contains(&format!("fn {name}()")), "{name} is not in {file}");
        held.insert(trap);
    }
    let missing: Vec<_> = TRAPS.iter().filter(|trap| !held.contains(**trap)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert_eq!(held.len(), TRAPS.len(), "{held:?}");
}

const TRAPS: [&str; 17] = [
    "substring identity match",
    "prefix without delimiter",
    "same-second tickets",
    "larger-of lifetimes",
    "unverified JWT behind a gateway",
    "success reply for a refused subscription",
    "publish without ACL",
    "204 hiding batch errors",
    "CRL-lag revocation",
    "permission cache lag",
    "secret-creating GET",
    "TOFU CA fetch",
    "Upgrade header stripping",
    "algorithm confusion",
    "CN-trusted identity",
    "sender id taken from payload",
    "subscription kept after refusal",
];
