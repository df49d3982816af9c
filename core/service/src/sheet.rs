//! What one readable request comes to: its receipts, its changes of state, its answer. All of it is committed at
//! once, or none.

use std::panic::{AssertUnwindSafe, catch_unwind};

use countersign_engine::{Policies, evaluate, ledger};
use countersign_schemas::{
    Action, Approval, ApprovalAnswer, ApprovalContext, ApprovalId, ApprovalView, BreakGlass, BreakGlassStep,
    Context, ContextView, Decision, DeferralView, Event, Expressed, Grant, GrantScope, OutboxId, PendingKind,
    ReceiptId, ReceiptKind, Refused, Risk, SessionBoundary, SessionId, SessionRef, Source, Timestamp,
    Verdict,
};
use countersign_sdk::parse::sha256_hex;
use countersign_sdk::{Reply, Said};
use countersign_store::{
    ApprovalWrite, Commit, GrantWrite, NewLeaf, OutboxEntry, OutboxWrite, Recorded, SessionState,
    SessionWrite,
};

use crate::appraise::Asked;
use crate::approval::{WITHDRAWN, ended, nobody};
use crate::break_glass::view as glass_view;
use crate::changes::Ended;
use crate::connect::{Route, bare};
use crate::degrade::{Told, Wait, degrade, one_answer_for_all};
use crate::evidence::{self, Chain, Draft, Fingerprint};
use crate::people::People;
use crate::pipeline::{Pipeline, Reading, Refusal};

/// The sheet.
pub(crate) struct Sheet {
    /// What the user has asked for.
    pub(crate) asked: Option<Asked>,
    pub(crate) commit: Commit,
    /// What the session's context is once it is committed.
    pub(crate) context: Context,
    /// Questions that end with the commit, and how.
    pub(crate) ended: Vec<(ApprovalId, Ended)>,
    /// Questions for whose answer the call is kept waiting; there is no reply yet then.
    pub(crate) holds: Vec<ApprovalId>,
    /// Questions that are put with the commit.
    pub(crate) opened: Vec<ApprovalId>,
    /// Whose session it is, across vendors.
    pub(crate) person: Option<String>,
    pub(crate) reply: Reply,
    pub(crate) tally: Vec<(Verdict, Expressed)>,
}

/// An action with what was decided about it, before anything is said.
struct Judged<'a> {
    action: &'a Action,
    context: ContextView,
    decision: Decision,
    fingerprint: Fingerprint,
    /// The break-glass that let it through.
    glass: Option<BreakGlass>,
    grant: Option<Grant>,
    /// The question that is open already for this very action.
    open: Option<ApprovalId>,
    receipt_id: ReceiptId,
    risk: Risk,
    /// What an approver would have to know of the session.
    situation: Option<ApprovalContext>,
    ticket: Option<ApprovalId>,
    wait: Wait,
}

/// A receipt in the making, in the order of the events.
enum Entry {
    Ready(Box<Draft>),
    Judged(usize),
}

/// Earlier actions that an approver is shown.
const SHOWN_MAX: usize = 5;

struct Clerk<'a> {
    asked: Option<Asked>,
    context: Context,
    /// The context as the store has it, until the first event is folded in.
    stored: Option<&'a [u8]>,
    entries: Vec<Entry>,
    judged: Vec<Judged<'a>>,
    /// Whose session it is, across vendors.
    person: Option<String>,
    now: Timestamp,
    pipeline: &'a Pipeline,
    reading: &'a Reading,
    route: &'a Route,
    /// Until when a call can be kept waiting.
    until: Timestamp,
    withdrawn: Vec<(Approval, ApprovalAnswer, ReceiptId)>,
}

