//! The tasks that discover the backends of pools: one for each pool, which asks resolvers or reads a file.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::config::{FileKind, discovered_backends, why_unreadable};
use crate::model::{Backend, BackendReach, Discover, Lookup, Name, Weight};
use crate::net::resolver::Resolver;
use crate::prepare::files;
use crate::state::KnownHost;

/// The result of a lookup or of reading a file.
#[derive(Debug, PartialEq)]
pub(super) struct Report {
    pub(super) pool: String,
    /// What was found; `None` if what is in use must stay.
    pub(super) backends: Option<Vec<Backend>>,
    /// What is wrong, as a clause.
    pub(super) problem: Option<String>,
}

/// The time between two looks at a file. A change is applied once it has been seen twice, so that a file that is being
/// written is not taken for a shorter one.
const POLL: Duration = Duration::from_secs(1);

/// Targets of the SRV records of a name; each is looked up.
const MOST_TARGETS: usize = 256;

/// Discovers the backends of a pool until the receiver of the reports is gone.
pub(super) async fn run(
    pool: String,
    source: Discover,
    resolver: Option<Arc<Resolver>>,
    reports: mpsc::Sender<Report>,
) {
    match (source, resolver) {
        (Discover::File(path), _) => watch(pool, path, reports).await,
        (Discover::Host { name, port }, Some(resolver)) => {
            let mut known = KnownHost::default();
            loop {
                let lookup = resolver.addresses(&name).await;
                let pause = lookup.pause();
                let (found, problem) = addresses(&mut known, lookup, port);
                let backends = (!found.is_empty()).then(|| found.into_iter().map(backend).collect());
                if reports.send(Report { pool: pool.clone(), backends, problem }).await.is_err() {
                    return;
                }
                sleep(pause).await;
            }
        }
        (Discover::Services(name), Some(resolver)) => {
            let mut known = BTreeMap::new();
            loop {
                let (report, pause) = services(&pool, &name, &resolver, &mut known).await;
                if reports.send(report).await.is_err() {
                    return;
                }
                sleep(pause).await;
            }
        }
        // Without hosts there is no resolver.
        (Discover::Host { .. } | Discover::Services(_), None) => {}
    }
}

/// A backend at this address, with weight 1.
pub(super) fn backend(address: SocketAddr) -> Backend {
    Backend {
        name: address.to_string(),
        reach: BackendReach::Address(address.ip()),
        port: address.port(),
        weight: Weight(1),
        backup: false,
    }
}

/// The addresses of a host after a lookup: of a family that failed, those before.
fn addresses(known: &mut KnownHost, lookup: Lookup, port: u16) -> (Vec<SocketAddr>, Option<String>) {
    let problem = known.apply(lookup);
    (known.all().map(|ip| SocketAddr::new(ip, port)).collect(), problem)
}

async fn services(
    pool: &str,
    name: &Name,
    resolver: &Resolver,
    known: &mut BTreeMap<Name, KnownHost>,
) -> (Report, Duration) {
    let report = |backends, problem| Report { pool: pool.to_owned(), backends, problem };
    let (records, ttl) = match resolver.services(name).await {
        Ok((records, _)) if records.is_empty() => {
            return (report(None, Some(format!("{name} has no SRV record"))), Lookup::MIN_PAUSE);
        }
        Ok((records, _)) if records.len() > MOST_TARGETS => {
            let why = format!("{name} has {} SRV records, more than {MOST_TARGETS}", records.len());
            return (report(None, Some(why)), Lookup::MIN_PAUSE);
        }
        Ok(found) => found,
        Err(why) => return (report(None, Some(format!("SRV of {name}: {why}"))), Lookup::MIN_PAUSE),
    };
    known.retain(|host, _| records.iter().any(|it| it.target == *host));
    let mut pause = ttl.clamp(Lookup::MIN_PAUSE, Lookup::MAX_PAUSE);
    let mut problem = None;
    for target in records.iter().map(|it| &it.target).collect::<std::collections::BTreeSet<_>>() {
        let lookup = resolver.addresses(target).await;
        pause = pause.min(lookup.pause());
        if let Some(why) = known.entry(target.clone()).or_default().apply(lookup) {
            problem.get_or_insert_with(|| format!("{target}: {why}"));
        }
    }
    let first = records.iter().map(|it| it.priority).min();
    let mut found: Vec<Backend> = Vec::new();
    for record in &records {
        for ip in known.get(&record.target).into_iter().flat_map(KnownHost::all) {
            let it = backend(SocketAddr::new(ip, record.port));
            // Weight 0 means a very small share (RFC 2782), not none.
            let weight = Weight(u32::from(record.weight.max(1)));
            if !found.iter().any(|other| other.name == it.name) {
                found.push(Backend { weight, backup: Some(record.priority) != first, ..it });
            }
        }
    }
    (report((!found.is_empty()).then_some(found), problem), pause)
}

/// What a file says, or what is wrong with it.
type Content = Result<Vec<Backend>, String>;

async fn watch(pool: String, path: PathBuf, reports: mpsc::Sender<Report>) {
    let (mut applied, mut seen): (Option<Content>, Option<Content>) = (None, None);
    loop {
        let path = path.clone();
        let Ok(content) = tokio::task::spawn_blocking(move || read(&path)).await else { return };
        let is_settled = applied.is_none() || seen.as_ref() == Some(&content);
        if is_settled && applied.as_ref() != Some(&content) {
            let (backends, problem) = match content.clone() {
                Ok(found) if found.is_empty() => (None, Some("the file lists no backend".to_owned())),
                Ok(found) => (Some(found), None),
                Err(why) => (None, Some(why)),
            };
            if reports.send(Report { pool: pool.clone(), backends, problem }).await.is_err() {
                return;
            }
            applied = Some(content.clone());
        }
        seen = Some(content);
        sleep(POLL).await;
    }
}

fn read(path: &Path) -> Content {
    let at = |why: String| format!("{}: {why}", path.display());
    let bytes = files::read(&FileKind::Backends.at(path)).map_err(|error| at(why_unreadable(&error)))?;
    let text = String::from_utf8(bytes).map_err(|_| at("not UTF-8".into()))?;
    discovered_backends(&text).map_err(at)
}
