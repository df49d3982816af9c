//! The vendors, one module each. `README.md` walks through writing one.

use countersign_sdk::{ConnectorSpec, Registry};

pub mod agentcore;
pub mod anthropic;
pub mod bedrock;
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
pub mod kong;
pub mod langgraph;
pub mod litellm;
pub mod managed_agents;
pub mod openai;
pub mod otlp;
pub mod portkey;
pub mod qwen;
pub mod rehearsal;
mod support;
pub mod vscode;

pub use generic::schemas;

/// Platforms in which no hook for third parties is known: name, when that was looked at, what can be done instead.
pub const UNHOOKED: [(&str, &str, &str); 5] = [
    (
        "Cloudflare AI Gateway",
        "2026-08-21",
        "its guardrails are its own classifier; put a gateway that asks behind it",
    ),
    (
        "Microsoft 365 Copilot",
        "2026-11-24",
        "agents made in Copilot Studio are asked about: `copilot-studio`",
    ),
    ("Salesforce Agentforce", "2026-08-21", "an Apex action that asks `generic` first"),
    ("ServiceNow", "2026-10-23", "a flow that asks `generic` first"),
    ("Zapier", "2026-11-24", "a custom request to `generic`, then a filter"),
];

/// Every connector this program has, in the order in which they are listed to people.
#[must_use]
pub fn registry() -> Registry {
    Registry::new(vec![
        ConnectorSpec::of::<agentcore::AgentCore>(),
        ConnectorSpec::of::<anthropic::Anthropic>(),
        ConnectorSpec::of::<bedrock::Bedrock>(),
        ConnectorSpec::of::<claude_code::ClaudeCode>(),
        ConnectorSpec::of::<cline::Cline>(),
        ConnectorSpec::of::<codex::Codex>(),
        ConnectorSpec::of::<copilot::Copilot>(),
        ConnectorSpec::of::<copilot_studio::CopilotStudio>(),
        ConnectorSpec::of::<cursor::Cursor>(),
        ConnectorSpec::of::<gemini::Gemini>(),
        ConnectorSpec::of::<generic::Generic>(),
        ConnectorSpec::of::<github::GitHub>(),
        ConnectorSpec::of::<kong::Kong>(),
        ConnectorSpec::of::<langgraph::LangGraph>(),
        ConnectorSpec::of::<litellm::LiteLlm>(),
        ConnectorSpec::of::<managed_agents::ManagedAgents>(),
        ConnectorSpec::of::<openai::OpenAi>(),
        ConnectorSpec::of::<otlp::Otlp>(),
        ConnectorSpec::of::<portkey::Portkey>(),
        ConnectorSpec::of::<qwen::Qwen>(),
        ConnectorSpec::of::<vscode::VsCode>(),
    ])
}
