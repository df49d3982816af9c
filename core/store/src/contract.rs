//! What every store must do. Each function is one clause and takes an empty store; `contract!` makes a test of each.

use std::sync::Arc;
use std::task::Poll;

use countersign_receipt::{Checkpoint, LogKey, Vkey, generate_key_pem, leaf_hash, verify_inclusion};
use countersign_schemas::{
    Action, ActionId, Approval, ApprovalContext, ApprovalId, BreakGlass, BreakGlassId, Decision, Effect,
    Facets, Grant, GrantId, GrantScope, Halt, HaltScope, Identity, OutboxId, PendingKind, ReceiptId,
    ReceiptKind, SessionId, SessionRef, Source, Timestamp, Tool, Verdict,
};
use serde_json::Map;

use crate::{
    ApprovalWrite, BreakGlassWrite, Commit, CommitError, GrantWrite, HaltWrite, NewLeaf, OutboxEntry,
    OutboxWrite, Query, Recorded, SealedHead, SessionState, SessionWrite, Store, StoreError, StoredLeaf,
    Summary,
};

/// The log's name in tests.
pub(crate) const ORIGIN: &str = "example.com/contract";
/// When tests begin.
pub(crate) const NOW: Timestamp = Timestamp(1_800_000_000_000);

/// Makes a test of every clause. `$open` gives an empty store.
macro_rules! contract {
    ($name:ident, $open:expr, [$($clause:ident),* $(,)?]) => {
        mod $name {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $clause() {
                    let (store, _rest): (std::sync::Arc<dyn crate::Store>, _) = $open;
                    crate::contract::$clause(&store).await;
                }
            )*
        }
    };
    ($name:ident, $open:expr) => {
        crate::contract::contract!($name, $open, [
            a_commit_is_seen_by_every_read,
            a_refused_commit_changes_nothing,
            what_ends_must_be_open,
            questions_and_grants_are_found_by_what_they_are_about,
            concurrent_commits_of_one_session_lose_nothing,
            one_key_gives_one_receipt_and_everybody_the_same_answer,
            a_grant_is_taken_once,
            what_was_accepted_is_seen_at_once_and_written_whoever_waits,
            receipts_are_found_by_every_filter_and_page_by_page,
            every_leaf_is_proved_under_every_head,
            the_log_ends_where_it_ends,
            callbacks_come_oldest_first_and_only_when_due,
        ]);
    };
}
pub(crate) use contract;

/// A key for the log of tests.
pub(crate) fn log_key() -> LogKey {
    LogKey::from_pkcs8_pem(ORIGIN, &generate_key_pem().unwrap()).unwrap()
}

/// A receipt of a session. Its bytes are no envelope: the store never looks into them.
pub(crate) fn leaf(session: &SessionId, seq: u64) -> NewLeaf {
    let bytes = format!("{{\"session\":\"{session}\",\"seq\":{seq}}}").into_bytes();
    let summary = Summary {
        receipt_id: ReceiptId::derived(&[session.as_str(), &seq.to_string()]),
        kind: ReceiptKind::Decision,
        session_id: session.clone(),
        session_seq: seq,
        decided_at: Timestamp(NOW.0 + i64::try_from(seq).unwrap()),
        connector: "claude-code".to_owned(),
        action_id: Some(action_id(session, seq).to_string()),
        tool: Some("claude-code/-/Bash".to_owned()),
        verdict: Some(Verdict::Deny),
        expressed: Some("DENY".to_owned()),
        agent: Some("agent".to_owned()),
        human: None,
    };
    NewLeaf {
        hash: leaf_hash(&bytes),
        bytes,
        summary,
        disclosure: Some(format!("disclosure of {session} {seq}")),
    }
}

fn action_id(session: &SessionId, seq: u64) -> ActionId {
    ActionId::derived(&[session.as_str(), &seq.to_string()])
}

pub(crate) fn session(name: &str) -> SessionId {
    SessionId::derived(&[name])
}

pub(crate) fn recorded(text: &str) -> Recorded {
    Recorded {
        request_sha256: "ab".repeat(32),
        status: 200,
        content_type: "application/json".to_owned(),
        body: text.as_bytes().to_vec(),
        waits_for: vec![ApprovalId::derived(&[text])],
        expires_at: Timestamp(NOW.0 + 3_600_000),
    }
}

