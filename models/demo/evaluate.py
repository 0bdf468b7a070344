#!/usr/bin/env python3
"""Measures the demo model through a running server, on whole free-running turns with held-out phrasings.

    sostenuto serve --model models/demo/checkpoint --port 8080
    python3 models/demo/evaluate.py --url http://127.0.0.1:8080

Needs the standard library only. No question asked here occurs in the training data.
"""

import argparse
import collections
import concurrent.futures
import json
import pathlib
import random
import sys
import urllib.error
import urllib.request

import fresh
import toolbox
import topics

EFFORTS = ["low", "medium", "high"]
MAX_TOKENS = 200


# --- cases -------------------------------------------------------------------------------------------------------

def case(kind, messages, effort, functions=(), **wanted):
    return {"kind": kind, "messages": messages, "effort": effort, "functions": list(functions), **wanted}


def user(text):
    return {"role": "user", "content": text}


def spell(text, rng):
    """Case and punctuation as people type."""
    text = rng.choice([text, text, text[0].upper() + text[1:], text.lower()])
    return text + rng.choice(["", "?", "?", "."])


def answer_cases(questions=topics.held_out_questions):
    """Every held-out question once, efforts in turn."""
    rng = random.Random(11)
    return [case("answer", [user(spell(question, rng))], EFFORTS[i % 3], topic=name, lang=lang, right=answer)
            for i, (name, lang, question, answer) in enumerate(questions())]


def declared(rng, wanted=None):
    kinds = rng.sample([k for k in toolbox.TOOLS if k != wanted], rng.choice([0, 0, 1, 1, 2]) if wanted else rng.choice([1, 2]))
    chosen = kinds + ([wanted] if wanted else [])
    rng.shuffle(chosen)
    return {kind: rng.choice(toolbox.TOOLS[kind]["variants"]) for kind in chosen}


def tool_request(kind, lang, template, rng):
    text, values = topics.expand(template, rng), {}
    for slot, options in toolbox.TOOLS[kind][lang]["slots"].items():
        shown, value = rng.choice(options)
        text, values[slot] = text.replace("{" + slot + "}", shown), value
    return spell(text, rng) if kind not in ("translate", "docs") else text, values


def tool_cases(repeats=5):
    """Every held-out request several times, with other values, variants and company."""
    rng, out = random.Random(12), []
    for kind, tool in toolbox.TOOLS.items():
        for lang in ("en", "ru"):
            for template in tool[lang]["held"]:
                for _ in range(repeats):
                    variants = declared(rng, kind)
                    question, values = tool_request(kind, lang, template, rng)
                    args = toolbox.arguments(variants[kind], values)
                    out.append(case("tool", [user(question)], EFFORTS[len(out) % 3], [toolbox.schema(v) for v in variants.values()],
                                    topic=kind, lang=lang, name=variants[kind][0], args=args, tool=kind))
    return out


