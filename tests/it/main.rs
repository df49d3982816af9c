//! Tests of the whole: connectors against their fixtures, and the program against its promises.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "`allow-*-in-tests` does not reach functions beside the tests, and opt-in tests print their figures"
)]

mod approvals;
mod architecture;
mod channels;
mod claude;
mod cli;
mod clients;
mod conformance;
mod connectors;
mod console;
mod crash;
mod hook;
mod pipeline;
mod policy;
mod recipes;
mod schemas;
mod support;
mod telemetry;
mod threats;
