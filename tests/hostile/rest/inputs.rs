//! The bad inputs, and how they are sent.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::gateway::{BAD, CAPPED, LONG, OTHER, RestGateway, SECRET, SMUGGLED, access_key, keys};

const GET: &str = "/v2/LeadManagement.svc/Leads.GetById";
const BY_IDS: &str = "/v2/LeadManagement.svc/Leads/Retrieve/ByIds";
/// Maximum time for a response.
const LIMIT: Duration = Duration::from_secs(5);
/// The pause between two bytes of a slow client.
const SLOW: Duration = Duration::from_millis(100);
/// How long a slow reader reads nothing: longer than `rest.body_timeout`.
const UNREAD: Duration = Duration::from_millis(1_600);
const LONG_BODY: usize = 100_000_000;
const PIECE: usize = 64 * 1024;

/// A bad input.
pub struct BadInput {
    pub name: &'static str,
    kind: Kind,
    /// How many are sent at one time, and at most in a second.
    at_once: usize,
    rate: u32,
    /// What the client may get.
    pub expected: &'static [&'static str],
}

#[derive(Clone)]
enum Kind {
    /// These bytes.
    Request(Vec<u8>),
    /// These bytes, which end their connection.
    LastRequest(Vec<u8>),
    /// 100 MB after this head, in chunks or not.
    LongBody {
        head: Vec<u8>,
        is_chunked: bool,
    },
    SlowHeaders(Vec<u8>),
    SlowBody(Vec<u8>),
    SlowReader(Vec<u8>),
    /// The client closes the connection after 50 to 500 ms.
    GoneWhileWaiting(Vec<u8>),
    /// The client closes the connection after 4 ms.
    GoneAfterSending(Vec<u8>),
}

/// A request for a lead with this query, and these further header lines.
pub fn get(query: &str, headers: &str) -> Vec<u8> {
    format!("GET {GET}?{query} HTTP/1.1\r\nHost: a\r\n{headers}\r\n").into_bytes()
}

/// How many are sent at one time, and in a second. The clients share the processor with the gateway, and must not need all of it.
const FAST: (usize, u32) = (20, 1_000);
/// Each is a call to LeadSquared: they stay below the quota.
const CALLING: (usize, u32) = (20, 100);
/// Each is read, up to `rest.max_body_bytes`.
const LONG_BODIES: (usize, u32) = (20, 100);
/// Each takes more than a second.
const SLOWLY: (usize, u32) = (150, 100);
/// Each has a long response.
const UNREAD_RESPONSES: (usize, u32) = (50, 25);

