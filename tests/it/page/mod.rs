//! The page at `/`: how it is served, and what it does in a real browser.

mod bars;
mod browser;
mod memory;
mod previews;
mod rates;
mod served;
mod shown;
mod tokens;
