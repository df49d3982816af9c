//! One message to one person or room: what it stands for, and where it is.

use countersign_schemas::{ActionId, Approval, ApprovalId, OutboxId, Timestamp};
use countersign_sdk::channel::{Message, Recipient};
use countersign_sdk::parse::sha256_hex;
use countersign_sdk::question;
use countersign_store::OutboxEntry;
use serde::{Deserialize, Serialize};

/// What the outbox calls a channel's entries. Connectors' names have no slash.
const PREFIX: &str = "channels/";
const DIGEST_CHARS: usize = 32;

/// Whether an outbox entry is a notice.
pub(crate) fn is_notice(entry: &OutboxEntry) -> bool {
    entry.connector.starts_with(PREFIX)
}

/// A message that is owed or shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Notice {
    /// What its questions have in common.
    pub(super) alike: String,
    /// The configured channel.
    pub(super) channel: String,
    /// The questions, in the order in which they joined. Only ever added to: a reference counts them.
    pub(super) items: Vec<Item>,
    /// Where it is, once it was sent.
    pub(super) message: Option<Message>,
    /// When to look for an answer, on a channel that does not call.
    pub(super) poll_at: Option<Timestamp>,
    /// What it was last shown with.
    pub(super) shown: Option<Shown>,
    /// When it was first shown, for the time that approvers take.
    pub(super) shown_at: Option<Timestamp>,
    /// The first question in one line.
    pub(super) title: String,
    /// Whom it is for.
    pub(super) to: Recipient,
}

/// As much of a notice as makes its message look different.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shown {
    /// Approvals short of a quorum.
    approvals: usize,
    /// Questions.
    items: usize,
    /// Those of them that are open.
    open: usize,
}

/// One question behind a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Item {
    pub(super) action_hash: String,
    pub(super) action_id: ActionId,
    pub(super) approval_id: ApprovalId,
    /// Approvals so far.
    pub(super) approved: usize,
    pub(super) closed: bool,
}

/// What is to be done about a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    Ask,
    Update,
    Replace,
    Poll,
    /// Nothing was sent and nothing is open.
    Drop,
}

impl Notice {
    pub(super) fn new(channel: String, to: Recipient, approval: &Approval) -> Self {
        let mut notice = Self {
            alike: approval.alike.clone(),
            channel,
            items: Vec::new(),
            message: None,
            poll_at: None,
            shown: None,
            shown_at: None,
            title: question::title(approval),
            to,
        };
        notice.add(approval);
        notice
    }

    pub(super) fn add(&mut self, approval: &Approval) {
        self.items.push(Item {
            action_hash: approval.action_hash.clone(),
            action_id: approval.action.action_id.clone(),
            approval_id: approval.approval_id.clone(),
            approved: approval.approved_by.len(),
            closed: false,
        });
    }

    pub(super) fn look(&self) -> Shown {
        Shown {
            approvals: self.items.iter().map(|item| item.approved).sum(),
            items: self.items.len(),
            open: self.items.iter().filter(|item| !item.closed).count(),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.items.iter().any(|item| !item.closed)
    }

    pub(super) fn job(&self, now: Timestamp) -> Option<Job> {
        match (&self.message, self.is_open()) {
            (None, false) => Some(Job::Drop),
            (None, true) => Some(Job::Ask),
            (Some(_), false) => Some(Job::Replace),
            (Some(_), true) if self.shown != Some(self.look()) => Some(Job::Update),
            (Some(_), true) => self.poll_at.filter(|at| *at <= now).map(|_| Job::Poll),
        }
    }

    /// Stands for the first `count` questions, their ids and action hashes, and no later one.
    pub(super) fn reference(&self, id: &OutboxId, count: usize) -> String {
        let items = self.items.iter().take(count);
        let text: String = items.map(|item| format!("{} {}\n", item.approval_id, item.action_hash)).collect();
        format!("{id}.{count}.{}", &sha256_hex(text.as_bytes())[..DIGEST_CHARS])
    }
}

/// The notice's id and the number of questions that a reference names.
pub(super) fn parse_reference(reference: &str) -> Option<(OutboxId, usize)> {
    let mut parts = reference.split('.');
    let id = parts.next()?.parse().ok()?;
    Some((id, parts.next()?.parse().ok()?))
}

/// The outbox's entry of a new notice.
pub(super) fn entry_of(notice: &Notice, approval: &Approval, now: Timestamp) -> OutboxEntry {
    OutboxEntry {
        attempts: 0,
        callback: serde_json::to_value(notice).unwrap_or_default(),
        connector: format!("{PREFIX}{}", notice.channel),
        created_at: now,
        dead: false,
        // Random, so that nobody who was not asked can name it.
        id: OutboxId::at(now),
        last_error: None,
        next_at: now,
        receipt_id: approval.receipt_id.clone(),
    }
}
