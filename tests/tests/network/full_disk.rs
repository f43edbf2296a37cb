//! The disk with the data is full: requests to devices do not notice; what needs to write says so.

use std::{path::PathBuf, time::Duration};

use serde_json::json;
use tempfile::TempDir;
use tests::{Cloud, Device, as_root, eventually, web};
use tokio::time::timeout;

use super::neighbour::Neighbour;

#[tokio::test]
async fn a_full_disk_stops_no_request_and_no_device_and_is_over_when_there_is_space() {
    let disk = Disk::mount();
    let mut cloud = Cloud::plan().on_disk(&disk.path()).start().await;
    let neighbour = Neighbour::move_in(&cloud).await;
    let web = web().await;
    let mut device = Device::enrol_and_run(&cloud, "cam-01", &[("web", web.url("http"))]).await;
    let traffic = neighbour.ask_all_the_time();
    disk.fill();
    device.kill();
    cloud.until_online("cam-01", false, Duration::from_secs(10)).await;
    device.start_again();
    cloud.until_online("cam-01", true, Duration::from_secs(20)).await;
    // The log of the database has some room left in its last page; then there is none.
    let admin = cloud.admin();
    let full = eventually("there is no room left", || async {
        let call = admin.post("/admin/api/otp").admin(cloud.key()).json(&json!({"device": "cam-02"}));
        let answer = timeout(Duration::from_secs(20), call.send()).await.expect("in time");
        if answer.status.is_success() { Err("it was written") } else { Ok(answer) }
    })
    .await;
    let retry = full.header("retry-after").to_owned();
    let said = full.problem().await;
    assert!(said.starts_with("503 TMX-"), "{said}");
    assert!(!retry.is_empty(), "503 without Retry-After");
    admin.get("/livez").send().await.expect(200).await;
    assert!(cloud.log().contains("no space left"), "the operator is told why");
    traffic.was_undisturbed().await;

    disk.empty();
    eventually("writes are possible again", || async {
        let answer = admin.post("/admin/api/otp").admin(cloud.key()).json(&json!({"device": "cam-02"}));
        let answer = answer.send().await;
        if answer.status.is_success() { Ok(()) } else { Err(answer.problem().await) }
    })
    .await;
    // What was there before is there after a restart, too.
    cloud.kill();
    cloud.start_again().await;
    cloud.until_online("cam-01", true, Duration::from_secs(30)).await;
    let audit = cloud.administer(http::Method::GET, "/admin/api/audit", json!(null)).await;
    assert!(!audit["items"].as_array().unwrap().is_empty());
    drop(cloud);
}

/// A small disk of its own, gone with its value.
struct Disk {
    directory: TempDir,
}

impl Disk {
    fn mount() -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().display().to_string();
        as_root(["mount", "-t", "tmpfs", "-o", "size=8m,mode=0777", "tmpfs", &path]);
        Self { directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    /// Takes all of its space.
    fn fill(&self) {
        use std::io::Write;
        let mut file = std::fs::File::create(self.directory.path().join("filler")).unwrap();
        for size in [64 * 1024, 512, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    /// Gives it back.
    fn empty(&self) {
        std::fs::remove_file(self.directory.path().join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let path = self.directory.path().display().to_string();
        as_root(["umount", "-l", &path]);
    }
}
