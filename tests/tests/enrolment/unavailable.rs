//! Row 54 with real files: a database that somebody holds, a disk that is full. Nobody gets a certificate without its
//! durable row, nothing is half done, and everything works as soon as it can.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use tests::{Cloud, run};

use super::applicant::{Applicant, certificates_of, enrolled, fingerprint, refusal, registry};

#[tokio::test]
async fn while_the_database_is_held_enrolment_asks_to_come_back_and_nothing_is_lost() {
    let cloud = Cloud::start().await;
    let door = cloud.device();
    let (old, certificate) = enrolled(&cloud, "old-01").await;
    let shown = door.showing(&old.identity(&certificate));
    let (owner, next) = (Applicant::new(), Applicant::new());
    let passcode = cloud.passcode("cam-01").await;
    let held = HeldDatabase::hold(&cloud.data().join("tcpmux.db"));
    let mint = cloud.admin().post("/admin/api/otp").admin(cloud.key());
    let (enrolment, renewal, minting, authorities, list) = tokio::join!(
        owner.enrolment(&door, "", &passcode).send(),
        next.renewal(&shown).send(),
        mint.send(),
        door.get("/.well-known/est/cacerts").send(),
        door.get("/crl/devices.crl").send(),
    );
    for answer in [enrolment, renewal] {
        assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
        assert_eq!(refusal(answer).await, "503 unavailable");
    }
    assert!(minting.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert_eq!(minting.status, 503);
    assert_eq!(
        (authorities.status.as_u16(), list.status.as_u16()),
        (200, 200),
        "what needs no writing goes on"
    );
    assert_eq!(registry(&cloud).await.len(), 1, "nothing half done");
    drop(held);
    let got = owner.enrolment(&door, "", &passcode).send().await.expect(200).await.text().await;
    let rows = certificates_of(&cloud, "cam-01").await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["fingerprint"], fingerprint(&got));
    next.renewal(&shown).send().await.expect(200).await;
    assert_eq!(certificates_of(&cloud, "old-01").await.len(), 2);
    let thief = Applicant::new().enrolment(&door, "", &passcode).send().await;
    assert_eq!(refusal(thief).await, "401 passcode-invalid");
}

#[tokio::test]
async fn on_a_full_disk_enrolment_asks_to_come_back_and_nothing_is_lost() {
    let mut cloud = Cloud::start().await;
    assert_eq!(cloud.stop().await, 0);
    let disk = SmallDisk::mount_over(&cloud.data()).await;
    cloud.start_again().await;
    let mut waiting = vec![];
    for number in 0..12 {
        let id = format!("cam-{number}");
        waiting.push((Applicant::new(), cloud.passcode(&id).await, id));
    }
    // From nothing left to just enough: somewhere between, the disk is full between two steps.
    let (mut full, mut enough, mut half_way) = (0, 0, 0);
    let mut got = vec![None; waiting.len()];
    for (number, (owner, passcode, id)) in waiting.iter().enumerate() {
        disk.leave(number as u64 * 16 * 1024);
        let answer = owner.enrolment(&cloud.device(), "", passcode).send().await;
        if answer.status == 200 {
            enough += 1;
            got[number] = Some(answer.text().await);
        } else {
            full += 1;
            assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
            assert_eq!(refusal(answer).await, "503 unavailable", "with {} KiB", number * 16);
            half_way +=
                certificates_of(&cloud, id).await.iter().filter(|row| row["status"] == "pending").count();
        }
    }
    let all = [full, half_way, enough];
    assert!(all.iter().all(|count| *count > 0), "refused, of them intended, issued: {all:?}");
    disk.leave(0);
    let refused = Applicant::new().enrolment(&cloud.device(), "", "wrong").send().await;
    assert!([401, 503].contains(&refused.status.as_u16()), "{}", refused.status);
    disk.make_room();
    for ((owner, passcode, id), before) in waiting.iter().zip(got) {
        let thief = Applicant::new();
        let certificate =
            owner.enrolment(&cloud.device(), "", passcode).send().await.expect(200).await.text().await;
        if let Some(before) = before {
            assert_eq!(certificate, before, "{id}");
        }
        let rows = certificates_of(&cloud, id).await;
        assert_eq!(rows.len(), 1, "{id}: {rows:?}");
        assert_eq!(rows[0]["fingerprint"], fingerprint(&certificate), "{id}");
        let refused = thief.enrolment(&cloud.device(), "", passcode).send().await;
        assert_eq!(refusal(refused).await, "401 passcode-invalid", "{id}");
    }
    cloud.kill();
    let check = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('PRAGMA integrity_check').fetchone()[0])";
    let file = cloud.data().join("tcpmux.db").display().to_string();
    assert_eq!(tests::run_ok("python3", ["-c", check, &file], b"").await, "ok\n");
    cloud.start_again().await;
    assert_eq!(registry(&cloud).await.len(), waiting.len());
    let verified = cloud.administer(http::Method::GET, "/admin/api/audit?limit=10", Value::Null).await;
    assert!(verified["items"].is_array());
    cloud.kill();
    disk.unmount();
}

