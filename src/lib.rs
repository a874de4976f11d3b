//! Portolan is a DNS-based global server load balancer: an authoritative name server that answers each
//! query with the endpoints of the best *region* for that client, and a health engine that deep-probes the
//! regions' balancers and withdraws a region that cannot serve.
//!
//! # The map of the house
//!
//! The modules below stand in reading order. The *pure core* is synchronous and knows no sockets, files,
//! clocks or runtimes: what it needs of the world, `now` included, is passed in. The *shells* do the I/O.
//! A room imports only what this table allows; `tests/it/tidy.rs` holds every `crate::` path to it.
//!
//! | room | what lives there | may import |
//! |---|---|---|
//! | **core** | | |
//! | [`model`] | regions, endpoints, probes, services, places: the validated words everyone uses | – |
//! | [`pick`] | choosing one of many: weighted rendezvous | model |
//! | [`geo`] | address → place and the prefix it holds for, compiled over MMDB data and overrides | model |
//! | [`health`] | observation → verdict: thresholds, hold, composites | model |
//! | [`latency`] | client place × region → round-trip time: table, distance estimate | model, geo |
//! | [`standing`] | what may be used right now: verdicts, overrides, what safety holds | model, pick, health |
//! | [`safety`] | rules that bind automation and operators | model, health, standing |
//! | [`state`] | the node's memory: verdicts, overrides, resolved hosts; observations and commands in, a finished standing and events out | model, health, standing, safety |
//! | [`steer`] | `rank` (compiled ahead) and `choose`, with the trace that *is* `explain` | model, pick, geo, latency, standing |
//! | [`zone`] | RFC 1035 text → one label tree of RRsets and dynamic names | model |
//! | [`wire`] | DNS messages: decoding, encoding, EDNS | model, zone |
//! | [`snapshot`] | all that a query sees: plan, standing, epoch | all above |
//! | [`answer`] | `handle(&Snapshot, &[u8], Peer, now, &mut Reply) → Outcome` | all above |
//! | [`config`] | TOML text → model, with every mistake at its file, line and column; names what is to be opened, opens nothing | model, zone, geo |
//! | **shells** | | |
//! | [`net`] | sockets and their options, batched UDP, TLS, resolvers | model |
//! | [`probe`] | one file per probe kind, and the scheduler that runs them | model, health, net |
//! | [`journal`] | SQLite on a thread of its own: overrides and verdicts that survive a restart | model, health, standing |
//! | [`prepare`] | a config made ready to run: files read, geo index, plan, probes, TLS trust, resolver. Everything that can fail happens here | core, net, probe |
//! | [`engine`] | the one task that owns the state: observations, resolved hosts and commands in, snapshots out | core, net, probe, journal, prepare |
//! | [`dns`] | UDP workers, TCP | model, zone, wire, answer, snapshot, net, engine |
//! | [`api`] | REST, event stream, metrics; the shapes of its JSON | engine, prepare (why a reload failed), snapshot, net, model, and the core's reads |
//! | [`node`] | assembly: builds the rooms a config asks for, signals, reload, drain; the demo's regions | everything but cli |
//! | [`cli`] | one file per subcommand | node, api, engine, prepare, core |
//!
//! # What never happens
//!
//! - A query never sees two snapshots, and the query path never takes a lock.
//! - `choose` has no random source of its own: same snapshot, client and time window, same answer on every node.
//! - Losing the journal, the geo database or every route to probe over never stops answers: the last good state serves.
//! - Unknown is never treated as down, and all regions down is a policy, never an accident.
//! - An override stands beside a verdict and never overwrites it.
//! - A hard-down address is not answered while an eligible one exists.

pub mod answer;
pub mod api;
pub mod cli;
pub mod config;
pub mod dns;
pub mod engine;
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
pub mod safety;
pub mod snapshot;
pub mod standing;
pub mod state;
pub mod steer;
pub mod wire;
pub mod zone;