/// The next receipt of a session, and nothing else.
pub(crate) fn step(id: &SessionId, state: &SessionState) -> Commit {
    let context = format!("context of {}", state.version + 1).into();
    Commit {
        leaves: vec![leaf(id, state.next_seq)],
        session: Some(SessionWrite { id: id.clone(), expected_version: state.version, context }),
        ..Commit::default()
    }
}

pub(crate) fn approval(name: &str) -> Approval {
    let id = session(name);
    let action = Action {
        action_id: action_id(&id, 0),
        call_id: None,
        delivery_id: None,
        effect: Effect::Deploy,
        facets: Facets::default(),
        identity: Identity::default(),
        operation: "PreToolUse".to_owned(),
        parameters: Map::new(),
        risk_signals: Vec::new(),
        session: SessionRef { id, turn: None, vendor_id: "vendor's".to_owned() },
        source: Source {
            connector: "claude-code".to_owned(),
            event: "PreToolUse".to_owned(),
            vendor: "claude-code".to_owned(),
        },
        timestamp: NOW,
        tool: Tool::default(),
        vendor_fields: Map::new(),
    };
    Approval {
        action_hash: "cd".repeat(32),
        alike: "ef".repeat(32),
        approval_id: ApprovalId::derived(&[name]),
        context: ApprovalContext::default(),
        decision: Decision::deny("a person must approve"),
        escalated_at: None,
        expires_at: Timestamp(NOW.0 + 60_000),
        held: true,
        holds_until: None,
        kind: PendingKind::Approval,
        opened_at: NOW,
        receipt_id: ReceiptId::derived(&[name]),
        resumable: false,
        risk: None,
        rule: None,
        deferral: None,
        approved_by: Vec::new(),
        action,
    }
}

pub(crate) fn grant(name: &str) -> Grant {
    Grant {
        action_id: action_id(&session(name), 0),
        action_hash: "cd".repeat(32),
        agent: "bot".to_owned(),
        approval_id: ApprovalId::derived(&[name]),
        expires_at: Timestamp(NOW.0 + 60_000),
        given_at: NOW,
        grant_id: GrantId::derived(&[name]),
        scope: GrantScope::Once,
        session_id: session(name),
    }
}

fn callback(name: &str, created_ms: i64, next_ms: i64) -> OutboxEntry {
    OutboxEntry {
        id: OutboxId::derived(&[name]),
        connector: "github".to_owned(),
        callback: serde_json::json!({"state": "approved", "nested": [1, {"b": 2, "a": 1}]}),
        receipt_id: ReceiptId::derived(&[name]),
        created_at: Timestamp(NOW.0 + created_ms),
        next_at: Timestamp(NOW.0 + next_ms),
        attempts: 1,
        last_error: Some("503".to_owned()),
        dead: false,
    }
}

fn halt() -> Halt {
    Halt {
        at: NOW,
        by: "alice".to_owned(),
        reason: "drill".to_owned(),
        what: HaltScope::Agent("a/b".to_owned()),
    }
}

fn break_glass(name: &str) -> BreakGlass {
    BreakGlass {
        at: NOW,
        break_glass_id: BreakGlassId::derived(&[name]),
        by: "alice".to_owned(),
        expires_at: Timestamp(NOW.0 + 60_000),
        reason: "the approvers cannot be reached".to_owned(),
        what: HaltScope::All,
    }
}

/// A commit with something of everything, as the first of the session `name`.
pub(crate) fn everything(name: &str) -> Commit {
    Commit {
        recorded: Some((format!("key of {name}"), recorded(name))),
        approvals: vec![ApprovalWrite::Open(Box::new(approval(name)))],
        grants: vec![GrantWrite::Give(grant(name))],
        outbox: vec![OutboxWrite::Put(Box::new(callback(name, 0, 0)))],
        halts: vec![HaltWrite::Give(halt())],
        break_glasses: vec![BreakGlassWrite::Open(break_glass(name))],
        ..step(&session(name), &SessionState::default())
    }
}

