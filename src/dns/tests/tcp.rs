//! One TCP connection over an in-memory stream, in paused time.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{PANIC, UNANSWERED, echo, framed, limits, shared};
use crate::answer::{Arrival, Transport};
use crate::dns::Shared;
use crate::dns::connections::{Connections, Quota};
use crate::dns::responder::Responder;
use crate::dns::tcp::{COALESCE, WRITES, serve};

/// A served connection: the client's end, the server's result, the signal to stop.
struct Served {
    client: DuplexStream,
    result: JoinHandle<io::Result<()>>,
    closing: CancellationToken,
    shared: Shared,
}

fn served(pipe: usize) -> Served {
    let (client, stream) = duplex(pipe);
    let shared = shared();
    let responder = Responder::new(&shared, echo);
    let closing = CancellationToken::new();
    let token = closing.clone();
    let result = tokio::spawn(async move {
        let connections = Arc::new(Connections::new(Quota { total: 1, per_prefix: 1 }));
        let (mut admission, _) = connections.admit([192, 0, 2, 1].into());
        let arrival = Arrival {
            peer: ([192, 0, 2, 1], 1024).into(),
            local: ([192, 0, 2, 53], 53).into(),
            transport: Transport::Tcp,
            encrypted: false,
            keepalive: None,
        };
        serve(stream, Vec::new(), arrival, responder, limits(), &mut admission, &token).await
    });
    Served { client, result, closing, shared }
}

impl Served {
    /// Everything that the server still sends until it closes.
    async fn rest(mut self) -> (Vec<u8>, io::Result<()>) {
        let mut bytes = Vec::new();
        self.client.read_to_end(&mut bytes).await.unwrap();
        (bytes, self.result.await.unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn queries_in_flight_are_answered_in_order_however_they_are_split() {
    let queries = framed([&b"first"[..], b"", b"third", &[7; 300]]);
    for cut in 0..=queries.len() {
        let mut served = served(4096);
        let (head, tail) = queries.split_at(cut);
        served.client.write_all(head).await.unwrap();
        sleep(Duration::from_millis(1)).await;
        served.client.write_all(tail).await.unwrap();
        served.client.shutdown().await.unwrap();
        let counters = Arc::clone(&served.shared.counters);
        let (answers, result) = served.rest().await;
        result.unwrap();
        assert_eq!(answers, queries, "cut at {cut}");
        assert_eq!((counters.totals().tcp_queries, counters.totals().responses[3]), (4, 4));
    }
}

#[tokio::test(start_paused = true)]
async fn more_queries_than_one_write_holds_are_answered() {
    let query = [1; 1000];
    let queries = framed(std::iter::repeat_n(&query[..], 100));
    let served = served(1 << 10);
    let (mut reader, mut writer) = tokio::io::split(served.client);
    let sent = queries.clone();
    let sending = tokio::spawn(async move {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
        writer
    });
    let mut answers = Vec::new();
    reader.read_to_end(&mut answers).await.unwrap();
    sending.await.unwrap();
    assert!(answers == queries);
    served.result.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_queries_are_always_there_leaves_turns_to_others() {
    const QUERIES: usize = 500;
    let query = framed([&[1; 1000][..]]);
    let mut served = served(query.len() * QUERIES);
    served.client.write_all(&query.repeat(QUERIES)).await.unwrap();
    let answered = || served.shared.counters.totals().tcp_queries;
    while answered() == 0 {
        yield_now().await;
    }
    let most_per_write = COALESCE / query.len() + 1;
    assert!(answered() <= u64::from(WRITES) * most_per_write as u64, "{} in one turn", answered());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_in_the_middle_of_a_query_is_no_error() {
    let mut served = served(4096);
    served.client.write_all(&framed([&b"whole"[..]])).await.unwrap();
    served.client.write_all(&[0, 100, 1, 2, 3]).await.unwrap();
    served.client.shutdown().await.unwrap();
    let (answers, result) = served.rest().await;
    assert_eq!(answers, framed([&b"whole"[..]]));
    result.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_and_trickling_does_not_help() {
    let start = Instant::now();
    let idle = served(4096);
    let mut trickling = served(4096);
    let client = tokio::spawn(async move {
        // Two bytes of length, then a byte each four seconds: never a whole query.
        for byte in [0, 200, 1, 2, 3, 4] {
            if trickling.client.write_all(&[byte]).await.is_err() {
                break;
            }
            sleep(Duration::from_secs(4)).await;
        }
        trickling.result.await.unwrap().unwrap();
        // Gone at 10 s, noticed with the next byte.
        assert_eq!(start.elapsed().as_secs(), 12);
        trickling.client
    });
    let (answers, result) = idle.rest().await;
    result.unwrap();
    assert_eq!((answers.len(), start.elapsed().as_secs()), (0, 10));
    let mut bytes = Vec::new();
    client.await.unwrap().read_to_end(&mut bytes).await.unwrap();
    assert!(bytes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn each_query_restarts_the_idle_time() {
    let start = Instant::now();
    let mut served = served(4096);
    for _ in 0..3 {
        sleep(Duration::from_secs(8)).await;
        served.client.write_all(&framed([&b"query"[..]])).await.unwrap();
    }
    let (answers, result) = served.rest().await;
    result.unwrap();
    assert_eq!((answers, start.elapsed().as_secs()), (framed([&b"query"[..]; 3]), 34));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_disconnected() {
    let start = Instant::now();
    let mut served = served(64);
    served.client.write_all(&framed([&[9; 60][..]])).await.unwrap();
    served.client.write_all(&framed([&[9; 60][..]])).await.unwrap();
    let error = served.result.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), start.elapsed().as_secs()), (io::ErrorKind::TimedOut, 5));
}

#[tokio::test(start_paused = true)]
async fn a_message_without_an_answer_ends_the_connection_after_earlier_answers() {
    for message in [UNANSWERED, PANIC] {
        let mut served = served(4096);
        served.client.write_all(&framed([&b"before"[..], message, b"after"])).await.unwrap();
        let counters = Arc::clone(&served.shared.counters);
        let (answers, result) = served.rest().await;
        result.unwrap();
        assert_eq!(answers, framed([&b"before"[..]]));
        assert_eq!(counters.totals().dropped, 1);
        assert_eq!(counters.totals().panics, u64::from(message == PANIC));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_answers_what_has_arrived_and_closes_although_the_client_goes_on() {
    let start = Instant::now();
    let mut served = served(1 << 20);
    served.client.write_all(&framed([&b"query"[..]; 3])).await.unwrap();
    served.closing.cancel();
    let (mut reader, mut writer) = tokio::io::split(served.client);
    let sending = tokio::spawn(async move {
        while writer.write_all(&framed([&b"more"[..]])).await.is_ok() {
            sleep(Duration::from_millis(1)).await;
        }
        writer
    });
    let mut answers = Vec::new();
    reader.read_to_end(&mut answers).await.unwrap();
    assert!(answers.starts_with(&framed([&b"query"[..]; 3])));
    served.result.await.unwrap().unwrap();
    assert!(start.elapsed() < Duration::from_secs(1), "well before the idle time");
    sending.await.unwrap();
}
