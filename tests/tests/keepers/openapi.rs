//! The OpenAPI document says what the routes are, all of them and no others.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tests::Cloud;

use super::flows::routes;

#[tokio::test]
async fn every_route_of_the_interfaces_has_one_operation_and_every_operation_a_route() {
    let document = document().await;
    let described: BTreeSet<String> =
        operations(&document).map(|(method, path, _)| format!("{method} {path}")).collect();
    let (mut wanted, mut possible) = (BTreeSet::new(), BTreeSet::new());
    for route in routes().await {
        let field = |name: &str| route[name].as_str().unwrap().to_owned();
        let (door, path) = (field("door"), field("path"));
        let named = format!("{} {}", field("method"), path.replace("{*", "{"));
        if (door == "user" && path.starts_with("/v1/"))
            || (door == "device" && path.starts_with("/device/v1/"))
        {
            wanted.insert(named.clone());
        }
        if door != "admin" {
            possible.insert(named);
        }
    }
    let missing: Vec<_> = wanted.difference(&described).collect();
    let gone: Vec<_> = described.difference(&possible).collect();
    assert!(wanted.len() > 3, "the routes are listed: {wanted:?}");
    assert!(
        missing.is_empty(),
        "without an operation; docs/adding.md says how to give them one: {missing:#?}"
    );
    assert!(gone.is_empty(), "operations without a route: {gone:#?}");
}

#[tokio::test]
async fn every_operation_says_who_may_call_it_and_how_it_refuses() {
    let document = document().await;
    assert_eq!(document["openapi"], "3.1.0");
    let callers: BTreeMap<String, String> = routes()
        .await
        .iter()
        .filter(|route| route["door"] != "admin")
        .map(|route| {
            let field = |name: &str| route[name].as_str().unwrap().to_owned();
            (format!("{} {}", field("method"), field("path").replace("{*", "{")), field("caller"))
        })
        .collect();
    let (mut names, mut wrong) = (BTreeSet::new(), vec![]);
    for (method, path, operation) in operations(&document) {
        let route = format!("{method} {path}");
        let id = operation["operationId"].as_str().unwrap_or_default();
        if id.is_empty() || !names.insert(id.to_owned()) {
            wrong.push(format!("{route}: an operationId of its own, not `{id}`"));
        }
        let asked: BTreeSet<&str> = operation["security"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|one| one.as_object().unwrap().keys().map(String::as_str))
            .collect();
        let caller = callers.get(&route).map_or("", String::as_str);
        let is_right = match caller {
            "anyone" => asked.is_empty(),
            "subscriber" => asked == BTreeSet::from(["proxytoken", "user"]),
            other => asked.contains(other),
        };
        if !is_right {
            wrong.push(format!("{route}: its caller is {caller}, and its security says {asked:?}"));
        }
        for asked in asked {
            if document["components"]["securitySchemes"][asked].is_null() {
                wrong.push(format!("{route}: there is no scheme {asked}"));
            }
        }
        let responses = operation["responses"].as_object().unwrap();
        if caller != "anyone" && !responses.contains_key("401") {
            wrong.push(format!("{route}: says nothing of 401"));
        }
        if !responses.contains_key("default") {
            wrong.push(format!("{route}: says nothing of other refusals"));
        }
        for reference in references(operation) {
            if document.pointer(reference.trim_start_matches('#')).is_none() {
                wrong.push(format!("{route}: {reference} leads nowhere"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

async fn document() -> Value {
    let cloud = Cloud::start().await;
    cloud.user().get("/v1/openapi.json").send().await.expect(200).await.json().await
}

fn operations(document: &Value) -> impl Iterator<Item = (String, &String, &Value)> {
    document["paths"].as_object().unwrap().iter().flat_map(|(path, item)| {
        let methods = ["get", "post", "put", "patch", "delete", "options", "head"];
        let operations = item.as_object().unwrap().iter();
        operations
            .filter(move |(key, _)| methods.contains(&key.as_str()))
            .map(move |(method, operation)| (method.to_uppercase(), path, operation))
    })
}

/// Every `$ref` inside a value.
fn references(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(members) => members
            .iter()
            .flat_map(|(key, value)| match value {
                Value::String(text) if key == "$ref" => vec![text.as_str()],
                other => references(other),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => vec![],
    }
}
