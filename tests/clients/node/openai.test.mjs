// The official OpenAI client for Node against a running server with the demo model (SOSTENUTO_URL), and plain curl.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";

import OpenAI from "openai";

const url = process.env.SOSTENUTO_URL;
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "unused", maxRetries: 0 });
const model = (await client.models.list()).data[0].id;
const messages = [{ role: "user", content: "What is Sostenuto?" }];

const chat = (options = {}) => client.chat.completions.create({ model, messages, temperature: 0, ...options });

test("an answer has content and reasoning", async () => {
  const { choices, usage } = await chat();
  assert.equal(choices[0].finish_reason, "stop");
  assert.match(choices[0].message.content, /sostenuto/i);
  assert.ok(choices[0].message.reasoning_content.length > 0);
  assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
});

test("a streamed answer equals the whole one", async () => {
  const whole = (await chat()).choices[0].message;
  let content = "";
  for await (const chunk of await chat({ stream: true })) content += chunk.choices[0].delta.content ?? "";
  assert.equal(content, whole.content);
});

test("the streaming helper assembles a tool call", async () => {
  const tools = [
    {
      type: "function",
      function: {
        name: "get_weather",
        description: "Current weather in a city",
        parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
      },
    },
  ];
  const question = [{ role: "user", content: "What is the weather in Paris?" }];
  const stream = client.chat.completions.stream({ model, messages: question, temperature: 0, tools });
  const { choices } = await stream.finalChatCompletion();
  assert.equal(choices[0].finish_reason, "tool_calls");
  assert.equal(choices[0].message.tool_calls[0].function.name, "get_weather");
  JSON.parse(choices[0].message.tool_calls[0].function.arguments);
});

test("an aborted stream leaves the server well", async () => {
  const stream = await chat({ stream: true });
  for await (const _ of stream) {
    stream.controller.abort();
    break;
  }
  assert.equal((await chat({ max_tokens: 1 })).choices[0].finish_reason, "length");
});

test("a mistake is refused in OpenAI's form", async () => {
  await assert.rejects(chat({ top_p: 7 }), (error) => error.status === 400 && error.param === "top_p");
});

test("plain curl streams server-sent events that end with [DONE]", () => {
  const body = JSON.stringify({ model, messages, stream: true, max_tokens: 4 });
  const options = ["-sN", `${url}/v1/chat/completions`, "-H", "Content-Type: application/json", "-d", body];
  const events = execFileSync("curl", options).toString().trim().split("\n\n");
  assert.equal(events.at(-1), "data: [DONE]");
  assert.equal(JSON.parse(events[0].slice("data: ".length)).object, "chat.completion.chunk");
});
