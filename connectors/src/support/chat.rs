//! Messages and tool calls in the shape of OpenAI's chat completions, which most gateways speak.
//!
//! Source: OpenAI API reference, "Chat completions" (`ChatCompletionMessageToolCall`, `ChatCompletionToolMessage`).

use countersign_sdk::naming;
use serde_json::{Map, Value};

use super::{Call, Ended, text};

/// Arguments as an object: chat completions write them as a JSON text, some platforms as an object. Arguments that are
/// not an object cannot be decided on, and what the tool would make of them nobody knows.
pub(crate) fn arguments(written: Option<&Value>) -> Result<Map<String, Value>, &'static str> {
    const PROBLEM: &str = "the arguments of a tool call are not a JSON object";
    match written {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(map)) => Ok(map.clone()),
        Some(Value::String(text)) if text.trim().is_empty() => Ok(Map::new()),
        Some(Value::String(text)) => serde_json::from_str(text).map_err(|_| PROBLEM),
        Some(_) => Err(PROBLEM),
    }
}

/// Reads one entry of `tool_calls`: a function, or a custom tool whose input is free text. `at` tells apart calls
/// without an id.
pub(crate) fn call(product: &str, entry: &Value, at: &str) -> Result<Call, &'static str> {
    let entry = entry.as_object().ok_or("a tool call is not an object")?;
    let custom = entry.get("custom").and_then(Value::as_object);
    let function = entry.get("function").and_then(Value::as_object);
    let (called, parameters) = match (function, custom) {
        (Some(function), _) => (function, arguments(function.get("arguments"))?),
        (None, Some(custom)) => {
            let input = custom.get("input").cloned().unwrap_or(Value::Null);
            (custom, Map::from_iter([("input".to_owned(), input)]))
        }
        (None, None) => return Err("a tool call names neither a function nor a custom tool"),
    };
    let name = text(called, "name").ok_or("a tool call has no name")?;
    let id = text(entry, "id");
    Ok(Call { has_id: id.is_some(), ..Call::new(id.unwrap_or(at), naming::tool(product, name), parameters) })
}

/// All calls of one assistant message, the deprecated single `function_call` too.
pub(crate) fn calls(
    product: &str,
    message: &Map<String, Value>,
    at: &str,
) -> Result<Vec<Call>, &'static str> {
    let mut found = Vec::new();
    match message.get("tool_calls") {
        None | Some(Value::Null) => {}
        Some(Value::Array(entries)) => {
            for (index, entry) in entries.iter().enumerate() {
                found.push(call(product, entry, &format!("{at}/{index}"))?);
            }
        }
        Some(_) => return Err("`tool_calls` is not a list"),
    }
    if let Some(single) = message.get("function_call").filter(|single| !single.is_null()) {
        let entry = serde_json::json!({"function": single});
        found.push(call(product, &entry, &format!("{at}/function_call"))?);
    }
    Ok(found)
}

/// What is new since the model spoke last: results of its calls, and what the user says now.
pub(crate) fn news(messages: &[Value]) -> (Vec<Ended>, Option<String>) {
    let role = |message: &Value| message.get("role").and_then(Value::as_str).unwrap_or_default().to_owned();
    let begin = messages.iter().rposition(|message| role(message) == "assistant").map_or(0, |at| at + 1);
    let (mut ended, mut asked) = (Vec::new(), None);
    for message in messages[begin..].iter().filter_map(Value::as_object) {
        match message.get("role").and_then(Value::as_str) {
            Some("tool") => ended.extend(result(message)),
            Some("user") => asked = content(message).or(asked),
            _ => {}
        }
    }
    (ended, asked)
}

fn result(message: &Map<String, Value>) -> Option<Ended> {
    Some(Ended {
        call: text(message, "tool_call_id")?.to_owned(),
        output: message.get("content").cloned().unwrap_or(Value::Null),
        failed: false,
        tool: text(message, "name").map(str::to_owned),
    })
}

/// The text of a message, whether it is one text or a list of parts.
fn content(message: &Map<String, Value>) -> Option<String> {
    let written = match message.get("content")? {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts = parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str));
            texts.collect::<Vec<_>>().join("\n")
        }
        _ => return None,
    };
    (!written.is_empty()).then_some(written)
}

