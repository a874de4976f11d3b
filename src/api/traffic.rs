//! `GET /v1/traffic`: who asks.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

use super::dto;
use super::forecast::{country_code, service_named};
use super::parameters::parameters;
use super::problem::Problem;
use super::routes::Api;
use crate::model::{Country, ServiceId, Topology, Unix};
use crate::net::clock::Clock;
use crate::snapshot::Snapshot;
use crate::state::timestamp;
use crate::traffic::{Measured, Meter, Network, NetworkCount, Row, Totals};

/// The most countries that are listed of all services together; each service has its part of them, and one that is asked
/// for by name has all.
const MOST_COUNTRIES: usize = 2500;

/// The most networks that are listed because they ask the most now, and because they have asked the most.
const MOST_NETWORKS: usize = 50;

/// What a node that answers DNS counts.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// The counts.
    pub meter: Arc<Meter>,
    /// When counting began.
    pub started: Instant,
}

impl Traffic {
    /// What was counted of the services of a topology.
    pub(super) fn measured(&self, topology: &Arc<Topology>) -> Measured {
        self.meter.measured(topology, self.started.elapsed())
    }
}

pub(super) async fn get_traffic(State(api): State<Api>, uri: Uri) -> Result<Json<dto::Traffic>, Problem> {
    let [service] = parameters(&uri, ["service"])?;
    let Some(traffic) = api.traffic else {
        let why = "this node does not answer DNS: its config has no [dns]";
        return Err(Problem::new(StatusCode::NOT_FOUND, why));
    };
    let topology = Arc::clone(&api.engine.snapshots.load().plan.topology);
    let only = service.map(|name| service_named(&topology, &name)).transpose()?;
    // Adding up takes milliseconds for thousands of services.
    let shown = tokio::task::spawn_blocking(move || {
        let measured = traffic.measured(&topology);
        let since = Clock::unix().0.saturating_sub(traffic.started.elapsed());
        View { topology: &topology, measured: &measured }.shown(Unix(since), only)
    });
    let failed = |error| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("adding up the traffic failed: {error}"))
    };
    shown.await.map(Json).map_err(failed)
}

/// What was counted since the start, on a node that answers DNS.
pub(super) async fn totals_of(traffic: Option<Traffic>, snapshot: &Snapshot) -> Option<Totals> {
    let (meter, topology) = (traffic?.meter, Arc::clone(&snapshot.plan.topology));
    tokio::task::spawn_blocking(move || meter.totals(&topology)).await.ok()
}

/// Adds `answers`, `answers_without_region`, `dns_client_countries` and `dns_client_subnets` to a scrape.
pub(super) fn encode(
    totals: &Totals,
    topology: &Topology,
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    // Services of different types may share a name.
    let (mut regions, mut without) = (BTreeMap::new(), BTreeMap::new());
    for (id, service) in (0..).map(ServiceId).zip(&topology.services) {
        let name = service.name.to_string();
        for row in totals.service(id) {
            match row.region.map(|id| topology.region(id).name.as_str()) {
                Some(region) => *regions.entry((name.clone(), region)).or_insert(0) += row.answers,
                None => *without.entry(name.clone()).or_insert(0) += row.answers,
            }
        }
    }
    let help = "Answers from each region of each service, since the start";
    let mut answers = encoder.encode_descriptor("answers", help, None, MetricType::Counter)?;
    for ((service, region), count) in regions {
        let labels = [("service", service.as_str()), ("region", region)];
        ConstCounter::new(count).encode(answers.encode_family(&labels)?)?;
    }
    let help = "Answers of each service that are from none of its regions, since the start";
    let name = "answers_without_region";
    let mut answers = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (service, count) in without {
        ConstCounter::new(count).encode(answers.encode_family(&[("service", service.as_str())])?)?;
    }
    let help = "Answers of services to clients of each country since the start; ZZ if it is not known";
    let name = "dns_client_countries";
    let mut countries = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (country, count) in totals.all_countries() {
        let labels = [("country", country_code(country))];
        ConstCounter::new(count).encode(countries.encode_family(&labels)?)?;
    }
    let help = "Answers of services since the start, by whether they were chosen for a client subnet";
    let name = "dns_client_subnets";
    let mut subnets = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    let (with, all) = (totals.with_subnet, totals.answers());
    for (used, count) in [("yes", with), ("no", all.saturating_sub(with))] {
        ConstCounter::new(count).encode(subnets.encode_family(&[("used", used)])?)?;
    }
    Ok(())
}

