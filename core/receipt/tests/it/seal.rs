//! The bytes of a receipt.

use countersign_receipt::{Envelope, ReceiptKey, SealError, generate_key_pem, leaf_hash};
use countersign_schemas::*;
use proptest::prelude::*;

/// A supply of arbitrary parts, from which a statement is put together.
#[derive(Clone, Debug)]
struct Supply {
    texts: Vec<String>,
    numbers: Vec<u64>,
    next: usize,
}

impl Supply {
    fn text(&mut self) -> String {
        self.next += 1;
        self.texts[self.next % self.texts.len()].clone()
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.numbers[self.next % self.numbers.len()]
    }

    fn degree(&mut self) -> Degree {
        Degree::ratio(self.number() % 10_001, 10_000)
    }

    fn flag(&mut self) -> bool {
        !self.number().is_multiple_of(3)
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| make(self))
    }

    fn list<T>(&mut self, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.number() % 3).map(|_| make(self)).collect()
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.number()).unwrap() % from.len()]
    }

    fn time(&mut self) -> Timestamp {
        Timestamp(i64::try_from(self.number() % 4_000_000_000_000).unwrap())
    }

    fn ticket(&mut self) -> ApprovalId {
        ApprovalId::derived(&[&self.text()])
    }

    fn receipt_id(&mut self) -> ReceiptId {
        ReceiptId::derived(&[&self.text()])
    }

    fn verdict(&mut self) -> Verdict {
        self.pick(&[Verdict::Allow, Verdict::Deny, Verdict::Modify, Verdict::StepUp, Verdict::Defer])
    }
}

fn action(s: &mut Supply) -> ActionView {
    ActionView {
        action_hash: s.text(),
        action_id: ActionId::derived(&[&s.text()]),
        call_id: s.maybe(Supply::text),
        effect: s.pick(&Effect::ALL),
        operation: s.text(),
        risk: None,
        risk_signals: s.list(Supply::text),
        timestamp: s.time(),
        tool: Tool { name: s.text(), namespace: s.text(), raw: s.text(), server: s.maybe(Supply::text) },
    }
}

fn approval(s: &mut Supply) -> ApprovalView {
    ApprovalView {
        approval_id: s.ticket(),
        approved: s.maybe(Supply::flag),
        approved_by: s.list(Supply::text),
        approver: s.maybe(Supply::text),
        approvers: s.list(Supply::text),
        asked_at: s.maybe(Supply::time),
        assurance: s.maybe(Supply::text),
        at: s.maybe(Supply::time),
        channel: s.maybe(Supply::text),
        expires_at: s.maybe(Supply::time),
        grant: s.maybe(Supply::text),
        quorum: s.maybe(|s| u32::from(s.flag())),
        scope: s.maybe(|s| s.pick(&GrantScope::ALL)),
    }
}

fn break_glass(s: &mut Supply) -> BreakGlassView {
    BreakGlassView {
        break_glass_id: BreakGlassId::derived(&[&s.text()]),
        by: s.text(),
        expires_at: s.time(),
        reason: s.text(),
        step: s.pick(&[BreakGlassStep::Opened, BreakGlassStep::Used, BreakGlassStep::Ended]),
        what: HaltScope::Agent(s.text()),
    }
}

fn decision(s: &mut Supply) -> DecisionView {
    DecisionView {
        budget_ms: s.number(),
        degraded: s.maybe(Supply::text),
        expressed: s.pick(&[Expressed::Allow, Expressed::StepUp, Expressed::Held]),
        modified_sha256: s.maybe(Supply::text),
        parameters_sha256: s.text(),
        reason: s.text(),
        severity: s.pick(&[Severity::Info, Severity::Critical]),
        verdict: s.verdict(),
    }
}

fn deferral(s: &mut Supply) -> DeferralView {
    DeferralView {
        approval_id: s.ticket(),
        kind: s.pick(&[DeferralKind::MissingContext, DeferralKind::Conflict]),
        method: s.maybe(Supply::text),
        needs: s.list(Supply::text),
        policies: s.list(Supply::text),
        resolved_at: s.maybe(Supply::time),
    }
}

fn identity(s: &mut Supply) -> IdentityView {
    IdentityView {
        agent: s.text(),
        agent_kind: s.maybe(Supply::text),
        assurance: s.pick(&[Assurance::None, Assurance::VendorSigned]),
        delegation: s.list(|s| Delegation {
            delegatee: s.text(),
            delegator: s.text(),
            expires_at: s.maybe(Supply::time),
            issued_at: s.maybe(Supply::time),
            scope: s.list(Supply::text),
        }),
        device: s.maybe(Supply::text),
        human: s.maybe(Supply::text),
        model: s.maybe(Supply::text),
        role: s.maybe(Supply::text),
        scope: s.list(Supply::text),
        service: s.maybe(Supply::text),
        tenant: s.maybe(Supply::text),
        verified_by: s.text(),
    }
}

fn outcome(s: &mut Supply) -> OutcomeView {
    OutcomeView {
        action_id: ActionId::derived(&[&s.text()]),
        call_id: s.maybe(Supply::text),
        duration_ms: s.maybe(Supply::number),
        labels: vec![s.text()],
        output_bytes: s.number(),
        output_sha256: s.text(),
        status: s.pick(&[OutcomeStatus::Succeeded, OutcomeStatus::Interrupted]),
    }
}

fn policy(s: &mut Supply) -> PolicyView {
    let matched = s.list(|s| PolicyRef { id: s.text(), sha256: s.text(), version: s.maybe(Supply::text) });
    PolicyView { bundle_sha256: s.text(), engine: s.text(), matched }
}

