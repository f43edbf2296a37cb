//! EOF means that the peer finished. A body that was cut is an error at the client, in every framing,
//! whoever cut it, and never a short success.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tests::{Answer, Service, WebSocket, eventually};
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Message;

use crate::{http_matrix::VERSIONS, stage::Stage};

/// How a body says where it ends.
#[derive(Debug, Clone, Copy)]
enum Framing {
    Length,
    Chunked,
    UntilClose,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Cut {
    Nobody,
    Service,
    ServiceByReset,
    Daemon,
    Cloud,
}

#[tokio::test]
async fn a_cut_body_is_an_error_in_every_framing_whoever_cuts_it() {
    for cut in [Cut::Nobody, Cut::Service, Cut::ServiceByReset, Cut::Daemon, Cut::Cloud] {
        let mut services = vec![];
        for framing in FRAMINGS {
            services.push(service(framing, cut).await);
        }
        let names = ["length", "chunked", "close"];
        let exposed: Vec<_> =
            names.iter().zip(&services).map(|(name, (_, s))| (*name, s.url("http"))).collect();
        let mut stage = Stage::set(&exposed).await;
        let mut answers = vec![];
        for (framing, name) in FRAMINGS.iter().zip(names) {
            for version in VERSIONS {
                let mut answer = version(stage.get(&format!("/{name}/body"))).send().await.expect(200).await;
                // The head and the first half are there before anything is cut.
                let mut half = 0;
                while half < HALF.len() {
                    half += answer.next().await.unwrap().unwrap().len();
                }
                answers.push((framing, answer));
            }
        }
        match cut {
            Cut::Daemon => stage.device.kill(),
            Cut::Cloud => stage.cloud.kill(),
            _ => services.iter().for_each(|(go, _)| {
                go.send_replace(true);
            }),
        }
        for (framing, answer) in answers {
            let whole = ended_well(answer).await;
            // A service that closes is the end of a body that says so; everything else is a cut.
            let is_right =
                cut == Cut::Nobody || (cut == Cut::Service && matches!(framing, Framing::UntilClose));
            assert_eq!(whole, is_right, "{framing:?} cut by {cut:?}");
        }
    }
}

#[tokio::test]
async fn a_cut_upload_never_looks_whole_to_the_local_service() {
    let service = Service::start(|mut conversation| async move {
        conversation.until_gone().await;
    })
    .await;
    let stage = Stage::set(&[("web", service.url("http"))]).await;
    for version in VERSIONS {
        let before = service.connections();
        let (feed, body) = tests::pieces();
        let call = version(stage.post("/web/upload")).stream(body).try_send();
        let cut = async {
            feed.send(bytes::Bytes::from_static(b"half of it")).await.unwrap();
            eventually("half of the upload is there", || async {
                let seen = service.seen().pop().unwrap_or_default();
                if service.connections() > before && seen.contains("half of it") { Ok(()) } else { Err(seen) }
            })
            .await;
        };
        tokio::select! {
            _ = call => panic!("nobody answers"),
            // The call is dropped here, and with it the connection.
            () = cut => {}
        }
        drop(feed);
        // Another exchange, later than whatever the cut could still have sent.
        eventually("the service saw its end", || async {
            let seen = service.seen().pop().unwrap();
            if stage.cloud.log().matches("/upload").count() > before { Ok(seen) } else { Err(seen) }
        })
        .await;
        let seen = service.seen().pop().unwrap();
        assert!(!seen.ends_with("0\r\n\r\n"), "the last chunk must not come: {seen}");
    }
}

#[tokio::test]
async fn a_cut_stream_of_bytes_is_a_close_with_an_error() {
    for cut in [Cut::Service, Cut::ServiceByReset, Cut::Daemon] {
        let (go, wait) = watch::channel(false);
        let service = Service::start(move |mut conversation| {
            let mut wait = wait.clone();
            async move {
                conversation.write("first").await;
                let _ = wait.wait_for(|go| *go).await;
                if cut == Cut::ServiceByReset {
                    conversation.reset()
                }
            }
        });
        let service = service.await;
        let mut stage = Stage::set(&[("shell", service.url("tcp"))]).await;
        let mut socket = open_stream(&stage, "shell").await;
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::binary("first"));
        match cut {
            Cut::Daemon => stage.device.kill(),
            _ => {
                go.send_replace(true);
            }
        }
        let mut seen = vec![];
        while let Some(Ok(message)) = socket.next().await {
            seen.push(message);
            let _ = socket.flush().await;
        }
        let code = seen.iter().find_map(|message| match message {
            Message::Close(Some(frame)) => Some(u16::from(frame.code)),
            _ => None,
        });
        if cut == Cut::Service {
            // One direction ended well: an empty message, or the goodbye of a finished stream.
            assert!(seen.contains(&Message::binary("")) || code == Some(1000), "{seen:?}");
        } else {
            assert!(code.is_some_and(|code| code != 1000), "{cut:?}: {seen:?}");
        }
    }
}

