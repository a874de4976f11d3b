//! Conformance by RFC: messages made by an independent encoder, replies read by an independent decoder and
//! compared as text like dig's.

mod rate_limit;
mod rfc1034;
mod rfc1035;
mod rfc2181;
mod rfc2308;
mod rfc4035;
mod rfc4592;
mod rfc4892;
mod rfc6672;
mod rfc6891;
mod rfc7828;
mod rfc7871;
mod rfc7873;
mod rfc8482;
mod rfc8914;
mod rfc8945;
mod rfc9460;
mod rfc9619;
mod robustness;
mod steering;

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use domain::base::ParsedName;
use domain::base::rdata::ParseAnyRecordData;
use domain::dep::octseq::Parser;
use domain::rdata::AllRecordData;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use portolan::answer::{Arrival, Outcome, Reply, Transport, handle};
use portolan::geo::Index;
use portolan::health::{Severity, State};
use portolan::model::KeyPrefix;
use portolan::model::{
    AllDown, Condition, Endpoint, EndpointRef, Location, Member, Rank, Reach, Region, RegionId, Rules,
    Service, ServiceId, ServiceKind, Share, Steering, Topology, Ttl, Unix, Weight,
};
use portolan::prepare::world;
use portolan::snapshot::{Plan, Snapshot};
use portolan::state;
use portolan::zone::{Zone, Zones};

/// The apex of every zone, which the text given for it leaves out.
const APEX: &str = "$TTL 300\n@ 600 SOA ns h 7 3600 600 86400 60\n@ NS ns\nns A 192.0.2.53\n";

/// A server: its zones, its services and the state of their addresses.
struct Server {
    topology: Topology,
    zones: Vec<Zone>,
    ecs: bool,
    down: bool,
}

impl Server {
    fn new(zones: &[(&str, &str)]) -> Self {
        let read = |(origin, text): &(&str, &str)| {
            let origin = origin.parse().expect("an origin");
            let mut include = |_: &str| Err("nothing to include".to_owned());
            Zone::read(&origin, &format!("{APEX}{text}"), "zone", &mut include).expect("a zone")
        };
        Self {
            topology: Topology::default(),
            zones: zones.iter().map(read).collect(),
            ecs: true,
            down: false,
        }
    }

    /// A service answered by one region of one endpoint.
    fn service(self, name: &str, addresses: &[&str], all_down: AllDown) -> Self {
        self.shared(name, &[addresses], all_down)
    }

    /// A service shared by regions of one endpoint each.
    fn shared(mut self, name: &str, regions: &[&[&str]], all_down: AllDown) -> Self {
        let members = regions.iter().map(|addresses| self.region(addresses)).collect();
        self.topology.services.push(Service {
            name: name.parse().expect("a name"),
            kind: ServiceKind::ADDRESS,
            members,
            steering: Steering {
                rank: Rank::None,
                share: Share::Weighted,
                answers: 64,
                ttl: Ttl(30).into(),
                all_down,
            },
            fences: Vec::new(),
        });
        self
    }

    fn region(&mut self, addresses: &[&str]) -> Member {
        let region = RegionId(self.topology.regions.len() as u16);
        let at = EndpointRef { region, index: 0 };
        let endpoint = Endpoint {
            name: "lb1".to_owned(),
            reach: Reach::Addresses(
                addresses.iter().map(|address| address.parse().expect("an address")).collect(),
            ),
            weight: Weight(100),
            healthy_when: Condition::ALWAYS,
        };
        self.topology.regions.push(Region {
            name: format!("region{}", region.0),
            location: Location::default(),
            capacity: None,
            healthy_when: Condition::Any(vec![Condition::Endpoint(at)]),
            endpoints: vec![endpoint],
        });
        Member { region, weight: Weight(1) }
    }

    fn start(self) -> Running {
        let state = if self.down { State::Down(Severity::Hard) } else { State::Up };
        let services: Vec<_> = (0_u32..)
            .zip(&self.topology.services)
            .map(|(id, service)| (service.name.clone(), ServiceId(id)))
            .collect();
        let zones = Zones::build(self.zones, &services).expect("services that fit the zones");
        let plan = Plan::compile(self.topology, zones, Index::default(), self.ecs, KeyPrefix::default());
        let standing = state::assume(&world(&plan, Rules::default()), &[], NOW, &|_, _| state);
        Running(Snapshot {
            plan: Arc::new(plan),
            standing: Arc::new(standing),
            challenges: <_>::default(),
            epoch: 1,
        })
    }
}

const NOW: Unix = Unix(Duration::from_secs(1_700_000_000));

/// How long a connection over TCP may be idle.
const KEEPALIVE: Duration = Duration::from_millis(12_300);

/// A server that answers.
struct Running(Snapshot);