/// All inputs.
pub fn all(gateway: &RestGateway) -> Vec<BadInput> {
    let (id, valid) = (format!("id={}", gateway.lead), keys(BAD));
    let line = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
    let target = format!("{GET}?{id}&{valid}");
    let body = format!(
        r#"{{"SearchParameters":{{"LeadIds":["{}"]}},"Columns":{{"Include_CSV":"FirstName"}},"Paging":{{"PageIndex":1,"PageSize":1}}}}"#,
        gateway.lead
    );
    let (length, chunk) = (body.len(), format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()));
    let behind = format!("GET {GET}?id={SMUGGLED}&{valid} HTTP/1.1\r\nHost: a\r\n\r\n");
    // A request of which a proxy could see another end than the gateway, and a request behind it.
    let smuggling = |headers: &str, body: &str| {
        let request = format!("POST {BY_IDS}?{valid} HTTP/1.1\r\nHost: a\r\n{headers}\r\n{body}{behind}");
        Kind::LastRequest(request.into_bytes())
    };
    let post = |caller_keys: &str, headers: &str, body: &str| {
        format!("POST {BY_IDS}?{caller_keys} HTTP/1.1\r\nHost: a\r\n{headers}\r\n{body}").into_bytes()
    };
    let wrong = format!("accessKey={}&secretKey=wrong", access_key(BAD));
    let real = format!("accessKey={}&secretKey={SECRET}", access_key("nobody"));
    let in_body = format!("accessKey={}&secretKey={SECRET}", access_key(BAD));
    let in_body_headers = format!(
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n",
        in_body.len()
    );
    let chunked = "Transfer-Encoding: chunked\r\n";
    let bare_line_feeds =
        format!("POST {BY_IDS}?{valid} HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n{chunk}{behind}");
    let row = |name, (at_once, rate), kind, expected| BadInput {
        name,
        kind,
        at_once,
        rate,
        expected,
    };
    use Kind::{GoneAfterSending, GoneWhileWaiting, LongBody, Request, SlowBody, SlowHeaders, SlowReader};
    vec![
        row("no keys", FAST, Request(get(&id, "")), &["401"]),
        row(
            "wrong secret key",
            FAST,
            Request(get(&format!("{id}&{wrong}"), "")),
            &["401"],
        ),
        row(
            "unknown access key",
            FAST,
            Request(get(&format!("{id}&{real}"), "")),
            &["401"],
        ),
        row(
            "keys of two callers",
            FAST,
            Request(get(&format!("{id}&{valid}&{}", keys(OTHER)), "")),
            &["401"],
        ),
        row(
            "keys in the body",
            FAST,
            Request(post("", &in_body_headers, &in_body)),
            &["401"],
        ),
        row(
            "path outside of `/v2/NAME.svc/`",
            FAST,
            Request(line(&format!("/etc/passwd?{valid}"))),
            &["404"],
        ),
        row(
            "`..` in the path",
            FAST,
            Request(line(&format!("/v2/LeadManagement.svc/../Admin.svc/x?{valid}"))),
            &["400"],
        ),
        row(
            "encoded slash in the path",
            FAST,
            Request(line(&format!("/v2/LeadManagement.svc%2f..%2fLeads.GetById?{valid}"))),
            &["400"],
        ),
        row(
            "absolute-form target",
            CALLING,
            Request(line(&format!("http://elsewhere.example.com{target}"))),
            &["200"],
        ),
        row(
            "control character in a header",
            FAST,
            Request(get(&format!("{id}&{valid}"), "x-a: a\u{1}b\r\n")),
            &["400"],
        ),
        row(
            "control character in the query",
            FAST,
            Request(line(&format!("{target}&a=\u{1}"))),
            &["400"],
        ),
        row(
            "Content-Length before Transfer-Encoding",
            CALLING,
            smuggling(&format!("Content-Length: 3\r\n{chunked}"), &chunk),
            &["200", "400"],
        ),
        row(
            "Transfer-Encoding before Content-Length",
            CALLING,
            smuggling(&format!("{chunked}Content-Length: 3\r\n"), &chunk),
            &["200", "400"],
        ),
        row(
            "two lengths",
            FAST,
            smuggling(&format!("Content-Length: {length}\r\nContent-Length: 3\r\n"), &body),
            &["400"],
        ),
        row(
            "bad chunk",
            FAST,
            smuggling(chunked, &format!("zz\r\n{body}\r\n0\r\n\r\n")),
            &["400"],
        ),
        row(
            "bare line feed in a chunk",
            FAST,
            smuggling(chunked, &format!("{length:x}\n{body}\r\n0\r\n\r\n")),
            &["400"],
        ),
        row(
            "bare line feeds after headers",
            CALLING,
            Kind::LastRequest(bare_line_feeds.into_bytes()),
            &["200", "400"],
        ),
        row(
            "space before the colon",
            FAST,
            smuggling(&format!("Content-Length : {length}\r\n"), &body),
            &["400"],
        ),
        row(
            "two Host headers",
            FAST,
            smuggling(&format!("Host: b\r\nContent-Length: {length}\r\n"), &body),
            &["400"],
        ),
        row(
            "body of 100 MB",
            FAST,
            LongBody {
                head: post(&valid, &format!("Content-Length: {LONG_BODY}\r\n"), ""),
                is_chunked: false,
            },
            &["413", "reset"],
        ),
        row(
            "body of 100 MB in chunks",
            LONG_BODIES,
            LongBody {
                head: post(&valid, chunked, ""),
                is_chunked: true,
            },
            &["413", "reset"],
        ),
        row(
            "slow headers",
            SLOWLY,
            SlowHeaders(get(&format!("{id}&{valid}"), "x-a: a\r\n")),
            &["closed"],
        ),
        row(
            "slow body",
            SLOWLY,
            SlowBody(post(&valid, "Content-Length: 1000\r\n", "")),
            &["408"],
        ),
        row(
            "slow reader",
            UNREAD_RESPONSES,
            SlowReader(line(&format!(
                "/v2/LeadManagement.svc/Leads.GetByEmailaddress?EmailAddress={LONG}&{valid}"
            ))),
            &["cut off"],
        ),
        row(
            "client gone while its request waits",
            SLOWLY,
            GoneWhileWaiting(get(&format!("id={}&{}", gateway.capped_lead, keys(CAPPED)), "")),
            &["gone", "200"],
        ),
        row(
            "client gone after its request was sent",
            CALLING,
            GoneAfterSending(get(&format!("{id}&{valid}"), "")),
            &["gone"],
        ),
    ]
}

