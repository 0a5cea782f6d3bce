//! A TCP proxy whose connections can be closed, or stalled in both directions.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Open,
    /// Nothing is read or written. Connections stay open.
    Stalled,
    /// All connections are closed.
    Cut,
}

/// A proxy to one or more addresses. New connections go to the addresses in turn.
pub struct Proxy {
    pub address: SocketAddr,
    mode: watch::Sender<Mode>,
    targets: watch::Sender<Vec<SocketAddr>>,
    /// Number of open connections to each target.
    open: Arc<[AtomicUsize]>,
}

impl Proxy {
    pub async fn to(target: SocketAddr) -> Self {
        Self::listen(&[target], None).await
    }

    /// A proxy to several addresses, of which the first `used` are in use.
    pub async fn balancing(targets: &[SocketAddr], used: usize) -> Self {
        let proxy = Self::listen(targets, None).await;
        proxy.use_first(used);
        proxy
    }

    /// A proxy that receives few bytes before it reads them. While it is stalled, it acknowledges no complete large request.
    pub async fn with_small_buffer(target: SocketAddr) -> Self {
        Self::listen(&[target], Some(1)).await
    }

    async fn listen(addresses: &[SocketAddr], receive_buffer: Option<u32>) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1024).unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, modes) = watch::channel(Mode::Open);
        let (targets, used) = watch::channel(addresses.to_vec());
        let open: Arc<[AtomicUsize]> = addresses.iter().map(|_| AtomicUsize::new(0)).collect();
        tokio::spawn(accept(listener, addresses.to_vec(), used, modes, open.clone()));
        Self {
            address,
            mode,
            targets,
            open,
        }
    }

    /// Sends new connections to the first addresses only.
    pub fn use_first(&self, count: usize) {
        self.targets.send_modify(|targets| targets.truncate(count));
    }

    /// Sends new connections to these addresses, which are among the first ones of the proxy.
    pub fn use_targets(&self, targets: &[SocketAddr]) {
        self.targets.send_replace(targets.to_vec());
    }

    /// Number of open connections to each target.
    pub fn connections(&self) -> Vec<usize> {
        self.open.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// Closes all connections, and closes new ones at once.
    pub fn cut(&self) {
        self.mode.send_replace(Mode::Cut);
    }

    /// Reads and writes nothing more. All connections stay open.
    pub fn stall(&self) {
        self.mode.send_replace(Mode::Stalled);
    }

    pub fn restore(&self) {
        self.mode.send_replace(Mode::Open);
    }
}

async fn accept(
    listener: TcpListener,
    all: Vec<SocketAddr>,
    targets: watch::Receiver<Vec<SocketAddr>>,
    modes: watch::Receiver<Mode>,
    open: Arc<[AtomicUsize]>,
) {
    let mut next = 0;
    while let Ok((client, _)) = listener.accept().await {
        let target = {
            let targets = targets.borrow();
            next += 1;
            targets[next % targets.len()]
        };
        let number = all.iter().position(|address| *address == target).unwrap();
        let (modes, open) = (modes.clone(), open.clone());
        if *modes.borrow() == Mode::Cut {
            continue;
        }
        tokio::spawn(async move {
            open[number].fetch_add(1, Ordering::Relaxed);
            forward(client, target, modes).await;
            open[number].fetch_sub(1, Ordering::Relaxed);
        });
    }
}

async fn forward(client: TcpStream, target: SocketAddr, mut modes: watch::Receiver<Mode>) {
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let to_server = copy(from_client, to_server, modes.clone());
    let to_client = copy(from_server, to_client, modes.clone());
    let both = async { tokio::join!(to_server, to_client) };
    tokio::select! {
        _ = both => {}
        _ = modes.wait_for(|mode| *mode == Mode::Cut) => {}
    }
}

/// Copies one direction until its end.
async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut modes: watch::Receiver<Mode>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        if modes.wait_for(|mode| *mode == Mode::Open).await.is_err() {
            return;
        }
        let read = tokio::select! {
            biased;
            _ = modes.wait_for(|mode| *mode != Mode::Open) => continue,
            read = from.read(&mut buffer) => read,
        };
        match read {
            Ok(0) => {
                let _ = to.shutdown().await;
                return;
            }
            Ok(count) if to.write_all(&buffer[..count]).await.is_ok() => {}
            _ => return,
        }
    }
}
