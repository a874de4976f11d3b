//! Answers of services: the endpoints that steering chooses, as records of the type asked for.

use std::net::IpAddr;
use std::ops::Range;

use super::AnswerKind;
use super::additional;
use super::general::{Current, General, Resolved, Step};
use super::reply::Scratch;
use crate::model::{AllDown, EndpointRef, Family, Https, Name, Service, ServiceId, ServiceKind, Ttl};
use crate::steer::{Answer, Choice, Host, NoTrace, SteeringRequest};
use crate::wire::{ResponseCode, Section};
use crate::zone::{Served, rtype};

impl<'a> General<'a, '_, '_> {
    /// The answer of a service to a question that endpoints of `family` answer.
    pub(super) fn dynamic(
        &mut self,
        at: &Current<'a>,
        zone: &'a Served,
        id: ServiceId,
        service: &'a Service,
        family: Family,
    ) -> Step<'a> {
        match (&service.kind, self.question.qtype) {
            (ServiceKind::Address { https: Some(https) }, rtype::HTTPS) => self.https(at, zone, id, https),
            (ServiceKind::Address { .. }, _) => self.addresses(at, zone, id, family),
            _ => self.hosts(at, zone, id, service),
        }
    }

    fn addresses(&mut self, at: &Current<'a>, zone: &'a Served, id: ServiceId, family: Family) -> Step<'a> {
        let choice = self.choose_addresses(id, family);
        match (choice.answer, self.question.qtype) {
            (Answer::Endpoints, rtype::A | rtype::AAAA) => {
                self.write_addresses(at, family, choice.ttl);
                chosen(id, &choice, ResponseCode::NoError)
            }
            _ => self.without_endpoints(at, zone, id, &choice),
        }
    }

    fn choose_addresses(&mut self, service: ServiceId, family: Family) -> Choice {
        let request = self.request(service, family);
        let plan = &self.snapshot.plan;
        let addresses = &mut self.scratch.addresses;
        plan.steering.choose(&plan.topology, &self.snapshot.standing, &request, addresses, &mut NoTrace)
    }

    pub(super) fn request(&self, service: ServiceId, family: Family) -> SteeringRequest {
        SteeringRequest {
            service,
            client: self.asker.client,
            family,
            unix: self.asker.now,
            draw: self.asker.draw,
        }
    }

    fn write_addresses(&mut self, at: &Current<'_>, family: Family, ttl: Ttl) {
        let addresses = self.scratch.addresses.iter();
        if family == Family::V4 {
            let data = addresses.filter_map(|address| match address {
                IpAddr::V4(address) => Some(address.octets()),
                IpAddr::V6(_) => None,
            });
            self.writer.records(Section::Answer, at.owner(), rtype::A, ttl, data);
        } else {
            let data = addresses.filter_map(|address| match address {
                IpAddr::V6(address) => Some(address.octets()),
                IpAddr::V4(_) => None,
            });
            self.writer.records(Section::Answer, at.owner(), rtype::AAAA, ttl, data);
        }
    }

    /// An HTTPS record whose hints are the addresses that A and AAAA would return (RFC 9460 §7.3).
    fn https(&mut self, at: &Current<'a>, zone: &'a Served, id: ServiceId, https: &Https) -> Step<'a> {
        self.scratch.start_https(https);
        let v4 = self.choose_addresses(id, Family::V4);
        let v4_hint = self.scratch.hint(IPV4HINT);
        let v6 = self.choose_addresses(id, Family::V6);
        let v6_hint = self.scratch.hint(IPV6HINT);
        let both = Choice {
            region: v4.region.or(v6.region),
            answer: if v4.answer == Answer::Servfail { v4.answer } else { v6.answer },
            ttl: v4.ttl.min(v6.ttl),
            scope: v4.scope.max(v6.scope),
        };
        if v4_hint.is_empty() && v6_hint.is_empty() {
            return self.without_endpoints(at, zone, id, &both);
        }
        let (writer, rdata) = (&mut *self.writer, &self.scratch.rdata);
        writer.records(Section::Answer, at.owner(), rtype::HTTPS, both.ttl, [rdata]);
        // RFC 9460 §4.1: A and AAAA of a target here should be in the additional section.
        let (v4_data, v6_data) = (rdata[v4_hint].chunks(4), rdata[v6_hint].chunks(16));
        writer.records(Section::Additional, at.owner(), rtype::A, v4.ttl, v4_data);
        writer.records(Section::Additional, at.owner(), rtype::AAAA, v6.ttl, v6_data);
        chosen(id, &both, ResponseCode::NoError)
    }

    /// Names of endpoints: a CNAME to the first, or a record for each.
    fn hosts(&mut self, at: &Current<'a>, zone: &'a Served, id: ServiceId, service: &'a Service) -> Step<'a> {
        let request = self.request(id, Family::Host);
        let (plan, standing) = (&self.snapshot.plan, &self.snapshot.standing);
        let hosts = &mut self.scratch.hosts;
        let choice = plan.steering.choose_hosts(&plan.topology, standing, &request, hosts, &mut NoTrace);
        match (choice.answer, &service.kind, self.question.qtype) {
            (Answer::Endpoints, ServiceKind::Cname, _) => {
                match self.scratch.hosts.first().and_then(|host| self.host(host.endpoint)) {
                    Some(target) => self.alias(at, id, &choice, target),
                    None => self.without_endpoints(at, zone, id, &choice),
                }
            }
            (Answer::Endpoints, ServiceKind::Srv { .. }, rtype::SRV)
            | (Answer::Endpoints, ServiceKind::Mx { .. }, rtype::MX) => {
                self.write_hosts(at, &service.kind, choice.ttl);
                chosen(id, &choice, ResponseCode::NoError)
            }
            _ => self.without_endpoints(at, zone, id, &choice),
        }
    }

    fn write_hosts(&mut self, at: &Current<'_>, kind: &ServiceKind, ttl: Ttl) {
        let rtype = if matches!(kind, ServiceKind::Mx { .. }) { rtype::MX } else { rtype::SRV };
        let Scratch { hosts, rdata, .. } = &mut *self.scratch;
        let name = |host: &Host| self.snapshot.plan.topology.endpoint(host.endpoint).host();
        // Endpoints may share a host, and an RRset has no record twice (RFC 2181 §5): the first is written for all,
        // with their weights added.
        let of_all = |host: &Host| -> f64 {
            let alike = hosts.iter().filter(|it| name(it) == name(host));
            alike.map(|it| it.weight).sum()
        };
        let is_new = |(index, host): &(usize, &Host)| hosts[..*index].iter().all(|it| name(it) != name(host));
        let hosts = || hosts.iter().enumerate().filter(is_new).map(|(_, host)| host);
        let targets = || hosts().filter_map(|host| Some((host, name(host)?.as_wire())));
        rdata.clear();
        for (host, target) in targets() {
            match *kind {
                ServiceKind::Srv { priority, port } => {
                    // RFC 2782: records with weight 0 are hardly ever used.
                    let weight = of_all(host).round().max(1.0) as u16;
                    rdata.extend([priority, weight, port].map(u16::to_be_bytes).as_flattened());
                }
                ServiceKind::Mx { preference } => rdata.extend(preference.to_be_bytes()),
                ServiceKind::Address { .. } | ServiceKind::Cname => return,
            }
            rdata.extend(target);
        }
        let fixed = if rtype == rtype::MX { 2 } else { 6 };
        let mut rest = &rdata[..];
        let data = targets().map(|(_, target)| {
            let (data, behind) = rest.split_at(fixed + target.len());
            rest = behind;
            data
        });
        self.writer.records(Section::Answer, at.owner(), rtype, ttl, data);
        for (_, target) in targets() {
            additional::addresses_of(&self.snapshot.plan.zones, target, self.writer);
        }
    }

    fn host(&self, at: EndpointRef) -> Option<&'a Name> {
        self.snapshot.plan.topology.endpoint(at).host()
    }

    /// The answer if no endpoint can answer the question.
    fn without_endpoints(
        &mut self,
        at: &Current<'a>,
        zone: &'a Served,
        id: ServiceId,
        choice: &Choice,
    ) -> Step<'a> {
        let service = self.snapshot.plan.topology.service(id);
        let has_data = service.kind != ServiceKind::Cname;
        match (choice.answer, &service.steering.all_down) {
            (Answer::Alias, AllDown::Cname(target)) => self.alias(at, id, choice, target),
            (Answer::Servfail, _) => {
                self.writer.clear();
                chosen(id, choice, ResponseCode::ServFail)
            }
            _ if self.question.qtype == rtype::ANY && has_data => {
                self.write_any(at, choice.ttl);
                chosen(id, choice, ResponseCode::NoError)
            }
            _ => {
                self.deny(at, zone, zone.negative_ttl.min(choice.ttl));
                chosen(id, choice, ResponseCode::NoError)
            }
        }
    }

    /// A CNAME; resolution continues at its target, unless the question asks for the CNAME or for ANY (RFC 8482 §4.2).
    fn alias(&mut self, at: &Current<'a>, service: ServiceId, choice: &Choice, target: &'a Name) -> Step<'a> {
        self.writer.records(Section::Answer, at.owner(), rtype::CNAME, choice.ttl, [target.as_wire()]);
        if matches!(self.question.qtype, rtype::CNAME | rtype::ANY) {
            return chosen(service, choice, ResponseCode::NoError);
        }
        self.pass_alias(AnswerKind::Dynamic { service, region: choice.region }, choice.scope);
        Step::Alias(Current::Target(target.as_wire()))
    }
}

