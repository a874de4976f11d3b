//! Integration tests: the product from outside, over real sockets.

mod check;
mod dns;
mod listeners;
mod steer;
mod tidy;
