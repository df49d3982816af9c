//! `countersign serve`

use std::sync::Arc;

use anyhow::Context as _;
use countersign_service::Service;
use countersign_service::clock::SystemClock;
use countersign_service::config::StoreKind;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal;

use crate::args::Globals;
use crate::exit::Exit;
use crate::{output, site};

const EXAMPLES: &str = "\
Examples:
  countersign serve
  countersign --config /etc/countersign/countersign.toml --log-format json serve
  countersign serve --ephemeral          try something out; nothing is kept

TLS ends in front of the server: put it behind your proxy, and set `server.public_url` to how vendors reach that.
The first SIGINT or SIGTERM denies new calls, lets calls in flight finish and writes what was accepted.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Keep receipts in memory only, whatever the configuration says: they end with the program.
    #[arg(long)]
    ephemeral: bool,
}

/// Serves until told to stop.
///
/// # Errors
///
/// When the service cannot start, cannot listen, or its last writes failed.
pub(crate) async fn run(args: Args, globals: &Globals) -> anyhow::Result<Exit> {
    let mut config = site::load(&globals.config)?;
    if args.ephemeral {
        config.store.kind = StoreKind::Memory;
    }
    let listen = config.server.listen.clone();
    let registry = site::registry();
    let service = Service::start(config, &registry, Arc::new(SystemClock), &site::environment).await?;
    let listener =
        TcpListener::bind(&listen).await.with_context(|| format!("cannot listen on `{listen}`"))?;
    let stop = stop_signal()?;
    let address = listener.local_addr()?;
    let hooks: Vec<_> = service.routes().keys().map(|name| format!("/hooks/{name}")).collect();
    if globals.json {
        output::line(json!({"listen": address, "hooks": hooks}))?;
    } else {
        output::line(format_args!("listening on http://{address}, hooks: {}", hooks.join(", ")))?;
    }
    service.run(listener, stop).await?;
    Ok(Exit::Done)
}

/// Resolves at the first SIGINT or SIGTERM.
#[cfg(unix)]
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal::unix::signal(signal::unix::SignalKind::terminate())?;
    let mut interrupt = signal::unix::signal(signal::unix::SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Resolves at the first Ctrl-C.
#[cfg(not(unix))]
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    Ok(async {
        // Without the signal there is no way to be told: stop at once rather than never.
        let _told = signal::ctrl_c().await;
    })
}