/// What was measured, to be shown.
struct View<'a> {
    topology: &'a Topology,
    measured: &'a Measured,
}

impl View<'_> {
    fn shown(&self, since: Unix, only: Option<ServiceId>) -> dto::Traffic {
        let Measured { total, minute, .. } = self.measured;
        let all = (0..self.topology.services.len() as u32).map(ServiceId);
        let asked: Vec<(ServiceId, Vec<Row>)> = all
            .filter(|id| only.is_none_or(|only| only == *id))
            .map(|id| (id, total.service(id)))
            .filter(|(_, rows)| rows.iter().any(|row| row.answers > 0))
            .collect();
        let countries = if only.is_some() { usize::MAX } else { MOST_COUNTRIES / asked.len().max(1) };
        dto::Traffic {
            since: timestamp(since),
            window_s: (minute.length.as_secs_f64() * 1e3).round() / 1e3,
            total: self.answers(total.answers(), minute.totals.answers()),
            client_subnet: self.answers(total.with_subnet, minute.totals.with_subnet),
            removed: self.answers(total.removed, minute.totals.removed),
            services: asked.into_iter().map(|(id, rows)| self.service(id, rows, countries)).collect(),
            networks: self.networks(),
        }
    }

    fn answers(&self, answers: u64, lately: u64) -> dto::Answers {
        let seconds = self.measured.minute.length.max(SHORTEST).as_secs_f64();
        dto::Answers { answers, per_second: (lately as f64 / seconds * 1e3).round() / 1e3 }
    }

    fn service(&self, id: ServiceId, rows: Vec<Row>, most_countries: usize) -> dto::TrafficService {
        let service = self.topology.service(id);
        let lately = self.measured.minute.totals.service(id);
        let sum = |rows: &[Row]| rows.iter().map(|row| row.answers).sum();
        let all = self.answers(sum(&rows), sum(&lately));
        let per_region = most_countries / rows.len().max(1);
        let shown = rows.iter().zip(&lately).filter(|(row, _)| row.region.is_some() || row.answers > 0);
        dto::TrafficService {
            service: service.name.to_string(),
            kind: (&service.kind).into(),
            all,
            regions: shown.map(|(row, lately)| self.region(row, lately, per_region)).collect(),
        }
    }

    fn region(&self, row: &Row, lately: &Row, most_countries: usize) -> dto::TrafficRegion {
        let recent: HashMap<Option<Country>, u64> = lately.countries.iter().copied().collect();
        let recent = |country: &Option<Country>| recent.get(country).copied().unwrap_or(0);
        let mut countries = row.countries.clone();
        // The sort is stable: equal ones stay in the order of their codes.
        countries.sort_by_key(|(_, count)| Reverse(*count));
        let (listed, left_out) = countries.split_at(most_countries.min(countries.len()));
        let country = |(country, count): &(Option<Country>, u64)| dto::TrafficCountry {
            country: country_code(*country),
            all: self.answers(*count, recent(country)),
        };
        dto::TrafficRegion {
            region: row.region.map(|id| self.topology.region(id).name.clone()),
            all: self.answers(row.answers, lately.answers),
            countries: listed.iter().map(country).collect(),
            other: self.answers(
                row.other + left_out.iter().map(|(_, count)| count).sum::<u64>(),
                lately.other + left_out.iter().map(|(country, _)| recent(country)).sum::<u64>(),
            ),
        }
    }

    /// Those that ask the most now, then others that have asked the most.
    fn networks(&self) -> Vec<dto::TrafficNetwork> {
        let Measured { total, minute, .. } = self.measured;
        let lately: HashMap<Network, u64> =
            minute.totals.networks.iter().map(|it| (it.network, it.answers)).collect();
        let all: HashMap<Network, &NetworkCount> = total.networks.iter().map(|it| (it.network, it)).collect();
        let now = minute.totals.networks.iter().take(MOST_NETWORKS).map(|it| it.network);
        let mut listed: Vec<Network> = now.collect();
        for it in total.networks.iter().take(MOST_NETWORKS) {
            if !listed.contains(&it.network) {
                listed.push(it.network);
            }
        }
        let shown = listed.into_iter().filter_map(|network| {
            let NetworkCount { answers, error, .. } = **all.get(&network)?;
            Some(dto::TrafficNetwork {
                network: network.prefix(),
                client_subnet: network.is_subnet(),
                all: self.answers(answers, lately.get(&network).copied().unwrap_or(0)),
                error,
            })
        });
        shown.collect()
    }
}

/// Rates of a shorter time say nothing.
const SHORTEST: Duration = Duration::from_secs(1);
