//! `GET /v1/map` and `POST /v1/plan`: where clients are sent now, and whom a change would move, by [`crate::forecast`].

mod asked;
mod config;
mod map;
mod plan;

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use axum::http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

pub(super) use map::{get_map, service_named};
pub(super) use plan::post_plan;

use super::dto;
use super::problem::Problem;
use crate::forecast::{Demand, Regions, Shares};
use crate::model::{Country, Family, RegionId};
use crate::snapshot::Plan;

/// How long a request waits for its turn: forecasts are made one at a time, so that they take no more than one core.
const TURN: Duration = Duration::from_secs(5);

/// Makes forecasts, one at a time, on a thread where they keep nobody from work.
#[derive(Clone, Debug)]
pub struct Forecasts {
    turn: Arc<Semaphore>,
    demand: Arc<Mutex<Option<Known>>>,
}

/// The clients of the plan that was last asked about. A plan is freed although its forecasts are kept.
#[derive(Debug)]
struct Known {
    plan: Weak<Plan>,
    demand: Arc<Demand>,
}

/// The right to make a forecast.
struct Turn {
    permit: OwnedSemaphorePermit,
    demand: Arc<Mutex<Option<Known>>>,
}

impl Default for Forecasts {
    fn default() -> Self {
        Self { turn: Arc::new(Semaphore::new(1)), demand: Arc::default() }
    }
}

impl Forecasts {
    /// Waits until no other forecast is being made.
    ///
    /// # Errors
    /// If that takes too long.
    async fn turn(&self) -> Result<Turn, Problem> {
        match timeout(TURN, Arc::clone(&self.turn).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Turn { permit, demand: Arc::clone(&self.demand) }),
            _ => Err(Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!(
                    "other forecasts are being made, and none has ended for {} s: try again",
                    TURN.as_secs()
                ),
            )),
        }
    }
}

impl Turn {
    /// Does work with the clients of a plan.
    ///
    /// # Errors
    /// If the work panics.
    async fn run<R: Send + 'static>(
        self,
        plan: Arc<Plan>,
        work: impl FnOnce(&Demand) -> R + Send + 'static,
    ) -> Result<R, Problem> {
        let Self { permit, demand } = self;
        let running = tokio::task::spawn_blocking(move || {
            let result = work(&demand_of(&plan, &demand));
            // Held by the work rather than the request, which may end before.
            drop(permit);
            result
        });
        running.await.map_err(|error| {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the forecast failed: {error}"))
        })
    }
}

/// The clients of a plan: those that are kept if they are its own.
fn demand_of(plan: &Arc<Plan>, kept: &Mutex<Option<Known>>) -> Arc<Demand> {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    match &*kept {
        Some(known) if known.plan.as_ptr() == Arc::as_ptr(plan) => Arc::clone(&known.demand),
        _ => {
            let demand = Arc::new(Demand::new(&plan.geo, &plan.steering));
            *kept = Some(Known { plan: Arc::downgrade(plan), demand: Arc::clone(&demand) });
            demand
        }
    }
}

/// The address family of answers; names have none.
fn shown_family(family: Family) -> Option<dto::Family> {
    match family {
        Family::V4 => Some(dto::Family::V4),
        Family::V6 => Some(dto::Family::V6),
        Family::Host => None,
    }
}

/// ISO 3166-1 leaves ZZ to users; CLDR has it for an unknown country, too.
pub(super) fn country_code(country: Option<Country>) -> String {
    country.map_or_else(|| "ZZ".into(), |country| country.to_string())
}

fn region_shares(regions: &Regions, shares: &Shares) -> Vec<dto::RegionShare> {
    let share = |(region, share): &(RegionId, f64)| dto::RegionShare {
        region: regions.names[usize::from(region.0)].clone(),
        share: rounded(*share),
    };
    shares.iter().map(share).collect()
}

/// Without the errors of adding up.
fn rounded(share: f64) -> f64 {
    (share * 1e9).round() / 1e9
}
