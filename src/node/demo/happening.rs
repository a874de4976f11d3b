//! What happens in the demo, and which tier did it.

use std::fmt;
use std::sync::Arc;

use tokio::sync::broadcast::{self, error::RecvError};

use crate::model::Unix;
use crate::state::Event;

/// How many a slow reader may lag behind before it misses some.
const KEPT: usize = 1024;

/// Something that happened.
#[derive(Clone, Debug)]
pub struct Happening {
    /// When.
    pub at: Unix,
    /// Who acted.
    pub tier: Tier,
    /// The event of the tier's node; `None` if someone broke or healed something.
    pub event: Option<Arc<Event>>,
    /// It in words, in which backends have their names in the demo.
    pub sentence: String,
}

/// Who acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Whoever breaks and heals.
    Demo,
    /// The name server, which moves clients between regions.
    Dns,
    /// The proxy of this region, which moves requests between backends.
    Proxy(&'static str),
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Demo => f.pad("demo"),
            Self::Dns => f.pad("DNS"),
            Self::Proxy(region) => f.pad(&format!("{region} proxy")),
        }
    }
}

pub(super) fn channel() -> broadcast::Sender<Happening> {
    broadcast::Sender::new(KEPT)
}

/// Passes on the events of a node until it has stopped. `names` are replaced in sentences.
pub(super) fn forward(
    mut events: broadcast::Receiver<Arc<Event>>,
    tier: Tier,
    names: Vec<(String, String)>,
    happenings: broadcast::Sender<Happening>,
) {
    tokio::spawn(async move {
        loop {
            let event = match events.recv().await {
                Ok(event) => event,
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            };
            let mut sentence = event.kind.to_string();
            for (name, shown) in &names {
                sentence = sentence.replace(name, shown);
            }
            // Nobody may be reading.
            happenings.send(Happening { at: event.at, tier, event: Some(event), sentence }).ok();
        }
    });
}
