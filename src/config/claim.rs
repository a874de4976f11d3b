//! The addresses that the config listens on: no two listeners may conflict.

use std::net::SocketAddr;

use super::Control;
use super::report::Report;
use super::table::{At, Value};

/// The listeners read so far.
#[derive(Default)]
pub(super) struct Claims(Vec<Claim>);

struct Claim {
    address: At<SocketAddr>,
    is_control: bool,
    transports: Transports,
}

/// What an address is listened on for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Transports {
    Tcp,
    Udp,
    Both,
}

impl Claims {
    /// Claims an address; reports a conflict with an earlier one.
    pub(super) fn add(
        &mut self,
        item: &Value<'_>,
        address: SocketAddr,
        transports: Transports,
    ) -> Option<SocketAddr> {
        self.claim(item, address, transports, false)
    }

    /// The same for `[control] listen`.
    pub(super) fn add_control(&mut self, item: &Value<'_>, address: SocketAddr) -> Option<SocketAddr> {
        self.claim(item, address, Transports::Tcp, true)
    }

    fn claim(
        &mut self,
        item: &Value<'_>,
        address: SocketAddr,
        transports: Transports,
        is_control: bool,
    ) -> Option<SocketAddr> {
        let mut others = self.0.iter().filter(|it| it.transports.meet(transports)).map(|it| it.address.value);
        let other = others.find(|other| overlap(*other, address));
        self.0.push(Claim { address: item.at(address), is_control, transports });
        match other {
            None => Some(address),
            Some(other) if other == address => item.fail(format!("{address} is listened on twice")),
            Some(other) => item.fail(format!("{address} overlaps the listener {other}")),
        }
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = &At<SocketAddr>> {
        self.0.iter().map(|claim| &claim.address)
    }

    /// Reports a conflict with the default address of the API, which the config does not mention.
    pub(super) fn check_default(&self, report: &Report<'_>, control: &Control) {
        let default = Control::DEFAULT_LISTEN;
        if control.listen != Some(default) || self.0.iter().any(|claim| claim.is_control) {
            return;
        }
        let mut others = self.0.iter().filter(|it| it.transports.meet(Transports::Tcp)).map(|it| &it.address);
        if let Some(other) = others.find(|other| overlap(other.value, default)) {
            report.error_with_help(
                other.span.clone(),
                format!("{} conflicts with the API, which listens on {default}", other.value),
                "give the API another `listen` in [control]",
            );
        }
    }
}

impl Transports {
    /// Whether both have one in common.
    fn meet(self, other: Self) -> bool {
        self == Self::Both || other == Self::Both || self == other
    }
}

/// Whether two listeners conflict: a wildcard takes the port on every address of its family.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() != 0
        && a.port() == b.port()
        && a.is_ipv4() == b.is_ipv4()
        && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}
