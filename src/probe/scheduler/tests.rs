use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::*;
use crate::health::Severity;
use crate::model::{Kind, Probe, Source, Thresholds};
use crate::net::tls::Trust;
use crate::probe::{Failure, Phase, Timings};

const GOOD: Outcome =
    Outcome { timings: Timings { connect: None, tls: None, first_byte: None, body: None }, failure: None };

fn id(name: &str) -> CheckId {
    let address = [127, 0, 0, 1].into();
    let subject = Subject::Address { region: "eu-west".into(), endpoint: name.into(), address };
    CheckId { subject, source: Source::Probe("edge".into()) }
}

fn refused() -> Outcome {
    let reason = "connection refused".into();
    Outcome { failure: Some(Failure { severity: Severity::Hard, phase: Phase::Connect, reason }), ..GOOD }
}

/// A check whose probe does not matter.
fn some(name: &str, is_new: bool) -> ScheduledCheck {
    ScheduledCheck {
        id: id(name),
        generation: 0,
        probe: Arc::new(PreparedProbe::handshake(probe(Kind::Tcp { port: 1 }).into())),
        is_new,
    }
}

fn watching(
    check: ScheduledCheck,
    schedule: Schedule,
    permits: Arc<Semaphore>,
    results: mpsc::Sender<CheckReport>,
) -> Watch {
    let part = Supervisor::default().part("the check of the test").may_end();
    Watch { check, schedule, permits, results, _part: part }
}

/// A watch over a fake target, in paused time.
struct Bench {
    results: mpsc::Receiver<CheckReport>,
    probes: Arc<AtomicUsize>,
    most_at_once: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

/// Each probe takes `took`.
fn watch(name: &str, interval: Duration, took: Duration, permits: &Arc<Semaphore>) -> Bench {
    let (sender, results) = mpsc::channel(1000);
    let schedule = Schedule::new(&id(name), interval, Instant::now());
    let watch = watching(some(name, true), schedule, Arc::clone(permits), sender);
    let (probes, most_at_once) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let at_once = Arc::new(AtomicUsize::new(0));
    let (counted, most) = (Arc::clone(&probes), Arc::clone(&most_at_once));
    let task = tokio::spawn(watch.keep(move || {
        let (counted, most, at_once) = (Arc::clone(&counted), Arc::clone(&most), Arc::clone(&at_once));
        async move {
            most.fetch_max(at_once.fetch_add(1, SeqCst) + 1, SeqCst);
            sleep(took).await;
            at_once.fetch_sub(1, SeqCst);
            counted.fetch_add(1, SeqCst);
            Ok(GOOD)
        }
    }));
    Bench { results, probes, most_at_once, task }
}

fn permits(number: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(number))
}

#[tokio::test(start_paused = true)]
async fn starts_are_never_further_apart_than_the_interval() {
    let interval = Duration::from_secs(5);
    for name in ["lb1", "lb2", "lb3", "lb4"] {
        let begun = Instant::now();
        let mut bench = watch(name, interval, Duration::ZERO, &permits(1));
        let mut starts = Vec::new();
        for _ in 0..20 {
            bench.results.recv().await.unwrap();
            starts.push(Instant::now());
        }
        assert!(starts[0] - begun <= FIRST_PROBES + Duration::from_millis(1));
        let gaps: Vec<_> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
        // The timer counts in milliseconds.
        let slack = Duration::from_millis(1);
        assert!(gaps.iter().all(|gap| *gap <= interval + slack), "{gaps:?}");
        assert!(gaps[1..].iter().all(|gap| *gap + slack >= interval.mul_f64(0.95)), "{gaps:?}");
        assert!(gaps[1..].iter().any(|gap| *gap != gaps[1]), "no jitter: {gaps:?}");
        bench.task.abort();
    }
}