impl Sheet {
    /// Decides everything in `reading`, given the session's `state`, its context and what was asked for in
    /// it. Reads only. `until` is the end of the time that a call can be kept waiting.
    ///
    /// # Errors
    ///
    /// [`Refusal`] when the store cannot be read or a receipt cannot be made.
    pub(crate) async fn fill(
        pipeline: &Pipeline,
        route: &Route,
        reading: &Reading,
        state: &SessionState,
        (context, asked): (Context, Option<Asked>),
        until: Timestamp,
    ) -> Result<Self, Refusal> {
        let now = pipeline.clock.now();
        let mut clerk = Clerk {
            asked,
            context,
            stored: (!state.context.is_empty()).then_some(&*state.context),
            entries: Vec::new(),
            judged: Vec::new(),
            person: reading
                .events
                .iter()
                .filter_map(identity_of)
                .find_map(|identity| People::key(identity, route.kind())),
            now,
            pipeline,
            reading,
            route,
            until,
            withdrawn: Vec::new(),
        };
        for event in &reading.events {
            clerk.take(event).await?;
        }
        clerk.finish(state)
    }
}

impl<'a> Clerk<'a> {
    async fn take(&mut self, event: &'a Event) -> Result<(), Refusal> {
        match event {
            Event::Action(action) => self.judge(action).await?,
            Event::Outcome(outcome) => {
                self.stored = None;
                let found = self.pipeline.appraiser.outcome(outcome, &self.context);
                ledger::fold_outcome(&mut self.context, outcome, &found);
                let mut draft =
                    self.blank(ReceiptKind::Outcome, &outcome.source, &outcome.session, &outcome.identity);
                let decided =
                    self.context.recent.iter().rev().find(|prior| prior.action_id == outcome.action_id);
                draft.predicate.parent = decided.and_then(|prior| prior.receipt_id.clone());
                draft.predicate.outcome = Some(evidence::outcome_view(outcome, found.labels));
                draft.disclosed.error.clone_from(&outcome.error);
                self.entries.push(Entry::Ready(Box::new(draft)));
            }
            Event::Intent(intent) => {
                self.stored = None;
                ledger::fold_intent(&mut self.context, intent);
                let mut draft =
                    self.blank(ReceiptKind::Intent, &intent.source, &intent.session, &intent.identity);
                draft.predicate.context = Some(self.context_view(self.context_digest()));
                draft.disclosed.request = Some(intent.text.clone());
                self.entries.push(Entry::Ready(Box::new(draft)));
            }
            Event::SessionStart(boundary) => self.boundary(ReceiptKind::SessionStart, boundary),
            Event::SessionEnd(boundary) => {
                self.stored = None;
                ledger::fold_session_end(&mut self.context, boundary);
                self.boundary(ReceiptKind::SessionEnd, boundary);
                self.withdraw(&boundary.session.id).await?;
            }
            Event::Observation(seen) => {
                let mut draft =
                    self.blank(ReceiptKind::Observation, &seen.source, &seen.session, &seen.identity);
                draft.disclosed.vendor_fields.clone_from(&seen.details);
                self.entries.push(Entry::Ready(Box::new(draft)));
            }
            Event::Ping => {}
        }
        Ok(())
    }

    /// Nobody needs an answer any more. A vendor that keeps the session for a resume does.
    async fn withdraw(&mut self, session: &SessionId) -> Result<(), Refusal> {
        for approval in self.pipeline.store.questions(session, None).await? {
            if !approval.resumable {
                let answer = nobody(WITHDRAWN, self.now);
                let draft = self.pipeline.resolution(&approval, &answer, None);
                self.withdrawn.push((approval, answer, draft.predicate.receipt_id.clone()));
                self.entries.push(Entry::Ready(Box::new(draft)));
            }
        }
        Ok(())
    }

    fn boundary(&mut self, kind: ReceiptKind, boundary: &SessionBoundary) {
        let draft = self.blank(kind, &boundary.source, &boundary.session, &boundary.identity);
        self.entries.push(Entry::Ready(Box::new(draft)));
    }

