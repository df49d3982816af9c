//! How the program ends.

use std::process::ExitCode;

/// What the exit code says. The numbers never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done, allowed, verified.
    Done,
    /// The answer is no: refuted, denied, a test failed.
    No,
    /// Nothing is wrong, but something could not be checked.
    Incomplete,
    /// Wrong use, a wrong configuration, or the work could not be done.
    Misuse,
}

impl Exit {
    /// `Done` when `holds`, else `No`.
    pub(crate) fn when(holds: bool) -> Self {
        if holds { Self::Done } else { Self::No }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::No => 1,
            Exit::Incomplete => 2,
            Exit::Misuse => 3,
        })
    }
}
