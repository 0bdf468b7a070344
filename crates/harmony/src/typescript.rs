//! JSON Schema to the TypeScript-like types in which Harmony shows a tool's arguments.
//!
//! Source: the output of openai-harmony 0.0.8, which the models were trained on; every branch follows it exactly, including
//! where it ignores a keyword (`anyOf`, `minimum`, `additionalProperties`, …).

use std::fmt::Write;
use std::io;

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{Formatter, Serializer};

/// Schemas nested deeper than this are shown as `any`.
pub const MAX_SCHEMA_DEPTH: usize = 128;

/// The type of `schema`, continued on lines that start with `indent`.
pub(crate) fn type_of(schema: &Value, indent: &str) -> String {
    Types { depth: 0 }.type_of(schema, indent)
}

struct Types {
    depth: usize,
}

impl Types {
    fn type_of(&mut self, schema: &Value, indent: &str) -> String {
        if self.depth == MAX_SCHEMA_DEPTH {
            return "any".to_owned();
        }
        self.depth += 1;
        let text = self.type_of_bounded(schema, indent);
        self.depth -= 1;
        text
    }

    fn type_of_bounded(&mut self, schema: &Value, indent: &str) -> String {
        if let Some(variants) = array(schema, "oneOf") {
            return self.union_lines(variants, indent);
        }
        if let Some(kinds) = array(schema, "type") {
            let kinds: Vec<&str> = kinds.iter().filter_map(Value::as_str).map(number_for_integer).collect();
            if !kinds.is_empty() {
                return kinds.join(" | ");
            }
        }
        match string(schema, "type") {
            Some("object") => self.object(schema, indent),
            Some("string") => string_or_enum(schema),
            Some("number" | "integer") => "number".to_owned(),
            Some("boolean") => "boolean".to_owned(),
            Some("array") => match schema.get("items") {
                Some(items) => format!("{}[]", self.type_of(items, indent)),
                None => "Array<any>".to_owned(),
            },
            _ => "any".to_owned(),
        }
    }

    /// A `oneOf` that is not a property: one line per variant.
    fn union_lines(&mut self, variants: &[Value], indent: &str) -> String {
        let mut text = String::new();
        for variant in variants {
            let kind = self.nullable_type_of(variant, &format!("{indent}   "));
            write!(text, "\n{indent} | {kind}").expect("writes to a string");
            let description = string(variant, "description").map(str::to_owned);
            let default = variant.get("default").map(|default| match default {
                Value::String(default) if !has_enum(variant) => format!("default: \"{default}\""),
                other => format!("default: {}", json(other)),
            });
            push_trailing_comment(&mut text, description, default);
        }
        text
    }

    fn nullable_type_of(&mut self, schema: &Value, indent: &str) -> String {
        let mut kind = self.type_of(schema, indent);
        let is_nullable = schema.get("nullable").and_then(Value::as_bool) == Some(true);
        if is_nullable && !kind.contains("null") {
            kind.push_str(" | null");
        }
        kind
    }

