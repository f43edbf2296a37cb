//! TCP services: `tcpmux connect` under a real ssh, streams over WebSocket, published ports.

use std::{process::Command, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tests::{Cloud, Device, Namespace, Process, Service, cloud_program, eventually, run, run_ok};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::tungstenite::Message;

use crate::{stage::Stage, truncation::open_stream};

#[tokio::test]
async fn ssh_reaches_a_real_sshd_through_the_cloud() {
    let sshd = Sshd::start().await;
    let stage = Stage::set(&[("shell", format!("tcp://127.0.0.1:{}", sshd.port))]).await;
    let proxy =
        format!("{} connect --data {} cam-01 shell", cloud_program().display(), stage.cloud.data().display());
    let options = |option: &str| ["-o".to_owned(), option.to_owned()];
    let mut words: Vec<String> = vec!["-F".into(), "none".into(), "-i".into(), sshd.file("user_key")];
    words.extend(options(&format!("ProxyCommand={proxy}")));
    words.extend(options(&format!("UserKnownHostsFile={}", sshd.file("known_hosts"))));
    words.extend(options("StrictHostKeyChecking=accept-new"));
    words.extend(options("BatchMode=yes"));
    words.push(format!("{}@cam-01", sshd.user));
    let greeting = run("ssh", words.iter().cloned().chain(["echo hello from $((6*7))".into()]), b"").await;
    assert_eq!((greeting.code, greeting.stdout.as_str()), (0, "hello from 42\n"), "{}", greeting.stderr);
    // Bytes both ways, the ends of both directions, and the exit code of the far side.
    let input: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 253) as u8).collect();
    let counted = run("ssh", words.iter().cloned().chain(["wc -c; exit 7".into()]), &input).await;
    assert_eq!((counted.code, counted.stdout.trim()), (7, "3000000"), "{}", counted.stderr);
}

#[tokio::test]
async fn connect_works_with_a_token_file_alone_and_says_what_is_wrong() {
    let service = Service::echo().await;
    let stage = Stage::set(&[("shell", service.url("tcp"))]).await;
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, &stage.token).unwrap();
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let (cloud, root) = (stage.cloud.user().url(""), stage.cloud.root().display().to_string());
    let token = token.display().to_string();
    let connect = async |device: &str, service: &str| {
        let words = ["connect", device, service, "--cloud", &cloud, "--ca", &root, "--token-file", &token];
        run(cloud_program(), words, b"there and back").await
    };
    let echoed = connect("cam-01", "shell").await;
    assert_eq!((echoed.code, echoed.stdout.as_str()), (0, "there and back"), "{}", echoed.stderr);
    assert_eq!(connect("cam-02", "shell").await.code, 3);
    let unknown = connect("cam-01", "nothing").await;
    assert_eq!(unknown.code, 4, "{unknown:?}");
}

#[tokio::test]
async fn a_stream_carries_bytes_both_ways_and_each_end_by_itself() {
    // Speaks first, then tells how much it heard once the other direction has ended.
    let service = Service::start(|conversation| async move {
        let mut socket = conversation.into_socket();
        socket.write_all(b"220 ready\r\n").await.unwrap();
        let mut all = vec![];
        socket.read_to_end(&mut all).await.unwrap();
        socket.write_all(format!("heard {}", all.len()).as_bytes()).await.unwrap();
    })
    .await;
    let stage = Stage::set(&[("mail", service.url("tcp"))]).await;
    let mut socket = open_stream(&stage, "mail").await;
    let first = timeout(Duration::from_secs(5), socket.next()).await.expect("a server may speak first");
    assert_eq!(first.unwrap().unwrap(), Message::binary("220 ready\r\n"));
    for _ in 0..10 {
        socket.send(Message::binary(vec![1; 100_000])).await.unwrap();
    }
    socket.send(Message::binary("")).await.unwrap();
    let mut heard = vec![];
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Binary(bytes) => heard.extend_from_slice(&bytes),
            Message::Close(frame) => {
                assert_eq!(frame.map(|frame| u16::from(frame.code)), Some(1000));
                break;
            }
            _ => {}
        }
    }
    assert_eq!(String::from_utf8(heard).unwrap(), "heard 1000000");
}

#[tokio::test]
async fn a_stream_asks_for_level_operator_and_for_the_subprotocol() {
    let service = Service::echo().await;
    let stage = Stage::set(&[("shell", service.url("tcp"))]).await;
    let viewer = stage.cloud.token("cam-01", "viewer").await;
    let user = stage.cloud.user();
    let upgrade = |token: &str, protocol: &str| {
        user.get("/v1/devices/cam-01/streams/shell")
            .bearer(token)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-protocol", protocol)
    };
    assert_eq!(upgrade(&viewer, "tcpmux.stream.v1").send().await.problem().await, "403 TMX-4031");
    assert_eq!(upgrade(&stage.token, "chat").send().await.status.as_u16(), 400);
    assert_eq!(service.connections(), 0);
    upgrade(&stage.token, "tcpmux.stream.v1").send().await.expect(101).await;
}

