//! Integration tests: the product from outside, over real sockets.

mod check;
mod dns;
mod listeners;
mod simulation;
mod steer;
mod tidy;
