//! What the keys of a service refer to.

use super::place::Names;
use super::steering::Written;
use super::table::{At, Value};
use crate::model::{Group, Member, Probe, Region, RegionId};

/// The definitions that services refer to.
pub(super) struct Scope<'a> {
    pub(super) region_names: &'a Names<'a>,
    pub(super) group_names: &'a Names<'a>,
    pub(super) groups: &'a [Group],
    pub(super) policy_names: &'a Names<'a>,
    pub(super) policies: &'a [Written],
    pub(super) regions: &'a [Region],
    pub(super) probes: &'a [Option<Probe>],
}

/// Reads the name of a region that is a member of the service.
pub(super) fn member(value: &Value<'_>, members: &[At<Member>], scope: &Scope<'_>) -> Option<RegionId> {
    let region = RegionId(scope.region_names.refer(value)? as u16);
    if members.iter().any(|member| member.value.region == region) {
        return Some(region);
    }
    let name = scope.region_names.name(usize::from(region.0));
    value.report.absent(value.span.clone(), format!("region `{name}` is not among the service's `regions`"));
    None
}
