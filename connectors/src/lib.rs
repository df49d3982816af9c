//! The vendors, one module each. `README.md` walks through writing one.

use countersign_sdk::{ConnectorSpec, Registry};

pub mod anthropic;
pub mod claude_code;
pub mod cline;
pub mod codex;
pub mod coding_agent;
pub mod copilot;
pub mod copilot_studio;
pub mod cursor;
pub mod gemini;
pub mod generic;
pub mod github;
pub mod qwen;
pub mod rehearsal;
pub mod vscode;

pub use generic::schemas;

/// Every connector this program has, in the order in which they are listed to people.
#[must_use]
pub fn registry() -> Registry {
    Registry::new(vec![
        ConnectorSpec::of::<anthropic::Anthropic>(),
        ConnectorSpec::of::<claude_code::ClaudeCode>(),
        ConnectorSpec::of::<cline::Cline>(),
        ConnectorSpec::of::<codex::Codex>(),
        ConnectorSpec::of::<copilot::Copilot>(),
        ConnectorSpec::of::<copilot_studio::CopilotStudio>(),
        ConnectorSpec::of::<cursor::Cursor>(),
        ConnectorSpec::of::<gemini::Gemini>(),
        ConnectorSpec::of::<generic::Generic>(),
        ConnectorSpec::of::<github::GitHub>(),
        ConnectorSpec::of::<qwen::Qwen>(),
        ConnectorSpec::of::<vscode::VsCode>(),
    ])
}
