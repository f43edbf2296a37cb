//! Between a device and its cloud: passes bytes on, lets a test look at them, and breaks off at its word.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::broadcast,
    task::JoinSet,
};

/// A relay that runs until it is dropped.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    cuts: broadcast::Sender<Goodbye>,
    _accepting: JoinSet<()>,
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the device.
    ToCloud,
    /// From the cloud.
    ToDevice,
}

/// How a relay breaks off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goodbye {
    /// With a FIN to both, as when a middlebox gives up politely: TLS alone can tell that it is a cut.
    Finish,
    /// With a reset to both.
    Reset,
}

/// What looks at the bytes of one way of one connection.
pub type Look = Box<dyn FnMut(&[u8]) + Send>;

impl Relay {
    /// Starts one that leads to this address; `look` is asked for each connection and way.
    ///
    /// # Panics
    /// If there is no port.
    pub async fn start(to: SocketAddr, look: impl Fn(Way) -> Look + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cuts, _) = broadcast::channel(8);
        let told = cuts.clone();
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut passing = JoinSet::new();
            while let Ok((device, _)) = listener.accept().await {
                while passing.try_join_next().is_some() {}
                // A cloud that is away is a connection that ends.
                let Ok(cloud) = TcpStream::connect(to).await else { continue };
                for socket in [&device, &cloud] {
                    socket.set_nodelay(true).unwrap();
                }
                let looks = [look(Way::ToCloud), look(Way::ToDevice)];
                passing.spawn(both_ways(device, cloud, looks, told.subscribe()));
            }
        });
        Self { address, cuts, _accepting: accepting }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks off every connection that stands; later ones are passed on.
    pub fn cut(&self, goodbye: Goodbye) {
        // Nobody there is nothing to break off.
        let _ = self.cuts.send(goodbye);
    }
}

async fn both_ways(
    device: TcpStream,
    cloud: TcpStream,
    [to_cloud, to_device]: [Look; 2],
    mut cut: broadcast::Receiver<Goodbye>,
) {
    let ((mut device_in, mut device_out), (mut cloud_in, mut cloud_out)) =
        (device.into_split(), cloud.into_split());
    let passed = async {
        tokio::join!(
            pass(&mut device_in, &mut cloud_out, to_cloud),
            pass(&mut cloud_in, &mut device_out, to_device)
        )
    };
    let goodbye = tokio::select! {
        _ = passed => return,
        goodbye = cut.recv() => goodbye,
    };
    if goodbye == Ok(Goodbye::Reset) {
        for socket in [device_in.as_ref(), cloud_in.as_ref()] {
            // Zero is the value that makes a close a reset, and it does not block.
            let _ = socket.set_zero_linger();
        }
    }
}

async fn pass(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, mut look: Look) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        // Looked at before it can be answered.
        look(&buffer[..length]);
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
