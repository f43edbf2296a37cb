//! Whatever is under way when the daemon, the tunnel or the cloud goes away is cut at some byte, and nobody takes the
//! part for the whole: not in any framing of HTTP, not as a stream over WebSocket, not at a published port (R2).

use std::{
    collections::BTreeMap,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use futures_util::{SinkExt, StreamExt};
use tests::{Call, Cloud, Conversation, Device, EnrolledDevice, Goodbye, Relay, Service, eventually};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tokio_tungstenite::tungstenite::Message;

use crate::network::vitals::{setting, tell};

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_cut_at_any_byte_is_no_whole_one() {
    prove(1).await;
}

/// R2, by hand: `./scripts/prove cuts`, which says how many in each framing.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes; ./scripts/prove cuts runs it"]
async fn proof_bodies_cut_at_a_thousand_bytes_in_each_framing() {
    prove(setting("CUTS", 1000)).await;
}

/// Goes on until each cause has had its turn and each framing was cut so often.
async fn prove(cuts: usize) {
    let seed = setting("CUT_SEED", fastrand::u32(..) as usize) as u64;
    tell(format!("CUT_SEED={seed} makes the same bodies again"));
    let (mut dice, mut scene) = (Rng::with_seed(seed), Scene::set().await);
    let whole = scene.round(&mut dice, Cause::Nobody).await;
    assert!(whole.iter().all(|end| end.seems_whole && end.arrived == end.size), "nothing was cut: {whole:?}");
    let mut counts = BTreeMap::from(FRAMINGS.map(|framing| (framing, 0)));
    for turn in 0.. {
        let cause = CAUSES[turn % CAUSES.len()];
        for end in scene.round(&mut dice, cause).await {
            assert!(end.is_right, "other bytes than were sent: {end:?}, {cause:?}");
            assert!(end.arrived == end.size || !end.seems_whole, "a short success: {end:?}, {cause:?}");
            if end.arrived < end.size {
                *counts.get_mut(&end.framing).expect("all are counted") += 1;
            }
        }
        if turn % 10 == 0 {
            tell(format!("round {turn}: cut at some byte so far: {counts:?}"));
        }
        if turn + 1 >= CAUSES.len() && counts.values().all(|count| *count >= cuts) {
            break;
        }
    }
    tell(format!("never a short success: {counts:?}"));
}

/// How a body says where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Framing {
    Length,
    Chunked,
    UntilClose,
    WebSocket,
    Published,
}

/// What goes away. The bytes of a killed cloud's published port are ended by the kernel, with a FIN: nothing in such a
/// connection can tell, so that case is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Nobody,
    Daemon,
    Tunnel,
    Cloud,
}

/// What a caller asks for.
#[derive(Debug, Clone, Copy)]
struct Plan {
    framing: Framing,
    version: fn(Call) -> Call,
    size: usize,
    /// Where the service stops for good, or `size`.
    stop: usize,
}

/// How it ended for the caller.
#[derive(Debug)]
struct End {
    framing: Framing,
    size: usize,
    arrived: usize,
    is_right: bool,
    seems_whole: bool,
}

struct Scene {
    cloud: Cloud,
    device: Device,
    relay: Relay,
    _services: [Service; 2],
}

/// How far the callers are.
#[derive(Default)]
struct Progress {
    begun: AtomicUsize,
    stopped: AtomicUsize,
    bytes: AtomicUsize,
}

impl Scene {
    async fn set() -> Self {
        let publish = "[[publish]]\nlisten = \"127.0.0.1:0\"\ndevice = \"cam-01\"\nservice = \"raw\"\n";
        let cloud = Cloud::plan().config(publish).log_level("warn").start().await;
        let relay = Relay::start(cloud.device_address(), |_| Box::new(|_| ())).await;
        let services = [Service::start(serve).await, Service::start(serve).await];
        let named = [("web", services[0].url("http")), ("raw", services[1].url("tcp"))];
        let text = cloud.enrolment_string_through(relay.address(), "cam-01").await;
        let device = EnrolledDevice::enrol_with(&text, "cam-01").await.run(&named);
        Self { cloud, device, relay, _services: services }
    }

