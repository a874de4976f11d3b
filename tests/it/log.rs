//! A log that cannot be written delays and ends nothing.

use std::fs::OpenOptions;
use std::net::UdpSocket;

use hickory_proto::op::ResponseCode;
use reqwest::Method;
use serde_json::json;

use crate::harness::binary::{Reader, Served, program};
use crate::harness::client::{Client, outcome, query};
use crate::harness::folder::Folder;
use crate::harness::region::{Break, GERMAN, NEAREST, Region, Three};
use crate::harness::until;

/// Overrides whose log lines exceed what a pipe holds, 64 KB, by far.
const OVERRIDES: usize = 200;

/// Bytes of the reason of each.
const REASON: usize = 900;

async fn sent_to(client: &mut Client, region: &Region) {
    until(&format!("clients are sent to {}", region.name), async || {
        (client.address("www.example.test.", GERMAN).await == region.ip()).then_some(())
    })
    .await;
}

/// Checks that the node logs transitions and that clients follow them.
async fn fails_over_twice(client: &mut Client, three: &Three) {
    sent_to(client, &three.eu).await;
    for _ in 0..2 {
        three.eu.fail(Break::Refuse);
        sent_to(client, &three.us).await;
        three.eu.heal();
        sent_to(client, &three.eu).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_line_says_what_starts() {
    let served = Served::start(Folder::new("")).await;
    let first = served.log()[0].clone();
    let config = served.folder.config().display().to_string();
    let expected = ["portolan starts", "INFO", "test", env!("CARGO_PKG_VERSION"), &config];
    assert_eq!(["message", "level", "name", "version", "config"].map(|key| &first[key]), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failover_goes_on_after_the_reader_of_the_log_is_gone() {
    let three = Three::start();
    let mut served = Served::start(Folder::new(&[three.config(&[]), NEAREST.into()].concat())).await;
    let mut client = served.client().await;
    served.set_reader(Reader::Gone);
    fails_over_twice(&mut client, &three).await;
    let dropped = served.api().metric("portolan_log_dropped_total").await;
    assert!(dropped > Some(0.0), "{dropped:?}");
    assert_eq!(served.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failover_goes_on_while_the_reader_of_the_log_is_stuck() {
    let three = Three::start();
    let mut served = Served::start(Folder::new(&[three.config(&[]), NEAREST.into()].concat())).await;
    let mut client = served.client().await;
    sent_to(&mut client, &three.eu).await;
    served.set_reader(Reader::Stuck);
    let api = served.api();
    let body = json!({ "target": "region/ap", "action": "drain", "reason": "r".repeat(REASON) });
    for _ in 0..OVERRIDES {
        let (status, reply) = api.call(Method::POST, "/v1/overrides", Some(body.clone())).await;
        assert_eq!(status, 200, "{reply}");
    }
    fails_over_twice(&mut client, &three).await;
    assert_eq!(served.stop().await, Some(0));
}

/// An address that is free for both transports. Nothing else takes it unless the kernel gives the same random port away.
fn free_address() -> String {
    let socket = UdpSocket::bind("127.0.78.1:0").expect("a free port");
    socket.local_addr().expect("an address").to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_on_a_full_disk_neither_stops_a_start_nor_failover() {
    let three = Three::start();
    let folder = Folder::new(&[three.config(&[]), NEAREST.into()].concat());
    let address = free_address();
    folder.reconfigure("[\"127.0.0.1:0\"]", &format!("[{address:?}]"));
    let mut program = program();
    program.stderr(OpenOptions::new().write(true).open("/dev/full").expect("Linux has it"));
    let mut served = Served::spawn_by(program, folder);
    let api = served.api();
    until("it is ready", async || {
        let asked = api.request(Method::GET, "/readyz").send().await;
        asked.is_ok_and(|response| response.status() == 200).then_some(())
    })
    .await;
    let mut client = Client::of(address.parse().expect("an address")).await;
    fails_over_twice(&mut client, &three).await;
    let answer = client.exchange(&query("static.example.test.", None)).await;
    assert_eq!(outcome(&answer).0, ResponseCode::NoError);
    let dropped = api.metric("portolan_log_dropped_total").await;
    assert!(dropped > Some(0.0), "{dropped:?}");
    assert_eq!(served.stop().await, Some(0));
}

#[test]
fn a_start_that_fails_says_so_by_its_exit_code_if_stderr_is_full() {
    let folder = Folder::new("[region.one]\nlocation = nonsense\n");
    let mut command = program();
    command.stderr(OpenOptions::new().write(true).open("/dev/full").expect("Linux has it"));
    command.arg("serve").arg("-c").arg(folder.config());
    assert_eq!(crate::harness::binary::run(command).code, Some(1));
    let taken = UdpSocket::bind("127.0.78.2:0").expect("a free port");
    let folder = Folder::new("");
    let address = taken.local_addr().expect("an address").to_string();
    folder.reconfigure("[\"127.0.0.1:0\"]", &format!("[{address:?}]"));
    let mut command = program();
    command.stderr(OpenOptions::new().write(true).open("/dev/full").expect("Linux has it"));
    command.arg("serve").arg("-c").arg(folder.config());
    assert_eq!(crate::harness::binary::run(command).code, Some(1));
}
