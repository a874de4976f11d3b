//! Where records of queries and requests go.

use std::path::PathBuf;

use super::Fraction;

/// Where lines of a log go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// To the standard output.
    Stdout,
    /// To the end of this file.
    File(PathBuf),
}

/// `[dns.query_log]`: who asked what, and what the answer was.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryLog {
    /// Where it goes, and how it is written.
    pub to: QueryLogTarget,
    /// The share of the queries that is logged.
    pub sample: Fraction,
}

/// Where the query log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryLogTarget {
    /// An object of JSON in a line for each query.
    Json(LogTarget),
    /// A dnstap message for each query, to the Unix socket of a reader.
    Dnstap(PathBuf),
}
