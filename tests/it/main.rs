//! Integration tests: the product from outside, over real sockets.

mod dns;
mod listeners;
mod on_call;
mod simulation;
mod steer;
mod tidy;
