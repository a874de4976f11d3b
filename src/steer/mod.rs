//! Which region, and which of its endpoints, a client is sent to.
//!
//! The order is fence → rank → tie groups → eligible → share → endpoints. The first three depend only on the config
//! and the client's place: [`rank`](rank::rank) computes them, and [`Compiled`] does so in advance for every place.
//! The others depend on what may be used right now: [`Compiled::choose`] computes them for each query. So the order
//! of regions never depends on health, and losing a region moves only its clients.
//!
//! [`Compiled::shares`] computes what `choose` draws on average for all clients of a ranking; what each pass admits is decided in
//! one place.
//!
//! Both report their decisions to a [`Trace`]. Queries use [`NoTrace`], which costs nothing; `explain` passes a
//! [`Recording`] to the same functions.

mod admission;
mod choose;
mod compiled;
mod due;
mod rank;
mod selection;
mod shares;
mod trace;

pub use choose::{Answer, Choice, SteeringRequest};
pub use compiled::Compiled;
pub use rank::{RankedRegion, Ranking, rank};
pub use selection::Host;
pub use shares::{Population, RankingId, TableId};
pub use trace::{DropReason, Entry, NoTrace, Note, Recording, Stage, Trace};
