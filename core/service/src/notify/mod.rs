//! Asks approvers where they are, and takes their answers. Never in a decision's way: it reads what is open beside the
//! request path, and whatever goes wrong with a channel, the question stays open for the others and silence is DENY.
//!
//! A message that is owed or shown is a [`Notice`], kept in the store's outbox until it has been replaced by what came
//! of it, so a restart forgets none.

mod hear;
mod notice;
mod route;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use countersign_classify::{Detectors, SECRET};
use countersign_schemas::{Approval, ApprovalId, OutboxId, PendingKind, Timestamp};
use countersign_sdk::channel::{Channel, ChannelTraits, Recipient};
use countersign_store::{Commit, OutboxEntry, OutboxWrite, StoreError};
use tracing::warn;

use crate::config::ApproverSettings;
use crate::pipeline::Pipeline;
pub use hear::HearingError;
pub(crate) use notice::is_notice;
use notice::{Notice, entry_of};
pub use route::connect;

/// Alike questions that one message stands for; the next one begins another message.
const ITEMS_MAX: usize = 20;
/// Deliveries that are remembered; more within the five minutes that a signature lives are refused.
const SEEN_MAX: usize = 10_000;
const SEEN_FOR: Duration = Duration::from_secs(300);

/// A configured channel.
pub struct Configured {
    channel: Box<dyn Channel>,
    /// Group, or `*`, to the channel's id of a room.
    rooms: BTreeMap<String, String>,
    traits: ChannelTraits,
}

/// All configured channels and approvers, and what is being asked.
pub struct Notifier {
    approvers: BTreeMap<String, ApproverSettings>,
    board: tokio::sync::Mutex<Board>,
    channels: BTreeMap<String, Configured>,
    detectors: Detectors,
    seen: Mutex<BTreeMap<String, Timestamp>>,
}

/// What is being asked: the outbox's notices, as values.
#[derive(Default)]
struct Board {
    /// Whether the outbox has been read.
    loaded: bool,
    notices: BTreeMap<OutboxId, Posted>,
    /// Open questions that nobody can be asked; each is told once.
    unreachable: BTreeSet<ApprovalId>,
}

/// Which question was put to whom in which channel.
type Asked = BTreeSet<(ApprovalId, String, Recipient)>;

/// A notice and its place in the outbox.
struct Posted {
    /// A call about it is under way.
    busy: bool,
    entry: OutboxEntry,
    notice: Notice,
}

impl Notifier {
    /// Whether there is any channel.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// Brings the notices in line with what is open. Called in short intervals by a task of the service.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the store has stopped.
    pub async fn reconcile(&self, pipeline: &Pipeline) -> Result<(), StoreError> {
        let mut board = self.board.lock().await;
        if !board.loaded {
            for entry in pipeline.store.outbox().await?.into_iter().filter(is_notice) {
                if let Ok(notice) = serde_json::from_value(entry.callback.clone()) {
                    board.notices.insert(entry.id.clone(), Posted { busy: false, entry, notice });
                }
            }
            board.loaded = true;
        }
        let open = pipeline.store.approvals().await?;
        let now = pipeline.clock.now();
        let ids: BTreeSet<_> = open.iter().map(|approval| approval.approval_id.clone()).collect();
        board.unreachable.retain(|id| ids.contains(id));
        let mut changed = follow(&mut board, &open, &ids, now);
        let mut asked = BTreeSet::new();
        for notice in board.notices.values().map(|posted| &posted.notice) {
            let of =
                |item: &notice::Item| (item.approval_id.clone(), notice.channel.clone(), notice.to.clone());
            asked.extend(notice.items.iter().map(of));
        }
        let waits =
            |approval: &&Approval| approval.kind == PendingKind::Approval && approval.expires_at > now;
        for approval in open.iter().filter(waits) {
            self.plan(&mut board, approval, &asked, now, &mut changed);
        }
        self.keep(pipeline, &mut board, &changed).await;
        Ok(())
    }

