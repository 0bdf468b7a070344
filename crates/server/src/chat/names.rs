//! Function names as the model sees them.

use std::collections::HashMap;

use sostenuto_api::chat::{ValidMessage, ValidTool};

/// Longest name that is shown to the model as it is, in bytes.
const MAX_NAME_BYTES: usize = 64;
/// What is kept of a name that is changed, in bytes.
const KEPT_BYTES: usize = 48;

/// A bijection between the names a client uses and names that a Harmony header can carry.
///
/// A name of 1 to 64 characters of `A-Z a-z 0-9 _ - .` stays as it is. In any other, characters beyond these become
/// `_`, the rest is cut, and a number makes it unique: `Web Search` is shown as `Web_Search_1`.
#[derive(Debug, Clone, Default)]
pub(crate) struct ToolNames {
    shown: HashMap<String, String>,
    /// By shown name: the client's name of a function that may be called.
    callable: HashMap<String, String>,
}

impl ToolNames {
    /// Names of all functions that are declared or occur in the history. Only the declared ones may be called.
    pub(crate) fn new(tools: &[ValidTool], history: &[ValidMessage]) -> ToolNames {
        let past = history.iter().flat_map(|message| match message {
            ValidMessage::Assistant { tool_calls, .. } => {
                tool_calls.iter().map(|call| call.name.as_str()).collect()
            }
            ValidMessage::Tool { name, .. } => vec![name.as_str()],
            ValidMessage::Instructions { .. } | ValidMessage::User { .. } => Vec::new(),
        });
        let all: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).chain(past).collect();
        let mut names = ToolNames::default();
        // Names that stay as they are first, so that no changed one takes their place.
        let (plain, other): (Vec<&str>, Vec<&str>) = all.into_iter().partition(|name| is_plain(name));
        let mut taken: HashMap<String, String> = HashMap::new();
        for name in plain {
            taken.insert(name.to_owned(), name.to_owned());
            names.shown.insert(name.to_owned(), name.to_owned());
        }
        for name in other {
            if names.shown.contains_key(name) {
                continue;
            }
            let base: String = name.chars().map(|c| if is_plain_char(c) { c } else { '_' }).collect();
            let base = &base[..base.len().min(KEPT_BYTES)];
            let candidates = (1..).map(|number| format!("{base}_{number}"));
            let free = candidates.into_iter().find(|candidate| !taken.contains_key(candidate));
            let free = free.expect("the numbers do not end");
            taken.insert(free.clone(), name.to_owned());
            names.shown.insert(name.to_owned(), free);
        }
        for tool in tools {
            names.callable.insert(names.shown[&tool.name].clone(), tool.name.clone());
        }
        names
    }

    /// The name that the model sees for a client's name.
    pub(crate) fn shown(&self, name: &str) -> &str {
        &self.shown[name]
    }

    /// The client's name of the declared function that a message with this recipient calls. The prefix `functions.`
    /// may be missing, as the model sometimes leaves it out.
    pub(crate) fn called(&self, recipient: &str) -> Option<&str> {
        let name = recipient.strip_prefix("functions.").unwrap_or(recipient);
        self.callable.get(name).or_else(|| self.callable.get(recipient)).map(String::as_str)
    }
}

fn is_plain(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.chars().all(is_plain_char)
}

fn is_plain_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(name: &str) -> ValidTool {
        ValidTool { name: name.to_owned(), description: None, parameters: None }
    }

    /// LM Studio #876: a tool called `Web Search` broke the header.
    #[test]
    fn every_name_has_its_own_plain_name_and_comes_back() {
        let long = "x".repeat(256);
        let longer = format!("{}y", &long[1..]);
        let names = [
            "get_weather",
            "Web Search",
            "Web_Search_1",
            "Web/Search",
            "web-browsing",
            "a.b",
            "погода",
            "<|end|>",
            "functions.x",
            "to=all",
            &long,
            &longer,
            "é",
            "ё",
        ];
        let tools: Vec<ValidTool> = names.iter().map(|name| tool(name)).collect();
        let map = ToolNames::new(&tools, &[]);
        for name in names {
            let shown = map.shown(name);
            assert!(is_plain(shown), "{shown}");
            assert_eq!(map.called(&format!("functions.{shown}")), Some(name));
        }
        assert_eq!(map.shown("get_weather"), "get_weather");
        assert_eq!(map.shown("Web_Search_1"), "Web_Search_1");
    }

    #[test]
    fn only_declared_functions_can_be_called() {
        let past = ValidMessage::Tool { name: "old one".into(), text: String::new() };
        let map = ToolNames::new(&[tool("f")], &[past]);
        assert_eq!(map.called("functions.f"), Some("f"));
        assert_eq!(map.called("f"), Some("f"));
        for recipient in ["functions.old_one_1", "functions.g", "python", "", "functions."] {
            assert_eq!(map.called(recipient), None, "{recipient}");
        }
        assert_eq!(map.shown("old one"), "old_one_1");
    }
}
