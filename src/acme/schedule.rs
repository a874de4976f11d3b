//! When certificates are renewed, and how often that is tried. Pure.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::{Mono, Unix};

/// The pause after the first failure; each further one doubles it. Authorities allow five failures an hour for a name.
const FIRST_PAUSE: Duration = Duration::from_secs(300);
/// The longest pause between attempts, so that a fixed problem is noticed within a working day.
const LONGEST_PAUSE: Duration = Duration::from_secs(21_600);
/// The longest Retry-After that is honored; a longer one is shortened to this.
const LONGEST_WISH: Duration = Duration::from_secs(86_400);
/// Orders for a certificate within an hour.
const MOST_ORDERS: usize = 5;
/// The same of all certificates together.
const MOST_ORDERS_OF_ALL: usize = 60;
/// The time that orders are counted in.
const HOUR: Duration = Duration::from_secs(3600);

/// When a certificate is renewed if its authority suggests nothing: when a third of its life is left, and up to a tenth
/// of that earlier, so that nodes that started together do not order together. `draw` is 0 to 1.
pub(super) fn renewal(not_before: Unix, not_after: Unix, draw: f64) -> Unix {
    let third = not_after.since(not_before) / 3;
    let left = third + third.mul_f64(draw.clamp(0.0, 1.0) / 10.0);
    Unix(not_after.0.saturating_sub(left))
}

/// A moment within the window that an authority suggests (RFC 9773 §4.2).
pub(super) fn within(start: Unix, end: Unix, draw: f64) -> Unix {
    start.after(end.since(start).mul_f64(draw.clamp(0.0, 1.0)))
}

/// How long to wait after this many failures in a row. `draw` is 0 to 1: up to a quarter is added.
pub(super) fn pause(failures: u32, draw: f64) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(LONGEST_PAUSE).mul_f64(1.0 + draw.clamp(0.0, 1.0) / 4.0)
}

/// As long as the server asks for, within bounds.
pub(super) fn wish(retry_after: Duration) -> Duration {
    retry_after.min(LONGEST_WISH)
}

/// The orders of the last hour.
#[derive(Debug, Default)]
pub(super) struct Budget {
    all: VecDeque<Mono>,
    of: HashMap<PathBuf, VecDeque<Mono>>,
}

impl Budget {
    /// Counts an order for a certificate, named by its file.
    ///
    /// # Errors
    /// How long to wait, if there were too many.
    pub(super) fn take(&mut self, file: &Path, now: Mono) -> Result<(), Duration> {
        let own = self.of.entry(file.to_owned()).or_default();
        let waits = [wait(own, MOST_ORDERS, now), wait(&mut self.all, MOST_ORDERS_OF_ALL, now)];
        if let Some(longest) = waits.into_iter().flatten().max() {
            return Err(longest);
        }
        own.push_back(now);
        self.all.push_back(now);
        Ok(())
    }
}

fn wait(orders: &mut VecDeque<Mono>, most: usize, now: Mono) -> Option<Duration> {
    while orders.front().is_some_and(|first| now.since(*first) >= HOUR) {
        orders.pop_front();
    }
    let first = orders.front().filter(|_| orders.len() >= most)?;
    Some(HOUR.saturating_sub(now.since(*first)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unix(days: f64) -> Unix {
        Unix(Duration::from_secs_f64(days * 86_400.0))
    }

    #[test]
    fn a_third_of_the_life_is_left_at_the_renewal() {
        for (from, to, draw, expected) in
            [(0.0, 90.0, 0.0, 60.0), (0.0, 90.0, 1.0, 57.0), (10.0, 16.0, 0.0, 14.0), (5.0, 5.0, 0.5, 5.0)]
        {
            let at = renewal(unix(from), unix(to), draw);
            assert!((at.0.as_secs_f64() / 86_400.0 - expected).abs() < 1e-6, "{from} to {to}: {at:?}");
        }
        assert_eq!(within(unix(1.0), unix(3.0), 0.5), unix(2.0));
    }

    #[test]
    fn pauses_double_up_to_a_bound() {
        let minutes = |failures, draw| pause(failures, draw).as_secs_f64() / 60.0;
        let pauses: Vec<f64> = (1..=9).map(|failures| minutes(failures, 0.0)).collect();
        assert_eq!(pauses, [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 360.0, 360.0]);
        assert_eq!((minutes(1, 1.0), minutes(u32::MAX, 1.0)), (6.25, 450.0));
        assert_eq!(wish(Duration::MAX), LONGEST_WISH);
    }

    #[test]
    fn orders_of_an_hour_are_bounded() {
        let mut budget = Budget::default();
        let (one, second) = (Path::new("one"), |it| Mono(Duration::from_secs(it)));
        for at in 0..5 {
            assert_eq!(budget.take(one, second(at)), Ok(()));
        }
        assert_eq!(budget.take(one, second(10)), Err(Duration::from_secs(3590)));
        assert_eq!(budget.take(Path::new("other"), second(10)), Ok(()));
        assert_eq!(budget.take(one, second(3600)), Ok(()));
        assert_eq!(budget.take(one, second(3600)), Err(Duration::from_secs(1)));

        let mut budget = Budget::default();
        for index in 0..60 {
            assert_eq!(budget.take(Path::new(&index.to_string()), second(0)), Ok(()));
        }
        assert_eq!(budget.take(one, second(1)), Err(Duration::from_secs(3599)));
    }
}
