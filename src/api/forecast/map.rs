//! `GET /v1/map`

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri};

use super::asked::Asked;
use super::{country_code, region_shares, rounded, shown_family};
use crate::api::dto;
use crate::api::parameters::parameters;
use crate::api::problem::Problem;
use crate::api::routes::Api;
use crate::api::status::View;
use crate::forecast::{Demand, Forecast, Regions, families};
use crate::model::{ServiceId, Topology};
use crate::net::clock::Clock;
use crate::snapshot::Snapshot;

pub(in crate::api) async fn get_map(State(api): State<Api>, uri: Uri) -> Result<Json<dto::Map>, Problem> {
    let [service] = parameters(&uri, ["service"])?;
    let snapshot = api.engine.snapshots.load_full();
    let plan = Arc::clone(&snapshot.plan);
    let service = find(&snapshot.plan.topology, service.as_deref())?;
    let turn = api.forecasts.turn().await?;
    let traffic = api.traffic.clone();
    let work = move |demand: &Demand| {
        let asked = Asked::of(traffic.as_ref(), &snapshot.plan.topology);
        map(&snapshot, demand, asked.weights(demand, service), service)
    };
    let map = turn.run(plan, work).await?;
    Ok(Json(map))
}

/// The service of this name, or without one the first.
fn find(topology: &Topology, name: Option<&str>) -> Result<ServiceId, Problem> {
    let Some(name) = name else {
        let is_any = !topology.services.is_empty();
        return is_any
            .then_some(ServiceId(0))
            .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "this node has no services"));
    };
    service_named(topology, name)
}

/// The service of this name.
///
/// # Errors
/// If there is none, or it is not a name.
pub(in crate::api) fn service_named(topology: &Topology, text: &str) -> Result<ServiceId, Problem> {
    let name = text
        .parse()
        .map_err(|e| Problem::bad_request(format!("`{text}` is not a valid domain name: {e}")))?;
    let found = topology.services_named(&name).next();
    found.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, format!("there is no service `{name}`")))
}

/// `measured` are the weights of the countries by what the service was asked, if enough is known of it.
pub(super) fn map(
    snapshot: &Snapshot,
    demand: &Demand,
    measured: Option<Vec<f64>>,
    service: ServiceId,
) -> dto::Map {
    let Snapshot { plan, standing, epoch, .. } = snapshot;
    let unix = Clock::unix();
    let family = families(plan, standing, service)[0];
    let shares = Forecast { plan, demand, service, family, unix }.countries(standing);
    let topology = &plan.topology;
    let names = Regions::of_one(topology);
    let basis = if measured.is_some() { dto::Basis::Queries } else { dto::Basis::Addresses };
    let weights = measured.unwrap_or_else(|| demand.by_addresses());
    let all = demand.countries.iter().zip(&shares).zip(weights);
    // A country that asked nothing is sent somewhere, too.
    let weighed = all.filter(|((country, _), weight)| *weight > 0.0 || country.country.is_some());
    let countries = weighed.map(|((country, shares), weight)| dto::MapCountry {
        country: country_code(country.country),
        weight: rounded(weight),
        client: country.client,
        regions: region_shares(&names, shares),
    });
    let view = View::new(snapshot, &[], &[], &[], unix).service(service);
    let gets_clients = |name: &str| {
        let all = shares.iter().flatten();
        all.into_iter().any(|(region, _)| topology.region(*region).name == name)
    };
    let region = |region: &dto::ServiceRegion| {
        let id = topology.region_named(&region.name);
        let point = id.and_then(|id| topology.region(id).location.point);
        let available = match region.usable {
            dto::Usable::Yes | dto::Usable::Reduced => true,
            dto::Usable::IfNothingElse => gets_clients(&region.name),
            dto::Usable::No => region.held.is_some(),
        };
        dto::MapRegion {
            name: region.name.clone(),
            lat: point.map(|point| degrees(point.lat)),
            lon: point.map(|point| degrees(point.lon)),
            available,
        }
    };
    dto::Map {
        service: view.name.clone(),
        kind: view.kind,
        family: shown_family(family),
        epoch: *epoch,
        basis,
        regions: view.regions.iter().map(region).collect(),
        countries: countries.collect(),
    }
}

/// As the config writes it, which single precision keeps to a ten-thousandth.
fn degrees(value: f32) -> f64 {
    (f64::from(value) * 1e4).round() / 1e4
}
