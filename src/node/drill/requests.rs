//! Clients of the proxy: one request after the other, counted by how they end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::model::Unix;
use crate::net::clock::Clock;

/// How often a request is sent.
const EVERY: Duration = Duration::from_millis(20);

/// How long a client waits for its response. Longer than two attempts of the proxy.
const WITHIN: Duration = Duration::from_secs(2);

/// The requests sent so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) sent: usize,
    pub(super) failed: usize,
    /// When the last failed, and why, as a clause.
    pub(super) last_failure: Option<(Unix, String)>,
    /// When the backend that is watched first and last answered since [`Requests::restart`].
    pub(super) first_answer: Option<Unix>,
    pub(super) last_answer: Option<Unix>,
}

/// Requests that are sent until this is dropped.
#[derive(Debug)]
pub(super) struct Requests {
    tally: Arc<Mutex<Tally>>,
    sending: AbortHandle,
}

impl Requests {
    /// Sends requests for a URL. A page that contains `watched` comes from the backend that is watched.
    pub(super) fn start(url: String, watched: String) -> Result<Self> {
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(WITHIN).build();
        let client = client.context("cannot send requests")?;
        let tally = Arc::<Mutex<Tally>>::default();
        let shared = Arc::clone(&tally);
        let sending = tokio::spawn(async move {
            let mut next = interval(EVERY);
            next.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                next.tick().await;
                let answered = get(&client, &url).await;
                lock(&shared).count(Clock::unix(), answered, &watched);
            }
        });
        Ok(Self { tally, sending: sending.abort_handle() })
    }

    pub(super) fn tally(&self) -> Tally {
        lock(&self.tally).clone()
    }

    /// Forgets when the watched backend answered.
    pub(super) fn restart(&self) {
        let mut tally = lock(&self.tally);
        (tally.first_answer, tally.last_answer) = (None, None);
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.sending.abort();
    }
}

impl Tally {
    fn count(&mut self, now: Unix, answered: Result<String, String>, watched: &str) {
        self.sent += 1;
        match answered {
            Ok(page) if page.contains(watched) => {
                self.first_answer.get_or_insert(now);
                self.last_answer = Some(now);
            }
            Ok(_) => {}
            Err(why) => {
                self.failed += 1;
                self.last_failure = Some((now, why));
            }
        }
    }
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn get(client: &reqwest::Client, url: &str) -> Result<String, String> {
    let response = client.get(url).send().await.map_err(|error| error.to_string())?;
    let status = response.status();
    if !status.is_success() {
        return Err(format!("status {}", status.as_u16()));
    }
    response.text().await.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_how_they_end() {
        let at = |seconds| Unix(Duration::from_secs(seconds));
        let mut tally = Tally::default();
        for (second, answered) in [
            (1, Ok("hello from eu-west/backend2")),
            (2, Ok("hello from eu-west/backend1")),
            (3, Err("status 503")),
            (4, Ok("hello from eu-west/backend1")),
            (5, Ok("hello from eu-west/backend2")),
        ] {
            tally.count(at(second), answered.map(str::to_owned).map_err(str::to_owned), "eu-west/backend1");
        }
        assert_eq!((tally.sent, tally.failed), (5, 1));
        assert_eq!(tally.last_failure, Some((at(3), "status 503".into())));
        assert_eq!((tally.first_answer, tally.last_answer), (Some(at(2)), Some(at(4))));
    }
}
