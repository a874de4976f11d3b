//! Random numbers that nobody can guess.

use rustls::crypto::aws_lc_rs;

/// Random bytes for a secret.
///
/// # Panics
/// If the operating system has no randomness.
#[must_use]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let source = aws_lc_rs::default_provider().secure_random;
    source.fill(&mut bytes).expect("the operating system has randomness");
    bytes
}
