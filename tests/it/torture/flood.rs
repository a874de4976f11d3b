//! A flood of queries over TCP: more than the node can answer, from clients who read every answer.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, copy, sink};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::crowd::{Crowd, Victim};
use super::dns_strangers::framed;
use super::measure::{LEAST_RATE, Probed, livez, over_tcp, over_udp};
use super::node::Tortured;
use super::targets::Hostile;
use crate::harness::client::{query, with_id};

/// Connections of the flood: about as many as one prefix may have.
const CONNECTIONS: u32 = 90;

/// Queries in one write.
const PIPELINED: usize = 200;

const LENGTH: Duration = Duration::from_secs(10);

/// Queries as fast as the node takes them.
async fn pipeline(victim: Victim) -> io::Result<()> {
    let stream = TcpStream::connect(victim.dns).await?;
    let (mut answers, mut queries) = stream.into_split();
    let message = framed(&with_id(&query("www.example.test.", Some("203.0.113.0/24")), 1)).repeat(PIPELINED);
    let writing = async { while queries.write_all(&message).await.is_ok() {} };
    let reading = async { copy(&mut answers, &mut sink()).await };
    timeout(LENGTH, async { tokio::join!(writing, reading) }).await.ok();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_over_tcp_slows_no_probe_and_shuts_nobody_out() {
    let mut crowd = Crowd::gather();
    let mut node = Tortured::start(Hostile::default(), &[]).await;
    let victim = node.victim.clone();
    crowd.add("queries over TCP", CONNECTIONS, Duration::from_secs(1), &victim, pipeline);

    let (end, nearest) = (Instant::now() + LENGTH, node.nearest());
    let probed = node.healthy.each_ref().map(|(name, endpoints)| Probed::start(name, endpoints));
    let (udp, tcp, livez) = tokio::join!(
        over_udp(victim.dns, &nearest, end),
        over_tcp(victim.dns, &nearest, end),
        livez(&node.api, end),
    );
    let rates = probed.each_ref().map(Probed::rate);
    let queries = node.api.metric("portolan_dns_queries_total{transport=\"tcp\"}").await.expect("a metric");
    let figures = format!("{queries} queries, {rates:?}\nUDP: {udp}\nTCP: {tcp}\n/livez: {livez}");
    drop(crowd);
    assert_eq!(node.served.stop().await, Some(0));
    assert!(rates.iter().all(|(_, rate)| *rate >= LEAST_RATE), "{figures}");
    assert!([udp, tcp, livez].iter().all(|asked| asked.is_perfect()), "{figures}");
}
