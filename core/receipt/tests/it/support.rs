//! A small log as the service would write it, and exports of it.

use std::collections::HashMap;
use std::convert::Infallible;

use countersign_receipt::{
    EXPORT_VERSION, ExportHeader, ExportWriter, FindingCode, Frontier, LeafHash, LogKey, Nodes, ReceiptKey,
    Report, Trust, TrustFile, TrustedLog, TrustedReceiptKey, VerifyOptions, disclose, generate_key_pem,
    inclusion_path, leaf_hash, node_hash, verify,
};
use countersign_schemas::{
    ActionId, ActionView, ApprovalId, ApprovalView, DecisionView, Disclosed, DisclosureMode, Effect,
    Expressed, PREDICATE_TYPE, Predicate, ReceiptId, ReceiptKind, STATEMENT_TYPE, SessionId, SessionView,
    Severity, Statement, Subject, SubjectDigest, Timestamp, Tool, VendorView, Verdict,
};

pub(crate) const ORIGIN: &str = "example.com/log";

/// The complete subtrees over a list of leaves.
pub(crate) struct Leaves<'a>(pub(crate) &'a [LeafHash]);

impl Nodes for Leaves<'_> {
    type Error = Infallible;

    fn node(&self, height: u8, index: u64) -> Result<LeafHash, Infallible> {
        let Some(below) = height.checked_sub(1) else {
            return Ok(self.0[usize::try_from(index).unwrap()]);
        };
        Ok(node_hash(&self.node(below, index * 2)?, &self.node(below, index * 2 + 1)?))
    }
}

/// The two keys of a service.
pub(crate) struct Keys {
    pub(crate) log: LogKey,
    pub(crate) receipt: ReceiptKey,
}

impl Keys {
    pub(crate) fn new() -> Self {
        let log = LogKey::from_pkcs8_pem(ORIGIN, &generate_key_pem().unwrap()).unwrap();
        Self { log, receipt: ReceiptKey::from_pkcs8_pem(&generate_key_pem().unwrap(), 1).unwrap() }
    }

    pub(crate) fn trust_file(&self) -> TrustFile {
        let key = TrustedReceiptKey {
            key_id: self.receipt.key_id().to_owned(),
            epoch: self.receipt.epoch(),
            public_key_pem: self.receipt.public_pem(),
            valid_below: None,
        };
        TrustFile { log: TrustedLog { vkey: self.log.vkey() }, receipt_keys: vec![key] }
    }

    pub(crate) fn trust(&self) -> Trust {
        self.trust_file().check().unwrap()
    }
}

/// A log and what lies beside it.
#[derive(Clone, Default)]
pub(crate) struct Log {
    pub(crate) leaves: Vec<Vec<u8>>,
    pub(crate) disclosures: Vec<Option<String>>,
    sessions: HashMap<SessionId, (u64, LeafHash)>,
}

impl Log {
    /// Twelve receipts of three sessions; the first session has a STEP_UP and its resolution, the last a DEFER that
    /// nobody resolved yet.
    pub(crate) fn sample(keys: &Keys) -> Self {
        let mut log = Self::default();
        for step in 0..12_u8 {
            let session = SessionId::derived(&["session", &(step % 3).to_string()]);
            let mut statement = log.statement(&session, step);
            let ticket = ApprovalId::derived(&["ticket", if step == 11 { "open" } else { "answered" }]);
            let predicate = &mut statement.predicate;
            match step {
                3 => ask(predicate, ticket, Verdict::StepUp),
                6 => {
                    ask(predicate, ticket, Verdict::Allow);
                    predicate.kind = ReceiptKind::Resolution;
                }
                11 => ask(predicate, ticket, Verdict::Defer),
                _ => {}
            }
            log.add(keys, statement, step);
        }
        log
    }

    /// The statement that would come next in `session`.
    pub(crate) fn statement(&self, session: &SessionId, step: u8) -> Statement {
        let (seq, prev) = self.sessions.get(session).copied().unwrap_or((0, [0; 32]));
        let receipt_id = ReceiptId::derived(&["receipt", &step.to_string()]);
        let name = format!("{session}/{receipt_id}");
        Statement {
            kind: STATEMENT_TYPE.to_owned(),
            predicate: predicate(
                receipt_id,
                SessionView { id: session.clone(), prev: hex::encode(prev), seq },
            ),
            predicate_type: PREDICATE_TYPE.to_owned(),
            subject: vec![Subject { digest: SubjectDigest { sha256: "00".repeat(32) }, name }],
        }
    }

    /// Signs a statement and appends it; every second receipt has something personal in it.
    pub(crate) fn add(&mut self, keys: &Keys, mut statement: Statement, step: u8) {
        let content = Disclosed { human_name: Some(format!("Zoë {step}")), ..Disclosed::default() };
        let (in_leaf, text) = disclose(&content, DisclosureMode::Committed, [step; 16]);
        let personal = step.is_multiple_of(2);
        statement.predicate.disclosure = personal.then_some(in_leaf);
        statement.predicate.signer_epoch = keys.receipt.epoch();
        let sealed = keys.receipt.seal(&statement).unwrap();
        let session = statement.predicate.session;
        self.sessions.insert(session.id, (session.seq + 1, sealed.hash));
        self.leaves.push(sealed.bytes);
        self.disclosures.push(text.filter(|_| personal));
    }