    /// Puts a question into messages to those who were not asked yet: into those of alike questions, where there are any
    /// that can change.
    fn plan(
        &self,
        board: &mut Board,
        approval: &Approval,
        asked: &Asked,
        now: Timestamp,
        changed: &mut BTreeSet<OutboxId>,
    ) {
        let id = &approval.approval_id;
        let whom = route::recipients(&self.channels, &self.approvers, approval);
        if whom.is_empty() && board.unreachable.insert(id.clone()) {
            warn!(approval.id = %id, "no channel reaches anybody who may answer");
        }
        for (name, to) in whom {
            if asked.contains(&(id.clone(), name.clone(), to.clone())) {
                continue;
            }
            let changes = self.channels.get(&name).is_some_and(|channel| channel.traits.changes);
            let joins = |posted: &&mut Posted| {
                let notice = &posted.notice;
                let alike = notice.alike == approval.alike && !approval.alike.is_empty();
                let here = notice.channel == name && notice.to == to && alike;
                here && !posted.entry.dead && notice.items.len() < ITEMS_MAX && notice.is_open()
            };
            match board.notices.values_mut().find(joins).filter(|_| changes) {
                Some(posted) => {
                    posted.notice.add(approval);
                    posted.entry.next_at = now;
                    changed.insert(posted.entry.id.clone());
                }
                None => {
                    let notice = Notice::new(name, to, approval);
                    let entry = entry_of(&notice, approval, now);
                    changed.insert(entry.id.clone());
                    board.notices.insert(entry.id.clone(), Posted { busy: false, entry, notice });
                }
            }
        }
    }

    /// Writes changed notices to the outbox. What cannot be written is still done, and done again after a restart.
    async fn keep(&self, pipeline: &Pipeline, board: &mut Board, changed: &BTreeSet<OutboxId>) {
        let mut outbox = Vec::new();
        for id in changed {
            let Some(posted) = board.notices.get_mut(id) else {
                outbox.push(OutboxWrite::Done(id.clone()));
                continue;
            };
            posted.entry.callback = serde_json::to_value(&posted.notice).unwrap_or_default();
            outbox.push(OutboxWrite::Put(Box::new(posted.entry.clone())));
        }
        if outbox.is_empty() {
            return;
        }
        if let Err(error) = pipeline.store.commit(Commit { outbox, ..Commit::default() }).await {
            warn!(%error, "cannot note what approvers were asked: {error}");
        }
    }

    /// Why a text must not be shown to approvers.
    fn mask(&self, text: &str) -> Option<String> {
        let findings = self.detectors.scan(text);
        let secret = findings.labels.iter().any(|label| label == SECRET);
        secret
            .then(|| findings.kinds.first().map_or_else(|| "secret".to_owned(), |(kind, _)| kind.to_string()))
    }

    /// Whether a delivery is new. Remembered for as long as its signature lives.
    fn is_new(&self, delivery: String, now: Timestamp) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|_, until| *until > now);
        seen.len() < SEEN_MAX && seen.insert(delivery, now.after(SEEN_FOR)).is_none()
    }
}

/// Marks what is no longer open and what was approved short of a quorum. A message that looks different for it is due.
fn follow(
    board: &mut Board,
    open: &[Approval],
    ids: &BTreeSet<ApprovalId>,
    now: Timestamp,
) -> BTreeSet<OutboxId> {
    let counted: BTreeMap<_, _> = open
        .iter()
        .filter(|approval| !approval.approved_by.is_empty())
        .map(|approval| (&approval.approval_id, approval.approved_by.len()))
        .collect();
    let mut changed = BTreeSet::new();
    for (id, posted) in &mut board.notices {
        let before = posted.notice.look();
        for item in posted.notice.items.iter_mut().filter(|item| !item.closed) {
            item.closed = !ids.contains(&item.approval_id);
            item.approved = counted.get(&item.approval_id).copied().unwrap_or(item.approved);
        }
        if posted.notice.look() != before {
            posted.entry.next_at = now;
            changed.insert(id.clone());
        }
    }
    changed
}
