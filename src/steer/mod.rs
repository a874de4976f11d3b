//! Which region, and which of its endpoints, a client is sent to.
//!
//! The order is fence → rank → tie groups → eligible → share → endpoints. The first three depend on the
//! config and the client's place alone: [`rank`](rank::rank) works them out, and [`Compiled`] does so ahead for
//! every place there is. The others depend on what may be used right now: [`Compiled::choose`] works them out
//! for each query. So the order of regions never depends on health, and losing a region moves only its clients.
//!
//! Both tell a [`Trace`] what they do. Queries are answered with [`NoTrace`], which costs nothing; `explain`
//! passes a [`Recording`] to the very same functions.

mod choose;
mod compiled;
mod due;
mod rank;
mod selection;
mod trace;

pub use choose::{Answer, Asked, Choice};
pub use compiled::Compiled;
pub use rank::{RankedRegion, Ranking, rank};
pub use selection::Host;
pub use trace::{Entry, NoTrace, Note, Recording, Stage, Trace, Why};
