//! Decides; no async, no I/O, no clock.