/// All that a store shows, for the sessions and keys of these names.
#[derive(Debug, PartialEq)]
pub(crate) struct Seen {
    sessions: Vec<SessionState>,
    recorded: Vec<Option<Recorded>>,
    approvals: Vec<Approval>,
    grants: Vec<Vec<Grant>>,
    questions: Vec<Vec<Approval>>,
    break_glasses: Vec<BreakGlass>,
    outbox: Vec<OutboxEntry>,
    halts: Vec<Halt>,
    head: Option<SealedHead>,
    pub(crate) leaves: Vec<(u64, Vec<u8>, Option<String>, Summary)>,
}

pub(crate) async fn look(store: &dyn Store, names: &[&str]) -> Seen {
    let (mut sessions, mut records, mut grants, mut questions) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for name in names {
        sessions.push(store.session(&session(name)).await.unwrap());
        records.push(store.recorded(&format!("key of {name}")).await.unwrap());
        grants.push(store.grants(&session(name), &"cd".repeat(32), NOW).await.unwrap());
        questions.push(store.questions(&session(name), None).await.unwrap());
    }
    let leaves = store.leaves(0, usize::MAX).await.unwrap();
    Seen {
        sessions,
        recorded: records,
        approvals: store.approvals().await.unwrap(),
        grants,
        questions,
        break_glasses: store.break_glasses().await.unwrap(),
        outbox: store.outbox().await.unwrap(),
        halts: store.halts().await.unwrap(),
        head: store.checkpoint().await.unwrap(),
        leaves: leaves
            .into_iter()
            .map(|leaf| (leaf.index, leaf.bytes, leaf.disclosure, leaf.summary))
            .collect(),
    }
}

fn index_of(leaf: StoredLeaf) -> u64 {
    leaf.index
}

pub(crate) async fn a_commit_is_seen_by_every_read(store: &Arc<dyn Store>) {
    assert_eq!(None, store.checkpoint().await.unwrap());
    let commit = everything("one");
    let committed = store.commit(commit.clone()).await.unwrap();
    let head = committed.head.clone();
    assert_eq!((0, 1), (committed.first_index, head.size));
    let note = Checkpoint::parse_unverified(&head.note).unwrap();
    assert_eq!((ORIGIN, 1, head.root), (note.origin.as_str(), note.size, note.root));

    let new = &commit.leaves[0];
    let want = Seen {
        sessions: vec![SessionState {
            version: 1,
            next_seq: 1,
            head: new.hash,
            context: b"context of 1".as_slice().into(),
        }],
        recorded: vec![Some(recorded("one"))],
        approvals: vec![approval("one")],
        grants: vec![vec![grant("one")]],
        questions: vec![vec![approval("one")]],
        break_glasses: vec![break_glass("one")],
        outbox: vec![callback("one", 0, 0)],
        halts: vec![halt()],
        head: Some(head),
        leaves: vec![(0, new.bytes.clone(), new.disclosure.clone(), new.summary.clone())],
    };
    assert_eq!(want, look(&**store, &["one"]).await);
    assert_eq!(Some(approval("one")), store.approval(&approval("one").approval_id).await.unwrap());
    assert_eq!(new.bytes, store.receipt(&new.summary.receipt_id).await.unwrap().unwrap().bytes);
    assert!(store.grants(&session("two"), &"cd".repeat(32), NOW).await.unwrap().is_empty());
    assert!(
        store.grants(&session("one"), &"cd".repeat(32), grant("one").expires_at).await.unwrap().is_empty()
    );
}

pub(crate) async fn a_refused_commit_changes_nothing(store: &Arc<dyn Store>) {
    store.commit(everything("one")).await.unwrap();
    let before = look(&**store, &["one", "two"]).await;
    let two = session("two");
    let changed = [
        Commit {
            session: Some(SessionWrite { id: two.clone(), expected_version: 1, context: vec![1].into() }),
            ..everything("two")
        },
        Commit { leaves: vec![leaf(&two, 1)], ..everything("two") },
        Commit { leaves: vec![leaf(&two, 0), leaf(&two, 0)], ..everything("two") },
        Commit { leaves: vec![leaf(&two, 0), leaf(&session("one"), 0)], ..everything("two") },
    ];
    for commit in changed {
        assert_eq!(Err(CommitError::Conflict), store.commit(commit).await);
        assert_eq!(before, look(&**store, &["one", "two"]).await);
    }
    let again = Commit { recorded: Some(("key of one".to_owned(), recorded("two"))), ..everything("two") };
    assert_eq!(Err(CommitError::Duplicate(Box::new(recorded("one")))), store.commit(again).await);
    assert_eq!(before, look(&**store, &["one", "two"]).await);
}

