//! What the drill shows while it runs.

use std::io::{IsTerminal as _, Write as _, stdout};
use std::net::IpAddr;

use super::super::demo::region_address;
use super::super::demo::switch::REGIONS;
use super::{CLIENTS, Sight};
use crate::model::Subject;
use crate::state::CheckStatus;

/// On a terminal the view is drawn over itself; elsewhere a line is printed when something changes.
pub(super) struct View {
    live: bool,
    drawn: usize,
    shown: Vec<String>,
}

impl View {
    pub(super) fn new() -> Self {
        Self { live: stdout().is_terminal(), drawn: 0, shown: Vec::new() }
    }

    /// Begins below what is there.
    pub(super) fn begin(&mut self, title: &str) {
        println!("{title}\n");
        (self.drawn, self.shown) = (0, Vec::new());
    }

    pub(super) fn draw(&mut self, waiting_for: &str, sight: &Sight) {
        let lines = lines(waiting_for, sight);
        let mut out = stdout().lock();
        if !self.live {
            for line in lines.iter().filter(|line| !self.shown.contains(line)) {
                writeln!(out, "{line}").ok();
            }
            self.shown = lines;
            return;
        }
        if self.drawn > 0 {
            // CSI n F: to the start of the line n lines up (ECMA-48 §8.3.13); CSI J: clear from there.
            write!(out, "\x1b[{}F\x1b[J", self.drawn).ok();
        }
        for line in &lines {
            writeln!(out, "{line}").ok();
        }
        out.flush().ok();
        self.drawn = lines.len();
    }
}

fn lines(waiting_for: &str, sight: &Sight) -> Vec<String> {
    let mut lines = vec![format!("until {waiting_for}")];
    for (name, state) in &sight.regions {
        let check = sight.checks.iter().find(|check| is_in(check, name));
        let evidence = check.map(ToString::to_string).unwrap_or_default();
        lines.push(format!("  {name:<9} {:<9} {evidence}", state.to_string()));
    }
    for ((place, _), to) in CLIENTS.iter().zip(&sight.sent) {
        let to = to.map_or_else(|| "nobody".into(), |address| region_name(address).to_owned());
        lines.push(format!("  {place:<14} -> {to}"));
    }
    lines
}

pub(super) fn is_in(check: &CheckStatus, name: &str) -> bool {
    matches!(&check.id.subject, Subject::Address { region, .. } if **region == *name)
}

fn region_name(address: IpAddr) -> &'static str {
    let found = REGIONS.into_iter().find(|name| IpAddr::V4(region_address(name)) == address);
    found.unwrap_or("elsewhere")
}