/// A call that a model's response asks for, and where in that response its arguments stand.
pub(crate) struct Wanted {
    pub(crate) call: Call,
    /// JSON pointer (RFC 6901) to the arguments.
    pub(crate) place: String,
    /// Whether they are written as a JSON text.
    pub(crate) is_text: bool,
}

/// All calls that a whole response asks for, in the shapes of OpenAI's chat completions and responses and of
/// Anthropic's messages. Calls that the provider itself runs have happened already and are not among them.
pub(crate) fn wanted(product: &str, response: &Value, at: &str) -> Result<Vec<Wanted>, &'static str> {
    let list = |key: &str| response.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut found = Vec::new();
    for (index, choice) in list("choices").iter().enumerate() {
        let Some(message) = choice.get("message").and_then(Value::as_object) else { continue };
        let place = format!("/choices/{index}/message");
        for (nth, call) in calls(product, message, &format!("{at}/{index}"))?.into_iter().enumerate() {
            let entry = message.get("tool_calls").and_then(|calls| calls.get(nth));
            let (place, is_text) = match entry {
                Some(entry) if entry.get("function").is_none() => {
                    (format!("{place}/tool_calls/{nth}/custom"), false)
                }
                Some(entry) => (
                    format!("{place}/tool_calls/{nth}/function/arguments"),
                    entry.pointer("/function/arguments").is_some_and(Value::is_string),
                ),
                None => (format!("{place}/function_call/arguments"), true),
            };
            found.push(Wanted { call, place, is_text });
        }
    }
    for (index, block) in list("content").iter().enumerate() {
        if block.get("type").and_then(Value::as_str) == Some("tool_use") {
            let call = item(product, block, "id", "input", &format!("{at}/{index}"))?;
            found.push(Wanted { call, place: format!("/content/{index}/input"), is_text: false });
        }
    }
    for (index, output) in list("output").iter().enumerate() {
        let at = format!("{at}/{index}");
        let (call, key) = match output.get("type").and_then(Value::as_str).unwrap_or_default() {
            "function_call" => (item(product, output, "call_id", "arguments", &at)?, "arguments"),
            "mcp_approval_request" => (item(product, output, "id", "arguments", &at)?, "arguments"),
            kind @ ("custom_tool_call" | "computer_call" | "local_shell_call" | "shell_call"
            | "apply_patch_call") => {
                let fields = output.as_object().cloned().unwrap_or_default();
                let name = text(&fields, "name").unwrap_or(kind).to_owned();
                let id = text(&fields, "call_id").unwrap_or(&at).to_owned();
                (Call::new(&id, naming::tool(product, &name), fields), "")
            }
            _ => continue,
        };
        let is_text = output.get(key).is_some_and(Value::is_string);
        found.push(Wanted { call, place: format!("/output/{index}/{key}"), is_text });
    }
    Ok(found)
}

/// A call whose name, id and arguments stand side by side. With a server label it is a call of that MCP server.
fn item(product: &str, entry: &Value, id: &str, arguments_key: &str, at: &str) -> Result<Call, &'static str> {
    let entry = entry.as_object().ok_or("a tool call is not an object")?;
    let name = text(entry, "name").ok_or("a tool call has no name")?;
    let mut tool = naming::tool(product, name);
    if let Some(server) = text(entry, "server_label") {
        tool.namespace = "mcp".to_owned();
        tool.server = Some(server.to_owned());
        tool.name = name.to_owned();
    }
    let id = text(entry, id);
    Ok(Call {
        has_id: id.is_some(),
        ..Call::new(id.unwrap_or(at), tool, arguments(entry.get(arguments_key))?)
    })
}

/// Writes other arguments where [`wanted`] found the old ones. False when there is no such place any more.
pub(crate) fn rewrite(
    response: &mut Value,
    place: &str,
    is_text: bool,
    arguments: &Map<String, Value>,
) -> bool {
    let Some(written) = response.pointer_mut(place).filter(|_| !place.ends_with('/')) else { return false };
    let arguments = Value::Object(arguments.clone());
    *written = if is_text { Value::String(arguments.to_string()) } else { arguments };
    true
}
