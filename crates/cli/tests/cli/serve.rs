//! `serve`: what it says, what it answers, how it ends.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use crate::server::ServerUnderTest;
use crate::support::{arg, checkpoint, program, sostenuto, synth};

#[test]
fn serve_says_what_it_loaded_and_ends_well_on_sigterm() {
    let server = ServerUnderTest::start(checkpoint(), &["--ctx", "256", "--name", "noise"]);
    for fact in [
        "noise: gpt_oss, Hugging Face layout, 2 layers",
        "memory-mapped",
        "256 tokens of context",
        "memory plan",
        "KV, sliding layers",
        "kernels",
        "moe_gate_up_swiglu",
    ] {
        assert!(server.banner.contains(fact), "{fact}: {}", server.banner);
    }
    let health = server.get("/health");
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    assert!(server.get("/v1/models").contains("\"noise\""));
    let (code, rest, stderr) = server.end("-TERM");
    assert_eq!(code, Some(0), "{stderr}");
    for command in ["curl http://127.0.0.1:", "from openai import OpenAI", "chat --url http://127.0.0.1:"] {
        assert!(rest.contains(command), "{command}: {rest}");
    }
    assert!(stderr.contains("Shutting down"), "{stderr}");
}

#[test]
fn serve_ends_well_on_ctrl_c_and_can_read_its_weights() {
    let server = ServerUnderTest::start(checkpoint(), &["--load", "read"]);
    assert!(server.banner.contains("read into memory"), "{}", server.banner);
    assert_eq!(server.end("-INT").0, Some(0));
}

#[test]
fn port_that_is_taken_is_refused_before_anything_is_loaded() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let run = sostenuto(["serve", "--port", &port, "--model", arg(checkpoint())]);
    assert_eq!(run.stdout, "");
    let refusal = run.refusal();
    assert!(
        refusal.contains(&format!("127.0.0.1:{port} is taken")) && refusal.contains("--port"),
        "{refusal}"
    );
}

#[test]
fn open_address_without_a_key_is_refused() {
    let refusal =
        sostenuto(["serve", "--host", "0.0.0.0", "--port", "0", "--model", arg(checkpoint())]).refusal();
    assert!(refusal.contains("0.0.0.0") && refusal.contains("--api-key-file"), "{refusal}");
}

#[test]
fn limits_that_cannot_be_kept_are_refused() {
    let model = arg(checkpoint());
    let refusal = sostenuto(["serve", "--port", "0", "--ctx", "8k", "--model", model]).refusal();
    assert!(refusal.contains("8192") && refusal.contains("4096"), "{refusal}");
    let refusal =
        sostenuto(["serve", "--port", "0", "--ctx", "1024", "--kv-tokens", "512", "--model", model])
            .refusal();
    assert!(refusal.contains("kv_tokens") && refusal.contains("1024"), "{refusal}");
}

#[test]
fn checkpoint_without_harmony_tokens_cannot_be_served() {
    let folder = synth(&["--vocab", "64", "--layers", "1"]);
    let refusal = sostenuto(["serve", "--port", "0", "--model", arg(folder.path())]).refusal();
    assert!(refusal.contains("tokenizer.json"), "{refusal}");
}

#[test]
fn server_whose_output_nobody_reads_serves() {
    for in_process in [false, true] {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = program();
        command.args(["serve", &format!("--port={port}"), "--ctx=256"]).stdin(Stdio::null());
        command.args(in_process.then_some("--in-process")).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut server = command.spawn().unwrap();
        drop(server.stdout.take());
        let is_ready = || {
            let mut answer = String::new();
            let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
            let asked =
                stream.write_all(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            asked.and_then(|()| stream.read_to_string(&mut answer)).is_ok()
                && answer.starts_with("HTTP/1.1 200")
        };
        while !is_ready() {
            assert_eq!(server.try_wait().unwrap(), None, "the server ended");
            std::thread::sleep(Duration::from_millis(20));
        }
        // It has said that it listens by then, or is about to.
        std::thread::sleep(Duration::from_millis(200));
        assert!(is_ready(), "the server ended after it was ready");
        server.kill().unwrap();
        server.wait().unwrap();
    }
}
