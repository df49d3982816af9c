//! The running program as a library: the request path, what happens beside it, and HTTP. Knows no vendor; it is
//! given a [`Registry`].

pub mod appraise;
pub mod approval;
pub mod break_glass;
mod changes;
pub mod clock;
pub mod config;
pub mod connect;
pub mod console;
mod contexts;
pub mod degrade;
pub mod evidence;
pub mod export;
pub mod fatigue;
pub mod gap;
pub mod halt;
mod hold;
pub mod http;
pub mod metrics;
pub mod notify;
mod outbox;
mod people;
pub mod pipeline;
pub mod policies;
mod record;
mod sheet;
pub mod telemetry;
mod watch;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use countersign_receipt::{KeyError, LogKey, ReceiptKey};
use countersign_sdk::http::Egress;
use countersign_sdk::jwks::KeySets;
use countersign_sdk::{FetchError, Registry, SecretError};
use countersign_store::{Local, OpenError, Store, StoreError};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::appraise::{AppraiseError, Appraiser};
use crate::clock::Clock;
use crate::config::{Config, Problem, StoreKind};
use crate::connect::Routes;
use crate::console::Console;
use crate::evidence::Notary;
use crate::halt::HaltBoard;
use crate::http::App;
use crate::notify::Notifier;
use crate::pipeline::Pipeline;
use crate::policies::LoadError;

pub use crate::changes::Change;

/// Bytes of large bodies that may be in memory at once, before anybody is verified.
const BUFFERED_BYTES_MAX: usize = 256 << 20;
/// How soon denied calls get their bulk receipt.
const GAP_EVERY: Duration = Duration::from_millis(10);
const EXPIRE_EVERY: Duration = Duration::from_millis(500);
/// How soon approvers hear of a question, and how soon what was shown to them is replaced.
const NOTIFY_EVERY: Duration = Duration::from_millis(250);
/// How soon a change is seen that nobody told of.
const NOTIFY_ALL_EVERY: Duration = Duration::from_secs(5);
const CALLBACK_EVERY: Duration = Duration::from_millis(200);
/// Vendors keep failed deliveries for days; asking every few minutes is soon enough and costs one call.
const SWEEP_EVERY: Duration = Duration::from_secs(5 * 60);
const SWEEP_BACK: Duration = Duration::from_secs(60 * 60);

