//! What `serve` prints when it starts. Whose output is closed goes on all the same: it is a server, and not what it prints.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;

use sostenuto_server::DEFAULT_PORT;

use super::Announcement;
use crate::demo;
use crate::error::CliError;
use crate::memory;
use crate::output::{self, Style, grouped};
use crate::serving::Facts;

const QUESTION: &str = "What is Sostenuto?";

/// Says what is about to be loaded, since that can take a while.
pub(crate) fn loading(model: Option<&Path>) -> Result<(), CliError> {
    unless_closed(write_loading(&mut io::stdout().lock(), model))
}

/// Nothing is wrong where nobody reads.
fn unless_closed(written: io::Result<()>) -> Result<(), CliError> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

fn write_loading(out: &mut impl Write, model: Option<&Path>) -> io::Result<()> {
    match model {
        Some(folder) => {
            writeln!(out, "Sostenuto {}: loading {}", env!("CARGO_PKG_VERSION"), folder.display())?
        }
        None => writeln!(out, "Sostenuto {}: loading the demo model", env!("CARGO_PKG_VERSION"))?,
    }
    out.flush()
}

/// Says what was loaded into this process, whose front is another process if there is one.
pub(crate) fn facts(facts: &Facts, front: Option<u32>) -> Result<(), CliError> {
    unless_closed(write_all(&mut io::stdout().lock(), facts, front))
}

fn write_all(out: &mut impl Write, facts: &Facts, front: Option<u32>) -> io::Result<()> {
    let style = Style::of_stdout();
    write_facts(out, facts)?;
    write_plan(out, facts, front, style)?;
    write_kernels(out, facts, style)?;
    out.flush()
}

/// Says where the server listens and what to try; before that what was loaded, unless another process said it.
pub(super) fn ready(announcement: &Announcement, address: SocketAddr) -> Result<(), CliError> {
    if let Some(loaded) = &announcement.facts {
        facts(loaded, None)?;
    }
    unless_closed(write_ready(&mut io::stdout().lock(), announcement, address))
}

fn write_ready(out: &mut impl Write, announcement: &Announcement, address: SocketAddr) -> io::Result<()> {
    let style = Style::of_stdout();
    if announcement.is_demo {
        writeln!(out, "\n{}", demo::NOTICE)?;
    }
    writeln!(out, "\n{}Listening on http://{address}{}", style.bold(), style.reset())?;
    write_commands(out, &announcement.name, address)?;
    out.flush()
}

fn write_facts(out: &mut impl Write, facts: &Facts) -> io::Result<()> {
    let backend = &facts.backend;
    let tokenizer =
        if facts.own_tokenizer { "the model's own" } else { "o200k_harmony, part of this program" };
    writeln!(out, "\nmodel      {}", facts.model_line())?;
    writeln!(out, "tokenizer  {tokenizer}")?;
    writeln!(
        out,
        "backend    {} ({}), {} threads, mode {}",
        backend.name,
        backend.device,
        backend.threads,
        facts.mode.name()
    )?;
    writeln!(
        out,
        "limits     {} tokens of context (--ctx), {} sequences at once (--sequences), {} tokens of KV (--kv-tokens)",
        grouped(facts.limits.max_context as u64),
        facts.limits.max_sequences,
        grouped(facts.limits.kv_tokens as u64)
    )
}

fn write_plan(out: &mut impl Write, facts: &Facts, front: Option<u32>, style: Style) -> io::Result<()> {
    writeln!(out, "\n{}memory plan{}", style.bold(), style.reset())?;
    output::write_memory_plan(out, &facts.plan)?;
    let Some(resident) = memory::resident_bytes() else { return Ok(()) };
    let resident = resident + front.and_then(memory::own_bytes).unwrap_or(0);
    let planned = facts.plan.total_bytes() as f64;
    let difference = 100.0 * (resident as f64 - planned) / planned;
    let resident = output::bytes(resident);
    writeln!(out, "  {:<20} {resident:>8}  {difference:+.1} % against the plan", "in memory now")?;
    let huge = output::bytes(memory::huge_page_bytes().unwrap_or(0));
    let nodes = match facts.backend.memory_nodes {
        1 => "one memory node (NUMA)".to_owned(),
        count => format!("over {count} memory nodes (NUMA)"),
    };
    writeln!(out, "  {:<20} {huge:>8}  {nodes}", "in huge pages")
}

fn write_kernels(out: &mut impl Write, facts: &Facts, style: Style) -> io::Result<()> {
    writeln!(out, "\n{}kernels{}", style.bold(), style.reset())?;
    for choice in &facts.backend.kernels {
        writeln!(out, "  {:<20} {}", choice.op, choice.kernel)?;
    }
    Ok(())
}

fn write_commands(out: &mut impl Write, name: &str, address: SocketAddr) -> io::Result<()> {
    let url = format!("http://{address}");
    let program = std::env::args().next().unwrap_or_else(|| "sostenuto".to_owned());
    let chat_url = if address.port() == DEFAULT_PORT { String::new() } else { format!(" --url {url}") };
    let messages = format!(r#"[{{"role": "user", "content": "{QUESTION}"}}]"#);
    writeln!(out, "\nTry one of these in another terminal:\n")?;
    writeln!(out, "{program} chat{chat_url}\n")?;
    writeln!(out, "curl {url}/v1/chat/completions -H 'Content-Type: application/json' \\")?;
    writeln!(out, "  -d '{{\"model\": \"{name}\", \"messages\": {messages}}}'\n")?;
    // No indentation: the lines of the program are Python's.
    writeln!(out, "python3 -c '")?;
    writeln!(out, "from openai import OpenAI  # pip install openai")?;
    writeln!(out, "client = OpenAI(base_url=\"{url}/v1\", api_key=\"none\")")?;
    writeln!(out, "messages = {messages}")?;
    writeln!(out, "answer = client.chat.completions.create(model=\"{name}\", messages=messages)")?;
    writeln!(out, "print(answer.choices[0].message.content)'\n")
}
