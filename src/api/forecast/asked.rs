//! What services were asked lately: the weights of countries in forecasts.

use std::sync::Arc;

use crate::api::traffic::Traffic;
use crate::forecast::Demand;
use crate::model::{ServiceId, Topology};
use crate::traffic::Totals;

/// Answers of a service in the last hour from which its countries are weighed by them: a country with a tenth of the clients
/// is then known to a tenth of its weight.
const ENOUGH: u64 = 1000;

/// What the services of a topology were asked in the last hour; nothing on a node that does not answer DNS.
pub(super) struct Asked(Option<Totals>);

impl Asked {
    pub(super) fn of(traffic: Option<&Traffic>, topology: &Arc<Topology>) -> Self {
        Self(traffic.map(|traffic| traffic.measured(topology).hour.totals))
    }

    /// The weights of the countries, in the order of [`Demand::countries`], if enough is known of a service.
    pub(super) fn weights(&self, demand: &Demand, service: ServiceId) -> Option<Vec<f64>> {
        let asked = self.0.as_ref()?.countries(service);
        let is_enough = asked.iter().map(|(_, count)| count).sum::<u64>() >= ENOUGH;
        if is_enough { demand.measured(&asked) } else { None }
    }
}
