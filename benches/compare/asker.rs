//! A client for `benches/compare/scale` that sends each query once, checks every answer and keeps count.
//!
//! `scale` builds it with rustc alone, so it has no dependencies; Cargo.toml names it only for it to be checked.
//! It speaks the least of DNS that this takes: A queries without EDNS, and of a reply the code and first address.

#![allow(clippy::disallowed_methods, reason = "it measures time")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is its job")]

use std::collections::VecDeque;
use std::error::Error;
use std::io::{self, BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, fs, thread};

type Fault = Box<dyn Error + Send + Sync>;
type Result<T> = std::result::Result<T, Fault>;

const USAGE: &str = "\
usage: asker first SERVER NAME
           asks until it is answered and prints when: microseconds since 1970
       asker reloads SERVER EXPECTED TIMES CONFIG A B COMMAND…
           asks for the names of EXPECTED (lines of NAME, ADDRESS under config A, ADDRESS under B, \"-\" for NXDOMAIN)
           while it puts B, A, B … into the place of CONFIG and runs COMMAND after each
       asker flips SERVER NAME ENDPOINT TIMES
           plays the ENDPOINT that a probe looks at, lets it fail and recover, and waits for NAME's answer to follow
       asker targets PORT COUNT
           answers HTTP requests with 200 at every IPv4 address and COUNT ports, from PORT on, until it is killed
       asker outage SERVER NAMES FALLBACK COMMAND…
           waits until no name of the file NAMES is answered with FALLBACK, runs COMMAND, waits until all of them are,
           and prints the milliseconds from COMMAND to the first and to the last such answer";

/// Queries under way at once. A receive buffer of the usual size holds some 200 answers: what it had to drop would
/// look as if the server had lost it.
const OUTSTANDING: usize = 100;

/// A query without an answer for this long is lost.
const LOST_AFTER: Duration = Duration::from_secs(2);

/// How long anything may take that a measurement waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asked without a change before and after each flip.
const CALM: Duration = Duration::from_millis(150);

/// Between rounds of queries for names that are watched: exact enough, and no load.
const ROUND: Duration = Duration::from_millis(10);

/// Wrong answers that are told one by one.
const SHOWN: u64 = 5;

const HEADER: usize = 12;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["first", server, name] => first(server, name),
        ["reloads", server, expected, times, config, a, b, ref command @ ..] if !command.is_empty() => {
            reloads(server, expected, times, Swap { config, versions: [a, b], command })
        }
        ["flips", server, name, endpoint, times] => flips(server, name, endpoint, times),
        ["targets", port, count] => targets(port, count),
        ["outage", server, names, fallback, ref command @ ..] if !command.is_empty() => {
            outage(server, names, fallback, command)
        }
        _ => Err(USAGE.into()),
    };
    done.map_or_else(
        |why| {
            eprintln!("asker: {why}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

/// When a server gave its first answer.
fn first(server: &str, name: &str) -> Result<()> {
    let socket = connected(server)?;
    socket.set_read_timeout(Some(Duration::from_millis(2)))?;
    let (query, started) = (query(name), Instant::now());
    let mut reply = [0; 1500];
    while started.elapsed() < PATIENCE {
        // Until it is bound, the port refuses, and that is no news.
        socket.send(&query).ok();
        if let Ok(length) = socket.recv(&mut reply)
            && answer(&query, &reply[..length]).is_some()
        {
            println!("{}", SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros());
            return Ok(());
        }
    }
    Err(format!("no answer in {PATIENCE:?}").into())
}

/// A name and what is right for it under either config.
struct Expected {
    query: Vec<u8>,
    answers: [Answer; 2],
}

/// An address, or none: NXDOMAIN.
type Answer = Option<Ipv4Addr>;

/// How a config is changed and read again.
struct Swap<'a> {
    config: &'a str,
    versions: [&'a str; 2],
    command: &'a [&'a str],
}

/// What the threads of [`reloads`] share. The phase is even while one config is in force for certain (0: A, 2: B,
/// 4: A …), odd while the next replaces it.
struct Course {
    expected: Vec<Expected>,
    phase: AtomicUsize,
    over: AtomicBool,
}

#[derive(Default)]
struct Counts {
    right: u64,
    wrong: u64,
    lost: u64,
    /// Answers to nothing that is waiting: to something lost, or wrong.
    strays: u64,
    slowest: Duration,
}

fn reloads(server: &str, expected: &str, times: &str, swap: Swap<'_>) -> Result<()> {
    let expected = fs::read_to_string(expected)?.lines().map(read_expected).collect::<Result<_>>()?;
    let course = Course { expected, phase: AtomicUsize::new(0), over: AtomicBool::new(false) };
    let times: usize = times.parse()?;
    let started = Instant::now();
    let (counts, took) = thread::scope(|scope| {
        let asker = scope.spawn(|| keep_asking(server, &course));
        let took = (1..=times).map(|time| reload(&swap, &course.phase, time)).collect::<Result<Vec<_>>>();
        thread::sleep(CALM);
        course.over.store(true, Ordering::Relaxed);
        let counts = asker.join().map_err(|_| "the asker panicked")??;
        Ok::<_, Fault>((counts, took?))
    })?;
    let (right, lost) = (counts.right, counts.lost);
    let wrong = counts.wrong + counts.strays.saturating_sub(lost);
    let (rate, slowest) = (right as f64 / started.elapsed().as_secs_f64(), millis(counts.slowest));
    println!("| reloads | right answers | per second | lost | wrong | slowest ms | a reload: {HEADINGS} |");
    println!("|---|---|---|---|---|---|---|---|---|");
    println!("| {times} | {right} | {rate:.0} | {lost} | {wrong} | {slowest:.1} | {} |", spread(took));
    Ok(())
}

/// Puts the next config into force; how long that took.
fn reload(swap: &Swap<'_>, phase: &AtomicUsize, time: usize) -> Result<Duration> {
    let [program, arguments @ ..] = swap.command else { return Err("no command".into()) };
    thread::sleep(CALM);
    fs::copy(swap.versions[time % 2], swap.config)?;
    phase.store(2 * time - 1, Ordering::SeqCst);
    let started = Instant::now();
    let output = Command::new(program).args(arguments).output()?;
    let took = started.elapsed();
    if !output.status.success() {
        return Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    phase.store(2 * time, Ordering::SeqCst);
    Ok(took)
}

fn read_expected(line: &str) -> Result<Expected> {
    let &[name, a, b] = &line.split(' ').collect::<Vec<_>>()[..] else {
        return Err("expected: NAME A B".into());
    };
    let read = |text: &str| Ok::<_, Fault>(if text == "-" { None } else { Some(text.parse()?) });
    Ok(Expected { query: query(name), answers: [read(a)?, read(b)?] })
}

/// A query under way.
struct Asked {
    id: u16,
    index: usize,
    phase: usize,
    at: Instant,
}

/// Keeps [`OUTSTANDING`] queries under way until it is over, then waits for the last.
fn keep_asking(server: &str, course: &Course) -> Result<Counts> {
    let socket = connected(server)?;
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    let mut counts = Counts::default();
    let mut waiting: VecDeque<Asked> = VecDeque::new();
    let (mut last_id, mut random, mut reply) = (0_u16, 1_u64, [0; 1500]);
    loop {
        let over = course.over.load(Ordering::Relaxed);
        while !over && waiting.len() < OUTSTANDING {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let index = (random >> 33) as usize % course.expected.len();
            last_id = last_id.wrapping_add(1);
            let phase = course.phase.load(Ordering::SeqCst);
            let mut query = course.expected[index].query.clone();
            query[..2].copy_from_slice(&last_id.to_be_bytes());
            let at = Instant::now();
            socket.send(&query)?;
            waiting.push_back(Asked { id: last_id, index, phase, at });
        }
        match socket.recv(&mut reply) {
            Ok(length) => take(&reply[..length], &mut waiting, course, &mut counts),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
        while waiting.front().is_some_and(|asked| asked.at.elapsed() > LOST_AFTER) {
            waiting.pop_front();
            counts.lost += 1;
        }
        if over && waiting.is_empty() {
            return Ok(counts);
        }
    }
}

/// Judges an answer by the configs that were in force at any time between its query and now.
fn take(reply: &[u8], waiting: &mut VecDeque<Asked>, course: &Course, counts: &mut Counts) {
    // By the question too: ids come round several times before a query counts as lost.
    let question = |asked: &Asked| &course.expected[asked.index].query[HEADER..];
    let answers = |asked: &Asked| {
        reply.starts_with(&asked.id.to_be_bytes()) && reply[HEADER..].starts_with(question(asked))
    };
    let place = if reply.len() < HEADER { None } else { waiting.iter().position(answers) };
    let Some(asked) = place.and_then(|place| waiting.remove(place)) else {
        counts.strays += 1;
        return;
    };
    counts.slowest = counts.slowest.max(asked.at.elapsed());
    let now = course.phase.load(Ordering::SeqCst);
    let Expected { query, answers } = &course.expected[asked.index];
    let found = answer(query, reply);
    let mut versions = asked.phase / 2..=now.div_ceil(2);
    if found.is_some_and(|found| versions.any(|version| found == answers[version % 2])) {
        counts.right += 1;
    } else {
        counts.wrong += 1;
        if counts.wrong <= SHOWN {
            eprintln!(
                "asker: line {} in phases {}-{now}: {found:?}, not {answers:?}",
                asked.index + 1,
                asked.phase
            );
        }
    }
}

/// What the endpoint that the probe looks at does.
#[derive(Default)]
struct Endpoint {
    fails: AtomicBool,
    /// When it first answered otherwise than before: what crosses a threshold of one.
    turned: Mutex<Option<Instant>>,
}

fn flips(server: &str, name: &str, endpoint: &str, times: &str) -> Result<()> {
    let (address, times): (SocketAddrV4, usize) = (endpoint.parse()?, times.parse()?);
    let listener = TcpListener::bind(address)?;
    let endpoint = Arc::new(Endpoint::default());
    let played = Arc::clone(&endpoint);
    // It ends with the process.
    thread::spawn(move || play(&listener, &played));
    let mut watch = Watch::start(server, name)?;
    let mut took = [Vec::new(), Vec::new()];
    watch.until(|answer| answer == Some(*address.ip()))?;
    for turn in 0..2 * times {
        let fails = turn % 2 == 0;
        let calm = Instant::now();
        watch.until(|_| calm.elapsed() > CALM)?;
        *endpoint.turned.lock().unwrap_or_else(PoisonError::into_inner) = None;
        endpoint.fails.store(fails, Ordering::SeqCst);
        let seen = watch.until(|answer| (answer == Some(*address.ip())) != fails)?;
        let turned = *endpoint.turned.lock().unwrap_or_else(PoisonError::into_inner);
        let turned = turned.ok_or("the answer changed before the endpoint did")?;
        took[turn % 2].push(seen.saturating_duration_since(turned));
    }
    println!("| flip | times | {HEADINGS} |\n|---|---|---|---|---|");
    for (took, what) in took.into_iter().zip(["down", "up"]) {
        println!("| {what} | {times} | {} |", spread(took));
    }
    println!("| between two answers | {} | {} |", watch.gaps.len(), spread(watch.gaps));
    Ok(())
}

fn play(listener: &TcpListener, endpoint: &Endpoint) {
    let mut failed = false;
    for stream in listener.incoming().flatten() {
        // The node reports a probe that is cut off.
        serve(&stream, endpoint, &mut failed).ok();
    }
}

/// One request, whatever it asks.
fn serve(stream: &TcpStream, endpoint: &Endpoint, failed: &mut bool) -> io::Result<()> {
    read_request(stream)?;
    let fails = endpoint.fails.load(Ordering::SeqCst);
    let status = if fails { "503 Service Unavailable" } else { "200 OK" };
    if fails != std::mem::replace(failed, fails) {
        *endpoint.turned.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
    respond(stream, status)
}

fn read_request(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(LOST_AFTER))?;
    let mut lines = BufReader::new(stream).lines();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    Ok(())
}

fn respond(mut stream: &TcpStream, status: &str) -> io::Result<()> {
    let response = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(response.as_bytes())
}

/// Many listeners instead of one, as each queues no more than 128 connections.
fn targets(port: &str, count: &str) -> Result<()> {
    let (port, count): (u16, u16) = (port.parse()?, count.parse()?);
    let listeners = (port..port + count).map(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)));
    let listeners = listeners.collect::<io::Result<Vec<_>>>()?;
    thread::scope(|scope| {
        for listener in listeners {
            scope.spawn(move || {
                for stream in listener.incoming().flatten() {
                    // The node reports a probe that is cut off.
                    read_request(&stream).and_then(|()| respond(&stream, "200 OK")).ok();
                }
            });
        }
    });
    Ok(())
}

fn outage(server: &str, names: &str, fallback: &str, command: &[&str]) -> Result<()> {
    let fallback: Ipv4Addr = fallback.parse()?;
    let names = fs::read_to_string(names)?;
    let [program, arguments @ ..] = command else { return Err("no command".into()) };
    let mut queries: Vec<Vec<u8>> = names.lines().map(query).collect();
    let socket = connected(server)?;
    socket.set_read_timeout(Some(LOST_AFTER))?;
    let is_fallback = |query: &Vec<u8>| Ok::<_, Fault>(ask(&socket, query)? == Some(fallback));
    let calm = Instant::now();
    for query in &queries {
        while is_fallback(query)? {
            if calm.elapsed() > PATIENCE {
                return Err("some are answered with the fallback before the outage".into());
            }
            thread::sleep(ROUND);
        }
    }
    let started = Instant::now();
    let output = Command::new(program).args(arguments).output()?;
    if !output.status.success() {
        return Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let (mut first, mut last) = (None, Duration::ZERO);
    while !queries.is_empty() {
        if started.elapsed() > PATIENCE {
            return Err(format!("{} names keep their answers for {PATIENCE:?}", queries.len()).into());
        }
        let mut left = Vec::new();
        for query in queries {
            if is_fallback(&query)? {
                last = started.elapsed();
                first.get_or_insert(last);
            } else {
                left.push(query);
            }
        }
        queries = left;
        thread::sleep(ROUND);
    }
    println!("{:.0} {:.0}", millis(first.unwrap_or_default()), millis(last));
    Ok(())
}

/// The answer to one query, whose id is 0 like that of all others: none is under way at the same time.
fn ask(socket: &UdpSocket, query: &[u8]) -> Result<Answer> {
    let mut reply = [0; 1500];
    socket.send(query)?;
    let length = socket.recv(&mut reply)?;
    answer(query, &reply[..length]).ok_or_else(|| "an answer to something else".into())
}

/// Asks for one name, the next time as soon as it has been answered.
struct Watch {
    socket: UdpSocket,
    query: Vec<u8>,
    /// Between one answer and the next: how exactly a change is seen.
    gaps: Vec<Duration>,
    last: Instant,
}

impl Watch {
    fn start(server: &str, name: &str) -> Result<Self> {
        let socket = connected(server)?;
        socket.set_read_timeout(Some(LOST_AFTER))?;
        Ok(Self { socket, query: query(name), gaps: Vec::new(), last: Instant::now() })
    }

    /// When the first answer came that is as wanted.
    fn until(&mut self, wanted: impl Fn(Answer) -> bool) -> Result<Instant> {
        let started = Instant::now();
        let mut reply = [0; 1500];
        while started.elapsed() < PATIENCE {
            self.socket.send(&self.query)?;
            let length = self.socket.recv(&mut reply)?;
            let now = Instant::now();
            self.gaps.push(now - self.last);
            self.last = now;
            if wanted(answer(&self.query, &reply[..length]).ok_or("an answer to something else")?) {
                return Ok(now);
            }
        }
        Err(format!("the answer did not change in {PATIENCE:?}").into())
    }
}

fn connected(server: &str) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(server)?;
    Ok(socket)
}

/// A query for the A records of a name, with id 0.
fn query(name: &str) -> Vec<u8> {
    let mut query = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.') {
        query.push(label.len() as u8);
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    query
}

/// The first address of a reply to a query, or that there is none; `None` if it is no such reply.
fn answer(query: &[u8], reply: &[u8]) -> Option<Answer> {
    let (header, body) = reply.split_at_checked(HEADER)?;
    let records = body.strip_prefix(&query[HEADER..])?;
    let (is_response, code, answers) = (header[2] & 0x80 != 0, header[3] & 0x0f, header[7]);
    match (is_response, code, answers) {
        (true, 3, 0) => Some(None),
        (true, 0, 1..) => {
            // The owner is a pointer to the question; then type, class, TTL and length (RFC 1035, 3.2.1 and 4.1.4).
            let data = records.strip_prefix(&[0xc0, HEADER as u8, 0, 1, 0, 1])?.get(4..)?;
            let octets: [u8; 4] = *data.strip_prefix(&[0, 4])?.first_chunk()?;
            Some(Some(octets.into()))
        }
        _ => None,
    }
}

const HEADINGS: &str = "median ms | 90 % ms | most ms";

fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: usize| times.get((times.len() * share / 100).min(times.len().saturating_sub(1)));
    [50, 90, 100].map(|share| format!("{:.2}", millis(*at(share).unwrap_or(&Duration::ZERO)))).join(" | ")
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
