//! The real program while strangers open connections.

use std::process::Command;

use tokio::net::TcpStream;

use crate::harness::binary::{PROGRAM, Served, clean};
use crate::harness::folder::Folder;
use crate::harness::region::{Break, GERMAN, NEAREST, Three};
use crate::harness::until;

const WWW: &str = "www.example.test.";

/// Idle connections: more than the process may have open files.
const STRANGERS: usize = 100;

#[tokio::test]
async fn idle_connections_leave_descriptors_to_probes() {
    let regions = Three::start();
    // More than the limit of open files allows, whatever the prefix.
    let tcp = "[dns.tcp]\nconnections = 1000\nper_prefix = 1000\nidle = \"10m\"\n\n";
    let folder = Folder::new(&(tcp.to_owned() + &regions.config(&[]) + NEAREST));
    let mut limited = clean(Command::new("sh"));
    limited.args(["-c", "ulimit -n 64; exec \"$0\" \"$@\"", PROGRAM]);
    let served = Served::spawn_by(limited, folder);
    served.ready().await;
    let mut client = served.client().await;
    assert_eq!(client.address(WWW, GERMAN).await, regions.eu.ip());

    let mut strangers = Vec::new();
    for _ in 0..STRANGERS {
        strangers.push(TcpStream::connect(served.dns().await).await.expect("the kernel accepts it"));
    }
    regions.eu.fail(Break::Unavailable);
    until("probes see the region fail", async || {
        (client.address(WWW, GERMAN).await == regions.us.ip()).then_some(())
    })
    .await;
    drop(strangers);
}