    fn object(&mut self, schema: &Value, indent: &str) -> String {
        let mut text = String::new();
        push_comment_line(&mut text, indent, string(schema, "description"));
        text.push_str("{\n");
        let required: Vec<&str> =
            array(schema, "required").unwrap_or_default().iter().filter_map(Value::as_str).collect();
        for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let optional = if required.contains(&name.as_str()) { "" } else { "?" };
            self.property(&mut text, &format!("{name}{optional}"), property, indent);
        }
        text.push_str(indent);
        text.push('}');
        text
    }

    fn property(&mut self, text: &mut String, name: &str, property: &Value, indent: &str) {
        if let Some(title) = string(property, "title") {
            write!(text, "{indent}// {title}\n{indent}//\n").expect("writes to a string");
        }
        let has_variants = property.get("oneOf").is_some();
        if !has_variants {
            push_comment_line(text, indent, string(property, "description"));
        }
        push_examples(text, indent, property);
        if let Some(variants) = array(property, "oneOf") {
            return self.property_with_variants(text, name, property, variants, indent);
        }
        let kind = self.nullable_type_of(property, &format!("{indent}    "));
        write!(text, "{indent}{name}: {kind},").expect("writes to a string");
        if !has_variants {
            push_trailing_comment(text, None, default_comment(property));
        }
        text.push('\n');
    }

    fn property_with_variants(
        &mut self,
        text: &mut String,
        name: &str,
        property: &Value,
        variants: &[Value],
        indent: &str,
    ) {
        let description = string(property, "description");
        // The first variant may repeat the property's description; it is shown once.
        let above = description.filter(|_| {
            let of_first = variants.first().and_then(|variant| string(variant, "description"));
            of_first != description
        });
        push_comment_line(text, indent, above);
        push_comment_line(text, indent, default_comment(property).as_deref());
        writeln!(text, "{indent}{name}:").expect("writes to a string");
        for (index, variant) in variants.iter().enumerate() {
            let kind = self.nullable_type_of(variant, &format!("{indent}   "));
            write!(text, "{indent} | {kind}").expect("writes to a string");
            let own = string(variant, "description").filter(|own| Some(*own) != description);
            let shown = if index == 0 && above.is_some() { None } else { own };
            push_trailing_comment(text, shown.map(str::to_owned), default_comment(variant));
            text.push('\n');
        }
        writeln!(text, "{indent},").expect("writes to a string");
    }
}

fn array<'a>(schema: &'a Value, key: &str) -> Option<&'a [Value]> {
    schema.get(key)?.as_array().map(Vec::as_slice)
}

fn string<'a>(schema: &'a Value, key: &str) -> Option<&'a str> {
    schema.get(key)?.as_str()
}

fn number_for_integer(kind: &str) -> &str {
    if kind == "integer" { "number" } else { kind }
}

fn has_enum(schema: &Value) -> bool {
    array(schema, "enum").is_some_and(|values| !values.is_empty())
}

fn string_or_enum(schema: &Value) -> String {
    let values = array(schema, "enum").unwrap_or_default().iter().filter_map(Value::as_str);
    let values: Vec<String> = values.map(|value| format!("\"{value}\"")).collect();
    if values.is_empty() { "string".to_owned() } else { values.join(" | ") }
}

/// `default: …`: strings quoted, except where an enum's value is meant.
fn default_comment(schema: &Value) -> Option<String> {
    schema.get("default").map(|default| match default {
        Value::String(default) if has_enum(schema) => format!("default: {default}"),
        Value::String(default) => format!("default: \"{default}\""),
        other => format!("default: {}", json(other)),
    })
}

/// Compact JSON with exponents as openai-harmony writes them: `1e21`, not `1e+21`.
fn json(value: &Value) -> String {
    struct ShortExponents;

    impl Formatter for ShortExponents {
        fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
            let number =
                serde_json::Number::from_f64(value).map_or("null".to_owned(), |number| number.to_string());
            writer.write_all(number.replace("e+", "e").as_bytes())
        }
    }

    let mut text = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut text, ShortExponents);
    value.serialize(&mut serializer).expect("a JSON value writes to memory");
    String::from_utf8(text).expect("JSON is UTF-8")
}

fn push_comment_line(text: &mut String, indent: &str, comment: Option<&str>) {
    if let Some(comment) = comment {
        writeln!(text, "{indent}// {comment}").expect("writes to a string");
    }
}

fn push_trailing_comment(text: &mut String, description: Option<String>, default: Option<String>) {
    let comments: Vec<String> = description.into_iter().chain(default).collect();
    if !comments.is_empty() {
        write!(text, " // {}", comments.join(" ")).expect("writes to a string");
    }
}

fn push_examples(text: &mut String, indent: &str, property: &Value) {
    let examples = array(property, "examples").unwrap_or_default();
    if examples.is_empty() {
        return;
    }
    push_comment_line(text, indent, Some("Examples:"));
    for example in examples.iter().filter_map(Value::as_str) {
        writeln!(text, "{indent}// - \"{example}\"").expect("writes to a string");
    }
}