    fn blank(
        &self,
        kind: ReceiptKind,
        source: &Source,
        session: &SessionRef,
        identity: &countersign_schemas::Identity,
    ) -> Draft {
        let epoch = self.pipeline.notary.epoch();
        let mut predicate = evidence::blank(kind, epoch, self.now, source, Some(session));
        predicate.identity = Some(evidence::identity_view(identity));
        Draft { disclosed: evidence::disclosed_identity(identity), predicate }
    }

    /// SHA-256 of the context so far, as it is stored.
    fn context_digest(&self) -> String {
        self.stored.map_or_else(|| sha256_hex(&encode(&self.context)), sha256_hex)
    }

    fn context_view(&self, sha256: String) -> ContextView {
        let context = &self.context;
        ContextView {
            action_count: context.action_count,
            drift: context.drift,
            injection: context.injection,
            labels: context.labels.clone(),
            parent: context.parent.clone(),
            person: context.person.clone().filter(|person| person.sessions > 0),
            request_sha256: context.request_sha256.clone(),
            sha256,
            untrusted: context.untrusted,
        }
    }

    /// Evaluates one action and looks for a grant or an open question, if policy wants to wait.
    async fn judge(&mut self, action: &'a Action) -> Result<(), Refusal> {
        let fingerprint = Fingerprint::of(action);
        let digest = self.context_digest();
        let risk = self.measure(action);
        let context = self.context_view(digest);
        let mut decision = self.decide(action);
        (self.context.person, self.context.risk) = (None, None);
        let (mut glass, mut grant, mut open, mut situation) = (None, None, None, None);
        if matches!(decision.verdict, Verdict::StepUp | Verdict::Defer) {
            glass = self.pipeline.glasses.covers(&action.source.connector, &action.identity, self.now);
            grant = self.usable_grant(action, &fingerprint).await?;
            let hash = Some(fingerprint.action_hash.as_str());
            if let Some(grant) = &grant {
                decision.verdict = Verdict::Allow;
                decision.reason = format!("approved (ticket {}); {}", grant.approval_id, decision.reason);
            } else if let Some(refused) = self.refusal(&fingerprint) {
                decision.verdict = Verdict::Deny;
                decision.reason = format!("refused (ticket {refused}); {}", decision.reason);
            } else if let Some(glass) = &glass {
                decision.verdict = Verdict::Allow;
                decision.reason =
                    format!("break-glass by {}: {}; {}", glass.by, glass.reason, decision.reason);
            } else {
                let same = self.pipeline.store.questions(&action.session.id, hash).await?;
                open = same.into_iter().next().map(|approval| approval.approval_id);
                situation = Some(self.situation());
            }
            glass = glass.filter(|_| grant.is_none() && decision.verdict == Verdict::Allow);
        }
        self.stored = None;
        ledger::fold_action(&mut self.context, action, &decision, self.now);
        self.pipeline.appraiser.note(action, decision.verdict, &mut self.context);
        let receipt_id = ReceiptId::at(self.now);
        if let Some(prior) =
            self.context.recent.last_mut().filter(|prior| prior.action_id == action.action_id)
        {
            prior.receipt_id = Some(receipt_id.clone());
        }
        self.entries.push(Entry::Judged(self.judged.len()));
        self.judged.push(Judged {
            action,
            context,
            decision,
            fingerprint,
            glass,
            grant,
            open,
            receipt_id,
            risk,
            situation,
            ticket: None,
            wait: Wait::No,
        });
        Ok(())
    }

    /// A grant for this very action that reaches here and is not used up within this frame.
    async fn usable_grant(
        &self,
        action: &Action,
        fingerprint: &Fingerprint,
    ) -> Result<Option<Grant>, Refusal> {
        let store = &self.pipeline.store;
        let grants = store.grants(&action.session.id, &fingerprint.action_hash, self.now).await?;
        let used = |grant: &Grant| {
            grant.scope == GrantScope::Once && self.judged.iter().any(|j| j.grant.as_ref() == Some(grant))
        };
        let foreign =
            |grant: &Grant| grant.scope == GrantScope::Window && grant.agent != action.identity.agent.id;
        Ok(grants.into_iter().find(|grant| !used(grant) && !foreign(grant)))
    }

