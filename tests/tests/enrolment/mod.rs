//! From a passcode to a certificate, its successors and its end: told with curl, openssl, strongSwan, pkilint and
//! our own daemon against a real `tcpmux up`.
//!
//! Where each row of the table of hostile enrolments is tested. `craft` is `ca/tests/craft`, `prov` is
//! `prov-server/tests`, `here` is this folder; what the routes alone can show is not repeated at the door. A test
//! holds this table against the files.
//!
//! | row | what | where |
//! |---|---|---|
//! | 1, 2 | a signature that is not by the key inside | `craft/hostile_requests.rs::rows_1_and_2_the_signature_is_by_the_key_inside` |
//! | 3, 4, 5 | asking for more than a device gets, or less | `craft/hostile_requests.rs::rows_3_to_5_no_more_is_asked_for_than_a_device_gets` |
//! | 3, 4 | their words reach the caller | `prov/enrolment.rs::a_hostile_request_is_refused_with_its_word_and_does_not_burn_the_passcode` |
//! | 6 | another device's CN | `prov/enrolment.rs::a_bound_passcode_serves_its_device_alone_whatever_the_user_also_again` |
//! | 7 | other names of every kind | `craft/hostile_requests.rs::row_7_only_host_names_are_passed_on_to_be_compared` |
//! | 7 | and of other tenants | `here/hostile_tls.rs::a_device_of_another_tenant_stays_there` |
//! | 8, 9, 10, 11 | subjects that are not one device id | `craft/hostile_requests.rs::rows_8_to_11_the_subject_is_nothing_or_one_device_id` |
//! | 12 | anything twice | `craft/hostile_requests.rs::row_12_nothing_is_there_twice` |
//! | 13, 14, 15 | extensions that are ignored, or not | `craft/hostile_requests.rs::rows_13_to_15_extensions_are_ignored_or_refused_but_never_granted` |
//! | 16 | a challenge password | `craft/hostile_requests.rs::row_16_a_challenge_password_is_refused` |
//! | 17 | too many, too deep, too large | `craft/hostile_requests.rs::row_17_size_and_depth_are_bounded` |
//! | 18 | versions | `craft/hostile_requests.rs::row_18_the_version_is_one` |
//! | 19 | a hash of another size than the curve | `craft/hostile_keys.rs::row_19_a_hash_of_another_size_than_the_curve_gives_the_true_key` |
//! | 20, 21 | other curves, points beside them | `craft/hostile_keys.rs::rows_20_and_21_only_named_curves_and_points_on_them` |
//! | 22 | RSA | `craft/hostile_keys.rs::row_22_rsa_is_held_to_its_sizes_before_anything_is_computed` |
//! | 23 | keys that everyone has | `craft/hostile_keys.rs::row_23_keys_that_everyone_has_are_blocked` |
//! | 23 | another device's key | `prov/enrolment.rs::a_key_belongs_to_one_device` |
//! | 23 | a revoked device's key | `prov/revocation.rs::a_revoked_devices_key_and_unfinished_repeats_get_nothing` |
//! | 23 | the authority's own key | `craft/authorities.rs::the_authoritys_own_key_is_not_certified` |
//! | 24, 25 | signature algorithms and their parameters | `craft/hostile_keys.rs::rows_24_and_25_signature_algorithms_are_taken_to_the_last_byte` |
//! | 26, 27, 28 | one value, one encoding; lengths that lie | `craft/hostile_requests.rs::rows_26_to_28_one_value_has_one_encoding` |
//! | 29, 30, 31, 32, 33 | what is and is not base64 of PKCS#10 | `prov/wire.rs::what_is_not_a_pkcs10_body_is_refused_with_its_word` |
//! | 29, 30, 31, 32, 33 | one of each through the whole door | `here/hostile_http.rs::the_body_is_base64_of_pkcs10_and_little_more_is_forgiven` |
//! | 34 | bodies without end | `here/hostile_http.rs::a_body_that_is_too_long_is_refused_before_it_ends` |
//! | 35 | slow callers; a head has ten seconds here | `here/hostile_http.rs::slow_callers_are_given_up_and_hinder_nobody` |
//! | 36 | two ends of one request; see there for length and coding together | `here/hostile_http.rs::a_request_that_ends_in_two_places_ends_the_connection` |
//! | 37 | spellings; there are no labels | `here/hostile_http.rs::there_is_one_spelling_of_an_address` |
//! | 38 | methods | `here/hostile_http.rs::each_address_takes_its_own_methods` |
//! | 39 | old, new and odd HTTP | `here/hostile_http.rs::old_new_and_odd_http_is_served_or_refused_but_never_confused` |
//! | 40 | old TLS, no TLS | `here/hostile_tls.rs::what_is_not_todays_tls_gets_no_further_than_the_handshake` |
//! | 41 | early data | `here/hostile_tls.rs::no_handshake_is_shortened_and_a_revoked_certificate_renews_nothing_on_any_connection` |
//! | 42 | one door's addresses at another | `here/passcodes.rs::at_every_other_door_the_address_does_not_exist_with_or_without_the_key` |
//! | 43 | passcodes that do not serve | `here/hostile_passcodes.rs::passcodes_that_do_not_serve_are_answered_alike_and_as_quickly` |
//! | 44, 45 | the same key again, another key | `here/hostile_passcodes.rs::a_lost_answer_is_given_again_to_its_key_and_to_no_other` |
//! | 44, 45 | and a day later | `prov/enrolment.rs::a_repeat_with_the_same_key_gets_the_same_certificate_for_a_day_or_until_it_was_used` |
//! | 46, 47 | two hundred at once | `here/hostile_passcodes.rs::of_two_hundred_keys_at_once_one_gets_the_certificate_and_of_one_key_all_get_the_same` |
//! | 48, 49 | guessing; networks of IPv6 are counted in `prov-server/src/limits.rs` | `here/hostile_passcodes.rs::who_guesses_has_to_wait_and_nobody_else_has` |
//! | 50 | a passcode in the wrong place | `here/hostile_passcodes.rs::a_passcode_in_the_wrong_place_is_no_passcode_and_is_never_logged` |
//! | 51 | a passcode typed by hand | `here/hostile_passcodes.rs::a_typed_passcode_serves_and_a_slip_of_the_finger_costs_no_attempt` |
//! | 52 | labels and networks of a passcode | waits for a later version; its tenant counts: see row 7 |
//! | 53 | approval by hand | waits for a later version; taken back: `here/passcodes.rs::a_probe_makes_no_passcode_and_nothing_of_one_is_kept_on_the_way` |
//! | 54 | a database that is held | `here/unavailable.rs::while_the_database_is_held_enrolment_asks_to_come_back_and_nothing_is_lost` |
//! | 54 | a disk that is full | `here/unavailable.rs::on_a_full_disk_enrolment_asks_to_come_back_and_nothing_is_lost` |
//! | 55 | killed at each step of a first enrolment | `here/crashes.rs::killed_after_any_step_of_a_first_enrolment_the_same_request_gets_the_one_certificate` |
//! | 55 | of a renewal | `here/crashes.rs::killed_after_any_step_of_a_renewal_the_same_request_gets_the_one_successor` |
//! | 55 | at any moment | `here/crashes.rs::killed_at_any_moment_every_device_ends_with_exactly_one_certificate` |
//! | 56 | the admin key, missing or wrong | `here/passcodes.rs::without_the_key_every_answer_is_the_same_401` |
//! | 57 | probes and caches | `here/passcodes.rs::a_probe_makes_no_passcode_and_nothing_of_one_is_kept_on_the_way` |
//! | 58, 59 | after the end, within the grace and not | `here/renewal.rs::an_expired_certificate_is_renewed_by_policy_and_a_revoked_one_never` |
//! | 59 | a certificate of the future | `prov/renewal.rs::a_certificate_of_the_future_and_a_revoked_one_are_never_renewed` |
//! | 60 | revoked, also on a connection from before | `here/hostile_tls.rs::no_handshake_is_shortened_and_a_revoked_certificate_renews_nothing_on_any_connection` |
//! | 61 | a changed name | `prov/renewal.rs::the_same_key_may_stay_and_names_may_be_repeated_but_not_changed` |
//! | 62 | somebody else's certificate | `here/hostile_tls.rs::a_certificate_that_is_not_this_clouds_device_is_refused_by_tls_or_with_401` |
//! | 62 | of another tenant | `here/hostile_tls.rs::a_device_of_another_tenant_stays_there` |
//! | 63 | the old certificate after the new one was used | 401: `prov/renewal.rs::a_successors_first_connection_ends_its_predecessor`; quarantine waits for a later version |
//! | 64, 65, 66 | again, and again, and too early | `here/renewal.rs::a_device_that_asks_again_and_again_gets_the_same_or_has_to_wait` |
//! | 65 | refused again and again | `prov/renewal.rs::renewing_in_a_loop_gets_the_same_certificate_or_is_told_to_wait` |
//! | 67 | two proofs that disagree | `here/hostile_tls.rs::two_proofs_that_disagree_are_refused` |
//! | 68 | a device in 1970 | `here/renewal.rs::a_device_that_wakes_in_1970_enrols_and_connects` |
//! | 68 | a cloud in the past | `here/renewal.rs::a_cloud_whose_clock_went_back_does_not_start` |
//! | 69 | an issuer about to end | `prov/guards.rs::a_leaf_never_outlives_its_issuer` |
//! | 70 | numbers of revocation lists | `prov/revocation.rs::lists_are_renewed_in_time_and_their_numbers_only_grow_even_from_an_old_backup` |