pub(crate) async fn what_ends_must_be_open(store: &Arc<dyn Store>) {
    let (approval_id, grant_id) = (approval("one").approval_id, grant("one").grant_id);
    let close = Commit { approvals: vec![ApprovalWrite::Close(approval_id.clone())], ..Commit::default() };
    let take = Commit { grants: vec![GrantWrite::Take(grant_id.clone())], ..Commit::default() };
    for (commit, name) in [(&close, approval_id.as_str()), (&take, grant_id.as_str())] {
        assert_eq!(Err(CommitError::NotOpen(name.to_owned())), store.commit(commit.clone()).await);
    }
    store.commit(everything("one")).await.unwrap();
    let both = Commit { grants: take.grants.clone(), ..close.clone() };
    let twice = Commit { grants: [take.grants.clone(), take.grants.clone()].concat(), ..close.clone() };
    assert_eq!(Err(CommitError::NotOpen(grant_id.to_string())), store.commit(twice).await);
    assert!(store.approval(&approval_id).await.unwrap().is_some());
    assert_eq!(1, store.commit(both).await.unwrap().first_index);
    assert_eq!(Err(CommitError::NotOpen(approval_id.to_string())), store.commit(close).await);
    assert!(store.grants(&session("one"), &"cd".repeat(32), NOW).await.unwrap().is_empty());
}

/// A question is found by its session, its action and its time; a grant by how far it reaches.
pub(crate) async fn questions_and_grants_are_found_by_what_they_are_about(store: &Arc<dyn Store>) {
    store.commit(everything("one")).await.unwrap();
    let hash = "cd".repeat(32);
    let hashes = |questions: Vec<Approval>| questions.into_iter().map(|q| q.action_hash).collect::<Vec<_>>();
    for (asked, about, want) in [
        ("one", Some(&*hash), 1),
        ("one", Some("another action"), 0),
        ("two", Some(&*hash), 0),
        ("one", None, 1),
    ] {
        let found = store.questions(&session(asked), about).await.unwrap();
        assert_eq!(vec![hash.clone(); want], hashes(found), "{asked} {about:?}");
    }
    let mut later = approval("two");
    later.expires_at = Timestamp(NOW.0 + 120_000);
    let writes = vec![ApprovalWrite::Open(Box::new(later.clone()))];
    store.commit(Commit { approvals: writes, ..Commit::default() }).await.unwrap();
    for (after, limit, want) in [
        (59_999, 9, vec![]),
        (60_000, 9, vec!["one"]),
        (120_000, 9, vec!["one", "two"]),
        (120_000, 1, vec!["one"]),
    ] {
        let due = store.due_questions(Timestamp(NOW.0 + after), limit).await.unwrap();
        let want: Vec<_> = want.into_iter().map(|name| ApprovalId::derived(&[name])).collect();
        assert_eq!(
            want,
            due.into_iter().map(|open| open.approval_id).collect::<Vec<_>>(),
            "after {after} ms"
        );
    }
    later.expires_at = NOW;
    let writes = vec![ApprovalWrite::Open(Box::new(later))];
    store.commit(Commit { approvals: writes, ..Commit::default() }).await.unwrap();
    assert_eq!(1, store.due_questions(NOW, 9).await.unwrap().len(), "its time was moved");

    let scoped = |name: &str, scope| {
        GrantWrite::Give(Grant { grant_id: GrantId::derived(&[name]), scope, ..grant("one") })
    };
    let grants = vec![scoped("window", GrantScope::Window), scoped("session", GrantScope::Session)];
    store.commit(Commit { grants, ..Commit::default() }).await.unwrap();
    for (name, want) in [
        ("one", vec![GrantScope::Window, GrantScope::Session, GrantScope::Once]),
        ("two", vec![GrantScope::Window]),
    ] {
        let found = store.grants(&session(name), &hash, NOW).await.unwrap();
        assert_eq!(want, found.iter().map(|grant| grant.scope).collect::<Vec<_>>(), "{name}");
    }
    assert!(store.grants(&session("one"), "another action", NOW).await.unwrap().is_empty());
}

