//! What a small request costs, in counts that do not depend on how fast the machine is: TLS records between daemon and
//! cloud, system calls on sockets of both.
//!
//! A bound is what was counted when it was set and a fifth more. Where one fails: find out with `strace -f -p` or the
//! engine's own tests which write or read is new. If it is needed, raise the bound in the commit that brings it and say
//! there what it buys; otherwise take it out again.

#![allow(clippy::print_stdout, reason = "figures are read by people")]

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tests::{Cloud, Device, EnrolledDevice, Look, Process, Relay, Service, eventually};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::test]
async fn a_small_request_over_a_published_port_is_one_record_each_way() {
    let scene = Scene::set().await;
    let mut caller = scene.caller().await;
    requests(&mut caller, 20).await;
    let before = scene.records();
    requests(&mut caller, REQUESTS).await;
    let [to_cloud, to_device] = scene.records_since(before);
    println!("records for each request: {to_cloud} to the cloud, {to_device} to the device");
    within("TLS records to the device", to_device, 1.0);
    within("TLS records to the cloud", to_cloud, 1.0);
}

#[tokio::test]
async fn a_small_request_through_the_user_door_is_two_records_each_way() {
    let scene = Scene::set().await;
    let token = scene.cloud.token("cam-01", "operator").await;
    let call = async || {
        let answer = scene.cloud.user().get("/d/cam-01/web/").bearer(&token).send().await;
        assert_eq!(answer.expect(200).await.text().await, "hello");
    };
    call().await;
    let before = scene.records();
    for _ in 0..REQUESTS {
        call().await;
    }
    let [to_cloud, to_device] = scene.records_since(before);
    println!("records for each request: {to_cloud} to the cloud, {to_device} to the device");
    within("TLS records to the device", to_device, DOOR_TO_DEVICE);
    within("TLS records to the cloud", to_cloud, DOOR_TO_CLOUD);
}

#[tokio::test]
async fn a_small_request_over_a_published_port_is_few_calls_on_sockets() {
    let mut scene = Scene::set().await;
    let mut caller = scene.caller().await;
    requests(&mut caller, 20).await;
    let tracer = Tracer::attach([scene.cloud.process().id(), scene.device.process().id()]).await;
    requests(&mut caller, REQUESTS).await;
    let calls = tracer.detach().await as f64 / f64::from(REQUESTS);
    println!("calls on sockets for each request, both processes: {calls}");
    within("calls on sockets", calls, SOCKET_CALLS);
}

/// A published port, a device behind a relay that counts, a service with small answers.
struct Scene {
    cloud: Cloud,
    device: Device,
    /// To the cloud, to the device.
    records: [Arc<AtomicU64>; 2],
    _relay: Relay,
    _service: Service,
}

impl Scene {
    async fn set() -> Self {
        let service = Service::start(|mut conversation| async move {
            while conversation.request().await.is_some() {
                conversation.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await;
            }
        })
        .await;
        let config = "[[publish]]\nlisten = \"127.0.0.1:0\"\ndevice = \"cam-01\"\nservice = \"web\"\n";
        let cloud = Cloud::plan().config(config).start().await;
        let records: [Arc<AtomicU64>; 2] = Default::default();
        let counts = records.clone();
        let relay = Relay::start(cloud.device_address(), move |way| counting(&counts[way as usize])).await;
        let text = cloud.enrolment_string_through(relay.address(), "cam-01").await;
        let device = EnrolledDevice::enrol_with(&text, "cam-01").await.run(&[("web", service.url("http"))]);
        cloud.until_online("cam-01", true, Duration::from_secs(20)).await;
        Self { cloud, device, records, _relay: relay, _service: service }
    }

    /// A connection to the published port.
    async fn caller(&self) -> TcpStream {
        let port = self.cloud.listening()["published"][0].as_str().unwrap();
        let socket = TcpStream::connect(port).await.unwrap();
        socket.set_nodelay(true).unwrap();
        socket
    }

    fn records(&self) -> [u64; 2] {
        self.records.each_ref().map(|count| count.load(Ordering::SeqCst))
    }

    /// For each of the requests since.
    fn records_since(&self, before: [u64; 2]) -> [f64; 2] {
        let now = self.records();
        [0, 1].map(|way| (now[way] - before[way]) as f64 / f64::from(REQUESTS))
    }
}

