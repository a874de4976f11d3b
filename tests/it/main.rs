//! Integration tests: the product from outside, over real sockets.

mod alias;
mod api;
mod check;
mod demo;
mod dig;
mod dns;
mod docs;
mod dynamic;
mod explain;
mod failover;
mod harness;
mod journal;
mod listeners;
mod metrics;
mod mistakes;
mod on_call;
mod overrides;
mod peers;
mod properties;
mod reload;
mod simulation;
mod steer;
mod steering;
mod terminal;
mod tidy;
mod which_node;