impl BadInput {
    /// Sends the input at least `count` times and for `duration`. Returns how often the clients got each outcome.
    pub async fn run(&self, gateway: &RestGateway, count: u64, duration: Duration) -> BTreeMap<String, u64> {
        let sent = Arc::new(AtomicU64::new(0));
        let end = Instant::now() + duration;
        let mut pace = interval(Duration::from_secs(1) / self.rate);
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let pace = Arc::new(Mutex::new(pace));
        let mut clients = JoinSet::new();
        for _ in 0..self.at_once {
            let (kind, rest, sent, pace) = (self.kind.clone(), gateway.rest, sent.clone(), pace.clone());
            clients.spawn(async move {
                let mut outcomes: BTreeMap<String, u64> = BTreeMap::new();
                loop {
                    pace.lock().await.tick().await;
                    let number = sent.fetch_add(1, Ordering::Relaxed);
                    if number >= count && Instant::now() >= end {
                        return outcomes;
                    }
                    let outcome = kind.send(rest, number).await;
                    *outcomes.entry(outcome).or_default() += 1;
                }
            });
        }
        let mut all = BTreeMap::new();
        for outcomes in clients.join_all().await {
            for (outcome, count) in outcomes {
                *all.entry(outcome).or_default() += count;
            }
        }
        all
    }
}

impl Kind {
    async fn send(&self, rest: SocketAddr, number: u64) -> String {
        let result = match self {
            Self::Request(bytes) => send(rest, bytes).await.map(|stream| (stream, false)),
            Self::LastRequest(bytes) => send(rest, bytes).await.map(|stream| (stream, true)),
            Self::LongBody { head, is_chunked } => return outcome_of(long_body(rest, head, *is_chunked).await),
            Self::SlowHeaders(bytes) => return outcome_of(slow_bytes(rest, &[], bytes).await),
            Self::SlowBody(head) => return outcome_of(slow_bytes(rest, head, &[b'x'; 100]).await),
            Self::SlowReader(bytes) => return outcome_of(slow_reader(rest, bytes).await),
            Self::GoneWhileWaiting(bytes) => {
                let after = Duration::from_millis(50 + number * 37 % 450);
                return outcome_of(gone_after(rest, bytes, after).await);
            }
            Self::GoneAfterSending(bytes) => {
                return outcome_of(gone_after(rest, bytes, Duration::from_millis(4)).await);
            }
        };
        match result {
            Ok((mut stream, is_last)) => read(&mut stream, is_last).await,
            Err(error) => error_text(&error),
        }
    }
}

fn outcome_of(result: io::Result<String>) -> String {
    result.unwrap_or_else(|error| error_text(&error))
}

fn error_text(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "reset".to_owned(),
        _ => error.to_string(),
    }
}

/// A new connection on which these bytes were sent.
pub async fn send(rest: SocketAddr, bytes: &[u8]) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(rest).await?;
    stream.set_nodelay(true)?;
    stream.write_all(bytes).await?;
    Ok(stream)
}

/// Sends bytes on a connection. Returns the status of the response.
pub async fn exchange(stream: &mut TcpStream, bytes: &[u8]) -> String {
    match stream.write_all(bytes).await {
        Ok(()) => finish(stream).await,
        Err(error) => error_text(&error),
    }
}

/// The status of the next response.
pub async fn finish(stream: &mut TcpStream) -> String {
    read(stream, false).await
}