    /// Callers in every framing; then the cause, at a random byte of theirs; then how it ended for each.
    async fn round(&mut self, dice: &mut Rng, cause: Cause) -> Vec<End> {
        self.cloud.until_online("cam-01", true, Duration::from_secs(30)).await;
        let plans = plans(dice, cause);
        let stopping = plans.iter().filter(|plan| plan.stop < plan.size).count();
        let most: usize = plans.iter().map(|plan| plan.stop).sum();
        let enough = dice.usize(1..most * 3 / 4);
        let progress = Arc::new(Progress::default());
        let token = self.cloud.token("cam-01", "operator").await;
        let published = self.cloud.listening()["published"][0].as_str().unwrap().to_owned();
        let (begun, mut callers) = (plans.len(), JoinSet::new());
        for plan in plans {
            let caller = Caller { plan, user: self.cloud.user(), progress: Arc::clone(&progress) };
            let (token, published) = (token.clone(), published.clone());
            callers.spawn(async move {
                timeout(PATIENCE, caller.call(&token, &published)).await.expect("an end is noticed")
            });
        }
        if cause != Cause::Nobody {
            eventually("the callers are as far as they were to come", || async {
                let told = [&progress.begun, &progress.stopped, &progress.bytes]
                    .map(|count| count.load(Ordering::Relaxed));
                let is_there = told[0] == begun && told[1] == stopping && told[2] >= enough;
                if is_there { Ok(()) } else { Err(format!("{told:?} of {begun}, {stopping}, {enough}")) }
            })
            .await;
        }
        match cause {
            Cause::Nobody => {}
            Cause::Daemon => self.device.kill(),
            Cause::Tunnel => self.relay.cut(if dice.bool() { Goodbye::Reset } else { Goodbye::Finish }),
            Cause::Cloud => self.cloud.kill(),
        }
        let ends = callers.join_all().await;
        match cause {
            Cause::Nobody | Cause::Tunnel => {}
            Cause::Daemon => self.device.start_again(),
            Cause::Cloud => self.cloud.start_again().await,
        }
        ends
    }
}

/// For each framing as many whose service stops at a byte as such that flow when it happens.
fn plans(dice: &mut Rng, cause: Cause) -> Vec<Plan> {
    let mut plans = vec![];
    for framing in FRAMINGS {
        if cause == Cause::Cloud && framing == Framing::Published {
            continue;
        }
        for number in 0..AT_ONCE {
            let version = crate::http_matrix::VERSIONS[number / 2 % 2];
            let stops = number % 2 == 0 && cause != Cause::Nobody;
            // As many small ones as large ones; but what flows must still flow when it happens.
            let scale = dice.u32(if stops { 4 } else { 20 }..BODY.len().ilog2());
            let size = dice.usize(1 << scale..2 << scale);
            let stop = if stops { dice.usize(0..size) } else { size };
            plans.push(Plan { framing, version, size, stop });
        }
    }
    plans
}

struct Caller {
    plan: Plan,
    user: tests::Door,
    progress: Arc<Progress>,
}