#[tokio::test]
async fn a_published_port_is_the_service_for_programs_that_speak_anything() {
    let service = Service::start(|mut conversation| async move {
        conversation.write("ready\n").await;
        while let Some(line) = conversation.read_until(b"\n").await {
            conversation.write([b"you said ", &line[..]].concat()).await;
        }
    })
    .await;
    let config = "[[publish]]\nlisten = \"127.0.0.1:0\"\ndevice = \"cam-01\"\nservice = \"rtsp\"\n";
    let cloud = Cloud::plan().config(config).start().await;
    let port = cloud.listening()["published"][0].as_str().unwrap().to_owned();
    // Without the device a connection ends at once: nothing that looks like an answer.
    assert_eq!(heard(&port).await, "");
    let mut device = Device::enrol_and_run(&cloud, "cam-01", &[("rtsp", service.url("tcp"))]).await;
    let mut socket = TcpStream::connect(&port).await.unwrap();
    let mut greeting = [0; 6];
    socket.read_exact(&mut greeting).await.unwrap();
    socket.write_all(b"OPTIONS\n").await.unwrap();
    let mut answer = [0; 17];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"you said OPTIONS\n");
    device.kill();
    let cut = timeout(Duration::from_secs(10), socket.read(&mut answer)).await.expect("the cut is noticed");
    assert!(cut.is_err(), "a reset, not an end as if complete: {cut:?}");
}

#[tokio::test]
async fn a_published_port_beyond_loopback_lets_in_only_whom_it_names() {
    let namespace = Namespace::new();
    let service = Service::answering_at_once("welcome").await;
    let publish = "[[publish]]\nlisten = \"0.0.0.0:0\"\ndevice = \"cam-01\"\nservice = \"rtsp\"\n";
    let named = format!("{publish}allow = [\"{}/32\"]\n", namespace.ours());
    for (config, from_loopback, from_cable) in [(publish, "welcome", ""), (&named, "", "welcome")] {
        let cloud = Cloud::plan().config(config).start().await;
        let _device = Device::enrol_and_run(&cloud, "cam-01", &[("rtsp", service.url("tcp"))]).await;
        let port = cloud.listening()["published"][0].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
        assert_eq!(heard(&format!("127.0.0.1:{port}")).await, from_loopback, "{config}");
        assert_eq!(heard(&format!("{}:{port}", namespace.ours())).await, from_cable, "{config}");
    }
}

/// What a connection says before it ends.
async fn heard(address: &str) -> String {
    let mut said = vec![];
    let listen = async {
        // One that is not wanted may be reset before it is even made.
        if let Ok(mut socket) = TcpStream::connect(address).await {
            let _ = socket.read_to_end(&mut said).await;
        }
    };
    timeout(Duration::from_secs(10), listen).await.expect("an end");
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test]
async fn a_stream_of_a_user_ends_with_the_users_grant() {
    let provider = tests::Provider::start().await;
    let service = Service::echo().await;
    let mut stage = Stage::on(Cloud::with_provider(&provider).await, &[("shell", service.url("tcp"))]).await;
    let alice = provider.token("alice");
    let id = stage.cloud.user_id(&alice).await;
    stage.cloud.grant("cam-01", &id, json!({"level": "operator", "services": ["shell"]})).await;
    stage.token = stage.cloud.user_token(&alice).await;
    let mut socket = open_stream(&stage, "shell").await;
    socket.send(Message::binary("one")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::binary("one"));
    stage.cloud.grant("cam-01", &id, json!({"level": "viewer"})).await;
    let closed = timeout(Duration::from_secs(10), async {
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Close(Some(frame)) = message {
                return Some(u16::from(frame.code));
            }
        }
        None
    });
    assert!(closed.await.expect("within ten seconds").is_some_and(|code| code != 1000));
}

/// A real sshd with keys of its own, for the user who runs the tests.
struct Sshd {
    directory: tempfile::TempDir,
    port: u16,
    user: String,
    _process: Process,
}

impl Sshd {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name).display().to_string();
        for key in ["host_key", "user_key"] {
            run_ok("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", &file(key)], b"").await;
        }
        std::fs::copy(file("user_key.pub"), file("authorized_keys")).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
             PidFile none\nPasswordAuthentication no\nPermitRootLogin prohibit-password\nUseDNS no\n",
            file("host_key"),
            file("authorized_keys")
        );
        std::fs::write(file("sshd_config"), config).unwrap();
        // It wants this for its own privileges, and only a package's script would make it.
        let _ = std::fs::create_dir_all("/run/sshd");
        let mut command = Command::new("/usr/sbin/sshd");
        command.args(["-D", "-e", "-f", &file("sshd_config")]);
        let process = Process::start("sshd", command);
        eventually("sshd listens", || async {
            TcpStream::connect(("127.0.0.1", port))
                .await
                .map(drop)
                .map_err(|error| format!("{error} {}", process.log()))
        })
        .await;
        let user = run_ok("id", ["-un"], b"").await.trim().to_owned();
        Self { directory, port, user, _process: process }
    }

    fn file(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }
}