/// Reads one response, and until the connection is closed if the response says so or if the server must close it. Returns its status, or
/// what happened instead.
async fn read(stream: &mut TcpStream, must_close: bool) -> String {
    let mut bytes = Vec::new();
    let reading = async {
        loop {
            if let Some(response) = Complete::of(&bytes)
                && !response.closes
                && !must_close
            {
                return Ok(());
            }
            if stream.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
        }
    };
    let ended: Result<io::Result<()>, _> = timeout(LIMIT, reading).await;
    match (Complete::of(&bytes), ended) {
        (Some(response), _) if bytes.len() > response.length => "more than one response".to_owned(),
        (Some(response), Ok(_)) => response.status,
        (Some(response), Err(_)) => format!("{}, and the connection stays open", response.status),
        (None, Ok(Ok(()))) if bytes.is_empty() => "closed".to_owned(),
        (None, Ok(Ok(()))) => "cut off".to_owned(),
        (None, Ok(Err(error))) => error_text(&error),
        (None, Err(_)) => "no response".to_owned(),
    }
}

/// A complete response.
struct Complete {
    status: String,
    length: usize,
    closes: bool,
}

impl Complete {
    fn of(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let header = |name: &str| {
            head.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        let body: usize = header("content-length").map_or(0, |length| length.parse().unwrap());
        let is_complete = bytes.len() >= end + body;
        is_complete.then(|| Self {
            status: head.split(' ').nth(1).unwrap_or_default().to_owned(),
            length: end + body,
            closes: header("connection") == Some("close"),
        })
    }
}

/// Sends 100 MB as long as the server takes them.
async fn long_body(rest: SocketAddr, head: &[u8], is_chunked: bool) -> io::Result<String> {
    static ZEROS: [u8; PIECE] = [b'0'; PIECE];
    let stream = send(rest, head).await?;
    let (mut reading, mut writing) = stream.into_split();
    let mut bytes = Vec::new();
    let write = async {
        let size = format!("{PIECE:x}\r\n");
        for _ in 0..LONG_BODY.div_ceil(PIECE) {
            if is_chunked {
                writing.write_all(size.as_bytes()).await?;
            }
            writing.write_all(&ZEROS).await?;
            if is_chunked {
                writing.write_all(b"\r\n").await?;
            }
        }
        Ok::<_, io::Error>(())
    };
    let read = async { while let Ok(1..) = reading.read_buf(&mut bytes).await {} };
    // The first bytes are read after the server has closed its side, if it was faster.
    let both = async { tokio::join!(write, read) };
    match timeout(4 * LIMIT, both).await {
        Err(_) => Ok("no end".to_owned()),
        Ok((Ok(()), ())) => Ok("all bytes were taken".to_owned()),
        Ok((Err(error), ())) => Ok(Complete::of(&bytes).map_or_else(|| error_text(&error), |response| response.status)),
    }
}

/// Sends bytes, and then others one by one.
async fn slow_bytes(rest: SocketAddr, first: &[u8], slow: &[u8]) -> io::Result<String> {
    let stream = send(rest, first).await?;
    let (mut reading, mut writing) = stream.into_split();
    let write = async {
        for byte in slow {
            sleep(SLOW).await;
            if writing.write_all(&[*byte]).await.is_err() {
                return;
            }
        }
    };
    let mut bytes = Vec::new();
    let read = async { while let Ok(1..) = reading.read_buf(&mut bytes).await {} };
    let read = timeout(LIMIT, read);
    tokio::select! {
        _ = read => {}
        () = async { write.await; std::future::pending().await } => {}
    }
    Ok(match Complete::of(&bytes) {
        Some(response) => response.status,
        None if bytes.is_empty() => "closed".to_owned(),
        None => "cut off".to_owned(),
    })
}

/// Sends a request, and reads nothing for a while.
async fn slow_reader(rest: SocketAddr, bytes: &[u8]) -> io::Result<String> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4_096)?;
    let mut stream = socket.connect(rest).await?;
    stream.write_all(bytes).await?;
    sleep(UNREAD).await;
    Ok(match read(&mut stream, true).await.as_str() {
        // The server closed the connection with bytes in its buffer.
        "reset" => "cut off".to_owned(),
        other => other.to_owned(),
    })
}

/// Sends a request, and closes the connection after this time.
async fn gone_after(rest: SocketAddr, bytes: &[u8], after: Duration) -> io::Result<String> {
    let mut stream = send(rest, bytes).await?;
    Ok(match timeout(after, finish(&mut stream)).await {
        Ok(outcome) => outcome,
        Err(_) => "gone".to_owned(),
    })
}