pub(crate) async fn concurrent_commits_of_one_session_lose_nothing(store: &Arc<dyn Store>) {
    const COMMITTERS: u64 = 64;
    const EACH: u64 = 5;
    let id = session("contended");
    let tasks: Vec<_> = (0..COMMITTERS)
        .map(|_| {
            let (store, id) = (store.clone(), id.clone());
            tokio::spawn(async move {
                for _ in 0..EACH {
                    while let Err(error) = store.commit(step(&id, &store.session(&id).await.unwrap())).await {
                        assert_eq!(CommitError::Conflict, error);
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let state = store.session(&id).await.unwrap();
    assert_eq!((COMMITTERS * EACH, COMMITTERS * EACH), (state.version, state.next_seq));
    let seqs: Vec<_> =
        store.leaves(0, usize::MAX).await.unwrap().iter().map(|leaf| leaf.summary.session_seq).collect();
    assert_eq!((0..COMMITTERS * EACH).collect::<Vec<_>>(), seqs);
}

pub(crate) async fn one_key_gives_one_receipt_and_everybody_the_same_answer(store: &Arc<dyn Store>) {
    let tasks: Vec<_> = (0..64)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                let id = session(&number.to_string());
                let answer = recorded(&number.to_string());
                let key = Some(("the key".to_owned(), answer.clone()));
                let commit = Commit { recorded: key, ..step(&id, &SessionState::default()) };
                match store.commit(commit).await {
                    Ok(_) => (true, answer),
                    Err(CommitError::Duplicate(answer)) => (false, *answer),
                    Err(error) => panic!("{error}"),
                }
            })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    let winners: Vec<_> = answers.iter().filter(|(won, _)| *won).collect();
    assert_eq!(1, winners.len());
    assert!(answers.iter().all(|(_, answer)| *answer == winners[0].1));
    assert_eq!(Some(&winners[0].1), store.recorded("the key").await.unwrap().as_ref());
    assert_eq!(1, store.leaves(0, usize::MAX).await.unwrap().len());
}

pub(crate) async fn a_grant_is_taken_once(store: &Arc<dyn Store>) {
    store.commit(everything("one")).await.unwrap();
    let tasks: Vec<_> = (0..64)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                let id = session(&format!("taker {number}"));
                let grants = vec![GrantWrite::Take(grant("one").grant_id)];
                store.commit(Commit { grants, ..step(&id, &SessionState::default()) }).await
            })
        })
        .collect();
    let mut taken = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => taken += 1,
            Err(error) => assert_eq!(CommitError::NotOpen(grant("one").grant_id.to_string()), error),
        }
    }
    assert_eq!((1, 2), (taken, store.leaves(0, usize::MAX).await.unwrap().len()));
}

pub(crate) async fn what_was_accepted_is_seen_at_once_and_written_whoever_waits(store: &Arc<dyn Store>) {
    let id = session("one");
    // Known afterwards, so that the commit is accepted when it is first polled.
    store.session(&id).await.unwrap();
    let mut commit = store.commit(everything("one"));
    let polled = std::future::poll_fn(|context| Poll::Ready(commit.as_mut().poll(context))).await;
    assert!(!matches!(polled, Poll::Ready(Err(_))), "{polled:?}");
    assert_eq!(1, store.session(&id).await.unwrap().version);
    assert!(store.approval(&approval("one").approval_id).await.unwrap().is_some());
    drop(commit);
    assert_eq!(Some(recorded("one")), store.recorded("key of one").await.unwrap());
    assert_eq!(1, store.leaves(0, 10).await.unwrap().len());
}