#[test]
fn offsets_follow_from_the_identity_and_spread_evenly() {
    const CHECKS: usize = 10_000;
    let (now, interval) = (Instant::now(), Duration::from_secs(10));
    let mut first = [0_usize; 10];
    let mut second = [0_usize; 10];
    for number in 0..CHECKS {
        let key = id(&format!("lb{number}"));
        let schedule = Schedule::new(&key, interval, now);
        assert_eq!(
            schedule.next,
            Schedule::new(&key, interval, now).next,
            "the same identity, the same offset"
        );
        let start = schedule.next - now;
        let place = start + schedule.first_gap.unwrap() - FIRST_PROBES;
        first[(start.as_secs_f64() * 10.0) as usize] += 1;
        second[place.as_secs_f64() as usize] += 1;
    }
    let expected = CHECKS / 10;
    for bucket in first.into_iter().chain(second) {
        assert!(bucket.abs_diff(expected) < expected / 5, "{first:?} {second:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_longer_than_the_interval_never_overlaps_the_next() {
    let interval = Duration::from_secs(1);
    let mut bench = watch("lb1", interval, Duration::from_millis(2500), &permits(8));
    let mut ends = Vec::new();
    for _ in 0..10 {
        bench.results.recv().await.unwrap();
        ends.push(Instant::now());
    }
    assert_eq!(bench.most_at_once.load(SeqCst), 1);
    // Each ends after 2.5 s, and the next starts at the next slot, less than an interval later.
    for pair in ends.windows(2) {
        let gap = pair[1] - pair[0];
        let range = Duration::from_millis(2500)..=Duration::from_millis(3501);
        assert!(range.contains(&gap), "{gap:?}");
    }
    bench.task.abort();
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_ends_a_little_late_delays_the_next_only_by_that() {
    let took = Duration::from_millis(1010);
    let mut bench = watch("lb1", Duration::from_secs(1), took, &permits(1));
    bench.results.recv().await.unwrap();
    for _ in 0..10 {
        let last = Instant::now();
        bench.results.recv().await.unwrap();
        assert!(last.elapsed() <= took + Duration::from_millis(1), "{:?}", last.elapsed());
    }
    bench.task.abort();
}

#[test]
fn missed_slots_are_skipped_however_many() {
    let now = Instant::now();
    let interval = Duration::from_secs(1);
    let mut schedule = Schedule::new(&id("lb1"), interval, now);
    let later = now + Duration::from_secs(1_000_000);
    schedule.advance(later);
    assert!(schedule.next > later && schedule.next <= later + interval);
}

#[tokio::test(start_paused = true)]
async fn no_more_probes_are_in_flight_than_allowed() {
    let permits = permits(2);
    let benches: Vec<_> = (0..10)
        .map(|number| {
            watch(&format!("lb{number}"), Duration::from_millis(10), Duration::from_secs(1), &permits)
        })
        .collect();
    sleep(Duration::from_millis(10_500)).await;
    // Two at a time, a second each, for ten seconds and a half.
    let probes: usize = benches.iter().map(|bench| bench.probes.load(SeqCst)).sum();
    assert_eq!(probes, 20);
    assert!(benches.iter().all(|bench| bench.probes.load(SeqCst) >= 1), "every check gets a turn");
    for bench in benches {
        bench.task.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_first_probe_is_repeated_within_a_second() {
    for (is_new, soon) in [(true, true), (false, false)] {
        let (sender, mut results) = mpsc::channel(10);
        let schedule = Schedule::new(&id("lb1"), Duration::from_secs(30), Instant::now());
        let watch = watching(some("lb1", is_new), schedule, permits(1), sender);
        let task = tokio::spawn(watch.keep(async || Ok(refused())));
        results.recv().await.unwrap();
        let first = Instant::now();
        results.recv().await.unwrap();
        let second = Instant::now();
        assert_eq!(second - first <= Duration::from_secs(1), soon, "new: {is_new}");
        results.recv().await.unwrap();
        assert!(Instant::now() - second > Duration::from_secs(1), "and once only");
        task.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn faults_of_this_node_are_reported_as_such() {
    let (sender, mut results) = mpsc::channel(10);
    let schedule = Schedule::new(&id("lb1"), Duration::from_secs(1), Instant::now());
    let watch = watching(some("lb1", true), schedule, permits(1), sender);
    let probes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&probes);
    let task = tokio::spawn(watch.keep(move || {
        let probe_number = counted.fetch_add(1, SeqCst);
        async move {
            if probe_number < 3 { Err(LocalFault(std::io::Error::from_raw_os_error(24))) } else { Ok(GOOD) }
        }
    }));
    for _ in 0..3 {
        assert!(results.recv().await.unwrap().outcome.is_err());
    }
    let report = CheckReport { check: id("lb1"), generation: 0, outcome: Ok(GOOD.into()) };
    assert_eq!(results.recv().await, Some(report));
    assert_eq!(probes.load(SeqCst), 4);
    // The task ends when the receiver is gone.
    drop(results);
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_panics_is_a_fault_of_this_node_and_the_next_one_runs() {
    let (sender, mut results) = mpsc::channel(10);
    let schedule = Schedule::new(&id("lb1"), Duration::from_secs(1), Instant::now());
    let watch = watching(some("lb1", true), schedule, permits(1), sender);
    let probes = Arc::new(AtomicUsize::new(0));
    let task = tokio::spawn(watch.keep(move || {
        let is_first = probes.fetch_add(1, SeqCst) == 0;
        async move {
            // The permit must be returned, and a panic after an await is caught, too.
            sleep(Duration::from_millis(1)).await;
            assert!(!is_first, "this panic belongs to a test");
            Ok(GOOD)
        }
    }));
    let report = results.recv().await.unwrap();
    let why = report.outcome.unwrap_err().reason;
    assert!(why.contains("the probe panicked"), "{why}");
    assert!(results.recv().await.unwrap().outcome.is_ok());
    task.abort();
}

/// A server that reports its connections: one message when a connection is made, one when it ends.
async fn server() -> (u16, mpsc::Receiver<&'static str>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (events, received) = mpsc::channel(100);
    tokio::spawn(async move {
        while let Ok((mut stream, _peer)) = listener.accept().await {
            let events = events.clone();
            tokio::spawn(async move {
                let _ = events.send("made").await;
                // Never answers; ends with the client.
                while stream.read_u8().await.is_ok() {}
                let _ = events.send("ended").await;
            });
        }
    });
    (port, received)
}

fn check(name: &str, probe: &Probe) -> ScheduledCheck {
    let probe = PreparedProbe::new(Arc::new(probe.clone()), &mut Trust::new()).unwrap();
    ScheduledCheck { id: id(name), generation: 0, probe: Arc::new(probe), is_new: true }
}

fn probe(kind: Kind) -> Probe {
    let thresholds =
        Thresholds { fall: 3, clear: 1, rise: 2, hold: Duration::ZERO, startup: None, slow: None };
    let (interval, timeout) = (Duration::from_millis(50), Duration::from_secs(60));
    Probe { name: "edge".to_owned(), kind, port_is_given: true, interval, timeout, thresholds }
}

fn scheduler(reports: mpsc::Sender<CheckReport>) -> Scheduler {
    Scheduler::new(reports, Handle::current(), Supervisor::default())
}

#[tokio::test]
async fn checks_run_as_set_and_stop_when_removed() {
    let (port, _events) = server().await;
    let (sender, mut results) = mpsc::channel(100);
    let mut scheduler = scheduler(sender);
    let tcp = probe(Kind::Tcp { port });
    scheduler.set(vec![check("lb1", &tcp), check("lb2", &tcp)]);
    let mut seen = std::collections::HashSet::new();
    while seen.len() < 2 {
        let report = results.recv().await.unwrap();
        assert!(matches!(report.outcome, Ok(Observation::Probe(result)) if result.failure.is_none()));
        seen.insert(report.check);
    }

    scheduler.set(vec![check("lb2", &tcp)]);
    scheduler.shutdown().await;
    // Once every task has ended, no sender is left.
    while results.recv().await.is_some() {}
}

#[tokio::test]
async fn a_probe_in_flight_is_cancelled_when_its_check_is_removed() {
    let (port, mut events) = server().await;
    let (sender, _results) = mpsc::channel(100);
    let mut scheduler = scheduler(sender);
    let hanging = probe(Kind::Http { port, http: crate::probe::tests::http() });
    scheduler.set(vec![check("lb1", &hanging)]);
    assert_eq!(events.recv().await, Some("made"));

    // Setting the same definition does not disturb it.
    scheduler.set(vec![check("lb1", &hanging)]);
    assert_eq!(scheduler.running.len(), 1);

    // A changed one replaces it at once, long before its timeout.
    let mut changed = hanging.clone();
    changed.timeout = Duration::from_secs(50);
    scheduler.set(vec![check("lb1", &changed)]);
    let mut next = [events.recv().await.unwrap(), events.recv().await.unwrap()];
    next.sort_unstable();
    assert_eq!(next, ["ended", "made"]);

    scheduler.set(Vec::new());
    assert_eq!(events.recv().await, Some("ended"));
    scheduler.shutdown().await;
}

#[tokio::test]
async fn unchanged_checks_keep_their_task_and_their_preparation() {
    let (port, _events) = server().await;
    let (sender, _results) = mpsc::channel(100);
    let mut scheduler = scheduler(sender);
    let tcp = probe(Kind::Tcp { port });
    scheduler.set(vec![check("lb1", &tcp)]);
    let before = Arc::clone(&scheduler.running[&id("lb1")].probe);
    scheduler.set(vec![check("lb1", &tcp), check("lb2", &tcp)]);
    assert!(Arc::ptr_eq(&before, &scheduler.running[&id("lb1")].probe));
    assert_eq!(scheduler.tasks.len(), 2);
    scheduler.shutdown().await;
}

#[test]
fn ids_are_readable() {
    assert_eq!(id("lb1").to_string(), "endpoint/eu-west/lb1 127.0.0.1 by edge");
}
