//! Portolan is a DNS-based global server load balancer: an authoritative name server that answers each
//! query with the endpoints of the best *region* for that client, and a health engine that probes the
//! regions' balancers in depth and withdraws regions that cannot serve.
//!
//! # Architecture
//!
//! The table lists the modules in reading order. The *core* is synchronous and pure: it opens no sockets or files,
//! reads no clock and needs no runtime; callers pass in what it needs, `now` included. The *shells* do the I/O.
//! A module imports only what the table allows. `tests/it/tidy.rs` reads this table and checks every `crate::` path
//! against it; naming a module that is not imported is an error, too.
//!
//! | module | what it contains | may import |
//! |---|---|---|
//! | **core** | | |
//! | [`model`] | regions, endpoints, probes, services, places: the validated types that all modules use | – |
//! | [`pick`] | choosing one of many: rendezvous hashing, and the balancers of backends | model |
//! | [`geo`] | address → place and the prefix for which it is valid, compiled from MMDB data and overrides | model |
//! | [`traffic`] | dynamic answers counted by service, region and country, and by network, in fixed memory | model, geo |
//! | [`health`] | observation → verdict: thresholds, hold, composites | model |
//! | [`latency`] | client place × region → round-trip time: table, distance estimate | model, geo |
//! | [`standing`] | what may be used right now, from verdicts, overrides and safety rules | model, pick, health |
//! | [`safety`] | rules that restrict automation and operators | model, health, standing |
//! | [`state`] | the node's state: verdicts, overrides, resolved hosts; observations and commands in, a finished standing and events out | model, health, standing, safety |
//! | [`steer`] | `rank` (compiled in advance) and `choose`, with the trace that `explain` shows | model, pick, geo, latency, standing |
//! | [`route`] | the routes of a listener compiled: which one a request takes, and why not another | model, pick |
//! | [`zone`] | RFC 1035 text → one label tree of RRsets and dynamic names | model |
//! | [`wire`] | DNS messages: decoding, encoding, EDNS | model, zone |
//! | [`snapshot`] | everything that a query sees: plan, standing, epoch | all above |
//! | [`answer`] | `handle(&Snapshot, &[u8], Arrival, now, &mut Reply) → Outcome` | all above |
//! | [`forecast`] | what would happen: where the clients of each country are sent, and whom a change would move | model, geo, steer, snapshot, standing |
//! | [`config`] | TOML text → model, with every mistake at its file, line and column; names the files to open, but opens none | model, zone, geo |
//! | **shells** | | |
//! | [`supervise`] | parts of the process that end or stall are noticed; faults for tests | – |
//! | [`net`] | sockets and their options, batched UDP, TLS, resolvers, the clock | model |
//! | [`probe`] | one file per probe kind, and the scheduler that runs them | model, health, net, supervise |
//! | [`journal`] | SQLite on its own thread: overrides and verdicts that survive a restart | model, health, standing, supervise |
//! | [`prepare`] | prepares a config to run: reads files, builds geo index, plan, probes, TLS trust, resolver. Everything that can fail happens here | core, net, probe |
//! | [`engine`] | the task that owns the state: observations, resolved hosts and commands in, snapshots out | core, net, supervise, probe, journal, prepare |
//! | [`dns`] | UDP workers, TCP | model, traffic, wire, answer, snapshot, net, supervise |
//! | [`proxy`] | the regional balancer: workers, HTTP, TCP, TLS, connections to backends | model, pick, health, route, standing, snapshot, net, supervise |
//! | [`acme`] | certificates of the proxy by ACME: accounts, orders, renewal, files | core, net, supervise, engine, prepare |
//! | [`api`] | REST, event stream, metrics; the types of its JSON | core, net (its clock, limits and certificates), supervise, engine, prepare (what a reload prepares, and why it failed) |
//! | [`node`] | assembly: builds the modules that a config asks for; owns reload; signals, drain; the demo's regions | everything but cli |
//! | [`cli`] | one file per subcommand | core, net (its clock), prepare, api, node |
//!
//! # Invariants
//!
//! - A query sees exactly one snapshot, and the query path takes no lock.
//! - `choose` has no random source of its own: the same snapshot, client and time window give the same answer on every
//!   node.
//! - Losing the journal, the geo database or every route to the probed addresses never stops answers: the last good
//!   state stays in use.
//! - Unknown is never treated as down. What happens when all regions are down is a configured policy, never an
//!   accident.
//! - An override never overwrites a verdict: both are kept.
//! - A hard-down address is never answered while an eligible address exists.

pub mod acme;
pub mod answer;
pub mod api;
pub mod cli;
pub mod config;
pub mod dns;
pub mod engine;
pub mod forecast;
pub mod geo;
pub mod health;
pub mod journal;
pub mod latency;
pub mod model;
pub mod net;
pub mod node;
pub mod pick;
pub mod prepare;
pub mod probe;
pub mod proxy;
pub mod route;
pub mod safety;
pub mod snapshot;
pub mod standing;
pub mod state;
pub mod steer;
pub mod supervise;
pub mod traffic;
pub mod wire;
pub mod zone;
