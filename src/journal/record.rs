//! What is stored of a check and its verdict.

use std::net::IpAddr;

use crate::health::State;
use crate::model::Unix;

/// A check, by the names that it keeps over reloads and restarts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckId {
    /// The region's name.
    pub region: String,
    /// The endpoint's name.
    pub endpoint: String,
    /// One of the endpoint's addresses.
    pub address: IpAddr,
    /// The probe's name.
    pub probe: String,
}

/// The verdict on a check, as far as a restart needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerdictRecord {
    /// The check.
    pub check: CheckId,
    /// Its state.
    pub state: State,
    /// When it entered this state.
    pub since: Unix,
    /// When the present run of consecutive successes began, if the latest probe succeeded.
    pub first_success: Option<Unix>,
    /// Consecutive successes.
    pub successes: u32,
    /// Failures counted.
    pub failures: u32,
    /// Why the latest of them failed.
    pub last_failure: Option<String>,
    /// When the check was last probed.
    pub seen: Unix,
}
