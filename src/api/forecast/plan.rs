//! `POST /v1/plan`: a change of overrides is tried by the engine, as an override is set, and the standings before and
//! after it are compared. For another config, see [`super::config`].

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::{Extension, Json};

use super::asked::Asked;
use super::config::plan_of_config;
use super::map::{map, service_named};
use super::{country_code, region_shares, rounded, shown_family};
use crate::api::access::Bearer;
use crate::api::dto;
use crate::api::problem::Problem;
use crate::api::routes::{Api, action};
use crate::engine::Previewed;
use crate::forecast::{Demand, Move, Regions, Side, endpoint_shares, moves, pairs};
use crate::model::{Family, ServiceId, Target, TargetError, Topology};
use crate::net::clock::Clock;
use crate::safety::{self, LeftToAllDown, Unserved, unserved};
use crate::snapshot::Snapshot;
use crate::standing::Standing;
use crate::state::{OverrideChange, OverrideRequest, Preview};

/// The most services that a plan lists.
pub(super) const MOST_SERVICES: usize = 100;

/// The most countries that a plan lists, of all its services together; each service has its part of them.
const MOST_COUNTRIES: usize = 2500;

pub(in crate::api) async fn post_plan(
    State(api): State<Api>,
    Extension(asker): Extension<Bearer>,
    request: Result<Json<dto::PlanRequest>, JsonRejection>,
) -> Result<Json<dto::Plan>, Problem> {
    let Json(mut request) = request.map_err(|e| Problem::bad_request(e.body_text()))?;
    let wanted = request.map.take();
    if let dto::PlanRequest {
        config: Some(path),
        target: None,
        action: None,
        share: None,
        restore: None,
        map: None,
    } = request
    {
        return Ok(Json(plan_of_config(api, &asker, path.into(), wanted).await?));
    }
    let (change, target) = change(request, asker.by)?;
    let turn = api.forecasts.turn().await?;
    let previewed = api.engine.preview(change).await??;
    let plan = Arc::clone(&previewed.plan);
    let wanted = wanted.map(|name| service_named(&plan.topology, &name)).transpose()?;
    let traffic = api.traffic.clone();
    let work = move |demand: &Demand| {
        let asked = Asked::of(traffic.as_ref(), &previewed.plan.topology);
        let compared = compared(&previewed, &target, demand, &asked);
        dto::Plan { map: wanted.map(|service| map_after(previewed, demand, &asked, service)), ..compared }
    };
    Ok(Json(turn.run(plan, work).await?))
}

/// The change that a request describes, and its target.
fn change(request: dto::PlanRequest, by: String) -> Result<(OverrideChange, Target), Problem> {
    let parsed = |text: String| text.parse().map_err(|e: TargetError| Problem::bad_request(e.to_string()));
    match request {
        dto::PlanRequest {
            target: Some(target),
            action: Some(does),
            share,
            restore: None,
            map: None,
            config: None,
        } => {
            let target: Target = parsed(target)?;
            let action = action(does, share).map_err(Problem::bad_request)?;
            let request = OverrideRequest {
                target: target.clone(),
                action,
                lasts: None,
                reason: None,
                override_safety: false,
                by,
            };
            Ok((OverrideChange::Set(request), target))
        }
        dto::PlanRequest {
            target: None,
            action: None,
            share: None,
            restore: Some(target),
            map: None,
            config: None,
        } => {
            let target: Target = parsed(target)?;
            Ok((OverrideChange::Restore(target.clone()), target))
        }
        _ => Err(Problem::bad_request(
            "a plan has `target` and `action`, and perhaps `share`, or only `restore`, or only `config`",
        )),
    }
}

fn compared(previewed: &Previewed, target: &Target, demand: &Demand, asked: &Asked) -> dto::Plan {
    let Previewed { plan, epoch, preview } = previewed;
    let Preview { before, after, refusal, no_effect } = preview;
    let sides = [before, after].map(|standing| Side { plan, standing });
    dto::Plan {
        refused: refusal.clone(),
        no_effect: no_effect.clone(),
        endpoints: endpoints(&plan.topology, before, after, target),
        pool: pool(&plan.topology, before, after, target),
        ..listed(sides, &Regions::of_one(&plan.topology), demand, asked, *epoch)
    }
}