/// The service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Config(Vec<Problem>),
    /// A key cannot be read.
    #[error("`keys.{key}` cannot be read")]
    Secret {
        /// Which.
        key: &'static str,
        /// Why.
        #[source]
        source: SecretError,
    },
    /// A key cannot be used.
    #[error("`keys.{key}` cannot be used")]
    Key {
        /// Which.
        key: &'static str,
        /// Why.
        #[source]
        source: KeyError,
    },
    /// The policies cannot be used.
    #[error("the policies cannot be used")]
    Policies(#[from] LoadError),
    /// The catalogue or the detectors cannot be used.
    #[error("`context` cannot be used")]
    Context(#[from] AppraiseError),
    /// The store cannot be opened.
    #[error("the store cannot be opened")]
    Open(#[from] OpenError),
    /// The store cannot be read.
    #[error("the store cannot be read")]
    Store(#[from] StoreError),
    /// The HTTP client cannot be made.
    #[error("the client for outgoing calls cannot be made")]
    Egress(#[from] FetchError),
}

/// The service, ready to serve.
pub struct Service {
    app: App,
    egress: Egress,
}

/// Opens the configured store.
///
/// # Errors
///
/// [`StartError`] when the log key or the store cannot be used.
pub fn open_store(
    config: &Config,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Arc<dyn Store>, StartError> {
    let pem = config.keys.log.read(lookup).map_err(|source| StartError::Secret { key: "log", source })?;
    let key = LogKey::from_pkcs8_pem(&config.keys.origin, pem.expose());
    let key = key.map_err(|source| StartError::Key { key: "log", source })?;
    let options = countersign_store::Options::default();
    Ok(match config.store.kind {
        StoreKind::Memory => Arc::new(Local::in_memory(options, key)?),
        StoreKind::Sqlite => {
            let options = countersign_store::Options {
                checkpoint_path: Some(config.store.checkpoint_path()),
                ..options
            };
            Arc::new(Local::open(&config.store.dir, options, key)?)
        }
    })
}

impl Service {
    /// Puts everything together and proves that it can deny.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing listens then.
    pub async fn start(
        config: Config,
        registry: &Registry,
        clock: Arc<dyn Clock>,
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, StartError> {
        let egress = Egress::new(config.egress.allow_hosts.iter().cloned())?;
        let keys = KeySets::default();
        let routes =
            connect::connect(&config, registry, &egress, &keys, lookup).map_err(StartError::Config)?;
        let notifier =
            notify::connect(&config, registry, &egress, &keys, lookup).map_err(StartError::Config)?;
        let callers = http::Callers::new(&config.api, lookup).map_err(|problems| {
            let problem = |(name, error): (String, SecretError)| Problem {
                at: format!("api.callers.{name}.token"),
                problem: error.to_string(),
            };
            StartError::Config(problems.into_iter().map(problem).collect())
        })?;
        let console = Console::new(&config, registry, &egress, lookup).map_err(StartError::Config)?;
        let pem = config
            .keys
            .receipt
            .read(lookup)
            .map_err(|source| StartError::Secret { key: "receipt", source })?;
        let key = ReceiptKey::from_pkcs8_pem(pem.expose(), config.keys.epoch);
        let key = key.map_err(|source| StartError::Key { key: "receipt", source })?;
        let policies = policies::load(&config.policies)?;
        let store = open_store(&config, lookup)?;
        let halts = HaltBoard::new(store.halts().await?);
        let notary = Notary::new(key, config.receipts.disclosure);
        let appraiser = Appraiser::new(&config.context)?;
        let limits = config.limits.clone();
        let pipeline = Pipeline::new(store, policies, notary, clock, limits, halts, appraiser);
        pipeline.recall_people().await?;
        pipeline.recall_break_glasses().await?;
        pipeline.receipt_start().await;
        info!(connectors = routes.len(), policies = pipeline.policies.load().len(), "armed");
        let app = App {
            buffers: Arc::new(Semaphore::new(BUFFERED_BYTES_MAX)),
            callers: Arc::new(callers),
            config: Arc::new(config),
            console: console.map(Arc::new),
            keys: Arc::new(keys),
            notifier: Arc::new(notifier),
            pipeline: Arc::new(pipeline),
            routes: Arc::new(routes),
        };
        Ok(Self { app, egress })
    }

    /// The request path, for callers in the same process.
    #[must_use]
    pub fn pipeline(&self) -> &Arc<Pipeline> {
        &self.app.pipeline
    }

    /// The configured connectors.
    #[must_use]
    pub fn routes(&self) -> &Arc<Routes> {
        &self.app.routes
    }

    /// The channels.
    #[must_use]
    pub fn notifier(&self) -> &Arc<Notifier> {
        &self.app.notifier
    }

    /// Serves on `listener` until `stop`. Then denies what still comes in, lets calls in flight finish, writes what
    /// was accepted, and returns.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the last writes failed.
    pub async fn run(self, listener: TcpListener, stop: impl Future<Output = ()>) -> Result<(), StoreError> {
        let Self { app, egress } = self;
        let mut tasks = JoinSet::new();
        background(&mut tasks, &app);
        let fetchers = app.keys.start(&egress);
        let pipeline = app.pipeline.clone();
        let drain = Duration::from_millis(app.config.server.drain_ms);
        let draining = pipeline.clone();
        let stop = async move {
            stop.await;
            info!("shutting down: new calls are denied, calls in flight finish");
            draining.drain();
        };
        http::serve(listener, http::router(app), stop, drain).await;
        pipeline.receipt_gaps().await;
        tasks.shutdown().await;
        fetchers.iter().for_each(tokio::task::JoinHandle::abort);
        pipeline.store.close().await
    }
}

/// What happens beside the request path.
fn background(tasks: &mut JoinSet<()>, app: &App) {
    let pipeline = app.pipeline.clone();
    tasks.spawn(every(GAP_EVERY, move || {
        let pipeline = pipeline.clone();
        async move { pipeline.receipt_gaps().await }
    }));
    let (pipeline, routes) = (app.pipeline.clone(), app.routes.clone());
    tasks.spawn(every(EXPIRE_EVERY, move || {
        let (pipeline, routes) = (pipeline.clone(), routes.clone());
        async move {
            pipeline.expire_approvals(&routes).await;
            pipeline.expire_break_glasses().await;
        }
    }));
    let (pipeline, routes) = (app.pipeline.clone(), app.routes.clone());
    tasks.spawn(every(CALLBACK_EVERY, move || {
        let (pipeline, routes) = (pipeline.clone(), routes.clone());
        async move { while pipeline.call_back(&routes).await {} }
    }));
    let (pipeline, routes) = (app.pipeline.clone(), app.routes.clone());
    tasks.spawn(every(SWEEP_EVERY, move || {
        let (pipeline, routes) = (pipeline.clone(), routes.clone());
        async move { sweep(&pipeline, &routes).await }
    }));
    if let Some(console) = app.console.clone() {
        let (pipeline, routes) = (app.pipeline.clone(), app.routes.clone());
        tasks.spawn(every(console::LOOK_EVERY, move || {
            console.look(&routes, pipeline.clock.now());
            std::future::ready(())
        }));
    }
    if !app.notifier.is_empty() {
        tasks.spawn(notify(app.notifier.clone(), app.pipeline.clone(), app.routes.clone()));
    }
    tasks.spawn(watch::policies(app.pipeline.clone(), app.config.policies.clone()));
    tasks.spawn(report_stop(app.pipeline.clone()));
}

async fn every<Step: Future<Output = ()>>(period: Duration, mut step: impl FnMut() -> Step) {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        step().await;
    }
}

/// Tells approvers what is open and what no longer is: when something changes, and now and then in any case.
async fn notify(notifier: Arc<Notifier>, pipeline: Arc<Pipeline>, routes: Arc<Routes>) {
    let mut changes = pipeline.listen();
    let mut looked: Option<tokio::time::Instant> = None;
    loop {
        let told = !matches!(changes.try_recv(), Err(TryRecvError::Empty));
        if told || looked.is_none_or(|at| at.elapsed() > NOTIFY_ALL_EVERY) {
            // What is looked at now covers every change that was told before.
            changes = changes.resubscribe();
            looked = Some(tokio::time::Instant::now());
            if let Err(error) = notifier.reconcile(&pipeline).await {
                warn!(%error, "cannot read what approvers are to be asked: {error}");
            }
        }
        while notifier.work(&pipeline, &routes).await {}
        tokio::time::sleep(NOTIFY_EVERY).await;
    }
}

/// Asks vendors to send again what they failed to deliver.
async fn sweep(pipeline: &Pipeline, routes: &Routes) {
    let now = pipeline.clock.now();
    let since = countersign_schemas::Timestamp(now.0 - i64::try_from(SWEEP_BACK.as_millis()).unwrap_or(0));
    for (name, route) in routes {
        let Some(held) = route.held() else { continue };
        match held.sweep(since, now).await {
            Ok(0) => {}
            Ok(count) => {
                info!(connector = %name, deliveries = count, "asked for {count} missed deliveries again")
            }
            Err(error) => warn!(connector = %name, %error, "cannot ask for missed deliveries: {error}"),
        }
    }
}

/// Says once, in one line, that the store has stopped and why.
async fn report_stop(pipeline: Arc<Pipeline>) {
    loop {
        if let Some(why) = pipeline.store.health().stopped {
            error!(store.problem = %why, "the store has stopped, every call is denied until a restart: {why}");
            return;
        }
        tokio::time::sleep(EXPIRE_EVERY).await;
    }
}
