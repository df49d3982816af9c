//! Writes a made-up log as an export, and the trust file that goes with it: something to try a verifier on.
//!
//! `cargo run -p countersign-receipt --example sample_export -- 1000 export.ndjson trust.json`

use std::error::Error;
use std::fs::File;
use std::io::BufWriter;

use countersign_receipt::{
    EXPORT_VERSION, ExportHeader, ExportWriter, Frontier, LogKey, ReceiptKey, Sealed, TrustFile, TrustedLog,
    TrustedReceiptKey, disclose, generate_key_pem,
};
use countersign_schemas::{
    ActionId, ActionView, DecisionView, Disclosed, DisclosureMode, Effect, Expressed, PREDICATE_TYPE,
    Predicate, ReceiptId, ReceiptKind, STATEMENT_TYPE, SessionId, SessionView, Severity, Statement, Subject,
    SubjectDigest, Timestamp, Tool, VendorView, Verdict,
};

const ORIGIN: &str = "example.com/sample-log";
const SESSIONS: u64 = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(count), Some(export), Some(trust)) = (args.next(), args.next(), args.next()) else {
        return Err("give a number of receipts, and the paths of export and trust file".into());
    };
    let log = LogKey::from_pkcs8_pem(ORIGIN, &generate_key_pem()?)?;
    let key = ReceiptKey::from_pkcs8_pem(&generate_key_pem()?, 1)?;
    serde_json::to_writer_pretty(File::create(trust)?, &trust_file(&log, &key))?;
    let receipts = receipts(count.parse()?, &key)?;
    let mut tree = Frontier::new();
    receipts.iter().for_each(|(sealed, _)| tree.push(sealed.hash));
    let header = ExportHeader {
        version: EXPORT_VERSION,
        origin: ORIGIN.to_owned(),
        checkpoint: log.sign(tree.size(), &tree.root()),
        from: 0,
        to: tree.size(),
        complete: true,
        edge: Vec::new(),
    };
    let mut writer = ExportWriter::new(BufWriter::new(File::create(export)?), &header)?;
    for (index, (sealed, disclosure)) in (0..).zip(&receipts) {
        writer.push(index, &sealed.bytes, None, disclosure.as_deref())?;
    }
    writer.finish()?;
    Ok(())
}

fn trust_file(log: &LogKey, key: &ReceiptKey) -> TrustFile {
    let key = TrustedReceiptKey {
        key_id: key.key_id().to_owned(),
        epoch: key.epoch(),
        public_key_pem: key.public_pem(),
        valid_below: None,
    };
    TrustFile { log: TrustedLog { vkey: log.vkey() }, receipt_keys: vec![key] }
}

type Receipts = Vec<(Sealed, Option<String>)>;

fn receipts(count: u64, key: &ReceiptKey) -> Result<Receipts, Box<dyn Error>> {
    let mut heads = vec![(0, [0; 32]); usize::try_from(SESSIONS)?];
    let mut receipts = Vec::new();
    for number in 0..count {
        let place = number % SESSIONS;
        let head = &mut heads[usize::try_from(place)?];
        let id = SessionId::derived(&["sample", &place.to_string()]);
        let session = SessionView { id, prev: hex::encode(head.1), seq: head.0 };
        let mut salt = [0; 16];
        salt[..8].copy_from_slice(&number.to_be_bytes());
        let content = Disclosed { human_name: Some(format!("Zoë {number}")), ..Disclosed::default() };
        let (in_leaf, text) = disclose(&content, DisclosureMode::Committed, salt);
        let mut statement = statement(number, session);
        statement.predicate.disclosure = Some(in_leaf);
        let sealed = key.seal(&statement)?;
        *head = (head.0 + 1, sealed.hash);
        receipts.push((sealed, text));
    }
    Ok(receipts)
}

fn statement(number: u64, session: SessionView) -> Statement {
    let decided_at = Timestamp(1_795_451_000_000 + i64::try_from(number).unwrap_or(0));
    let receipt_id = ReceiptId::at(decided_at);
    let name = format!("{}/{receipt_id}", session.id);
    let sha256 = format!("{number:064x}");
    let tool = Tool {
        name: "create_issue".to_owned(),
        namespace: "mcp".to_owned(),
        raw: "mcp__tracker__create_issue".to_owned(),
        server: Some("tracker".to_owned()),
    };
    let action = ActionView {
        action_hash: sha256.clone(),
        action_id: ActionId::derived(&[&number.to_string()]),
        call_id: Some(format!("call-{number}")),
        effect: Effect::Create,
        operation: "PreToolUse".to_owned(),
        risk: None,
        risk_signals: Vec::new(),
        timestamp: decided_at,
        tool,
    };
    let decision = DecisionView {
        budget_ms: 900,
        degraded: None,
        expressed: Expressed::Allow,
        modified_sha256: None,
        parameters_sha256: sha256.clone(),
        reason: "règle 7: issues may be created \u{2014} always".to_owned(),
        severity: Severity::Low,
        verdict: Verdict::Allow,
    };
    let vendor = VendorView {
        connector: "sample".to_owned(),
        delivery_id: None,
        event: "PreToolUse".to_owned(),
        name: "sample".to_owned(),
        session_id: Some(format!("session-{}", number % SESSIONS)),
    };
    let predicate = Predicate {
        action: Some(action),
        approval: None,
        break_glass: None,
        context: None,
        decided_at,
        decision: Some(decision),
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
        vendor,
    };
    Statement {
        kind: STATEMENT_TYPE.to_owned(),
        predicate,
        predicate_type: PREDICATE_TYPE.to_owned(),
        subject: vec![Subject { digest: SubjectDigest { sha256 }, name }],
    }
}