/// A plan with the services whose clients move.
pub(super) fn listed(
    sides: [Side<'_>; 2],
    regions: &Regions,
    demand: &Demand,
    asked: &Asked,
    epoch: u64,
) -> dto::Plan {
    let measured = |service| asked.weights(demand, service);
    let moves = moves(sides, regions, demand, &measured, Clock::unix());
    let shown = moves.len().min(MOST_SERVICES);
    let most_countries = MOST_COUNTRIES / shown.max(1);
    let topology = &sides[0].plan.topology;
    let service = |it| service(topology, regions, demand, it, most_countries);
    dto::Plan {
        refused: None,
        no_effect: None,
        all_down: left_to_all_down(sides),
        epoch,
        basis: basis(&moves),
        services: moves[..shown].iter().map(service).collect(),
        services_left_out: moves.len() - shown,
        endpoints: Vec::new(),
        pool: None,
        map: None,
        config: None,
    }
}

/// What the services would be answered that a change leaves without a region.
fn left_to_all_down(sides: [Side<'_>; 2]) -> Option<String> {
    let [before, after] = sides;
    let sets = |side: Side<'_>| Arc::clone(side.plan.steering.region_sets());
    let mut already = unserved(&before.plan.topology, &sets(before), before.standing);
    if !already.is_empty() && !std::ptr::eq(before.plan, after.plan) {
        let ids: HashMap<ServiceId, ServiceId> =
            pairs(&before.plan.topology, &after.plan.topology).into_iter().map(<_>::into).collect();
        let of_after = |it: Unserved| Some(Unserved { service: *ids.get(&it.service)?, ..it });
        already = already.into_iter().filter_map(of_after).collect();
        already.sort_unstable();
    }
    let left = safety::left_to_all_down(&after.plan.topology, &sets(after), after.standing, &already);
    LeftToAllDown::sentence(&left)
}

/// Where the clients of a service would be sent.
fn map_after(previewed: Previewed, demand: &Demand, asked: &Asked, service: ServiceId) -> dto::Map {
    let Previewed { plan, epoch, preview } = previewed;
    let standing = Arc::new(preview.after);
    let snapshot = Snapshot { plan, standing, challenges: Arc::default(), epoch };
    map(&snapshot, demand, asked.weights(demand, service), service)
}

/// What the clients of all services that move are counted by.
fn basis(moves: &[Move]) -> dto::Basis {
    let measured = moves.iter().filter(|it| it.is_measured).count();
    match measured {
        0 => dto::Basis::Addresses,
        _ if measured == moves.len() => dto::Basis::Queries,
        _ => dto::Basis::Mixed,
    }
}

fn service(
    topology: &Topology,
    regions: &Regions,
    demand: &Demand,
    it: &Move,
    most_countries: usize,
) -> dto::PlanService {
    let (service, change) = (topology.service(it.service), &it.change);
    let shown = change.countries.len().min(most_countries);
    let country = |of: &crate::forecast::CountryChange| dto::PlanCountry {
        country: country_code(demand.countries[of.country].country),
        weight: rounded(of.weight),
        moved: rounded(of.moved),
        from: region_shares(regions, &of.before),
        to: region_shares(regions, &of.after),
    };
    dto::PlanService {
        service: service.name.to_string(),
        kind: (&service.kind).into(),
        family: it.family.and_then(shown_family),
        basis: if it.is_measured { dto::Basis::Queries } else { dto::Basis::Addresses },
        moved: rounded(change.moved),
        gains: region_shares(regions, &change.gains),
        before: region_shares(regions, &change.before),
        after: region_shares(regions, &change.after),
        countries: change.countries[..shown].iter().map(country).collect(),
        countries_left_out: change.countries.len() - shown,
    }
}

/// For an endpoint: how the clients of its region are divided among its endpoints, in each family where that changes.
fn endpoints(
    topology: &Topology,
    before: &Standing,
    after: &Standing,
    target: &Target,
) -> Vec<dto::PlanEndpoints> {
    let Target::Endpoint { region, .. } = target else { return Vec::new() };
    let Some(id) = topology.region_named(region) else { return Vec::new() };
    let shares = |standing: &Standing, family: Family| -> Vec<dto::EndpointShare> {
        let shares = endpoint_shares(standing, id, family).into_iter();
        shares
            .map(|(at, share)| dto::EndpointShare {
                endpoint: topology.endpoint(at).name.clone(),
                share: rounded(share),
            })
            .collect()
    };
    let of_family = |family: Family| {
        let (before, after) = (shares(before, family), shares(after, family));
        let family = shown_family(family);
        (before != after).then(|| dto::PlanEndpoints { region: region.clone(), family, before, after })
    };
    Family::ALL.into_iter().filter_map(of_family).collect()
}

fn pool(topology: &Topology, before: &Standing, after: &Standing, target: &Target) -> Option<dto::PlanPool> {
    let Target::Backend { pool: name, .. } = target else { return None };
    let id = topology.pool_named(name)?;
    let pool = topology.pool(id);
    let used = |standing: &Standing| {
        let open = &standing.pool(id).open;
        let backends = pool.backends.iter().enumerate();
        let used = backends.filter(|(index, _)| open.iter().any(|it| usize::from(it.backend) == *index));
        used.map(|(_, backend)| backend.name.clone()).collect()
    };
    Some(dto::PlanPool { name: name.clone(), before: used(before), after: used(after) })
}
