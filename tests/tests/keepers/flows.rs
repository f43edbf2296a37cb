//! `docs/flows.md` is what really listens and what really answers strangers.

use std::collections::BTreeSet;

use serde_json::Value;
use tests::{Cloud, cloud_program, run_ok, workspace};

#[tokio::test]
async fn every_route_is_declared_with_its_door_and_caller_and_nothing_else_is() {
    let declared = declared_routes();
    let real: BTreeSet<String> = routes().await.iter().map(row).collect();
    assert!(real.len() > 30, "the routes are listed: {real:?}");
    let undeclared: Vec<_> = real.difference(&declared).collect();
    let gone: Vec<_> = declared.difference(&real).collect();
    assert!(undeclared.is_empty(), "add to docs/flows.md, with a sentence on why: {undeclared:#?}");
    assert!(gone.is_empty(), "in docs/flows.md, and not in the cloud: {gone:#?}");
}

#[tokio::test]
async fn every_socket_that_the_cloud_listens_on_is_declared() {
    let mut cloud = Cloud::start().await;
    let doors = declared_doors();
    let announced: Vec<(String, u16)> = cloud
        .listening()
        .as_object()
        .unwrap()
        .iter()
        .filter_map(|(door, address)| {
            Some((door.clone(), address.as_str()?.rsplit(':').next()?.parse().ok()?))
        })
        .filter(|(door, _)| door != "public_url")
        .collect();
    for (door, _) in &announced {
        assert!(doors.contains(door), "the door {door} is not in docs/flows.md: {doors:?}");
    }
    let mut ports: Vec<u16> = announced.iter().map(|(_, port)| *port).collect();
    ports.sort_unstable();
    assert_eq!(cloud.process().listening_ports(), ports, "sockets of the process, and what it announces");
}

#[tokio::test]
async fn a_published_port_is_announced_too() {
    let config = "[[publish]]\nlisten = \"127.0.0.1:0\"\ndevice = \"cam-01\"\nservice = \"rtsp\"\n";
    let mut cloud = Cloud::plan().config(config).start().await;
    let announced = cloud.listening()["published"].as_array().unwrap();
    let port: u16 = announced[0].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap();
    assert!(cloud.process().listening_ports().contains(&port));
    assert!(declared_doors().contains("published"), "docs/flows.md declares published ports");
}

/// The routes as the program lists them.
pub(crate) async fn routes() -> Vec<Value> {
    let text = run_ok(cloud_program(), ["routes", "-o", "json"], b"").await;
    serde_json::from_str::<Value>(&text).unwrap().as_array().unwrap().clone()
}

fn row(route: &Value) -> String {
    let field = |name: &str| route[name].as_str().unwrap_or_else(|| panic!("{name} in {route}")).to_owned();
    format!("{} {} {} {}", field("door"), field("method"), field("path"), field("caller"))
}

fn declared_routes() -> BTreeSet<String> {
    tables()
        .filter(|cells| cells.len() >= 4 && cells[1].chars().all(|c| c.is_ascii_uppercase()))
        .map(|cells| cells[..4].join(" "))
        .collect()
}

fn declared_doors() -> BTreeSet<String> {
    tables().filter(|cells| cells.len() == 6).map(|cells| cells[0].clone()).collect()
}

fn tables() -> impl Iterator<Item = Vec<String>> {
    let text = std::fs::read_to_string(workspace().join("docs/flows.md")).unwrap();
    text.lines()
        .filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'))
        .map(|line| line.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect())
        .filter(|cells: &Vec<String>| !cells[0].starts_with("---") && !cells[0].starts_with("door"))
        .collect::<Vec<_>>()
        .into_iter()
}
