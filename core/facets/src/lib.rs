//! Fills an action's `effect` and facets: what policies can ask of any tool, whoever made it.
//!
//! Two things are known of a call. People know what a tool is for, and write it into the [`Catalogue`]. The rest is
//! read off the parameters: a shell command by [`shell`], SQL by [`sql`], addresses by [`url`], anything else by the
//! names of the parameters. Everything is over-approximated, because what a policy does not see it cannot refuse, and
//! bounded, because the parameters are an agent's. Pure: no I/O, no clock.

mod bounded;
mod catalogue;
mod effect;
mod facts;
pub mod shell;
pub mod signal;
pub mod sql;
mod suggest;
pub mod url;

pub use catalogue::{
    Catalogue, CatalogueError, CatalogueErrors, CatalogueSource, Entry, ParameterType, Role,
};
pub use effect::stricter;
pub use facts::enrich;