    /// The question in which a person has refused this very action lately.
    fn refusal(&self, fingerprint: &Fingerprint) -> Option<ApprovalId> {
        let same =
            |refused: &&Refused| refused.action_hash == fingerprint.action_hash && refused.until > self.now;
        self.context.refused.iter().find(same).map(|refused| refused.approval_id.clone())
    }

    fn situation(&self) -> ApprovalContext {
        let context = &self.context;
        let shown = context.recent.len().saturating_sub(SHOWN_MAX);
        ApprovalContext {
            action_count: context.action_count,
            denied_count: context.denied_count,
            drift: context.drift,
            labels: context.labels.clone(),
            later_requests: context.later_requests.clone(),
            recent: context.recent[shown..].to_vec(),
            request: context.request.clone(),
            untrusted: context.untrusted,
        }
    }

    /// What policies are told besides: who else acts for the same person, and how risky the action looks. A session
    /// that takes over work begins with what the one before it has touched.
    fn measure(&mut self, action: &Action) -> Risk {
        if let Some(key) = &self.person {
            let (people, id) = (&self.pipeline.people, &action.session.id);
            let is_handed_on = !action.identity.delegation.is_empty() && self.context.parent.is_none();
            if let Some((parent, found)) = people.newest_other(key, id, self.now).filter(|_| is_handed_on) {
                ledger::inherit(&mut self.context, &parent, &found);
            }
            self.context.person = Some(people.others(key, id, self.now));
        }
        let risk = self.pipeline.appraiser.risk(action, &mut self.context, &mut self.asked);
        self.context.risk = Some(risk.clone());
        risk
    }

    /// Halts come before policy. A fault of the engine is a DENY.
    fn decide(&self, action: &Action) -> Decision {
        if let Some(halt) = self.pipeline.halts.stops(&action.source.connector, &action.identity) {
            return Decision::deny(format!("halted: {}", halt.reason));
        }
        let policies: &Policies = &self.pipeline.policies.load();
        catch_unwind(AssertUnwindSafe(|| evaluate(policies, action, &self.context, self.now)))
            .unwrap_or_else(|_| Decision::deny("the policy engine failed"))
    }

    fn finish(mut self, state: &SessionState) -> Result<Sheet, Refusal> {
        let told = self.tell();
        let mut commit = Commit::default();
        let mut said = Vec::new();
        for (at, told) in told.iter().enumerate() {
            said.push(self.said(at, told));
            self.follow_up(at, told, &mut commit);
        }
        let mut verdict = None;
        if said.is_empty() {
            let (decision, expressed) = self.frame_decision();
            verdict = Some((decision.verdict, expressed));
            said.push(self.say_frame(&decision, expressed));
        }
        commit.leaves = self.leaves(state, &told)?;
        commit.session = Some(SessionWrite {
            context: encode(&self.context).into(),
            expected_version: state.version,
            id: self.reading.session.id.clone(),
        });
        let ended = self.end_withdrawn(&mut commit);
        let holding = self.judged.iter().filter(|judged| judged.wait == Wait::Hold);
        let holds: Vec<_> = holding.filter_map(|judged| judged.ticket.clone()).collect();
        let fresh = self.judged.iter().filter(|judged| judged.open.is_none());
        let opened = fresh.filter_map(|judged| judged.ticket.clone()).collect();
        let mut reply = Reply::json(&serde_json::Value::Null);
        if holds.is_empty() {
            reply = self.route.answer(&self.reading.frame, &said);
            commit.recorded = Some((self.reading.key.clone(), self.recorded(&reply, &said)));
        }
        let mut tally: Vec<_> = told
            .iter()
            .zip(&self.judged)
            .map(|(t, j)| (j.decision.verdict, t.expression.expressed))
            .collect();
        if tally.is_empty() && self.reading.spec.gates {
            tally.extend(verdict);
        }
        let Self { asked, context, person, .. } = self;
        Ok(Sheet { asked, commit, context, ended, holds, opened, person, reply, tally })
    }

