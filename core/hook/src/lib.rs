//! What runs on the device, for clients that ask by running a command: it reads one event from standard input, asks the
//! server over HTTP, and prints what that client understands. Whatever goes wrong, it refuses, in the one way that the
//! client honours. It decides nothing and keeps nothing.

mod ask;
mod client;
mod install;
mod place;
mod server;
mod speak;

pub use ask::AskError;
pub use install::{Change, InstallError, Installation, apply, backup_of, removal};
pub use place::{Ground, Standing, SwitchedOff, standing};
pub use server::{ServerError, ServerFile};
pub use speak::{Spoken, run};