fn halt(s: &mut Supply) -> HaltView {
    let what = match s.number() % 4 {
        0 => HaltScope::All,
        1 => HaltScope::Agent(s.text()),
        2 => HaltScope::Connector(s.text()),
        _ => HaltScope::Human(s.text()),
    };
    HaltView { active: s.flag(), by: s.text(), reason: s.text(), what }
}

fn rare(s: &mut Supply, predicate: &mut Predicate) {
    predicate.context = s.maybe(|s| ContextView {
        action_count: s.number(),
        drift: s.maybe(|s| Trend { count: s.number(), ema: s.degree(), max: s.degree() }),
        injection: s.degree(),
        labels: s.list(Supply::text),
        parent: s.maybe(|s| SessionId::derived(&[&s.text()])),
        person: s.maybe(|s| Person {
            denied_count: s.number(),
            labels: s.list(Supply::text),
            sessions: s.number(),
            untrusted: s.flag(),
            vendors: s.list(Supply::text),
        }),
        request_sha256: s.maybe(Supply::text),
        sha256: s.text(),
        untrusted: s.number() % 2 == 0,
    });
    predicate.disclosure = s.maybe(|s| Disclosure {
        content: s.maybe(Supply::text),
        digest: s.text(),
        mode: s.pick(&[DisclosureMode::Inline, DisclosureMode::Committed]),
    });
    predicate.gap = s.maybe(|s| GapView {
        count: s.number(),
        digest: s.text(),
        from: s.time(),
        reason: s.text(),
        to: s.time(),
    });
    predicate.policy_change = s.maybe(|s| PolicyChangeView {
        applied: s.flag(),
        bundle_sha256: s.text(),
        error: s.maybe(Supply::text),
        policies: s.number(),
    });
}

fn statement(mut s: Supply) -> Statement {
    let s = &mut s;
    let mut predicate = Predicate {
        action: s.maybe(action),
        approval: s.maybe(approval),
        break_glass: s.maybe(break_glass),
        context: None,
        decided_at: s.time(),
        decision: s.maybe(decision),
        deferral: s.maybe(deferral),
        disclosure: None,
        gap: None,
        halt: s.maybe(halt),
        identity: s.maybe(identity),
        kind: s.pick(&[ReceiptKind::Decision, ReceiptKind::KeyEpoch]),
        outcome: s.maybe(outcome),
        parent: s.maybe(Supply::receipt_id),
        policy: s.maybe(policy),
        policy_change: None,
        receipt_id: s.receipt_id(),
        session: SessionView { id: SessionId::derived(&[&s.text()]), prev: s.text(), seq: s.number() },
        signer_epoch: 7,
        vendor: VendorView {
            connector: s.text(),
            delivery_id: s.maybe(Supply::text),
            event: s.text(),
            name: s.text(),
            session_id: s.maybe(Supply::text),
        },
    };
    rare(s, &mut predicate);
    let subject = s.list(|s| Subject { digest: SubjectDigest { sha256: s.text() }, name: s.text() });
    Statement { kind: s.text(), predicate, predicate_type: s.text(), subject }
}

fn supplies() -> impl Strategy<Value = Supply> {
    let texts = prop::collection::vec(any::<String>(), 1..40);
    let numbers = prop::collection::vec(prop_oneof![0..9_u64, 0..1_u64 << 53], 1..60);
    (texts, numbers).prop_map(|(texts, numbers)| Supply { texts, numbers, next: 0 })
}

fn key() -> ReceiptKey {
    ReceiptKey::from_pkcs8_pem(&generate_key_pem().unwrap(), 7).unwrap()
}

proptest! {
    #[test]
    fn leaf_and_payload_are_their_own_canonical_form(supply in supplies()) {
        let statement = statement(supply);
        let sealed = key().seal(&statement).unwrap();
        let canonical = |bytes: &[u8]| {
            let value: serde_json::Value = serde_json::from_slice(bytes).unwrap();
            serde_json_canonicalizer::to_string(&value).unwrap()
        };
        prop_assert_eq!(canonical(&sealed.bytes), String::from_utf8(sealed.bytes.clone()).unwrap());
        let envelope = Envelope::from_leaf(&sealed.bytes).unwrap();
        let payload = String::from_utf8(envelope.payload.clone()).unwrap();
        prop_assert_eq!(canonical(&envelope.payload), payload);
        prop_assert_eq!(statement, serde_json::from_slice::<Statement>(&envelope.payload).unwrap());
        prop_assert_eq!(&sealed.bytes, &envelope.to_leaf());
        prop_assert_eq!(leaf_hash(&sealed.bytes), sealed.hash);
    }

    #[test]
    fn whatever_reads_as_a_leaf_writes_as_the_same_leaf(
        supply in supplies(), at in any::<prop::sample::Index>(), byte in any::<u8>()
    ) {
        let mut leaf = key().seal(&statement(supply)).unwrap().bytes;
        let at = at.index(leaf.len());
        leaf[at] = byte;
        if let Ok(envelope) = Envelope::from_leaf(&leaf) {
            prop_assert_eq!(leaf, envelope.to_leaf());
        }
    }
}

fn plain() -> Statement {
    statement(Supply { texts: vec!["x".to_owned()], numbers: vec![1], next: 0 })
}

#[test]
fn a_receipt_that_does_not_fit_into_the_log_is_not_made() {
    let mut statement = plain();
    statement.predicate.vendor.event = "x".repeat(60_000);
    assert!(matches!(key().seal(&statement), Err(SealError::TooLong(length)) if length > 65_535));
}

#[test]
fn a_number_that_canonical_json_cannot_write_is_refused() {
    let mut statement = plain();
    statement.predicate.session.seq = (1 << 53) - 1;
    assert!(key().seal(&statement).is_ok());
    statement.predicate.session.seq += 1;
    assert!(matches!(key().seal(&statement), Err(SealError::Number("session.seq"))));
}
