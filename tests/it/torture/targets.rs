//! Probe targets that answer as badly as they can.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{interval, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::crowd::Crowd;
use crate::harness::region::{HOST, acceptor};

/// How many targets there are, two of each kind.
pub(super) const TARGETS: usize = 2 * (Kind::ALL.len() + Encrypted::ALL.len());

/// How long a target holds a connection: longer than any probe lasts.
const HOLD: Duration = Duration::from_secs(3);

/// Between two writes of a target that floods or drips.
const PACE: Duration = Duration::from_millis(20);

/// The usual head of a response.
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";

/// Declares an enum, and the list of all its variants.
macro_rules! listed {
    ($(#[$of_enum:meta])* enum $name:ident { $($(#[$of_variant:meta])* $variant:ident,)* }) => {
        $(#[$of_enum])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum $name { $($(#[$of_variant])* $variant,)* }

        impl $name {
            const ALL: &[Self] = &[$(Self::$variant,)*];
        }
    };
}

listed! {
    /// What a target does with a connection.
    enum Kind {
        /// Nothing, without reading either.
        Silent,
        /// Closes it after the request.
        Close,
        /// Resets it at once.
        Reset,
        /// Resets it within the response.
        ResetLater,
        /// Answers before the request, then closes it.
        Early,
        /// Sends bytes that mean nothing.
        Garbage,
        /// A head, byte by byte.
        DripHead,
        /// A body, byte by byte.
        DripBody,
        /// One endless header.
        HugeHeader,
        /// Endless headers.
        ManyHeaders,
        /// An endless body, its length unknown.
        EndlessBody,
        /// Endless chunks.
        EndlessChunks,
        /// A chunk with an endless extension.
        EndlessExtension,
        /// A chunk longer than memory.
        HugeChunk,
        /// Trailers without end.
        EndlessTrailers,
        /// Endless interim responses.
        Interim,
        /// A shorter body than announced.
        Short,
        /// Two lengths.
        TwoLengths,
        /// A length below zero.
        NegativeLength,
        /// A redirect to itself.
        RedirectLoop,
        /// A redirect to an address of the node's own network.
        RedirectInside,
        /// Another protocol.
        Upgrade,
        /// A status with a thousand digits.
        LongStatus,
        /// JSON that is nested a hundred thousand times.
        DeepJson,
        /// A list of as many values as a body may hold.
        WideJson,
        /// JSON with an endless number.
        LongNumber,
        /// A text with control and bidirectional characters where a word is expected.
        Escapes,
        /// Bytes that are not UTF-8.
        NotUtf8,
        /// A compressed body.
        Compressed,
    }
}

listed! {
    /// What a target does instead of TLS, or by TLS.
    enum Encrypted {
        /// Reads the handshake and never answers.
        Stall,
        /// Drips a handshake record that never ends.
        Drip,
        /// Endless records of the handshake.
        Records,
        /// Completes the handshake, then nothing.
        SilentAfter,
        /// A certificate of another host.
        Stranger,
        /// HTTP/2 with endless frames of a kind that needs an answer, or none.
        Frames,
    }
}

/// Targets that run.
#[derive(Default)]
pub(super) struct Hostile {
    /// The config of their region.
    pub(super) config: String,
    /// The certificates that their probes trust, for `hostile.pem`.
    pub(super) authorities: String,
}

/// Starts the targets: the endpoints of one region, which a service prefers.
pub(super) async fn start(crowd: &Crowd) -> Hostile {
    let (good, good_pem) = acceptor(HOST, &[]);
    let (http2, http2_pem) = acceptor(HOST, &["h2"]);
    let (stranger, _) = acceptor("elsewhere.test", &[]);
    let (mut probes, mut endpoints) = (String::new(), String::new());
    for number in 0..TARGETS {
        let at = number / 2;
        let listener = TcpListener::bind("127.0.66.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let kind = if at < Kind::ALL.len() { "http" } else { "https" };
        writeln!(
            probes,
            "[probe.h{number}]\nkind = \"{kind}\"\nport = {port}\nhost = \"{HOST}\"\n{}interval = \"2s\"\n\
             timeout = \"1500ms\"\nexpect = {{ status = [200], json = [{{ path = \"$..status\", equals = \"healthy\" }}] }}\n",
            if kind == "https" { "ca = \"hostile.pem\"\n" } else { "" }
        )
        .expect("memory");
        writeln!(
            endpoints,
            "[[region.hostile.endpoint]]\nname = \"h{number}\"\naddress = [\"127.0.66.1\"]\nprobe = [\"h{number}\"]\n"
        )
        .expect("memory");
        match Kind::ALL.get(at) {
            Some(&kind) => crowd.spawn(accept(listener, move |stream| speak(stream, kind))),
            None => {
                let how = Encrypted::ALL[at - Kind::ALL.len()];
                let acceptor = match how {
                    Encrypted::Stranger => stranger.clone(),
                    Encrypted::Frames => http2.clone(),
                    _ => good.clone(),
                };
                crowd.spawn(accept(listener, move |stream| encrypt(stream, how, acceptor.clone())));
            }
        }
    }
    let service = "[[service]]\nname = \"hostile.example.test.\"\nregions = [\"hostile\", \"us\"]\n\n";
    Hostile {
        config: format!("{probes}[region.hostile]\n{endpoints}{service}"),
        authorities: good_pem + &http2_pem,
    }
}

async fn accept<F>(listener: TcpListener, serve: impl Fn(TcpStream) -> F)
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        // A target that writes to a probe that has left gets an error, as expected.
        tokio::spawn(timeout(HOLD, serve(stream)));
    }
}

/// Reads what a probe has sent so far.
async fn request(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    stream.read(&mut [0; 4096]).await.map(drop)
}

/// Writes the same bytes again and again.
async fn endlessly(stream: &mut (impl AsyncWrite + Unpin), head: &str, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(head.as_bytes()).await?;
    let mut turns = interval(PACE);
    loop {
        turns.tick().await;
        stream.write_all(bytes).await?;
    }
}

/// Answers with a body of a known length.
async fn whole(stream: &mut TcpStream, body: &[u8]) -> io::Result<()> {
    stream.write_all(format!("{OK}Content-Length: {}\r\n\r\n", body.len()).as_bytes()).await?;
    stream.write_all(body).await
}

async fn speak(mut stream: TcpStream, kind: Kind) -> io::Result<()> {
    match kind {
        Kind::Silent => {
            sleep(HOLD).await;
            return Ok(());
        }
        Kind::Reset => return stream.set_zero_linger(),
        Kind::Early => return whole(&mut stream, br#"{"status": "healthy"}"#).await,
        _ => request(&mut stream).await?,
    }
    let chunked = format!("{OK}Transfer-Encoding: chunked\r\n\r\n");
    match kind {
        Kind::Silent | Kind::Reset | Kind::Early | Kind::Close => Ok(()),
        Kind::ResetLater => {
            stream.write_all(format!("{OK}Content-Length: 100\r\n\r\n{{").as_bytes()).await?;
            stream.set_zero_linger()
        }
        Kind::Garbage => stream.write_all(&mixed(64 << 10)).await,
        Kind::DripHead => drip(&mut stream, OK).await,
        Kind::DripBody => {
            stream.write_all(format!("{OK}Content-Length: 21\r\n\r\n").as_bytes()).await?;
            drip(&mut stream, "{\"status\": \"healthy\"}").await
        }
        Kind::HugeHeader => endlessly(&mut stream, &format!("{OK}X: "), &[b'x'; 16 << 10]).await,
        Kind::ManyHeaders => endlessly(&mut stream, OK, &b"X: y\r\n".repeat(1000)).await,
        Kind::EndlessBody => endlessly(&mut stream, &format!("{OK}\r\n"), &[b'['; 64 << 10]).await,
        Kind::EndlessChunks => endlessly(&mut stream, &chunked, &b"1\r\n[\r\n".repeat(1000)).await,
        Kind::EndlessExtension => endlessly(&mut stream, &(chunked + "1;"), &[b'x'; 16 << 10]).await,
        Kind::HugeChunk => {
            endlessly(&mut stream, &(chunked + "ffffffffffffffff\r\n"), &[b'['; 1 << 10]).await
        }
        Kind::EndlessTrailers => {
            endlessly(&mut stream, &(chunked + "0\r\n"), &b"X: y\r\n".repeat(1000)).await
        }
        Kind::Interim => endlessly(&mut stream, "", &b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100)).await,
        Kind::Short => stream.write_all(format!("{OK}Content-Length: 100\r\n\r\n{{}}").as_bytes()).await,
        Kind::TwoLengths => {
            let lengths = "Content-Length: 2\r\nContent-Length: 200\r\n\r\n{}";
            stream.write_all(format!("{OK}{lengths}").as_bytes()).await
        }
        Kind::NegativeLength => {
            stream.write_all(format!("{OK}Content-Length: -1\r\n\r\n{{}}").as_bytes()).await
        }
        Kind::RedirectLoop => redirect(&mut stream, "/").await,
        Kind::RedirectInside => redirect(&mut stream, "http://127.0.0.1:8053/v1/status").await,
        Kind::Upgrade => {
            let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
            endlessly(&mut stream, head, &[0; 1 << 10]).await
        }
        Kind::LongStatus => {
            stream.write_all(format!("HTTP/1.1 {} OK\r\n\r\n", "2".repeat(1000)).as_bytes()).await
        }
        Kind::DeepJson => whole(&mut stream, &[b'['; 100_000]).await,
        Kind::WideJson => whole(&mut stream, wide().as_bytes()).await,
        Kind::LongNumber => {
            whole(&mut stream, format!("{{\"status\": {}}}", "9".repeat(200_000)).as_bytes()).await
        }
        Kind::Escapes => {
            whole(&mut stream, "{\"status\": \"\\u001b[2J\\u009b\\u202e\\u0000\"}".as_bytes()).await
        }
        Kind::NotUtf8 => whole(&mut stream, b"{\"status\": \"\xff\xfe\xc0\x80\"}").await,
        Kind::Compressed => {
            let head = format!("{OK}Content-Encoding: gzip\r\n\r\n\x1f");
            endlessly(&mut stream, &head, &mixed(1 << 10)).await
        }
    }
}

async fn redirect(stream: &mut TcpStream, to: &str) -> io::Result<()> {
    let head = format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(head.as_bytes()).await
}

async fn drip(stream: &mut (impl AsyncWrite + Unpin), text: &str) -> io::Result<()> {
    for byte in text.bytes() {
        stream.write_all(&[byte]).await?;
        stream.flush().await?;
        sleep(PACE * 4).await;
    }
    Ok(())
}

/// Bytes of every value.
fn mixed(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 % 256) as u8).collect()
}