pub(crate) async fn receipts_are_found_by_every_filter_and_page_by_page(store: &Arc<dyn Store>) {
    const KINDS: [ReceiptKind; 2] = [ReceiptKind::Decision, ReceiptKind::Outcome];
    const VERDICTS: [Option<Verdict>; 3] = [Some(Verdict::Allow), Some(Verdict::Deny), None];
    let mut model = Vec::new();
    for number in 0_u64..700 {
        let id = session(&(number % 7).to_string());
        let state = store.session(&id).await.unwrap();
        let mut commit = step(&id, &state);
        let summary = &mut commit.leaves[0].summary;
        let dice = usize::try_from(number * number / 3).unwrap();
        summary.kind = KINDS[dice % 2];
        summary.verdict = VERDICTS[dice % 3];
        summary.connector = format!("connector {}", dice % 5);
        // Clocks of several machines: rising, but not strictly.
        summary.decided_at = Timestamp(NOW.0 + i64::try_from(number * 10 + (number * 37) % 50).unwrap());
        model.push(summary.clone());
        store.commit(commit).await.unwrap();
    }
    let since = Some(Timestamp(NOW.0 + 2_000));
    let until = Some(Timestamp(NOW.0 + 3_333));
    let all = Query { limit: usize::MAX, ..Query::default() };
    for query in [
        all.clone(),
        Query { session_id: Some(session("3")), ..all.clone() },
        Query { action_id: model[99].action_id.clone(), ..all.clone() },
        Query { connector: Some("connector 1".to_owned()), verdict: Some(Verdict::Deny), ..all.clone() },
        Query { kind: Some(ReceiptKind::Outcome), since, ..all.clone() },
        Query { verdict: Some(Verdict::Defer), ..all.clone() },
        Query { since, until, ..all.clone() },
        Query { until, session_id: Some(session("1")), ..all.clone() },
        Query { since: Some(Timestamp(NOW.0 + 1_000_000)), ..all.clone() },
        Query { until: Some(NOW), ..all.clone() },
    ] {
        let matches = |summary: &Summary| {
            query.session_id.as_ref().is_none_or(|id| *id == summary.session_id)
                && (query.action_id.is_none() || query.action_id == summary.action_id)
                && query.connector.as_ref().is_none_or(|connector| *connector == summary.connector)
                && query.kind.is_none_or(|kind| kind == summary.kind)
                && (query.verdict.is_none() || query.verdict == summary.verdict)
                && query.since.is_none_or(|since| summary.decided_at >= since)
                && query.until.is_none_or(|until| summary.decided_at < until)
        };
        let want: Vec<u64> =
            (0..700).rev().filter(|i| matches(&model[usize::try_from(*i).unwrap()])).collect();
        let found: Vec<u64> = store.find(&query).await.unwrap().into_iter().map(index_of).collect();
        assert_eq!(want, found, "{query:?}");
        let mut paged = Vec::new();
        let mut page = Query { limit: 13, ..query.clone() };
        loop {
            let found = store.find(&page).await.unwrap();
            let Some(last) = found.last() else { break };
            page.below = Some(last.index);
            paged.extend(found.into_iter().map(index_of));
        }
        assert_eq!(want, paged, "{query:?}");
    }
}

pub(crate) async fn every_leaf_is_proved_under_every_head(store: &Arc<dyn Store>) {
    let id = session("one");
    let mut leaves = Vec::new();
    let mut heads = Vec::new();
    for batch in 0_u64..40 {
        let state = store.session(&id).await.unwrap();
        let mut commit = step(&id, &state);
        commit.leaves = (0..batch % 20 + 1).map(|i| leaf(&id, state.next_seq + i)).collect();
        leaves.extend(commit.leaves.iter().map(|leaf| leaf.hash));
        let committed = store.commit(commit).await.unwrap();
        heads.push(committed.head);
        prove(&**store, &leaves, heads.last().unwrap(), leaves.len() as u64 - 1).await;
    }
    for head in &heads {
        for index in (0..head.size).step_by(29) {
            prove(&**store, &leaves, head, index).await;
        }
    }
}

async fn prove(store: &dyn Store, leaves: &[[u8; 32]], head: &SealedHead, index: u64) {
    let path = store.inclusion(index, head.size).await.unwrap();
    let leaf = &leaves[usize::try_from(index).unwrap()];
    assert_eq!(
        Ok(()),
        verify_inclusion(leaf, index, head.size, &path, &head.root),
        "{index} of {}",
        head.size
    );
}

