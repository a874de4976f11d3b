//! What can be broken, how, and the switches that do it.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

/// The names of the demo's regions.
pub const REGIONS: [&str; 3] = ["ap-south", "eu-west", "us-east"];

/// The names of the backends of each region.
pub const BACKENDS: [&str; 2] = ["backend1", "backend2"];

/// A region, or one of its backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The region.
    pub region: &'static str,
    /// The backend; `None` for the region as a whole.
    pub backend: Option<&'static str>,
}

impl Target {
    /// Every region, each followed by its backends.
    pub fn all() -> impl Iterator<Item = Self> {
        REGIONS.into_iter().flat_map(|region| {
            let backends = BACKENDS.into_iter().map(Some);
            std::iter::once(None).chain(backends).map(move |backend| Self { region, backend })
        })
    }

    /// Reads `REGION` or `REGION/BACKEND`, also with `region/` before it.
    #[must_use]
    pub fn named(text: &str) -> Option<Self> {
        let name = text.strip_prefix("region/").unwrap_or(text);
        Self::all().find(|target| target.to_string() == name)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.backend {
            None => f.write_str(self.region),
            Some(backend) => write!(f, "{}/{backend}", self.region),
        }
    }
}

/// The ways in which a region or a backend breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// Its port is closed: connections are refused.
    Refuse,
    /// It accepts connections and never answers.
    Hang,
    /// It answers 503.
    Unavailable,
    /// Its readiness document says that the database is unhealthy. Other pages are served.
    Document,
    /// It answers correctly, but late.
    Slow,
}

impl Break {
    /// Every way with its name on the command line.
    pub const ALL: [(&'static str, Self); 5] = [
        ("refuse", Self::Refuse),
        ("hang", Self::Hang),
        ("503", Self::Unavailable),
        ("document", Self::Document),
        ("slow", Self::Slow),
    ];

    /// The way with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, way)| way)
    }
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALL.iter().find(|(_, way)| way == self).map_or("", |(name, _)| name))
    }
}

/// How the port of a region's proxy stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// The proxy serves.
    Open,
    /// The proxy is stopped, so its port is closed.
    Closed,
    /// The proxy is stopped, and its port accepts connections that nobody serves.
    Hanging,
}

/// The switches of a region.
#[derive(Debug)]
struct Switch {
    gate: watch::Sender<Gate>,
    backends: [watch::Sender<Option<Break>>; BACKENDS.len()],
}

/// The switches of all regions, in the order of [`REGIONS`]. Clones share them.
#[derive(Clone, Debug)]
pub struct Switches(Arc<[Switch; REGIONS.len()]>);

/// What is broken in a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// How the port of its proxy is broken, if it is.
    pub proxy: Option<Break>,
    /// How its backends are broken, in the order of [`BACKENDS`].
    pub backends: [Option<Break>; BACKENDS.len()],
}

impl Switches {
    /// Switches with which nothing is broken.
    pub(super) fn new() -> Self {
        let switch = |_| Switch {
            gate: watch::Sender::new(Gate::Open),
            backends: BACKENDS.map(|_| watch::Sender::new(None)),
        };
        Self(Arc::new(REGIONS.map(switch)))
    }

    /// Breaks a target, or heals it if `how` is `None`. A region is broken at its proxy where that can break in this way,
    /// else at every backend; healing it heals its backends, too.
    pub fn turn(&self, target: Target, how: Option<Break>) {
        let switch = self.of(target.region);
        if let Some(backend) = target.backend {
            switch.backend(backend).send_replace(how);
            return;
        }
        let (gate, of_backends) = match how {
            Some(Break::Refuse) => (Gate::Closed, None),
            Some(Break::Hang) => (Gate::Hanging, None),
            other => (Gate::Open, other),
        };
        for backend in &switch.backends {
            backend.send_replace(of_backends);
        }
        // A proxy that serves is not to be restarted.
        switch.gate.send_if_modified(|now| std::mem::replace(now, gate) != gate);
    }

    /// What is broken in a region.
    #[must_use]
    pub fn broken(&self, region: &str) -> Broken {
        let switch = self.of(region);
        let proxy = match *switch.gate.borrow() {
            Gate::Open => None,
            Gate::Closed => Some(Break::Refuse),
            Gate::Hanging => Some(Break::Hang),
        };
        Broken { proxy, backends: switch.backends.each_ref().map(|backend| *backend.borrow()) }
    }

    pub(super) fn gate(&self, region: &str) -> watch::Receiver<Gate> {
        self.of(region).gate.subscribe()
    }

    pub(super) fn backend(&self, region: &str, backend: &str) -> watch::Receiver<Option<Break>> {
        self.of(region).backend(backend).subscribe()
    }

    fn of(&self, region: &str) -> &Switch {
        let index = REGIONS.iter().position(|known| *known == region);
        &self.0[index.expect("targets name regions of the demo")]
    }
}

impl Switch {
    fn backend(&self, name: &str) -> &watch::Sender<Option<Break>> {
        let index = BACKENDS.iter().position(|known| *known == name);
        &self.backends[index.expect("targets name backends of the demo")]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_as_they_are_written() {
        for target in Target::all() {
            assert_eq!(Target::named(&target.to_string()), Some(target));
            assert_eq!(Target::named(&format!("region/{target}")), Some(target));
        }
        assert_eq!(Target::all().count(), 9);
        for wrong in ["", "eu", "eu-west/", "eu-west/backend3", "backend1", "/backend1"] {
            assert_eq!(Target::named(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_region_breaks_at_its_proxy_or_at_every_backend() {
        let (region, backend) =
            (Target::named("eu-west").unwrap(), Target::named("eu-west/backend1").unwrap());
        let switches = Switches::new();
        let broken = |proxy, one, other| Broken { proxy, backends: [one, other] };
        for (target, how, expected) in [
            (backend, Some(Break::Hang), broken(None, Some(Break::Hang), None)),
            (region, Some(Break::Slow), broken(None, Some(Break::Slow), Some(Break::Slow))),
            (region, Some(Break::Hang), broken(Some(Break::Hang), None, None)),
            (backend, Some(Break::Refuse), broken(Some(Break::Hang), Some(Break::Refuse), None)),
            (backend, None, broken(Some(Break::Hang), None, None)),
            (region, Some(Break::Refuse), broken(Some(Break::Refuse), None, None)),
            (
                region,
                Some(Break::Unavailable),
                broken(None, Some(Break::Unavailable), Some(Break::Unavailable)),
            ),
            (region, None, broken(None, None, None)),
        ] {
            switches.turn(target, how);
            assert_eq!(switches.broken("eu-west"), expected, "{target} {how:?}");
            assert_eq!(switches.broken("us-east"), broken(None, None, None));
        }
    }

    #[test]
    fn breaking_backends_does_not_restart_the_proxy() {
        let switches = Switches::new();
        let gate = switches.gate("eu-west");
        switches.turn(Target::named("eu-west").unwrap(), Some(Break::Document));
        assert!(!gate.has_changed().unwrap());
        switches.turn(Target::named("eu-west").unwrap(), Some(Break::Refuse));
        assert!(gate.has_changed().unwrap());
    }
}