    fn recorded(&self, reply: &Reply, said: &[Said<'_>]) -> Recorded {
        Recorded {
            body: reply.body.clone(),
            content_type: reply.content_type.clone().into_owned(),
            expires_at: self.now.after(self.pipeline.limits.idempotency()),
            request_sha256: self.reading.raw_sha256.clone(),
            status: reply.status,
            waits_for: said.iter().filter_map(|said| said.ticket.clone()).collect(),
        }
    }

    fn end_withdrawn(&self, commit: &mut Commit) -> Vec<(ApprovalId, Ended)> {
        let mut all = Vec::new();
        for (approval, answer, receipt_id) in &self.withdrawn {
            commit.approvals.push(ApprovalWrite::Close(approval.approval_id.clone()));
            self.pipeline.consequence(Some(self.route), approval, answer, receipt_id, commit);
            all.push((approval.approval_id.clone(), ended(approval, answer)));
        }
        all
    }

    /// What is said about each action, degraded to what the frame can be told.
    fn tell(&mut self) -> Vec<Told> {
        let waits = |judged: &Judged<'_>| matches!(judged.decision.verdict, Verdict::StepUp | Verdict::Defer);
        let room = self.judged.iter().any(waits)
            && self.pipeline.store.health().approvals < self.pipeline.limits.open_approvals;
        let spec = &self.reading.spec;
        let now = self.now;
        let mut told = Vec::new();
        for judged in &mut self.judged {
            let fresh = || room.then(|| ApprovalId::at(now));
            let ticket = judged.open.clone().or_else(fresh);
            let words = degrade(&judged.decision, &judged.action.parameters, spec, ticket.as_ref());
            judged.ticket = ticket.filter(|_| words.wait != Wait::No);
            judged.wait = words.wait;
            told.push(words);
        }
        if spec.one_answer {
            one_answer_for_all(&mut told);
        }
        told
    }

    fn said(&self, at: usize, told: &Told) -> Said<'a> {
        let judged = &self.judged[at];
        Said {
            action: Some(judged.action),
            expression: told.expression.clone(),
            modified: told.modified.clone(),
            receipt_id: Some(judged.receipt_id.clone()),
            ticket: judged.ticket.clone(),
            verdict: judged.decision.verdict,
        }
    }

    /// The changes of state that go with one decision: a question opened, a grant used, a callback owed.
    fn follow_up(&self, at: usize, told: &Told, commit: &mut Commit) {
        let judged = &self.judged[at];
        let once = judged.grant.as_ref().filter(|grant| grant.scope == GrantScope::Once);
        if let Some(grant) = once.filter(|_| told.expression.expressed == Expressed::Allow) {
            commit.grants.push(GrantWrite::Take(grant.grant_id.clone()));
        }
        if let Some(ticket) = judged.ticket.as_ref().filter(|_| judged.open.is_none()) {
            commit.approvals.push(ApprovalWrite::Open(Box::new(self.question(judged, told, ticket.clone()))));
        }
        let settled = told.expression.expressed != Expressed::Held;
        if let Some(held) = self.route.held().filter(|_| self.reading.spec.held && settled) {
            let callback = held.callback(judged.action, &self.said(at, told));
            let entry = OutboxEntry {
                attempts: 0,
                callback: callback.0,
                connector: self.route.name.clone(),
                created_at: self.now,
                dead: false,
                id: OutboxId::at(self.now),
                last_error: None,
                next_at: self.now,
                receipt_id: judged.receipt_id.clone(),
            };
            commit.outbox.push(OutboxWrite::Put(Box::new(entry)));
        }
    }

