//! `_portolan.NAME` TXT, if `debug_names` is on: the epoch, and what steering decides for this client at a service's
//! NAME. It is a name of its own because the service's may have TXT records, or a CNAME, which excludes them.

use std::fmt::Write as _;

use super::AnswerKind;
use super::general::{Current, General, Resolved, Step};
use crate::model::{Family, RegionId, Service, ServiceId, ServiceKind, Ttl};
use crate::steer::{Answer, Choice, Recording, Stage};
use crate::wire::{ResponseCode, Section};
use crate::zone::{Served, rtype};

/// The label before the service's name, as on the wire.
const LABEL: &[u8] = b"\x09_portolan";

/// The longest string that a TXT record holds (RFC 1035 §3.3).
const LONGEST: usize = 255;

/// Whether a name in wire format could be a service's debug name.
pub(super) fn is_of_service(name: &[u8]) -> bool {
    name.get(..LABEL.len()).is_some_and(|label| label.eq_ignore_ascii_case(LABEL))
}

impl<'a> General<'a, '_, '_> {
    /// The answer for a name that is not in the zone, if it is the debug name of a service.
    pub(super) fn debug(&mut self, at: &Current<'a>, zone: &'a Served, name: &[u8]) -> Option<Step<'a>> {
        let plan = &self.snapshot.plan;
        if !plan.debug_names || !is_of_service(name) {
            return None;
        }
        let node = plan.zones.find(&name[LABEL.len()..]).node()?;
        node.services().first()?;
        let done = |kind, scope| {
            Step::Done(Resolved { rcode: ResponseCode::NoError, authoritative: true, kind, scope })
        };
        if self.question.qtype != rtype::TXT {
            self.deny(at, zone, Ttl(0));
            return Some(done(AnswerKind::Negative, 0));
        }
        let (strings, scope) = self.facts(node.services());
        let mut data = Vec::new();
        for string in strings {
            let bytes = &string.as_bytes()[..string.len().min(LONGEST)];
            data.push(bytes.len() as u8);
            data.extend_from_slice(bytes);
        }
        // It describes this moment only, so it must not be cached.
        self.writer.records(Section::Answer, at.owner(), rtype::TXT, Ttl(0), [&*data]);
        Some(done(AnswerKind::Static, scope))
    }

    /// One fact per string, and for how many bits of the client's address they hold. The services share one name.
    fn facts(&self, services: &[ServiceId]) -> (Vec<String>, u8) {
        let plan = &self.snapshot.plan;
        let located = plan.geo.locate(self.asker.client);
        let country =
            located.place.location.country.map_or_else(|| "unknown".to_owned(), |it| it.to_string());
        let mut strings = vec![
            format!("epoch={}", self.snapshot.epoch),
            format!("client={} prefix={} country={country}", self.asker.client, located.prefix),
            format!("service={}", plan.topology.service(services[0]).name),
        ];
        let mut scope = 0;
        let choices = services.iter().flat_map(|id| {
            families(plan.topology.service(*id)).iter().map(|family| self.request(*id, *family))
        });
        for request in choices {
            let (choice, recording) = plan.steering.explain(
                &plan.topology,
                &self.snapshot.standing,
                located.place,
                &request,
                &mut Vec::new(),
            );
            scope = scope.max(choice.scope);
            strings.push(self.decision(request.family, &choice, &recording));
        }
        (strings, scope)
    }

    /// For example `a answer=addresses region=eu ttl=30 scope=24 order=eu,us out=us@eligible`
    fn decision(&self, family: Family, choice: &Choice, recording: &Recording) -> String {
        let topology = &self.snapshot.plan.topology;
        let name = |id: RegionId| topology.region(id).name.as_str();
        let kept = recording.entries.iter().filter(|it| it.stage == Stage::TieGroups && it.verdict.is_ok());
        let order: Vec<&str> = kept.map(|it| name(it.region)).collect();
        // Several passes may drop a region, and a later one may still choose it.
        let mut out: Vec<String> = Vec::new();
        for it in
            recording.entries.iter().filter(|it| it.verdict.is_err() && Some(it.region) != choice.region)
        {
            let stage = format!("{:?}", it.stage).to_lowercase();
            let dropped = format!("{}@{stage}", name(it.region));
            if !out.contains(&dropped) {
                out.push(dropped);
            }
        }
        let what = match family {
            Family::V4 => "a",
            Family::V6 => "aaaa",
            Family::Host => "host",
        };
        let answer = match (choice.answer, family) {
            (Answer::Endpoints, Family::V4 | Family::V6) => "addresses",
            (Answer::Endpoints, Family::Host) => "hosts",
            (Answer::Alias, _) => "alias",
            (Answer::NoData, _) => "nodata",
            (Answer::Servfail, _) => "servfail",
        };
        let mut text = format!("{what} answer={answer}");
        let region = choice.region.map_or("none", name);
        // Writing to a String does not fail.
        let _ = write!(text, " region={region} ttl={} scope={}", choice.ttl.0, choice.scope);
        let _ = write!(text, " order={} out={}", order.join(","), out.join(","));
        text
    }
}

fn families(service: &Service) -> &'static [Family] {
    match service.kind {
        ServiceKind::Address { .. } => &[Family::V4, Family::V6],
        ServiceKind::Cname | ServiceKind::Srv { .. } | ServiceKind::Mx { .. } => &[Family::Host],
    }
}
