//! What strangers do with a TCP connection, whatever they speak on it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// How long strangers hold a connection that they do not use.
pub(super) const HOLD: Duration = Duration::from_secs(5);

/// How many bytes of a message are sent one by one, during all of [`HOLD`].
const DRIPPED: u32 = 50;

/// Sends these bytes, then nothing. The node may close the connection for another.
pub(super) async fn idle_after(address: SocketAddr, bytes: &[u8]) -> io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(bytes).await.ok();
    timeout(HOLD, stream.read(&mut [0])).await.ok();
    Ok(())
}

/// Sends a start at once and the first of the other bytes one by one.
pub(super) async fn byte_by_byte(address: SocketAddr, start: &[u8], bytes: &[u8]) -> io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(start).await.ok();
    for byte in bytes.iter().take(DRIPPED as usize) {
        if stream.write_all(&[*byte]).await.is_err() {
            break;
        }
        sleep(HOLD / DRIPPED).await;
    }
    Ok(())
}

/// Sends these bytes and reads whatever comes, until the node closes the connection.
pub(super) async fn whole(address: SocketAddr, bytes: &[u8]) -> io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    // The node may answer and close before it has read everything.
    stream.write_all(bytes).await.ok();
    stream.read_to_end(&mut Vec::new()).await.ok();
    Ok(())
}

/// The same, but says that nothing will follow.
pub(super) async fn half_closed(address: SocketAddr, bytes: &[u8]) -> io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(bytes).await.ok();
    stream.shutdown().await.ok();
    stream.read_to_end(&mut Vec::new()).await.ok();
    Ok(())
}
