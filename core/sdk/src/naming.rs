//! Tool names: every vendor's spelling becomes (namespace, server, name), and the raw name is kept.

use crate::schemas::Tool;

/// Canonicalises a tool name. `product` is the namespace of the vendor's own tools, for example `claude-code`.
///
/// Reads `mcp__server__tool` (Claude, Codex, Qwen), `MCP:tool` (Cursor) and `Target___tool` (AgentCore). The other
/// spellings are ambiguous without context that only their connector has.
#[must_use]
pub fn tool(product: &str, raw: &str) -> Tool {
    let named = |namespace: &str, server: Option<&str>, name: &str| Tool {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        raw: raw.to_owned(),
        server: server.map(str::to_owned),
    };
    if let Some((server, name)) = raw.strip_prefix("mcp__").and_then(|rest| rest.split_once("__"))
        && !server.is_empty()
        && !name.is_empty()
    {
        return named("mcp", Some(server), name);
    }
    if let Some(name) = raw.strip_prefix("MCP:").filter(|name| !name.is_empty()) {
        return named("mcp", None, name);
    }
    if let Some((target, name)) =
        raw.split_once("___").filter(|(target, name)| !target.is_empty() && !name.is_empty())
    {
        return named("mcp", Some(target), name);
    }
    named(product, None, raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(raw: &str, want: &str) {
        let tool = tool("claude-code", raw);
        assert_eq!((want, raw), (tool.canonical().as_str(), tool.raw.as_str()));
    }

    #[test]
    fn every_spelling_becomes_three_parts() {
        check("Bash", "claude-code/-/Bash");
        check("mcp__github__create_issue", "mcp/github/create_issue");
        check("mcp__plugin_a_b__do__it", "mcp/plugin_a_b/do__it");
        check("MCP:search", "mcp/-/search");
        check("Target___tool", "mcp/Target/tool");
        check("mcp__", "claude-code/-/mcp__");
        check("___", "claude-code/-/___");
    }
}
