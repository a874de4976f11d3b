//! The access log: a line for each request, written once its response has ended.

mod line;
mod output;
mod record;

pub(super) use output::AccessOutput;
pub(super) use record::{End, Record};
