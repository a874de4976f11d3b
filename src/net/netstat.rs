//! What the kernel counts of TCP connections that it could not take, for all sockets of the network namespace.

use std::fs;

/// Counters since the system started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenCounters {
    /// Connections that found the queue of their listener full.
    pub overflows: u64,
    /// Connections dropped before they were accepted, those of `overflows` included.
    pub drops: u64,
    /// SYN cookies sent, because a queue of half-open connections was full.
    pub syncookies_sent: u64,
}

impl ListenCounters {
    /// Those of now; `None` where the kernel does not report them.
    #[must_use]
    pub fn read() -> Option<Self> {
        parse(&fs::read_to_string("/proc/self/net/netstat").ok()?)
    }
}

/// Finds them in two lines, one of names and one of values, that begin with `TcpExt:`.
fn parse(text: &str) -> Option<ListenCounters> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let value = |wanted: &str| {
        let mut pairs = names.split_whitespace().zip(values.split_whitespace());
        pairs.find(|(name, _)| *name == wanted)?.1.parse().ok()
    };
    Some(ListenCounters {
        overflows: value("ListenOverflows")?,
        drops: value("ListenDrops")?,
        syncookies_sent: value("SyncookiesSent")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_find_their_values() {
        let text = "TcpExt: SyncookiesSent SyncookiesRecv ListenOverflows ListenDrops\nTcpExt: 3 0 12 15\n\
                    IpExt: InNoRoutes InTruncatedPkts\nIpExt: 1 2\n";
        let expected = ListenCounters { overflows: 12, drops: 15, syncookies_sent: 3 };
        assert_eq!(parse(text), Some(expected));
        assert_eq!(parse("TcpExt: SyncookiesSent\nTcpExt: 3\n"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn this_kernel_has_them() {
        assert!(ListenCounters::read().is_some());
    }
}
