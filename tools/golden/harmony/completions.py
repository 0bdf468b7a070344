"""The completions of the parse golden: well-formed continuations of `<|start|>assistant`."""

ANALYSIS = "<|channel|>analysis<|message|>The user greets me.<|end|>"
TEXTS = {
    "short": "Hello!",
    "empty": "",
    "russian": "Здравствуйте! Чем могу помочь?",
    "emoji": "👩‍👩‍👧‍👦 🏳️‍🌈 done",
    "code": "```python\nprint('hi')\n```\n",
    "spaces": "  two before, two after  ",
    "newlines": "\n\nparagraph\n\n",
    "json": '{"a": [1, 2, {"b": null}]}',
    "chinese": "你好，世界！",
    "markup": "<b>bold</b> < |end| > a<b",
}


def completions():
    for name, text in TEXTS.items():
        yield f"final_{name}", f"<|channel|>final<|message|>{text}<|return|>"
        yield f"analysis_final_{name}", f"{ANALYSIS}<|start|>assistant<|channel|>final<|message|>{text}<|return|>"
    call = "to=functions.get_weather"
    arguments = '<|message|>{"city":"Paris"}<|call|>'
    yield "call_recipient_after_channel", f"<|channel|>commentary {call} <|constrain|>json{arguments}"
    yield "call_recipient_before_channel", f" {call}<|channel|>commentary <|constrain|>json{arguments}"
    yield "call_constrain_glued", f"<|channel|>commentary {call}<|constrain|>json{arguments}"
    yield "call_before_channel_constrain_glued", f" {call}<|channel|>commentary<|constrain|>json{arguments}"
    yield "call_on_analysis", f"<|channel|>analysis {call} <|constrain|>json{arguments}"
    yield "call_without_content_type", f"<|channel|>commentary {call}{arguments}"
    yield "call_bare_json", f"<|channel|>commentary {call} json{arguments}"
    yield "call_bare_code", f"<|channel|>commentary {call} code{arguments}"
    yield "call_on_final", f"<|channel|>final {call} <|constrain|>json{arguments}"
    yield "call_dashed_name", f"<|channel|>commentary to=functions.web-browsing_2 <|constrain|>json{arguments}"
    yield "call_python", "<|channel|>analysis to=python code<|message|>print(1)<|call|>"
    yield "call_browser", '<|channel|>analysis to=browser.search code<|message|>{"query":"x"}<|call|>'
    yield "call_ended_by_end", f'<|channel|>commentary {call} <|constrain|>json<|message|>{{"city":"Paris"}}<|end|>'
    yield "thought_then_call", f"{ANALYSIS}<|start|>assistant<|channel|>commentary {call} <|constrain|>json{arguments}"
    yield "thought_then_call_before", f"{ANALYSIS}<|start|>assistant {call}<|channel|>commentary <|constrain|>json{arguments}"
    preamble = "<|start|>assistant<|channel|>commentary<|message|>I will look.<|end|>"
    yield "preamble_then_call", f"{ANALYSIS}{preamble}<|start|>assistant<|channel|>commentary {call} <|constrain|>json{arguments}"
    second = f"<|start|>assistant<|channel|>commentary {call} <|constrain|>json{arguments}"
    yield "two_calls", f"<|channel|>commentary {call} <|constrain|>json{arguments}{second}"
    tool = '<|start|>functions.get_weather to=assistant<|channel|>commentary<|message|>{"t":20}<|end|>'
    yield "call_result_final", (
        f"<|channel|>commentary {call} <|constrain|>json{arguments}{tool}"
        "<|start|>assistant<|channel|>final<|message|>20.<|return|>"
    )
    yield "two_thoughts", f"{ANALYSIS}<|start|>assistant{ANALYSIS}"
    yield "several_finals", "<|channel|>final<|message|>One.<|end|><|start|>assistant<|channel|>final<|message|>Two.<|return|>"
    yield "user_next", "<|channel|>final<|message|>One.<|end|><|start|>user<|message|>Hm?<|end|>"
    yield "system_and_developer", "<|message|>a<|end|><|start|>system<|message|>b<|end|><|start|>developer<|message|>c<|end|>"
    yield "no_channel", "<|message|>Plain.<|return|>"
    yield "cut_in_text", "<|channel|>final<|message|>This is cut"
    yield "cut_after_message_token", "<|channel|>final<|message|>"
    yield "cut_after_end", ANALYSIS
    yield "unknown_channel", "<|channel|>thoughts<|message|>Hm.<|end|>"
    yield "final_ended_by_end", "<|channel|>final<|message|>Done.<|end|>"
    yield "long_text", f"<|channel|>final<|message|>{'All work and no play. ' * 40}<|return|>"