def result_cases():
    """The same requests, the call already made: the final answer after the tool's result."""
    rng, out = random.Random(13), []
    for i, asked in enumerate(tool_cases(1)):
        result, answer = toolbox.TOOLS[asked["tool"]]["result"](rng, asked["args"], asked["lang"])
        call = {"id": f"call_{i}", "type": "function", "function": {"name": asked["name"], "arguments": json.dumps(asked["args"], ensure_ascii=False)}}
        messages = asked["messages"] + [{"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "tool", "tool_call_id": call["id"], "content": result}]
        out.append(case("result", messages, EFFORTS[i % 3], asked["functions"], topic=asked["tool"], lang=asked["lang"], right=answer))
    return out


def unneeded_cases():
    """Questions about a topic while tools are declared."""
    rng = random.Random(14)
    return [case("unneeded", asked["messages"], asked["effort"], [toolbox.schema(v) for v in declared(rng).values()], topic=asked["topic"], lang=asked["lang"], right=asked["right"])
            for asked in rng.sample(answer_cases(), 100)]


def later_cases():
    """A held-out question after one or two other turns."""
    rng, asked, out = random.Random(15), answer_cases(), []
    for last in rng.sample(asked, 100):
        messages = []
        for earlier in rng.sample(asked, rng.choice([1, 1, 2])):
            messages += earlier["messages"] + [{"role": "assistant", "content": earlier["right"]}]
        out.append(case("later", messages + last["messages"], last["effort"], topic=last["topic"], lang=last["lang"], right=last["right"]))
    return out


def effort_cases():
    rng = random.Random(16)
    return [dict(asked, kind="effort", effort=effort) for asked in rng.sample(answer_cases(), 100) for effort in EFFORTS]


def sampled_cases(count=1000):
    rng = random.Random(17)
    groups = [answer_cases(), answer_cases(), tool_cases(), result_cases(), unneeded_cases(), later_cases()]
    return [dict(rng.choice(rng.choice(groups)), seed=i, effort=rng.choice(EFFORTS)) for i in range(count)]


# --- judging -----------------------------------------------------------------------------------------------------

def well_formed(asked, reply):
    """Analysis, then either a final answer or one call of a declared function with JSON arguments; properly ended."""
    texts = [reply["content"] or "", reply["reasoning"] or ""] + [a for _, a in reply["tool_calls"]]
    if any("<|" in text or "�" in text for text in texts) or not (reply["reasoning"] or "").strip():
        return False
    if reply["tool_calls"]:
        declared_names = {function["name"] for function in asked["functions"]}
        return (reply["finish_reason"] == "tool_calls" and not (reply["content"] or "").strip() and len(reply["tool_calls"]) == 1
                and all(name in declared_names and parsed(text) is not None for name, text in reply["tool_calls"]))
    return reply["finish_reason"] == "stop" and bool((reply["content"] or "").strip())


def parsed(text):
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def right_answer(asked, reply):
    return not reply["tool_calls"] and (reply["content"] or "").strip() == asked["right"]


def right_tool(asked, reply):
    return len(reply["tool_calls"]) == 1 and reply["tool_calls"][0][0] == asked["name"] and parsed(reply["tool_calls"][0][1]) is not None


def right_arguments(asked, reply):
    return right_tool(asked, reply) and parsed(reply["tool_calls"][0][1]) == asked["args"]


# --- the server --------------------------------------------------------------------------------------------------

def served_model(url):
    with urllib.request.urlopen(url + "/v1/models", timeout=30) as response:
        return json.load(response)["data"][0]["id"]


def ask(url, model, asked, temperature):
    body = {"model": model, "messages": asked["messages"], "temperature": temperature, "max_tokens": MAX_TOKENS,
            "seed": asked.get("seed", 0), "reasoning_effort": asked["effort"]}
    if asked["functions"]:
        body["tools"] = [{"type": "function", "function": function} for function in asked["functions"]]
    request = urllib.request.Request(url + "/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as response:
        choice = (whole := json.load(response))["choices"][0]
    message = choice["message"]
    details = (whole.get("usage") or {}).get("completion_tokens_details") or {}
    return {"content": message.get("content"), "reasoning": message.get("reasoning") or message.get("reasoning_content"),
            "tool_calls": [(c["function"]["name"], c["function"]["arguments"]) for c in message.get("tool_calls") or []],
            "finish_reason": choice["finish_reason"], "reasoning_tokens": details.get("reasoning_tokens")}


def through_server(url, workers):
    model = served_model(url)

    def run(cases, temperature):
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            return list(pool.map(lambda asked: ask(url, model, asked, temperature), cases))
    return run


# --- report ------------------------------------------------------------------------------------------------------

def share(name, cases, replies, judge, target=None, misses=None):
    results = [judge(asked, reply) for asked, reply in zip(cases, replies)]
    rate = 100 * sum(results) / len(results)
    goal = f" (target {target} %: {'met' if rate >= target else 'MISSED'})" if target else ""
    print(f"{name}: {sum(results)} of {len(results)} = {rate:.1f} %{goal}", flush=True)
    if misses is not None:
        misses += [(name, asked, reply) for asked, reply, ok in zip(cases, replies, results) if not ok]
    return rate


def thinking_length(reply):
    tokens = reply.get("reasoning_tokens")
    return tokens if tokens is not None else len((reply["reasoning"] or "").split())


def evaluate(run, sampled=1000):
    """`run(cases, temperature)` gives the replies. Returns the misses."""
    misses = []
    for name, cases, target in (("right answer, greedy", answer_cases(), 85), ("right answer on a second set of phrasings, greedy", answer_cases(fresh.questions), None), ("right answer in a later turn, greedy", later_cases(), None),
                                ("right answer with tools declared, greedy", unneeded_cases(), None), ("right answer after a tool result, greedy", result_cases(), None)):
        replies = run(cases, 0)
        share(name, cases, replies, right_answer, target, misses)
        if target:
            by_language(cases, replies)
    cases = tool_cases()
    replies = run(cases, 0)
    share("right tool with valid JSON, greedy", cases, replies, right_tool, 95, misses)
    share("right arguments, greedy", cases, replies, right_arguments, 80, misses)
    cases = effort_cases()
    replies = run(cases, 0)
    means = [sum(thinking_length(r) for c, r in zip(cases, replies) if c["effort"] == e) * len(EFFORTS) / len(cases) for e in EFFORTS]
    unit = "tokens" if replies[0].get("reasoning_tokens") is not None else "words"
    print(f"mean thinking, {unit}: " + ", ".join(f"{e} {m:.1f}" for e, m in zip(EFFORTS, means)) + f" ({'ordered' if means == sorted(set(means)) else 'NOT ORDERED'})")
    cases = sampled_cases(sampled)
    share("well-formed, temperature 0.7", cases, run(cases, 0.7), well_formed, 99, misses)
    return misses


def by_language(cases, replies):
    for lang in ("en", "ru"):
        pairs = [(c, r) for c, r in zip(cases, replies) if c["lang"] == lang]
        print(f"  {lang}: {100 * sum(right_answer(c, r) for c, r in pairs) / len(pairs):.1f} % of {len(pairs)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--misses", type=pathlib.Path, help="write every miss to this file, one JSON object a line")
    parser.add_argument("--sampled", type=int, default=1000, help="turns sampled at temperature 0.7")
    args = parser.parse_args()
    try:
        misses = evaluate(through_server(args.url, args.workers), args.sampled)
    except urllib.error.URLError as error:
        sys.exit(f"no answer from {args.url}: {error}")
    print("misses by topic:", dict(collections.Counter(f"{asked['topic']}/{asked['lang']}" for _, asked, _ in misses).most_common(12)))
    if args.misses:
        args.misses.write_text("".join(json.dumps({"measure": name, "asked": asked, "reply": reply}, ensure_ascii=False) + "\n" for name, asked, reply in misses), encoding="utf-8")


if __name__ == "__main__":
    main()