    pub(crate) fn hashes(&self) -> Vec<LeafHash> {
        self.leaves.iter().map(|leaf| leaf_hash(leaf)).collect()
    }

    pub(crate) fn tree(&self, size: usize) -> Frontier {
        let mut tree = Frontier::new();
        self.hashes().iter().take(size).for_each(|hash| tree.push(*hash));
        tree
    }

    pub(crate) fn checkpoint(&self, keys: &Keys, size: usize) -> String {
        keys.log.sign(size as u64, &self.tree(size).root())
    }

    /// The first `size` leaves, from leaf `from` on, all of them.
    pub(crate) fn export(&self, keys: &Keys, from: usize, size: usize) -> Vec<u8> {
        let header = ExportHeader {
            version: EXPORT_VERSION,
            origin: ORIGIN.to_owned(),
            checkpoint: self.checkpoint(keys, size),
            from: from as u64,
            to: size as u64,
            complete: true,
            edge: self.tree(from).hashes().to_vec(),
        };
        let mut writer = ExportWriter::new(Vec::new(), &header).unwrap();
        for index in from..size {
            let disclosure = self.disclosures[index].as_deref();
            writer.push(index as u64, &self.leaves[index], None, disclosure).unwrap();
        }
        writer.finish().unwrap()
    }

    /// Only these leaves, each with its proof.
    pub(crate) fn selection(&self, keys: &Keys, indices: &[usize]) -> Vec<u8> {
        let (hashes, size) = (self.hashes(), self.leaves.len() as u64);
        let header = ExportHeader {
            version: EXPORT_VERSION,
            origin: ORIGIN.to_owned(),
            checkpoint: self.checkpoint(keys, self.leaves.len()),
            from: 0,
            to: size,
            complete: false,
            edge: Vec::new(),
        };
        let mut writer = ExportWriter::new(Vec::new(), &header).unwrap();
        for &index in indices {
            let proof = inclusion_path(index as u64, size, &Leaves(&hashes)).unwrap();
            let disclosure = self.disclosures[index].as_deref();
            writer.push(index as u64, &self.leaves[index], Some(&proof), disclosure).unwrap();
        }
        writer.finish().unwrap()
    }
}

fn ask(predicate: &mut Predicate, approval_id: ApprovalId, verdict: Verdict) {
    predicate.approval =
        Some(ApprovalView { approvers: vec!["group:oncall".to_owned()], ..ApprovalView::of(approval_id) });
    if let Some(decision) = &mut predicate.decision {
        decision.verdict = verdict;
    }
}

fn predicate(receipt_id: ReceiptId, session: SessionView) -> Predicate {
    let at = Timestamp(1_795_451_000_123);
    Predicate {
        action: Some(ActionView {
            action_hash: "ab".repeat(32),
            action_id: ActionId::derived(&["action", receipt_id.as_str()]),
            call_id: None,
            effect: Effect::Execute,
            operation: "PreToolUse".to_owned(),
            risk: None,
            risk_signals: Vec::new(),
            timestamp: at,
            tool: Tool {
                name: "Bash".to_owned(),
                namespace: "agent".to_owned(),
                raw: "Bash".to_owned(),
                server: None,
            },
        }),
        approval: None,
        break_glass: None,
        context: None,
        decided_at: at,
        decision: Some(DecisionView {
            budget_ms: 900,
            degraded: None,
            expressed: Expressed::Allow,
            modified_sha256: None,
            parameters_sha256: "cd".repeat(32),
            reason: "règle 7 \u{1F512} \"quoted\"".to_owned(),
            severity: Severity::Low,
            verdict: Verdict::Allow,
        }),
        deferral: None,
        disclosure: None,
        gap: None,
        halt: None,
        identity: None,
        kind: ReceiptKind::Decision,
        outcome: None,
        parent: None,
        policy: None,
        policy_change: None,
        receipt_id,
        session,
        signer_epoch: 1,
        vendor: VendorView {
            connector: "agent".to_owned(),
            delivery_id: None,
            event: "PreToolUse".to_owned(),
            name: "agent".to_owned(),
            session_id: None,
        },
    }
}

pub(crate) fn check(export: &[u8], trust: &Trust) -> Report {
    verify(export, trust, &VerifyOptions { threads: 2, ..VerifyOptions::default() })
}

pub(crate) fn check_against(export: &[u8], trust: &Trust, kept: &[String]) -> Report {
    verify(export, trust, &VerifyOptions { kept_checkpoints: kept, ..VerifyOptions::default() })
}

pub(crate) fn codes(report: &Report) -> Vec<FindingCode> {
    let mut codes = Vec::new();
    for finding in &report.findings {
        if !codes.contains(&finding.code) {
            codes.push(finding.code);
        }
    }
    codes
}
