//! Frames of HTTP/2, written by hand: what no HTTP library sends.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [length[1], length[2], length[3], kind, flags];
    [&head[..], &stream.to_be_bytes(), payload].concat()
}

/// The headers of an RPC (HPACK, literals without index).
pub fn headers(path: &str) -> Vec<u8> {
    let pairs = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let mut block = Vec::new();
    for (name, value) in pairs {
        block.push(0);
        for text in [name, value] {
            // Longer texts have another form of the length.
            assert!(text.len() < 127);
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// The frames of a complete RPC with this message.
pub fn rpc(stream: u32, path: &str, message: &[u8]) -> Vec<u8> {
    let headers = frame(HEADERS, END_HEADERS, stream, &headers(path));
    [headers, frame(DATA, END_STREAM, stream, message)].concat()
}

/// A connection after the preface and the SETTINGS of both sides.
pub struct RawConnection {
    pub stream: TcpStream,
}

/// A frame that the server sent.
#[derive(Debug)]
pub struct Received {
    pub kind: u8,
    pub payload: Vec<u8>,
}

impl RawConnection {
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        Self::with_window(address, 65_535).await
    }

    /// A connection whose streams begin with this flow-control window.
    pub async fn with_window(address: SocketAddr, window: u32) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        const INITIAL_WINDOW_SIZE: u16 = 4;
        let settings = [&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &window.to_be_bytes()].concat();
        let begin = [PREFACE, &frame(SETTINGS, 0, 0, &settings), &frame(SETTINGS, 1, 0, &[])].concat();
        stream.write_all(&begin).await?;
        Ok(Self { stream })
    }

    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    pub async fn read(&mut self) -> io::Result<Received> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).await?;
        Ok(Received { kind: head[3], payload })
    }

    /// Reads until the server closes the connection. Returns the text of its last GOAWAY. Panics after `limit`.
    pub async fn until_closed(&mut self, limit: Duration) -> Option<String> {
        let closed = async {
            let mut text = None;
            while let Ok(frame) = self.read().await {
                if frame.kind == GOAWAY {
                    text = Some(String::from_utf8_lossy(&frame.payload[8..]).into_owned());
                }
            }
            text
        };
        let closed = tokio::time::timeout(limit, closed).await;
        closed.expect("the server does not close the connection")
    }
}
