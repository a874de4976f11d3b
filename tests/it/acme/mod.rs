//! Certificates by ACME, and the challenges of other ACME clients.

mod challenges;