fn chosen(service: ServiceId, choice: &Choice, rcode: ResponseCode) -> Step<'static> {
    let kind = AnswerKind::Dynamic { service, region: choice.region };
    let authoritative = rcode == ResponseCode::NoError;
    Step::Done(Resolved { rcode, authoritative, kind, scope: choice.scope })
}

/// SvcParamKeys (RFC 9460 §14.3.2).
const ALPN: u16 = 1;
const PORT: u16 = 3;
const IPV4HINT: u16 = 4;
const IPV6HINT: u16 = 6;

impl Scratch {
    fn numbers(&mut self, numbers: &[u16]) {
        self.rdata.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
    }

    /// Starts an HTTPS record, without hints: those are its last keys by number (RFC 9460 §2.2).
    fn start_https(&mut self, https: &Https) {
        self.rdata.clear();
        self.numbers(&[https.priority]);
        // TargetName ".": the owner itself (RFC 9460 §2.5.2).
        self.rdata.push(0);
        if !https.alpn.is_empty() {
            self.numbers(&[ALPN, https.alpn.iter().map(|id| id.len() as u16 + 1).sum()]);
            for id in &https.alpn {
                self.rdata.push(id.len() as u8);
                self.rdata.extend_from_slice(id.as_bytes());
            }
        }
        if let Some(port) = https.port {
            self.numbers(&[PORT, 2, port]);
        }
    }

    /// Adds the chosen addresses as a hint, if there are any. Returns their position in the buffer.
    fn hint(&mut self, key: u16) -> Range<usize> {
        let bytes = if key == IPV4HINT { 4 } else { 16 };
        if !self.addresses.is_empty() {
            self.numbers(&[key, (self.addresses.len() * bytes) as u16]);
        }
        let start = self.rdata.len();
        for address in &self.addresses {
            match address {
                IpAddr::V4(v4) => self.rdata.extend_from_slice(&v4.octets()),
                IpAddr::V6(v6) => self.rdata.extend_from_slice(&v6.octets()),
            }
        }
        start..self.rdata.len()
    }
}