/// As large as the body of a probe may be.
fn wide() -> String {
    let item = "{\"status\": \"x\"},";
    format!("[{}{{}}]", item.repeat((250 << 10) / item.len()))
}

async fn encrypt(mut stream: TcpStream, how: Encrypted, acceptor: TlsAcceptor) -> io::Result<()> {
    // A handshake record of 16 KB, and the start of a message of 16 MB in it.
    let record = b"\x16\x03\x03\x40\x00\x02\xff\xff\xff";
    match how {
        Encrypted::Stall => {
            request(&mut stream).await?;
            sleep(HOLD).await;
            Ok(())
        }
        Encrypted::Drip => {
            stream.write_all(record).await?;
            drip(&mut stream, &"x".repeat(1000)).await
        }
        Encrypted::Records => {
            let whole = [&record[..], &[b'x'; (16 << 10) - 4]].concat();
            endlessly(&mut stream, "", &whole).await
        }
        Encrypted::SilentAfter | Encrypted::Stranger => {
            let mut stream = acceptor.accept(stream).await?;
            request(&mut stream).await?;
            sleep(HOLD).await;
            Ok(())
        }
        Encrypted::Frames => flood(acceptor.accept(stream).await?).await,
    }
}

/// Endless frames of HTTP/2: settings and pings want an answer; windows, unknown types and interim responses want none.
async fn flood(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    // Length, type, flags, stream, payload.
    let settings = b"\0\0\0\x04\0\0\0\0\0";
    let ping = b"\0\0\x08\x06\0\0\0\0\0portolan";
    let window = b"\0\0\x04\x08\0\0\0\0\0\0\0\0\x01";
    let unknown = b"\0\0\x04\xee\0\0\0\0\0abcd";
    let interim = b"\0\0\x05\x01\x04\0\0\0\x01\x08\x03103";
    request(&mut stream).await?;
    let frames = [&settings[..], ping, window, unknown, interim].concat();
    stream.write_all(settings).await?;
    endlessly(&mut stream, "", &frames.repeat(20)).await
}