pub(crate) async fn the_log_ends_where_it_ends(store: &Arc<dyn Store>) {
    assert!(store.leaves(0, 10).await.unwrap().is_empty());
    assert!(matches!(store.inclusion(0, 1).await, Err(StoreError::Range(_))));
    let mut state = SessionState::default();
    for _ in 0..3 {
        store.commit(step(&session("one"), &state)).await.unwrap();
        state = store.session(&session("one")).await.unwrap();
    }
    let indexes = |leaves: Vec<StoredLeaf>| leaves.into_iter().map(index_of).collect::<Vec<_>>();
    assert_eq!(vec![1, 2], indexes(store.leaves(1, 10).await.unwrap()));
    assert_eq!(vec![0, 1], indexes(store.leaves(0, 2).await.unwrap()));
    assert!(store.leaves(3, 10).await.unwrap().is_empty());
    assert!(store.receipt(&ReceiptId::derived(&["nobody's"])).await.unwrap().is_none());
    for (index, size) in [(3, 3), (0, 4), (u64::MAX, u64::MAX)] {
        assert!(matches!(store.inclusion(index, size).await, Err(StoreError::Range(_))), "{index} of {size}");
    }
}

pub(crate) async fn callbacks_come_oldest_first_and_only_when_due(store: &Arc<dyn Store>) {
    let dead = OutboxEntry { dead: true, ..callback("dead", 0, 0) };
    let entries =
        [callback("c", 3, 0), callback("a", 1, 5), dead, callback("later", 0, 6), callback("b", 2, 5)];
    let outbox = entries.iter().map(|entry| OutboxWrite::Put(Box::new(entry.clone()))).collect();
    store.commit(Commit { outbox, ..Commit::default() }).await.unwrap();
    let names = |entries: Vec<OutboxEntry>| entries.into_iter().map(|entry| entry.id).collect::<Vec<_>>();
    let due = |limit| store.due(Timestamp(NOW.0 + 5), limit);
    let [a, b, c] = ["a", "b", "c"].map(|name| OutboxId::derived(&[name]));
    assert_eq!(vec![a.clone(), b.clone(), c], names(due(10).await.unwrap()));
    assert_eq!(vec![a.clone(), b], names(due(2).await.unwrap()));
    assert_eq!(5, store.outbox().await.unwrap().len());
    let health = store.health();
    assert_eq!((4, 1), (health.outbox, health.dead_letters));
    store.commit(Commit { outbox: vec![OutboxWrite::Done(a)], ..Commit::default() }).await.unwrap();
    assert_eq!(2, due(10).await.unwrap().len());
}

/// For stores that outlive their process: closes a store that holds something of everything, and opens it again.
pub(crate) async fn what_was_committed_outlives_the_process<S: Store>(open: impl Fn() -> S, vkey: &Vkey) {
    let names = ["one", "two", "three"];
    let before = {
        let store = open();
        for name in names {
            store.commit(everything(name)).await.unwrap();
        }
        let closed = vec![ApprovalWrite::Close(approval("two").approval_id)];
        let taken = vec![GrantWrite::Take(grant("two").grant_id)];
        let outbox = vec![OutboxWrite::Done(callback("two", 0, 0).id)];
        let commit = Commit { approvals: closed, grants: taken, outbox, ..Commit::default() };
        store.commit(commit).await.unwrap();
        let seen = look(&store, &names).await;
        store.close().await.unwrap();
        assert!(matches!(store.commit(everything("four")).await, Err(CommitError::Stopped(_))));
        seen
    };
    let store = open();
    assert_eq!(before, look(&store, &names).await);
    let repeated = Commit { recorded: Some(("key of one".to_owned(), recorded("new"))), ..Commit::default() };
    assert_eq!(Err(CommitError::Duplicate(Box::new(recorded("one")))), store.commit(repeated).await);
    assert_eq!(
        Err(CommitError::Conflict),
        store.commit(step(&session("one"), &SessionState::default())).await
    );
    let state = store.session(&session("one")).await.unwrap();
    let committed = store.commit(step(&session("one"), &state)).await.unwrap();
    assert_eq!((3, 4), (committed.first_index, Checkpoint::open(&committed.head.note, vkey).unwrap().size));
}