impl Running {
    /// The bytes of a reply; `None` if the message was dropped.
    fn raw(&self, message: &[u8], transport: Transport) -> (Option<Vec<u8>>, Outcome) {
        let arrival = Arrival {
            peer: SocketAddr::from(([198, 51, 100, 7], 5353)),
            local: SocketAddr::from(([192, 0, 2, 53], 53)),
            transport,
            encrypted: false,
            keepalive: (transport == Transport::Tcp).then_some(KEEPALIVE),
        };
        let mut reply = Reply::new(1);
        let outcome = handle(&self.0, message, arrival, NOW, &mut reply);
        (matches!(outcome, Outcome::Answered { .. }).then_some(reply.bytes), outcome)
    }

    /// The reply to a message.
    fn exchange(&self, message: &Message, transport: Transport) -> Message {
        let (bytes, outcome) = self.raw(&message.to_vec().expect("an encodable query"), transport);
        let reply = Message::from_vec(&bytes.expect("a reply")).expect("a decodable reply");
        assert_eq!(reply.metadata.id, message.metadata.id);
        assert_eq!(reply.metadata.message_type, MessageType::Response);
        let Outcome::Answered { rcode, truncated, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!((rcode, truncated), (reply.metadata.response_code.into(), reply.metadata.truncation));
        reply
    }

    /// Asks `"name TYPE"` over UDP without EDNS and compares the reply's text, line by line.
    #[track_caller]
    fn check(&self, asked: &str, expected: &str) {
        self.check_message(&query(asked), expected);
    }

    #[track_caller]
    fn check_message(&self, message: &Message, expected: &str) {
        let reply = text(&self.exchange(message, Transport::Udp));
        let expected: String = expected.lines().fold(String::new(), |mut all, line| {
            if !line.trim().is_empty() {
                let _ = writeln!(all, "{}", line.trim());
            }
            all
        });
        assert_eq!(reply, expected, "\n{reply}");
    }
}

/// A query for `"name TYPE"`.
fn query(asked: &str) -> Message {
    let (name, rtype) = asked.split_once(' ').expect("a name and a type");
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    let rtype = match rtype {
        "AXFR" => RecordType::AXFR,
        "IXFR" => RecordType::IXFR,
        other => other.parse().expect("a type"),
    };
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), rtype));
    message
}

/// Adds EDNS to a query.
fn with_edns(mut message: Message, payload: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(payload);
    message.set_edns(edns);
    message
}

/// Adds a client subnet to a query.
fn with_subnet(message: Message, address: &str, source: u8) -> Message {
    let mut message = with_edns(message, 1232);
    let address: IpAddr = address.parse().expect("an address");
    let subnet = EdnsOption::Subnet(ClientSubnet::new(address, source, 0));
    message.edns.as_mut().expect("just set").options_mut().insert(subnet);
    message
}

/// A reply as dig shows it: status and flags, OPT, then the records of each section.
fn text(reply: &Message) -> String {
    let head = &reply.metadata;
    let mut text = match head.response_code {
        // 16 is BADSIG for TSIG and BADVERS for EDNS; there is no TSIG here.
        ResponseCode::BADSIG => "BADVERS".to_owned(),
        code => format!("{code:?}").to_uppercase(),
    };
    let flags = [
        (head.authoritative, "aa"),
        (head.truncation, "tc"),
        (head.recursion_desired, "rd"),
        (head.recursion_available, "ra"),
        (head.authentic_data, "ad"),
        (head.checking_disabled, "cd"),
    ];
    for (_, flag) in flags.iter().filter(|(set, _)| *set) {
        let _ = write!(text, " {flag}");
    }
    text.push('\n');
    if let Some(edns) = &reply.edns {
        let dnssec_ok = if edns.flags().dnssec_ok { " do" } else { "" };
        let _ = write!(text, "edns {}{dnssec_ok}", edns.max_payload());
        if let Some(EdnsOption::Subnet(subnet)) = edns.option(EdnsCode::Subnet) {
            let _ = write!(text, " {}/{}/{}", subnet.addr(), subnet.source_prefix(), subnet.scope_prefix());
        }
        text.push('\n');
    }
    let sections = [("AN", &reply.answers), ("NS", &reply.authorities), ("AR", &reply.additionals)];
    for (section, records) in sections {
        for record in records {
            let Record { name, ttl, data, .. } = record;
            let line = format!("{section} {name} {ttl} {} {}", record.record_type(), data_text(data));
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }
    text
}

/// Record data as text. Types that one library does not know are printed by the other.
fn data_text(data: &RData) -> String {
    let RData::Unknown { code, rdata } = data else { return data.to_string() };
    let mut parser = Parser::from_ref(rdata.anything.as_slice());
    let rtype = domain::base::Rtype::from_int(u16::from(*code));
    AllRecordData::<&[u8], ParsedName<&[u8]>>::parse_any_rdata(rtype, &mut parser)
        .expect("valid data")
        .to_string()
}
