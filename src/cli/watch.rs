//! `portolan status --watch`: the status again and again, in place on a terminal, and a block for each change elsewhere.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use nix::sys::signal::{Signal as Number, raise};
use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{self, MissedTickBehavior};

use super::client::Client;
use super::node::{NodeOptions, Place};
use super::styled::{Look, Styled, has_colours};
use super::terminal::in_one_line;
use super::{complain, status, traffic};
use crate::api::dto;
use crate::config;

/// Arguments of `portolan status`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Show it again and again: in place on a terminal, else once for each change
    #[arg(short, long)]
    watch: bool,
    /// How often to ask the node
    #[arg(long, value_name = "TIME", default_value = "2s", requires = "watch", value_parser = interval)]
    every: Duration,
    /// Show who asks instead: answers by service, region and country, and the networks that ask the most
    #[arg(long, conflicts_with = "watch")]
    traffic: bool,
    /// As JSON; with --watch one object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) node: NodeOptions,
}

/// A node is not asked more often than ten times a second.
const SHORTEST: Duration = Duration::from_millis(100);

fn interval(text: &str) -> Result<Duration, String> {
    let every = config::parse_duration(text)?;
    if every < SHORTEST { Err("write at least 100ms".into()) } else { Ok(every) }
}

pub(super) fn run(client: &Client, arguments: &Arguments) -> Result<ExitCode> {
    if arguments.traffic {
        return traffic::run(client, arguments.json);
    }
    if !arguments.watch {
        return status::run(client, arguments.json);
    }
    client.block_on(watch(client, arguments))?;
    Ok(ExitCode::SUCCESS)
}

/// Watches until a signal ends it. A node that is lost later is waited for; one that is not there at first is an error.
async fn watch(client: &Client, arguments: &Arguments) -> Result<()> {
    let mut now = client.fetch_status().await?;
    let Signals { mut ends, mut resized, mut suspended } = Signals::listen()?;
    let mut output = Output::new(arguments.json)?;
    let mut tick = time::interval(arguments.every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.tick().await;
    let mut notice = Notice::default();
    loop {
        let shown = output.show(&now, client.place(), arguments.every, &notice);
        match shown {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            shown => shown.context("cannot write to stdout")?,
        }
        let next = async {
            tick.tick().await;
            client.fetch_status().await
        };
        tokio::select! {
            next = next => match next {
                Ok(next) => {
                    notice.back(&now, &next);
                    now = next;
                }
                Err(error) => notice.lost(&format!("{error:#}")),
            },
            () = end(&mut ends) => return Ok(()),
            _ = resized.recv() => {}
            _ = suspended.recv() => output.suspend().context("cannot suspend")?,
        }
    }
}

/// What a watcher should know about the connection, as a sentence.
#[derive(Debug, Default, PartialEq)]
struct Notice {
    text: Option<String>,
    is_lost: bool,
}

impl Notice {
    fn lost(&mut self, why: &str) {
        // The reason may become another one while the node starts.
        if !self.is_lost {
            self.text = Some(format!("lost the node at {}: {why}; waiting for it", moment()));
        }
        self.is_lost = true;
    }

    fn back(&mut self, before: &dto::Status, now: &dto::Status) {
        let restarted = now.node.uptime_s < before.node.uptime_s;
        match (self.is_lost, restarted) {
            (true, true) => self.text = Some(format!("the node answers again at {}, restarted", moment())),
            (true, false) => self.text = Some(format!("the node answers again at {}", moment())),
            (false, true) => self.text = Some(format!("the node was restarted before {}", moment())),
            (false, false) => {}
        }
        self.is_lost = false;
    }
}

fn moment() -> String {
    format!("{:.0}", Timestamp::now())
}

/// The signals that end the command, have it draw again or stop it for a while (Ctrl-Z).
struct Signals {
    ends: [Signal; 4],
    resized: Signal,
    suspended: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        let ends = [
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
            listen(SignalKind::quit())?,
        ];
        let suspended = listen(SignalKind::from_raw(Number::SIGTSTP as i32))?;
        Ok(Self { ends, resized: listen(SignalKind::window_change())?, suspended })
    }
}

async fn end([interrupt, terminate, hangup, quit]: &mut [Signal; 4]) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
        _ = quit.recv() => {}
    }
}

/// Where the status goes.
enum Output {
    Screen(Screen),
    /// A block, or a line of JSON, for each change.
    Changes {
        json: bool,
        /// What was shown last.
        last: Option<Value>,
        notice: Option<String>,
    },
}

impl Output {
    fn new(json: bool) -> Result<Self> {
        let terminal = std::env::var_os("TERM").filter(|term| !term.is_empty() && term != "dumb");
        if json || terminal.is_none() || !io::stdout().is_terminal() {
            return Ok(Self::Changes { json, last: None, notice: None });
        }
        Ok(Self::Screen(Screen::enter().context("cannot write to the terminal")?))
    }