    fn question(&self, judged: &Judged<'_>, told: &Told, approval_id: ApprovalId) -> Approval {
        let decision = &judged.decision;
        let deferred = decision.verdict == Verdict::Defer;
        let seconds = match (&decision.deferral, &decision.approval) {
            (Some(deferral), _) if deferred => deferral.timeout_seconds,
            (_, Some(rule)) => rule.timeout_seconds,
            _ => 0,
        };
        Approval {
            action: judged.action.clone(),
            action_hash: judged.fingerprint.action_hash.clone(),
            alike: alike(judged.action, decision),
            approval_id,
            approved_by: Vec::new(),
            context: judged.situation.clone().unwrap_or_default(),
            decision: decision.clone(),
            deferral: decision.deferral.clone(),
            expires_at: self.now.after(std::time::Duration::from_secs(seconds)),
            escalated_at: None,
            held: told.wait == Wait::Held,
            holds_until: (told.wait == Wait::Hold).then_some(self.until),
            kind: if deferred { PendingKind::Deferral } else { PendingKind::Approval },
            opened_at: self.now,
            receipt_id: judged.receipt_id.clone(),
            resumable: told.expression.expressed == Expressed::Defer,
            risk: Some(judged.risk.clone()),
            rule: decision.approval.clone(),
        }
    }

    /// What is decided about a frame that carries no action: unreadable and unlisted frames are denied, halted
    /// people and agents too; the rest is none of policy's business.
    fn frame_decision(&self) -> (Decision, Expressed) {
        let spec = &self.reading.spec;
        let identity = self.reading.events.iter().find_map(identity_of).cloned().unwrap_or_default();
        let deny = if let Some(reason) = &self.reading.unreadable {
            Some(format!("unreadable request: {reason}"))
        } else if let Some(halt) =
            self.pipeline.halts.stops(&self.route.name, &identity).filter(|_| spec.gates)
        {
            Some(format!("halted: {}", halt.reason))
        } else if spec.native.is_empty() {
            Some(format!("unknown frame `{}`", self.reading.frame.name))
        } else {
            None
        };
        match deny {
            Some(reason) => (Decision::deny(reason), Expressed::Deny),
            None => {
                let reason = if spec.allow_unknown {
                    "unknown frame, allowed by the vendor's rule"
                } else {
                    "no action in it"
                };
                (Decision { verdict: Verdict::Allow, ..Decision::deny(reason) }, Expressed::Allow)
            }
        }
    }

    /// Says a frame's decision, and receipts it where it is more than "noted".
    fn say_frame(&mut self, decision: &Decision, expressed: Expressed) -> Said<'static> {
        let mut said = bare(expressed, decision.verdict, &decision.reason);
        if expressed == Expressed::Deny || self.reading.spec.allow_unknown || self.entries.is_empty() {
            let source = Source {
                connector: self.route.name.clone(),
                event: self.reading.frame.name.clone(),
                vendor: self.route.kind().to_owned(),
            };
            let identity = self.reading.events.iter().find_map(identity_of).cloned().unwrap_or_default();
            let mut draft = self.blank(ReceiptKind::Decision, &source, &self.reading.session, &identity);
            let budget = u64::try_from(self.route.budget.as_millis()).unwrap_or(u64::MAX);
            draft.predicate.decision =
                Some(evidence::decision_view(decision, &said.expression, None, budget));
            said.receipt_id = Some(draft.predicate.receipt_id.clone());
            self.entries.push(Entry::Ready(Box::new(draft)));
        }
        said
    }

    /// Signs everything, in the order it happened.
    fn leaves(&mut self, state: &SessionState, told: &[Told]) -> Result<Vec<NewLeaf>, Refusal> {
        let mut chain = Chain::of(self.reading.session.id.clone(), state);
        let mut leaves = Vec::with_capacity(self.entries.len());
        for entry in std::mem::take(&mut self.entries) {
            let draft = match entry {
                Entry::Ready(draft) => *draft,
                Entry::Judged(at) => self.decision_draft(&self.judged[at], &told[at]),
            };
            leaves.push(self.pipeline.notary.seal(&mut chain, draft, &self.reading.raw_sha256)?);
        }
        Ok(leaves)
    }

    fn decision_draft(&self, judged: &Judged<'_>, told: &Told) -> Draft {
        let Judged { action, decision, fingerprint, .. } = judged;
        let mut draft = self.blank(ReceiptKind::Decision, &action.source, &action.session, &action.identity);
        let budget = u64::try_from(self.route.budget.as_millis()).unwrap_or(u64::MAX);
        let predicate = &mut draft.predicate;
        predicate.receipt_id = judged.receipt_id.clone();
        predicate.action = Some(evidence::action_view(action, fingerprint, Some(judged.risk.clone())));
        predicate.context = Some(judged.context.clone());
        predicate.decision =
            Some(evidence::decision_view(decision, &told.expression, Some(fingerprint), budget));
        predicate.policy = evidence::policy_view(decision);
        predicate.vendor.delivery_id.clone_from(&action.delivery_id);
        predicate.approval = approval_view(judged, self.now);
        predicate.deferral = deferral_view(judged);
        predicate.break_glass = judged.glass.as_ref().map(|glass| glass_view(glass, BreakGlassStep::Used));
        draft.disclosed = evidence::disclosed_action(action, decision.modified.as_ref());
        draft.disclosed.told = evidence::told(decision, &told.expression);
        draft
    }
}

