//! Integration tests: the product from outside, over real sockets.

mod dns;
mod explain;
mod listeners;
mod simulation;
mod steer;
mod tidy;
