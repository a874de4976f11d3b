//! Integration tests: the product from outside, over real sockets.

mod dns;
mod listeners;
mod properties;
mod simulation;
mod steer;
mod tidy;
