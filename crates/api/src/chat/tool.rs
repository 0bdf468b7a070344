//! Tools and the choice among them.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::Value;

use super::message::check_count;
use crate::{
    ValidationError, json,
    limits::{TOOL_NAME_CHARS, TOOL_SCHEMA_BYTES, TOOL_SCHEMA_DEPTH, TOOLS},
};

const CHOICES: &str = "none, auto, required or {\"type\": \"function\", \"function\": {\"name\": …}}";

/// A tool as it comes over the wire.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Tool {
    /// Only `function` exists here.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The function.
    pub function: Option<FunctionDefinition>,
}

/// A function that the client runs.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct FunctionDefinition {
    /// Name.
    pub name: Option<String>,
    /// What it does, for the model.
    pub description: Option<String>,
    /// JSON Schema of its arguments; absent for none.
    pub parameters: Option<Value>,
}

/// A checked tool.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidTool {
    /// Name, unique among the request's tools, 1 to 256 characters without control characters.
    pub name: String,
    /// What it does.
    pub description: Option<String>,
    /// JSON Schema of its arguments, an object.
    pub parameters: Option<Value>,
}

/// What the model may or must call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// Nothing: the tools are not shown to the model.
    None,
    /// What it likes.
    #[default]
    Auto,
    /// At least one of the tools.
    Required,
    /// This one. It is among the request's tools.
    Named(String),
}

/// Checks `tools`.
pub(super) fn validate_tools(tools: Option<Vec<Tool>>) -> Result<Vec<ValidTool>, ValidationError> {
    let tools = tools.unwrap_or_default();
    check_count("tools", tools.len(), &TOOLS)?;
    let mut names = HashSet::new();
    let mut valid = Vec::with_capacity(tools.len());
    for (index, tool) in tools.into_iter().enumerate() {
        let path = format!("tools[{index}]");
        let tool = validate_tool(tool, &path)?;
        if !names.insert(tool.name.clone()) {
            let param = format!("{path}.function.name");
            return Err(ValidationError::value(param, "different from the other tools' names", tool.name));
        }
        valid.push(tool);
    }
    Ok(valid)
}

fn validate_tool(tool: Tool, path: &str) -> Result<ValidTool, ValidationError> {
    match tool.kind.as_deref() {
        Some("function") => {}
        None => return Err(ValidationError::missing(format!("{path}.type"))),
        Some(other) => {
            let reason = "only tools of type function exist here";
            return Err(ValidationError::unsupported(format!("{path}.type"), other, reason));
        }
    }
    let function = tool.function.ok_or_else(|| ValidationError::missing(format!("{path}.function")))?;
    let name_path = format!("{path}.function.name");
    let name = function.name.ok_or_else(|| ValidationError::missing(&*name_path))?;
    check_name(&name, &name_path)?;
    if let Some(parameters) = &function.parameters {
        check_schema(parameters, &format!("{path}.function.parameters"))?;
    }
    Ok(ValidTool { name, description: function.description, parameters: function.parameters })
}

/// Checks a function's name: 1 to 256 characters, none of them a control character.
pub(super) fn check_name(name: &str, path: &str) -> Result<(), ValidationError> {
    check_count(path, name.chars().count(), &TOOL_NAME_CHARS)?;
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(ValidationError::value(path, "a name without control characters", format!("{name:?}")));
    }
    Ok(())
}

fn check_schema(schema: &Value, path: &str) -> Result<(), ValidationError> {
    if !schema.is_object() {
        return Err(ValidationError::value(path, "a JSON Schema object", schema));
    }
    let text = schema.to_string();
    check_count(path, text.len(), &TOOL_SCHEMA_BYTES)?;
    json::check_depth(text.as_bytes(), path, &TOOL_SCHEMA_DEPTH)
}

/// Checks `tool_choice` against the tools.
pub(super) fn validate_choice(
    choice: Option<Value>,
    tools: &[ValidTool],
) -> Result<ToolChoice, ValidationError> {
    let choice = match choice {
        None => return Ok(ToolChoice::Auto),
        Some(Value::String(word)) => match word.as_str() {
            "none" => ToolChoice::None,
            "auto" => ToolChoice::Auto,
            "required" => ToolChoice::Required,
            _ => return Err(ValidationError::value("tool_choice", CHOICES, word)),
        },
        Some(object) => ToolChoice::Named(chosen_name(&object, tools)?),
    };
    if choice == ToolChoice::Required && tools.is_empty() {
        return Err(ValidationError::Missing {
            param: "tools".to_owned(),
            why: " when tool_choice is required",
        });
    }
    Ok(choice)
}

fn chosen_name(choice: &Value, tools: &[ValidTool]) -> Result<String, ValidationError> {
    let wrong = || ValidationError::value("tool_choice", CHOICES, choice);
    if choice["type"] != "function" {
        return Err(wrong());
    }
    let name = choice["function"]["name"].as_str().ok_or_else(wrong)?;
    if !tools.iter().any(|tool| tool.name == name) {
        let param = "tool_choice.function.name";
        return Err(ValidationError::value(param, "the name of one of the tools", name));
    }
    Ok(name.to_owned())
}