fn approval_view(judged: &Judged<'_>, now: Timestamp) -> Option<ApprovalView> {
    if let Some(grant) = &judged.grant {
        return Some(ApprovalView {
            approved: Some(true),
            grant: Some(grant.grant_id.to_string()),
            scope: Some(grant.scope),
            ..ApprovalView::of(grant.approval_id.clone())
        });
    }
    let ticket = judged.ticket.as_ref().filter(|_| judged.decision.verdict == Verdict::StepUp)?;
    let rule = judged.decision.approval.as_ref();
    Some(ApprovalView {
        approvers: rule.map(|rule| rule.approvers.clone()).unwrap_or_default(),
        expires_at: rule.map(|rule| now.after(rule.timeout())),
        ..ApprovalView::of(ticket.clone())
    })
}

/// What alike questions have in common: connector, requester, tool and policies.
fn alike(action: &Action, decision: &Decision) -> String {
    let human = action.identity.human.as_ref().map(|human| human.id.as_str());
    let policies: Vec<_> = decision.policies.iter().map(|policy| policy.id.as_str()).collect();
    let common = serde_json::json!([
        action.source.connector,
        human,
        action.identity.agent.id,
        action.tool.canonical(),
        policies
    ]);
    sha256_hex(common.to_string().as_bytes())
}

fn deferral_view(judged: &Judged<'_>) -> Option<DeferralView> {
    let ticket = judged.ticket.as_ref().filter(|_| judged.decision.verdict == Verdict::Defer)?;
    let deferral = judged.decision.deferral.as_ref()?;
    Some(DeferralView {
        approval_id: ticket.clone(),
        kind: deferral.kind,
        method: None,
        needs: deferral.needs.clone(),
        policies: deferral.policies.clone(),
        resolved_at: None,
    })
}

fn identity_of(event: &Event) -> Option<&countersign_schemas::Identity> {
    match event {
        Event::Action(action) => Some(&action.identity),
        Event::Outcome(outcome) => Some(&outcome.identity),
        Event::Intent(intent) => Some(&intent.identity),
        Event::SessionStart(boundary) | Event::SessionEnd(boundary) => Some(&boundary.identity),
        Event::Observation(seen) => Some(&seen.identity),
        Event::Ping => None,
    }
}

fn encode(context: &Context) -> Vec<u8> {
    // A Context holds maps with string keys only, which always serialise.
    serde_json::to_vec(context).unwrap_or_default()
}