/// A database that another process holds until this is dropped.
struct HeldDatabase(Child);

impl HeldDatabase {
    fn hold(file: &Path) -> Self {
        let program = "import sqlite3, sys
held = sqlite3.connect(sys.argv[1], isolation_level=None)
held.execute('BEGIN EXCLUSIVE')
print('held', flush=True)
sys.stdin.read()
held.execute('ROLLBACK')";
        let mut child = Command::new("python3")
            .args(["-c", program])
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "held\n");
        Self(child)
    }
}

impl Drop for HeldDatabase {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let ended = self.0.wait();
        assert!(std::thread::panicking() || ended.is_ok_and(|status| status.success()));
    }
}

/// A file system of a few megabytes in place of a directory.
struct SmallDisk {
    place: PathBuf,
}

impl SmallDisk {
    /// Mounts it over a directory and copies there what the directory held.
    async fn mount_over(place: &Path) -> Self {
        let (text, away) = (place.display().to_string(), place.with_extension("away"));
        std::fs::rename(place, &away).unwrap();
        std::fs::create_dir(place).unwrap();
        as_root(&["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs", &text]);
        let owner = run("sh", ["-c", "echo $(id -u):$(id -g)"], b"").await.stdout;
        as_root(&["chown", owner.trim(), &text]);
        let disk = Self { place: place.to_owned() };
        let all = format!("{}/.", away.display());
        assert_eq!(run("cp", ["-a", &all, &text], b"").await.code, 0);
        disk
    }

    /// Fills it up, but for so many octets.
    fn leave(&self, octets: u64) {
        self.make_room();
        let mut ballast = std::fs::File::create(self.place.join("ballast")).unwrap();
        let block = [0; 4096];
        while ballast.write_all(&block).is_ok() {}
        let size = ballast.metadata().unwrap().len();
        ballast.set_len(size.saturating_sub(octets)).unwrap();
    }

    fn make_room(&self) {
        let _ = std::fs::remove_file(self.place.join("ballast"));
    }

    fn unmount(self) {
        as_root(&["umount", &self.place.display().to_string()]);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // After a failure; what is still in use goes when its process does.
        if std::thread::panicking() {
            let _ = root_command(&["umount", "-l", &self.place.display().to_string()]).output();
        }
    }
}

fn as_root(words: &[&str]) {
    let mut command = root_command(words);
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} needs root, or sudo without a password: {said}");
}

fn root_command(words: &[&str]) -> Command {
    let uid = Command::new("id").arg("-u").output().expect("id runs");
    let is_root = uid.stdout.trim_ascii() == b"0";
    let mut command = if is_root { Command::new(words[0]) } else { Command::new("sudo") };
    if is_root {
        command.args(&words[1..])
    } else {
        command.arg("-n").args(words)
    };
    command
}
