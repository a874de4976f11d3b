//! RFC 1035 text into one label tree of static RRsets and dynamic names.

/// Every zone, and the dynamic names in them.
#[derive(Debug, Default)]
pub struct Zones {}