    fn show(&mut self, now: &dto::Status, place: &Place, every: Duration, notice: &Notice) -> io::Result<()> {
        match self {
            Self::Screen(screen) => screen.draw(now, place, every, notice),
            Self::Changes { json, last, notice: shown } => {
                if *shown != notice.text {
                    shown.clone_from(&notice.text);
                    match &notice.text {
                        Some(text) if *json => complain(text),
                        Some(text) => writeln!(io::stdout(), "{}\n", in_one_line(text))?,
                        None => {}
                    }
                }
                let lasting = lasting(now);
                if notice.is_lost || last.as_ref() == Some(&lasting) {
                    return Ok(());
                }
                *last = Some(lasting);
                let text = if *json {
                    Styled::from(serde_json::to_string(now)?)
                } else {
                    let mut text = Styled::new(Look::Dim, moment() + "\n");
                    text.append(status::text(now, place));
                    text.push("\n");
                    text
                };
                let has_colours = !*json && has_colours(&io::stdout());
                writeln!(io::stdout(), "{}", text.shown(has_colours))?;
                io::stdout().flush()
            }
        }
    }
}

impl Output {
    /// Stops the process until it is continued. The shell gets its terminal as it was.
    fn suspend(&self) -> io::Result<()> {
        if let Self::Screen(_) = self {
            write_at_once(LEAVE)?;
        }
        raise(Number::SIGSTOP)?;
        if let Self::Screen(_) = self {
            write_at_once(ENTER)?;
        }
        Ok(())
    }
}

/// The status without what changes although nothing happens.
fn lasting(status: &dto::Status) -> Value {
    const FLEETING: [&str; 7] =
        ["uptime_s", "rtt_ms", "last_probe_s", "evidence", "load", "waiting", "files"];
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                // What nothing checks has its verdict since the moment of the answer.
                if fields.get("probes").and_then(Value::as_array).is_some_and(Vec::is_empty) {
                    fields.remove("since");
                }
                fields.retain(|name, _| !FLEETING.contains(&&**name));
                fields.values_mut().for_each(strip);
            }
            Value::Array(values) => values.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(status).unwrap_or_default();
    strip(&mut value);
    value
}

/// The alternate screen of a terminal, without a cursor and without wrapping. What it covers comes back at the end.
struct Screen {
    has_colours: bool,
}

const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
/// A terminal that knows these shows what is between them at once.
const BEGIN: &str = "\x1b[?2026h\x1b[H";
const END: &str = "\x1b[J\x1b[?2026l";

impl Screen {
    fn enter() -> io::Result<Self> {
        let screen = Self { has_colours: has_colours(&io::stdout()) };
        write_at_once(ENTER)?;
        Ok(screen)
    }

    fn draw(&self, now: &dto::Status, place: &Place, every: Duration, notice: &Notice) -> io::Result<()> {
        let (columns, rows) = rustix::termios::tcgetwinsize(io::stdout())
            .map_or((0, 0), |size| (size.ws_col.into(), size.ws_row.into()));
        let (columns, rows) = if columns == 0 || rows == 0 { (80, 24) } else { (columns, rows) };
        // A line of its own, since a narrow terminal shows only the start of a line.
        let notice = notice.text.as_deref().map(in_one_line).unwrap_or_default();
        let mut text = Styled::new(Look::Dim, format!("{}, every {every:?}\n", moment()));
        text.add(Look::Doubtful, &notice);
        text.push("\n\n");
        text.append(status::text(now, place));
        write_at_once(&frame(&text, columns, rows, self.has_colours))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // The terminal may be gone.
        write_at_once(LEAVE).ok();
    }
}

fn write_at_once(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// What draws a text over what is on the screen, as much of it as there is room for.
fn frame(text: &Styled, columns: usize, rows: usize, has_colours: bool) -> String {
    let lines = text.lines();
    let kept = if lines.len() > rows { rows - 1 } else { lines.len() };
    let more = lines.len() - kept;
    let more = (more > 0).then(|| Styled::new(Look::Dim, format!("… {more} more lines")));
    // A line feed in the last row would scroll.
    let shown: Vec<String> = lines[..kept]
        .iter()
        .chain(&more)
        .map(|line| format!("{}\x1b[K", line.clipped(columns).shown(has_colours)))
        .collect();
    format!("{BEGIN}{}{END}", shown.join("\r\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_fits_the_terminal() {
        let mut text = Styled::new(Look::Heading, "first");
        text.push("\n\neu  ");
        text.add(Look::Bad, "down");
        text.push("  503 for a long time\nus  up    ok");
        for (columns, rows, colours, expected) in [
            (80, 4, false, "first||eu  down  503 for a long time|us  up    ok"),
            (12, 3, false, "first||… 2 more li…"),
            (13, 9, false, "first||eu  down  50…|us  up    ok"),
            (13, 9, true, "\x1b[1mfirst\x1b[0m||eu  \x1b[31mdown\x1b[0m  50…|us  up    ok"),
            (6, 9, true, "\x1b[1mfirst\x1b[0m||eu  \x1b[31md\x1b[0m…|us  u…"),
        ] {
            let drawn = frame(&text, columns, rows, colours);
            let drawn = drawn.strip_prefix(BEGIN).and_then(|it| it.strip_suffix(END)).expect("one update");
            assert_eq!(drawn.replace("\x1b[K\r\n", "|"), format!("{expected}\x1b[K"), "{columns}×{rows}");
        }
    }
}