impl Caller {
    async fn call(mut self, token: &str, published: &str) -> End {
        let Plan { framing, size, stop, .. } = self.plan;
        let mut end = End { framing, size, arrived: 0, is_right: true, seems_whole: false };
        let line = format!("{framing:?}/{size}/{stop}");
        match framing {
            Framing::Length | Framing::Chunked | Framing::UntilClose => {
                let call = self.user.get(&format!("/d/cam-01/web/{line}")).bearer(token);
                let mut answer = (self.plan.version)(call).send().await.expect(200).await;
                self.begins();
                loop {
                    match answer.next().await {
                        Some(Ok(piece)) => self.arrives(&mut end, &piece),
                        Some(Err(_)) => return end,
                        None => break,
                    }
                }
            }
            Framing::WebSocket => {
                let mut socket = self.user.raw_stream("cam-01", "raw", token).await.unwrap();
                socket.send(Message::binary(format!("{line}\n"))).await.unwrap();
                self.begins();
                loop {
                    match socket.next().await {
                        // An empty message is the end of this direction.
                        Some(Ok(Message::Binary(piece))) if piece.is_empty() => break,
                        Some(Ok(Message::Binary(piece))) => self.arrives(&mut end, &piece),
                        Some(Ok(Message::Close(Some(frame)))) if u16::from(frame.code) == 1000 => break,
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                        _ => return end,
                    }
                }
            }
            Framing::Published => {
                let mut socket = TcpStream::connect(published).await.unwrap();
                socket.write_all(format!("{line}\n").as_bytes()).await.unwrap();
                self.begins();
                let mut buffer = vec![0; 64 * 1024];
                loop {
                    match socket.read(&mut buffer).await {
                        Ok(0) => break,
                        Ok(count) => self.arrives(&mut end, &buffer[..count]),
                        Err(_) => return end,
                    }
                }
            }
        }
        end.seems_whole = true;
        end
    }

    fn begins(&mut self) {
        self.progress.begun.fetch_add(1, Ordering::Relaxed);
        if self.plan.stop == 0 && self.plan.size > 0 {
            self.progress.stopped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn arrives(&mut self, end: &mut End, piece: &[u8]) {
        let from = end.arrived;
        end.arrived += piece.len();
        end.is_right &= BODY.get(from..end.arrived) == Some(piece);
        self.progress.bytes.fetch_add(piece.len(), Ordering::Relaxed);
        if self.plan.stop < self.plan.size && end.arrived == self.plan.stop {
            self.progress.stopped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The service: `FRAMING/SIZE/STOP` on the first line, in the path of a request or alone.
async fn serve(mut conversation: Conversation) {
    let Some(line) = conversation.read_until(b"\n").await else { return };
    let line = String::from_utf8(line).unwrap();
    let word = line.split_whitespace().find(|word| word.contains('/')).unwrap();
    let fields: Vec<&str> = word.trim_start_matches('/').split('/').collect();
    let &[framing, size, stop] = &fields[..] else { panic!("{line}") };
    let (size, stop): (usize, usize) = (size.parse().unwrap(), stop.parse().unwrap());
    let head = match framing {
        "Length" => format!("Content-Length: {size}\r\n"),
        "Chunked" => "Transfer-Encoding: chunked\r\n".to_owned(),
        _ => String::new(),
    };
    if line.starts_with("GET ") {
        if conversation.read_until(b"\r\n\r\n").await.is_none() {
            return;
        }
        conversation.write(format!("HTTP/1.1 200 OK\r\n{head}Connection: close\r\n\r\n")).await;
    }
    let is_chunked = framing == "Chunked";
    for from in (0..size).step_by(PIECE) {
        let until = size.min(from + PIECE);
        if is_chunked {
            conversation.write(format!("{:x}\r\n", until - from)).await;
        }
        if !conversation.write(&BODY[from..until.min(stop).max(from)]).await {
            return;
        }
        if stop < until {
            return conversation.until_gone().await;
        }
        if is_chunked {
            conversation.write("\r\n").await;
        }
    }
    if is_chunked {
        conversation.write("0\r\n\r\n").await;
    }
}

/// What every body is the beginning of.
static BODY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut bytes = vec![0; 8 * 1024 * 1024];
    Rng::with_seed(7).fill(&mut bytes);
    bytes
});

const FRAMINGS: [Framing; 5] =
    [Framing::Length, Framing::Chunked, Framing::UntilClose, Framing::WebSocket, Framing::Published];
const CAUSES: [Cause; 3] = [Cause::Daemon, Cause::Tunnel, Cause::Cloud];
/// In each framing.
const AT_ONCE: usize = 8;
const PIECE: usize = 16 * 1024;
const PATIENCE: Duration = Duration::from_secs(60);