mod applicant;
mod by_hand;
mod crashes;
mod daemon;
mod hostile_http;
mod hostile_passcodes;
mod hostile_tls;
mod interceptor;
mod kept;
mod linting;
mod moved_clock;
mod passcodes;
mod renewal;
mod strongswan;
mod unavailable;

use std::collections::BTreeSet;

#[test]
fn every_row_of_the_table_has_a_place_that_exists() {
    let mut rows = BTreeSet::new();
    for line in include_str!("mod.rs").lines().filter_map(|line| line.strip_prefix("//! | ")) {
        let cells: Vec<&str> = line.split(" | ").collect();
        let numbers: Vec<u32> = cells[0].split(", ").filter_map(|number| number.parse().ok()).collect();
        let places = cells.last().unwrap().split('`').filter(|text| text.contains("::"));
        for place in places.clone() {
            let (file, name) = place.split_once("::").unwrap();
            let (room, file) = file.split_once('/').unwrap();
            let room = match room {
                "craft" => "ca/tests/craft",
                "prov" => "prov-server/tests",
                "here" => "tests/tests/enrolment",
                other => panic!("{other} is no room"),
            };
            let path = tests::workspace().join(room).join(file);
            let text =
                std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(text.contains(&format!("fn {name}()")), "{name} is not in {}", path.display());
        }
        let is_later = cells.last().unwrap().contains("waits for a later version");
        assert!(places.count() > 0 || is_later || numbers.is_empty(), "{line}");
        rows.extend(numbers);
    }
    assert_eq!(rows, (1..=70).collect());
}
