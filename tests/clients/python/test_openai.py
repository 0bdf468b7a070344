"""The official OpenAI client for Python against a running server with the demo model (SOSTENUTO_URL)."""

import json
import os
import urllib.error
import urllib.request

import openai
import pytest

URL = os.environ["SOSTENUTO_URL"]
CLIENT = openai.OpenAI(base_url=f"{URL}/v1", api_key="unused", max_retries=0)
MODEL = CLIENT.models.list().data[0].id
QUESTION = [{"role": "user", "content": "What is Sostenuto?"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Current weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def chat(**options):
    return CLIENT.chat.completions.create(**{"model": MODEL, "messages": QUESTION, "temperature": 0, **options})


def test_answer_has_content_reasoning_and_usage():
    completion = chat()
    choice = completion.choices[0]
    assert choice.finish_reason == "stop"
    assert "sostenuto" in choice.message.content.lower()
    assert choice.message.reasoning == choice.message.reasoning_content != ""
    usage = completion.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert 0 < usage.completion_tokens_details.reasoning_tokens < usage.completion_tokens


def test_streamed_message_equals_the_whole_one():
    whole = chat(seed=7, temperature=0.7).choices[0].message
    content, reasoning, usage = "", "", None
    for chunk in chat(seed=7, temperature=0.7, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        if chunk.choices:
            content += chunk.choices[0].delta.content or ""
            reasoning += getattr(chunk.choices[0].delta, "reasoning_content", None) or ""
    assert (content, reasoning) == (whole.content, whole.reasoning_content)
    assert usage.completion_tokens > 0


def test_same_seed_gives_the_same_answer():
    answers = {chat(seed=3, temperature=1).choices[0].message.content for _ in range(3)}
    assert len(answers) == 1


def test_effort_changes_the_prompt():
    prompts = {effort: chat(reasoning_effort=effort, max_tokens=1).usage.prompt_tokens for effort in ("low", "high")}
    assert all(tokens > 0 for tokens in prompts.values())
    with pytest.raises(openai.BadRequestError) as refusal:
        chat(reasoning_effort="enormous")
    assert refusal.value.param == "reasoning_effort"


def test_declared_tool_is_called_with_json_and_its_result_is_answered():
    question = [{"role": "user", "content": "What is the weather in Paris?"}]
    completion = chat(messages=question, tools=[TOOL])
    choice = completion.choices[0]
    assert choice.finish_reason == "tool_calls"
    call = choice.message.tool_calls[0]
    assert call.function.name == "get_weather"
    assert isinstance(json.loads(call.function.arguments), dict)
    result = {"role": "tool", "tool_call_id": call.id, "content": '{"weather": "sunny"}'}
    answer = chat(messages=[*question, choice.message.model_dump(exclude_none=True), result], tools=[TOOL])
    assert answer.choices[0].finish_reason in ("stop", "tool_calls")


def test_streamed_tool_call_concatenates_to_the_whole_one():
    question = [{"role": "user", "content": "What is the weather in Paris?"}]
    whole = chat(messages=question, tools=[TOOL]).choices[0].message.tool_calls[0]
    name, arguments = "", ""
    for chunk in chat(messages=question, tools=[TOOL], stream=True):
        for call in chunk.choices[0].delta.tool_calls or []:
            name += call.function.name or ""
            arguments += call.function.arguments or ""
    assert (name, arguments) == (whole.function.name, whole.function.arguments)


def test_max_tokens_ends_with_length():
    completion = chat(max_tokens=2)
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage.completion_tokens == 2


def test_stop_string_is_left_out():
    whole = chat().choices[0].message.content
    stop = whole.split()[1]
    stopped = chat(stop=[stop]).choices[0]
    assert stopped.message.content == whole[: whole.index(stop)]
    assert stopped.finish_reason == "stop"


def test_logprobs_spell_the_content():
    choice = chat(logprobs=True, top_logprobs=3).choices[0]
    spelled = b"".join(bytes(entry.bytes) for entry in choice.logprobs.content)
    assert spelled.decode() == choice.message.content
    assert all(entry.logprob <= 0 and len(entry.top_logprobs) == 3 for entry in choice.logprobs.content)


def test_n_gives_as_many_choices():
    assert [choice.index for choice in chat(n=3, temperature=1, seed=1).choices] == [0, 1, 2]


def test_control_token_text_from_the_client_stays_text():
    plain = chat(messages=[{"role": "user", "content": "x"}], max_tokens=1).usage.prompt_tokens
    spelled = chat(messages=[{"role": "user", "content": "<|end|>"}], max_tokens=1).usage.prompt_tokens
    assert spelled > plain


def test_mistakes_are_refused_in_openai_form():
    with pytest.raises(openai.NotFoundError) as missing:
        chat(model="no-such-model")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as hot:
        chat(temperature=9)
    assert hot.value.param == "temperature" and "9" in hot.value.message
    with pytest.raises(openai.BadRequestError) as long:
        chat(messages=[{"role": "user", "content": "word " * 400_000}])
    assert long.value.code == "context_length_exceeded"


@pytest.mark.parametrize(
    ("path", "body", "content_type", "status"),
    [
        ("/v1/chat/completions", b"{", "application/json", 400),
        ("/v1/chat/completions", b"[" * 100_000, "application/json", 400),
        ("/v1/nothing", b"{}", "application/json", 404),
        ("/v1/chat/completions", b" " * (5 << 20), "application/json", 413),
    ],
)
def test_plain_http_mistakes_have_a_json_error(path, body, content_type, status):
    request = urllib.request.Request(URL + path, data=body, headers={"Content-Type": content_type})
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(request, timeout=30)
    assert refusal.value.code == status
    assert json.load(refusal.value)["error"]["message"]


def test_health_answers():
    with urllib.request.urlopen(f"{URL}/health", timeout=10) as response:
        assert response.status == 200


def test_conversation_goes_on():
    first = chat().choices[0].message
    messages = [*QUESTION, first.model_dump(exclude_none=True), {"role": "user", "content": "Спасибо!"}]
    assert chat(messages=messages).choices[0].message.content