#[tokio::test]
async fn curl_reports_a_cut_body_as_a_failure() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("body");
    for framing in FRAMINGS {
        let (go, service) = service(framing, Cut::ServiceByReset).await;
        let stage = Stage::set(&[("web", service.url("http"))]).await;
        let root = stage.cloud.root().display().to_string();
        let bearer = format!("Authorization: Bearer {}", stage.token);
        let url = stage.cloud.user().url("/d/cam-01/web/body");
        for version in ["--http1.1", "--http2"] {
            let output = file.display().to_string();
            let words = ["-sS", "-N", version, "-o", &output, "--cacert", &root, "-H", &bearer, &url];
            let cut = async {
                eventually("half of the body is in the file", || async {
                    let text = std::fs::read_to_string(&file).unwrap_or_default();
                    if text == HALF { Ok(()) } else { Err(text) }
                })
                .await;
                go.send_replace(true);
            };
            let (finished, ()) = tokio::join!(tests::run("curl", words, b""), cut);
            assert_ne!(finished.code, 0, "{framing:?} {version}: {finished:?}");
            go.send_replace(false);
            std::fs::remove_file(&file).unwrap();
        }
    }
}

/// Opens a raw stream of bytes to a TCP service.
pub(crate) async fn open_stream(stage: &Stage, service: &str) -> WebSocket {
    stage.cloud.user().raw_stream("cam-01", service, &stage.token).await.unwrap()
}

/// A service that sends the first half, waits for the word, then finishes or cuts.
async fn service(framing: Framing, cut: Cut) -> (watch::Sender<bool>, Service) {
    let (go, wait) = watch::channel(false);
    let service = Service::start(move |mut conversation| {
        let mut wait = wait.clone();
        async move {
            if conversation.request().await.is_none() {
                return;
            }
            let (head, begin, end) = match framing {
                Framing::Length => {
                    (format!("Content-Length: {}\r\n", HALF.len() * 2), HALF.to_owned(), HALF.to_owned())
                }
                Framing::Chunked => (
                    "Transfer-Encoding: chunked\r\n".into(),
                    format!("{:x}\r\n{HALF}\r\n", HALF.len()),
                    format!("{:x}\r\n{HALF}\r\n0\r\n\r\n", HALF.len()),
                ),
                Framing::UntilClose => (String::new(), HALF.to_owned(), HALF.to_owned()),
            };
            conversation.write(format!("HTTP/1.1 200 OK\r\n{head}Connection: close\r\n\r\n{begin}")).await;
            if wait.wait_for(|go| *go).await.is_err() {
                return;
            }
            match cut {
                Cut::Nobody => drop(conversation.write(end).await),
                Cut::ServiceByReset => conversation.reset(),
                _ => {}
            }
        }
    })
    .await;
    (go, service)
}

async fn ended_well(mut answer: Answer) -> bool {
    let rest = async {
        while let Some(piece) = answer.next().await {
            if piece.is_err() {
                return false;
            }
        }
        true
    };
    tokio::time::timeout(Duration::from_secs(40), rest).await.expect("a cut is noticed")
}

const FRAMINGS: [Framing; 3] = [Framing::Length, Framing::Chunked, Framing::UntilClose];
const HALF: &str = "half of the body ";