/// Requests one after the other, each answered before the next.
async fn requests(socket: &mut TcpStream, count: u32) {
    let mut answer = [0; 43];
    for _ in 0..count {
        socket.write_all(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n").await.unwrap();
        socket.read_exact(&mut answer).await.unwrap();
        assert!(answer.ends_with(b"hello"), "{}", String::from_utf8_lossy(&answer));
    }
}

fn within(what: &str, counted: f64, bound: f64) {
    assert!(counted > 0.0, "{what}: nothing was counted");
    let most = bound * 1.2;
    assert!(
        counted <= most,
        "{what}: {counted:.2} for each request, {most:.2} at most (counted when the bound was set: {bound:.2}). \
         See the head of this file for what to do."
    );
}

/// Counts the TLS records with application data in them.
fn counting(count: &Arc<AtomicU64>) -> Look {
    let (mut records, count) = (Records::default(), Arc::clone(count));
    Box::new(move |bytes| {
        count.fetch_add(records.read(bytes), Ordering::SeqCst);
    })
}

/// Where in which record the bytes of one direction are.
#[derive(Default)]
struct Records {
    head: Vec<u8>,
    rest: usize,
}

impl Records {
    /// How many records with application data begin in these bytes.
    fn read(&mut self, mut bytes: &[u8]) -> u64 {
        let mut count = 0;
        while !bytes.is_empty() {
            if self.rest > 0 {
                let taken = self.rest.min(bytes.len());
                self.rest -= taken;
                bytes = &bytes[taken..];
                continue;
            }
            self.head.push(bytes[0]);
            bytes = &bytes[1..];
            if let [kind, _, _, high, low] = self.head[..] {
                count += u64::from(kind == APPLICATION_DATA);
                self.rest = usize::from(u16::from_be_bytes([high, low]));
                self.head.clear();
            }
        }
        count
    }
}

#[test]
fn records_are_counted_wherever_the_bytes_are_cut() {
    let stream: Vec<u8> =
        [&[22, 3, 3, 0, 2, 1, 2][..], &[23, 3, 3, 0, 1, 9], &[23, 3, 3, 1, 0], &[23; 256]].concat();
    for size in 1..stream.len() {
        let mut records = Records::default();
        let counted: u64 = stream.chunks(size).map(|piece| records.read(piece)).sum();
        assert_eq!(counted, 2, "in pieces of {size}");
    }
}

/// strace, counting what processes do with sockets.
struct Tracer {
    process: Process,
    summary: tempfile::NamedTempFile,
}

impl Tracer {
    async fn attach(ids: [u32; 2]) -> Self {
        let summary = tempfile::NamedTempFile::new().unwrap();
        let mut command = Command::new("strace");
        command.args(["-f", "-c", "-e", "trace=recvfrom,recvmsg,readv,sendto,sendmsg,writev", "-o"]);
        command.arg(summary.path());
        for id in ids {
            command.args(["-p", &id.to_string()]);
        }
        let mut process = Process::start("strace", command);
        eventually(
            "strace is attached to both (it needs leave to trace: CAP_SYS_PTRACE in a container)",
            || {
                let (ended, log) = (process.ended(), process.log());
                let attached = ids.iter().all(|id| log.contains(&format!("Process {id} attached")));
                async move { if attached && ended.is_none() { Ok(()) } else { Err((ended, log)) } }
            },
        )
        .await;
        Self { process, summary }
    }

    /// How many calls there were.
    async fn detach(mut self) -> u64 {
        self.process.signal("INT");
        self.process.exit_code(Duration::from_secs(20)).await;
        let text = std::fs::read_to_string(self.summary.path()).unwrap();
        let total = text.lines().find(|line| line.ends_with(" total"));
        let calls = total.and_then(|line| line.split_whitespace().nth(3)?.parse().ok());
        calls.unwrap_or_else(|| panic!("strace said no total: {text}{}", self.process.log()))
    }
}

const REQUESTS: u32 = 200;
/// The type of a TLS record.
const APPLICATION_DATA: u8 = 23;
const DOOR_TO_DEVICE: f64 = 2.0;
const DOOR_TO_CLOUD: f64 = 2.0;
const SOCKET_CALLS: f64 = 8.0;
