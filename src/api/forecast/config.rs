//! `POST /v1/plan` with a config: it is prepared as by a reload, and the standing that it would lead to is compared with
//! the current one.

use std::path::PathBuf;
use std::sync::Arc;

use axum::http::StatusCode;

use super::asked::Asked;
use super::map::{map, service_named};
use super::plan::{MOST_SERVICES, listed};
use crate::api::access::Bearer;
use crate::api::dto;
use crate::api::problem::Problem;
use crate::api::reload::Draft;
use crate::api::routes::{Api, unless_stalled};
use crate::api::traffic::Traffic;
use crate::config::Role;
use crate::engine::{Copied, without_target};
use crate::forecast::{Demand, Regions, Side};
use crate::model::{ServiceId, Topology};
use crate::prepare::{Prepared, world};
use crate::snapshot::Snapshot;
use crate::state::ReloadPreview;

/// `wanted` is the service whose map the plan has as well.
pub(super) async fn plan_of_config(
    api: Api,
    asker: &Bearer,
    path: PathBuf,
    wanted: Option<String>,
) -> Result<dto::Plan, Problem> {
    may_name_files(asker)?;
    if !path.is_absolute() {
        let why = "`config` is the absolute path of a config on the node's host";
        return Err(Problem::bad_request(why));
    }
    let draft = unless_stalled(&api, api.reloads.prepare(path), "the config is prepared when it runs again");
    let draft = draft.await?;
    let turn = api.forecasts.turn().await?;
    let copied = api.engine.copy().await?;
    let (plan, traffic) = (Arc::clone(&copied.plan), api.traffic.clone());
    let wanted =
        wanted.as_deref().map(|name| service_named(&draft.prepared.plan.topology, name)).transpose()?;
    turn.run(plan, move |demand| compared(copied, draft, demand, traffic.as_ref(), wanted)).await?
}

/// The node reads the file and says what is wrong with it, so whoever may only read may not name one.
fn may_name_files(asker: &Bearer) -> Result<(), Problem> {
    let what = "a plan of a config over TCP needs a token with the role operator or admin";
    match asker {
        Bearer { is_anonymous: true, .. } => Err(Problem::new(StatusCode::UNAUTHORIZED, what)),
        Bearer { role, .. } if *role < Role::Operator => Err(Problem::new(StatusCode::FORBIDDEN, what)),
        _ => Ok(()),
    }
}

fn compared(
    copied: Copied,
    draft: Draft,
    demand: &Demand,
    traffic: Option<&Traffic>,
    wanted: Option<ServiceId>,
) -> Result<dto::Plan, Problem> {
    let Copied { plan: old, epoch, state, now } = copied;
    let Draft { prepared: Prepared { config, plan: new, .. }, mut warnings } = draft;
    warnings.extend(without_target(state.overrides(), &new.topology));
    let before = Arc::clone(state.standing());
    let ReloadPreview { standing: after, assumed_up } = state.after_reload(world(&new, config.safety), now);
    let unresolved = new.topology.region_ids().filter(|id| after.region(*id).unresolved);
    warnings.extend(unresolved.map(|id| {
        let name = &new.topology.region(id).name;
        format!("nobody is sent to region {name} in this plan: the addresses of its hosts are not known yet")
    }));
    let regions = Regions::of(&old.topology, &new.topology).ok_or_else(|| {
        let why = "the two configs have more regions than can be compared";
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why)
    })?;
    let split =
        (!Arc::ptr_eq(&old.geo, &new.geo)).then(|| Demand::new(&old.geo.split_by(&new.geo), &old.steering));
    let demand = split.as_ref().unwrap_or(demand);
    let sides = [Side { plan: &old, standing: &before }, Side { plan: &new, standing: &after }];
    let asked = Asked::of(traffic, &old.topology);
    let config = dto::PlanConfig {
        file: config.file.display().to_string(),
        warnings,
        assumed_up: names(assumed_up.iter().map(ToString::to_string)),
        regions_added: names(regions_only_in(&new.topology, &old.topology)),
        regions_removed: names(regions_only_in(&old.topology, &new.topology)),
        services_added: names(services_only_in(&new.topology, &old.topology)),
        services_removed: names(services_only_in(&old.topology, &new.topology)),
    };
    let listed = listed(sides, &regions, demand, &asked, epoch);
    let map = wanted.map(|service| {
        let known = old.topology.services_by_key().get(&new.topology.service(service).key()).copied();
        let demand = Demand::new(&new.geo, &new.steering);
        let measured = known.and_then(|it| asked.weights(&demand, it));
        let snapshot =
            Snapshot { plan: Arc::clone(&new), standing: after, challenges: Arc::default(), epoch };
        map(&snapshot, &demand, measured, service)
    });
    Ok(dto::Plan { config: Some(config), map, ..listed })
}

/// The regions of a topology that another one does not have.
fn regions_only_in<'a>(topology: &'a Topology, other: &'a Topology) -> impl Iterator<Item = String> + 'a {
    let only = topology.regions.iter().filter(|region| other.region_named(&region.name).is_none());
    only.map(|region| region.name.to_string())
}

/// The services of a topology that another one does not have.
fn services_only_in<'a>(topology: &'a Topology, other: &'a Topology) -> impl Iterator<Item = String> + 'a {
    let others = other.services_by_key();
    let only = topology.services.iter().filter(move |service| !others.contains_key(&service.key()));
    only.map(|service| service.name.to_string())
}

fn names(all: impl Iterator<Item = String>) -> dto::PlanNames {
    let mut names: Vec<String> = all.collect();
    let count = names.len();
    names.truncate(MOST_SERVICES);
    dto::PlanNames { count, names }
}
