//! Watches the policy folder. The folder, not its files: Kubernetes swaps links.

use std::sync::Arc;
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tracing::warn;

use crate::config::PolicySettings;
use crate::pipeline::Pipeline;

/// An editor or a link swap makes several events; one reload after the last of them is enough.
const SETTLE: Duration = Duration::from_millis(500);

/// Reloads whenever the folder changes, and on SIGHUP. Never returns.
pub(crate) async fn policies(pipeline: Arc<Pipeline>, settings: PolicySettings) {
    let (changed, mut changes) = mpsc::channel(1);
    let on_event = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // Full means that a change is noted already.
            let _noted = changed.try_send(());
        }
    };
    let watching = notify::recommended_watcher(on_event)
        .and_then(|mut watcher| watcher.watch(&settings.dir, RecursiveMode::Recursive).map(|()| watcher));
    if let Err(error) = &watching {
        warn!(%error, "cannot watch `{}`; reload with SIGHUP or `countersign policy reload`", settings.dir.display());
    }
    let mut hangups = Hangups::new();
    loop {
        tokio::select! {
            change = changes.recv(), if watching.is_ok() => if change.is_none() { return },
            () = hangups.recv() => {}
        }
        tokio::time::sleep(SETTLE).await;
        while changes.try_recv().is_ok() {}
        // A refused set was logged and receipted; the old one stays.
        let _refused = pipeline.reload(&settings).await;
    }
}

#[cfg(unix)]
struct Hangups(Option<tokio::signal::unix::Signal>);

#[cfg(unix)]
impl Hangups {
    fn new() -> Self {
        Self(tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok())
    }

    async fn recv(&mut self) {
        match &mut self.0 {
            Some(signal) => {
                let _closed = signal.recv().await;
            }
            None => std::future::pending().await,
        }
    }
}

#[cfg(not(unix))]
struct Hangups;

#[cfg(not(unix))]
impl Hangups {
    fn new() -> Self {
        Self
    }

    async fn recv(&mut self) {
        std::future::pending().await
    }
}
