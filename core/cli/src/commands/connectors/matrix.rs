//! The coverage matrix, made of the manifests.

use comfy_table::Table;
use countersign_schemas::Verdict;
use countersign_sdk::{Evidence, FailMode, FrameSpec, GateClass, Manifest, Site};
use serde_json::Value;

use crate::output;

const HEAD: &str = "\
# Connectors

Made of the connectors' manifests: `countersign connectors matrix --markdown > docs/connectors.md`. Do not edit.

*Can be told* is what the vendor's own protocol has a word for. What it has no word for becomes the nearest safer
thing: MODIFY becomes a denial that says what to change, STEP_UP and DEFER become a denial with a ticket, and the same
call is let through once when the ticket is approved.

*Without an answer* is what the vendor does when it gets no valid answer in time, by default and as well as it can be
configured.

";

const UNHOOKED_HEAD: &str = "\
No third-party hook is known for these, which is not to say that there is none. [recipes.md](recipes.md) has what their
customers can do.";

/// A connector's line in the list.
pub(super) fn row(manifest: &Manifest) -> [String; 7] {
    let gates = manifest.frames.iter().filter(|frame| frame.gates);
    let native: Vec<Verdict> = gates.flat_map(|frame| frame.native.iter().copied()).collect();
    [
        manifest.name.to_owned(),
        manifest.vendor.to_owned(),
        class(manifest.class).to_owned(),
        format!("{} ms", manifest.vendor_window_ms),
        told(&native),
        fails(manifest),
        assurance(manifest),
    ]
}

/// DENY, and which of the others, in the order of the specification.
fn told(native: &[Verdict]) -> String {
    let all = [Verdict::Allow, Verdict::Deny, Verdict::Modify, Verdict::StepUp, Verdict::Defer];
    let able = all.iter().filter(|verdict| **verdict == Verdict::Deny || native.contains(verdict));
    able.map(|verdict| verdict.as_str()).collect::<Vec<_>>().join(", ")
}

fn class(class: GateClass) -> &'static str {
    match class {
        GateClass::Sync => "at once",
        GateClass::Held => "by callback",
        GateClass::SyncOrHeld => "at once or by callback",
    }
}

fn mode(mode: FailMode) -> &'static str {
    match mode {
        FailMode::Open => "runs",
        FailMode::Closed => "does not run",
    }
}

fn fails(manifest: &Manifest) -> String {
    let (default, best) = (mode(manifest.fail_mode_default), mode(manifest.fail_mode_best));
    if default == best { default.to_owned() } else { format!("{default}; configured well: {best}") }
}

fn assurance(manifest: &Manifest) -> String {
    manifest.assurance.as_str().replace('_', " ")
}

fn evidence(evidence: Evidence) -> &'static str {
    match evidence {
        Evidence::Capture => "recorded from the real client",
        Evidence::VendorDocs => "the vendor's documentation",
        Evidence::ThirdParty => "a third party's report",
        Evidence::Unverified => "nobody checked",
    }
}

/// Every frame of every connector.
pub(super) fn table(manifests: &[Manifest]) -> Table {
    let mut table = output::table(["connector", "frame", "can be told", "notes"]);
    for manifest in manifests {
        for frame in &manifest.frames {
            table.add_row([manifest.name.to_owned(), frame.name.to_owned(), frame_told(frame), notes(frame)]);
        }
    }
    table
}

/// The whole matrix: a table of all, then each connector with its frames, limits and console steps.
pub(super) fn markdown() -> String {
    let mut text = HEAD.to_owned();
    let head = ["connector", "vendor", "answers", "window", "can be told", "without an answer", "identity"];
    push_row(&mut text, &head.map(str::to_owned));
    push_row(&mut text, &head.map(|_| "---".to_owned()));
    for manifest in super::manifests() {
        let [name, rest @ ..] = row(&manifest);
        let mut cells = vec![format!("[{name}](#{name})")];
        cells.extend(rest);
        push_row(&mut text, &cells);
    }
    text.push_str(&format!("\n{UNHOOKED_HEAD}\n\n"));
    push_row(&mut text, &["platform", "looked at", "what can be done instead"].map(str::to_owned));
    push_row(&mut text, &["---"; 3].map(str::to_owned));
    for (platform, looked_at, instead) in countersign_connectors::UNHOOKED {
        push_row(&mut text, &[platform, looked_at, instead].map(str::to_owned));
    }
    for spec in countersign_connectors::registry().iter() {
        let site = Site {
            instance: spec.name.to_owned(),
            public_url: super::PUBLIC_URL.to_owned(),
            settings: Value::Null,
        };
        section(&mut text, &(spec.manifest)(), &(spec.setup)(&site));
    }
    text
}

fn section(text: &mut String, manifest: &Manifest, setup: &str) {
    text.push_str(&format!("\n## {}\n\n{}.\n\n", manifest.name, manifest.vendor));
    push_row(text, &["frame".to_owned(), "can be told".to_owned(), "notes".to_owned()]);
    push_row(text, &["---".to_owned(), "---".to_owned(), "---".to_owned()]);
    for frame in &manifest.frames {
        push_row(text, &[format!("`{}`", frame.name), frame_told(frame), notes(frame)]);
    }
    text.push_str(&format!(
        "\n- Window: {} ms, of which {} ms are kept for the network and the vendor.\n- Without an answer: {}. How to \
         do best: {}.\n- Proof of the sender: {}. Identity: {}.\n- A repetition is known by: {}.\n- Results come from: \
         {}.\n- The contract is known from: {}.\n",
        manifest.vendor_window_ms,
        manifest.margin_ms,
        fails(manifest),
        manifest.fail_mode_how,
        manifest.authentication,
        assurance(manifest),
        manifest.idempotency,
        manifest.result_feed,
        evidence(manifest.verified),
    ));
    text.push_str("\nWhat this hook cannot see or stop:\n\n");
    for limit in &manifest.limits {
        text.push_str(&format!("- {limit}\n"));
    }
    text.push_str(&format!("\nSetting it up:\n\n{}\n", setup.trim_end()));
}

fn frame_told(frame: &FrameSpec) -> String {
    if frame.gates { told(&frame.native) } else { "nothing: it only reports".to_owned() }
}

fn notes(frame: &FrameSpec) -> String {
    let notes = [
        (frame.held, "acknowledged, decided by callback"),
        (frame.one_answer, "one answer for all calls in it"),
        (frame.allow_unknown, "the vendor's rule for unknown frames is allow"),
        (frame.merges, "a parameter can be changed, not taken away"),
    ];
    notes.iter().filter(|(is, _)| *is).map(|(_, note)| *note).collect::<Vec<_>>().join("; ")
}

fn push_row(text: &mut String, cells: &[String]) {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    text.push_str(&format!("| {} |\n", cells.join(" | ")));
}
