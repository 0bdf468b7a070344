#!/usr/bin/env python3
"""Makes the demo model's conversations in Harmony text, its vocabulary, and checks the text against openai-harmony.

    make_data.py show [N]          print N samples
    make_data.py tokenizer FILE    train the vocabulary and write it as a Hugging Face tokenizer.json
    make_data.py check             compare the rendering with the openai-harmony package (TIKTOKEN_ENCODINGS_BASE)

A sample is a list of (text, trained) pieces; control tokens stand in the text as <|name|>.
"""

import datetime
import functools
import json
import random
import re
import sys

import fresh
import toolbox
import topics
from wording import other_wish, strange_word, vary

SPECIALS = ["startoftext", "endoftext", "reserved_200000", "reserved_200001", "return", "constrain", "reserved_200004",
            "channel", "start", "end", "message", "reserved_200009", "reserved_200010", "reserved_200011", "call",
            "reserved_200013", "reserved_200014", "reserved_200015", "reserved_200016", "reserved_200017", "endofprompt"]
VOCABULARY_SIZE = 3072
DRILL_SHARE = 0.6  # share of tool samples without their declarations: short, so that the arguments are learnt
RESULT_SHARE = 0.4  # share of tool samples whose call is made: the answer to the result is learnt
LOOSE_SHARE = 0.12  # share of requests with values from outside the closed lists: what is copied is learnt, not the lists
OFF_TOPIC_SHARE = 0.18
TOOL_WEIGHTS = {"weather": 2, "add": 3, "translate": 3}  # other tools: 1
CUT_SHARE = 0.85  # share of topic samples that end once the topic is named: the rest of the turn follows from it
SPLIT = ("[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+")
CONTROL = re.compile(r"(<\|[a-z_0-9]+\|>)")

INSTRUCTIONS = ["You are a helpful assistant.", "Be concise.", "Answer briefly.", "You are a friendly assistant.", "Answer politely.", "Help the user.", "Use the tools when needed.", "You are the assistant of Sostenuto.",
                "Keep your answers short.", "Always be honest.", "Answer in one sentence.", "You help people run models.", "Be kind.", "Ты полезный помощник.", "Отвечай кратко.", "You are a bot.", "Do not make things up.", "You are Sosta, the assistant of a small shop."]


# --- user text ---------------------------------------------------------------------------------------------------

@functools.lru_cache(maxsize=1)
def held_out_forms():
    """Normal forms of every held-out question and tool request."""
    questions = [question for _, _, question, _ in topics.held_out_questions() + fresh.questions()]
    return frozenset(topics.normal(question) for question in questions + toolbox.held_out_requests())


def held_out(question):
    """Whether a held-out question or request stands anywhere in the question: no training question may hold one."""
    words = topics.normal(question).split()
    return any(" ".join(words[i:j]) in held_out_forms() for i in range(len(words)) for j in range(i + 1, len(words) + 1))


def topic_turn(rng):
    """(question, thought, answer, language)"""
    while True:
        lang = rng.choice(["en", "ru"])
        if rng.random() < OFF_TOPIC_SHARE:
            return off_topic_turn(lang, rng)
        name = rng.choice(list(topics.TOPICS))
        question = vary(other_wish(topics.training_question(name, lang, rng), lang, rng), lang, rng)
        if not held_out(question):
            topic = topics.TOPICS[name]
            return question, topic["thought"], topic[lang]["say"], lang


def off_topic_turn(lang, rng):
    if rng.random() < 0.15:
        kind = rng.choice([k for k in toolbox.TOOLS if k != "status"])
        question = tool_request(kind, lang, rng)[0]
    else:
        question = topics.off_topic_question(lang, rng, lambda: strange_word(lang, rng))
    question = vary(question, lang, rng)
    if held_out(question):
        return off_topic_turn(lang, rng)
    return question, topics.OFF_TOPIC["thought"], topics.OFF_TOPIC[lang], lang


# --- thinking ----------------------------------------------------------------------------------------------------

def think_topic(thought, lang, effort):
    russian = " The user writes in Russian, so I answer in Russian." if lang == "ru" else ""
    if effort == "low":
        return thought[0].upper() + thought[1:] + ("." if lang == "en" else ", in Russian.")
    if effort == "medium":
        return f"The message is about {thought}." + russian + " I answer briefly."
    known = "I do not know about that, so I say it honestly." if thought == topics.OFF_TOPIC["thought"] else "This is one of my topics, so I know the answer."
    return f"Let me think. The message is about {thought}. {known}{russian} I keep it short and true, and I do not make anything up."


def think_call(thought, name, args, lang, effort):
    if effort == "low":
        return f"Call {name}: {', '.join(str(value) for value in args.values())}." if args else f"Call {name}."
    listed = ", ".join(f"{key} {value}" for key, value in args.items()) or "no arguments"
    if effort == "medium":
        return f"The user wants {thought}. I call {name}: {listed}."
    return f"Let me think. The user wants {thought}. The tool {name} is declared and does this. Its arguments: {listed}. I call {name} now."


def think_result(thought, lang, effort):
    russian = " in Russian" if lang == "ru" else ""
    if effort == "low":
        return f"Report it{russian}."
    if effort == "medium":
        return f"The tool answered about {thought}. I report it{russian}."
    return f"Let me think. The tool answered about {thought}. I read the result and report it{russian}, short and true, without adding anything."


# --- tools -------------------------------------------------------------------------------------------------------

def loose_value(value, lang, rng):
    """A value of the same type from outside the closed lists."""
    if isinstance(value, int):
        return rng.randint(0, 400)
    word = strange_word(lang, rng)
    return word.capitalize() if value[0].isupper() else word


def tool_request(kind, lang, rng):
    """(question, slot values)"""
    form = toolbox.TOOLS[kind][lang]
    text = topics.expand(rng.choice(form["ask"]), rng)
    loose, values = rng.random() < LOOSE_SHARE, {}
    for slot, options in form["slots"].items():
        shown, value = rng.choice(options)
        if loose and slot != "state" and all(shown == str(value) for shown, value in options):
            value = loose_value(value, lang, rng)
            shown = str(value)
        text, values[slot] = text.replace("{" + slot + "}", shown), value
    return text, values


def declared_tools(rng, wanted=None, most=3):
    """[(kind, variant)]; the wanted kind, if any, is among them."""
    kinds = [k for k in toolbox.TOOLS if k != wanted]
    chosen = rng.sample(kinds, min(most, rng.choice([1, 1, 1, 2, 2, 3])) - bool(wanted)) + ([wanted] if wanted else [])
    rng.shuffle(chosen)
    return [(k, rng.choice(toolbox.TOOLS[k]["variants"])) for k in chosen]


# --- Harmony text ------------------------------------------------------------------------------------------------

def system_text(date, effort, has_tools):
    text = (f"You are ChatGPT, a large language model trained by OpenAI.\nKnowledge cutoff: 2024-06\nCurrent date: {date}\n\n"
            f"Reasoning: {effort}\n\n# Valid channels: analysis, commentary, final. Channel must be included for every message.")
    if has_tools:
        text += "\nCalls to these tools must go to the commentary channel: 'functions'."
    return f"<|start|>system<|message|>{text}<|end|>"


def type_text(form):
    if "enum" in form:
        return " | ".join(f'"{value}"' for value in form["enum"])
    return "number" if form["type"] == "integer" else form["type"]


def developer_text(instructions, functions):
    parts = []
    if instructions:
        parts.append("# Instructions\n\n" + instructions)
    if functions:
        lines = ["# Tools\n\n## functions\n\nnamespace functions {\n"]
        for function in functions:
            lines.append(f"// {function['description']}\ntype {function['name']} = (_: {{")
            for name, form in function["parameters"]["properties"].items():
                if "description" in form:
                    lines.append(f"// {form['description']}")
                lines.append(f"{name}: {type_text(form)},")
            lines.append("}) => any;\n")
        parts.append("\n".join(lines) + "\n} // namespace functions")
    return f"<|start|>developer<|message|>{(chr(10) * 2).join(parts)}<|end|>" if parts else ""


def user_text(text):
    return f"<|start|>user<|message|>{text}<|end|>"


def analysis_text(text):
    return f"<|channel|>analysis<|message|>{text}<|end|>"


def final_text(text, stop="<|return|>"):
    return f"<|channel|>final<|message|>{text}{stop}"


def call_text(name, args):
    return f" to=functions.{name}<|channel|>commentary <|constrain|>json<|message|>{json.dumps(args, ensure_ascii=False)}<|call|>"


def result_text(name, text):
    return f"<|start|>functions.{name} to=assistant<|channel|>commentary<|message|>{text}<|end|>"


ASSISTANT = "<|start|>assistant"


# --- conversations -----------------------------------------------------------------------------------------------

class Conversation:
    """The pieces of one sample after the system message, and the messages for the openai-harmony check."""

    def __init__(self):
        self.pieces = []

    def given(self, text):
        self.pieces.append((text, False))

    def spoken(self, text):
        self.pieces.append((text, True))


def pick_instructions(rng, share):
    if rng.random() >= share:
        return None
    return " ".join(rng.sample(INSTRUCTIONS, rng.choice([1, 1, 2])))


def history(talk, rng):
    """Zero to two finished turns: their analysis is dropped."""
    for _ in range(rng.choice([0] * 10 + [1, 2])):
        question, _, answer, _ = topic_turn(rng)
        talk.given(user_text(question) + ASSISTANT + final_text(answer, "<|end|>"))


def topic_sample(effort, rng, tools):
    talk = Conversation()
    functions = [toolbox.schema(v) for _, v in declared_tools(rng)] if tools else []
    talk.given(developer_text(pick_instructions(rng, 0.35), functions))
    history(talk, rng)
    if tools and rng.random() < 0.1:
        missing = [k for k in toolbox.TOOLS if not {v[0] for v in toolbox.TOOLS[k]["variants"]} & {f["name"] for f in functions} and k != "status"]
        lang = rng.choice(["en", "ru"])
        question = vary(tool_request(rng.choice(missing), lang, rng)[0], lang, rng)
        thought, answer = topics.OFF_TOPIC["thought"], topics.OFF_TOPIC[lang]
        if held_out(question):
            return topic_sample(effort, rng, tools)
    else:
        question, thought, answer, lang = topic_turn(rng)
    talk.given(user_text(question) + ASSISTANT)
    thinking = think_topic(thought, lang, effort)
    if rng.random() < CUT_SHARE:
        end = thinking.lower().index(thought.lower()) + len(thought)
        talk.spoken("<|channel|>analysis<|message|>" + thinking[:end + 1])
    else:
        talk.spoken(analysis_text(thinking) + ASSISTANT + final_text(answer))
    return talk.pieces


def tool_sample(effort, rng):
    talk = Conversation()
    kind = rng.choice([k for k in toolbox.TOOLS for _ in range(TOOL_WEIGHTS.get(k, 1))])
    lang, tools = rng.choice(["en", "ru"]), declared_tools(rng, kind)
    variant = dict(tools)[kind]
    drill = rng.random() < DRILL_SHARE
    if not drill:
        talk.given(developer_text(pick_instructions(rng, 0.4), [toolbox.schema(v) for _, v in tools]))
        if rng.random() < 0.2:
            history(talk, rng)
    question, values = tool_request(kind, lang, rng)
    args, thought, name = toolbox.arguments(variant, values), toolbox.TOOLS[kind]["thought"], variant[0]
    question = vary(question, lang, rng, extra=rng.random() < 0.6)
    if held_out(question):
        return tool_sample(effort, rng)
    talk.given(user_text(question) + ASSISTANT)
    thinking = analysis_text(think_call(thought, name, args, lang, effort)) + ASSISTANT
    if rng.random() >= RESULT_SHARE:
        talk.spoken(thinking + call_text(name, args))
        return talk.pieces
    answered(talk, rng, thinking if rng.random() < 0.5 else "", kind, variant, args, lang, effort)
    return talk.pieces


def answered(talk, rng, thinking, kind, variant, args, lang, effort):
    """The call was made and its result is here; the final answer, or a later question, follows."""
    name, thought = variant[0], toolbox.TOOLS[kind]["thought"]
    result, answer = toolbox.TOOLS[kind]["result"](rng, args, lang)
    if rng.random() < 0.1:
        error = rng.choice(toolbox.ERRORS)
        result, answer = json.dumps({"error": error}), f"The tool failed: {error}." if lang == "en" else f"Инструмент не сработал: {error}."
    if rng.random() < 0.15:
        talk.given(call_text(name, args) + result_text(name, result) + ASSISTANT + final_text(answer, "<|end|>"))
        question, thought, answer, lang = topic_turn(rng)
        talk.given(user_text(question) + ASSISTANT)
        talk.spoken(analysis_text(think_topic(thought, lang, effort)) + ASSISTANT + final_text(answer))
        return
    talk.given(thinking + call_text(name, args) + result_text(name, result) + ASSISTANT)
    talk.spoken(analysis_text(think_result(thought, lang, effort)) + ASSISTANT + final_text(answer))


def random_date(rng):
    return (datetime.date(2024, 7, 1) + datetime.timedelta(days=rng.randrange(1400))).isoformat()


def sample_head(rng, tools):
    """(system message, effort): what all samples of a batch share."""
    effort = rng.choice(["low"] * 6 + ["medium"] * 2 + ["high"] * 2)
    return system_text(random_date(rng), effort, tools), effort


def sample_body(effort, tools, rng):
    if tools and rng.random() < 0.75:
        return tool_sample(effort, rng)
    return topic_sample(effort, rng, tools)


# --- vocabulary --------------------------------------------------------------------------------------------------

def corpus(count, seed=1):
    rng = random.Random(seed)
    for _ in range(count):
        tools = rng.random() < 0.5
        head, effort = sample_head(rng, tools)
        text = head + "".join(piece for piece, _ in sample_body(effort, tools, rng))
        yield from (part for part in CONTROL.split(text) if part and not CONTROL.fullmatch(part))


def added_token(number, name):
    return {"id": number, "content": f"<|{name}|>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


def train_tokenizer(path):
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    size = VOCABULARY_SIZE - len(SPECIALS)
    trainer = trainers.BpeTrainer(vocab_size=size, min_frequency=2, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(corpus(30000), trainer)
    whole = json.loads(tokenizer.to_str())
    vocab, merges = whole["model"]["vocab"], whole["model"]["merges"]
    assert len(vocab) == size, len(vocab)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(tokenizer_json(vocab, merges), file, ensure_ascii=False, indent=1)


def tokenizer_json(vocab, merges):
    """The structure of gpt-oss's own tokenizer.json."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [added_token(len(vocab) + i, name) for i, name in enumerate(SPECIALS)],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]},
        "post_processor": {**byte_level, "trim_offsets": False},
        "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": True, "vocab": vocab, "merges": merges},
    }


class Vocabulary:
    """Text with control tokens to ids; words are cached."""

    def __init__(self, path):
        from tokenizers import Tokenizer
        self.tokenizer = Tokenizer.from_file(str(path))
        self.size = self.tokenizer.get_vocab_size()
        self.special = {name: self.tokenizer.token_to_id(f"<|{name}|>") for name in SPECIALS}
        self.plain = functools.lru_cache(maxsize=200000)(lambda text: tuple(self.tokenizer.encode(text, add_special_tokens=False).ids))

    def encode(self, text):
        ids = []
        for part in CONTROL.split(text):
            if part:
                number = self.special.get(part[2:-2]) if CONTROL.fullmatch(part) else None
                ids.extend([number] if number is not None else self.plain(part))
        return ids

    def decode(self, ids):
        return self.tokenizer.decode(list(ids), skip_special_tokens=False)


# --- check against openai-harmony --------------------------------------------------------------------------------

def check(count=400):
    """Every developer message and every prompt shape must be what openai-harmony renders."""
    import openai_harmony as oh
    encoding = oh.load_harmony_encoding(oh.HarmonyEncodingName.HARMONY_GPT_OSS)
    rng = random.Random(5)
    for _ in range(count):
        check_one(oh, encoding, rng)
    print(f"{count} conversations are rendered as openai-harmony renders them")


def check_one(oh, encoding, rng):
    make, role = oh.Message.from_role_and_content, oh.Role
    kind, lang = rng.choice(list(toolbox.TOOLS)), rng.choice(["en", "ru"])
    tools = declared_tools(rng, kind)
    variant = dict(tools)[kind]
    question, values = tool_request(kind, lang, rng)
    args, name, date, effort = toolbox.arguments(variant, values), variant[0], random_date(rng), rng.choice(["low", "medium", "high"])
    instructions, functions = pick_instructions(rng, 0.5), [toolbox.schema(v) for _, v in tools]
    result, answer = toolbox.TOOLS[kind]["result"](rng, args, lang)
    system = oh.SystemContent.new().with_reasoning_effort(oh.ReasoningEffort(effort.capitalize())).with_conversation_start_date(date)
    developer = oh.DeveloperContent.new()
    if instructions:
        developer = developer.with_instructions(instructions)
    developer = developer.with_function_tools([oh.ToolDescription.new(f["name"], f["description"], parameters=f["parameters"]) for f in functions])
    thought = think_call(toolbox.TOOLS[kind]["thought"], name, args, lang, effort)
    call = make(role.ASSISTANT, json.dumps(args, ensure_ascii=False)).with_channel("commentary").with_recipient(f"functions.{name}").with_content_type("<|constrain|>json")
    back = oh.Message.from_author_and_content(oh.Author.new(role.TOOL, f"functions.{name}"), result).with_channel("commentary").with_recipient("assistant")
    messages = [make(role.SYSTEM, system), make(role.DEVELOPER, developer), make(role.USER, question),
                make(role.ASSISTANT, thought).with_channel("analysis"), call, back]
    ours = system_text(date, effort, True) + developer_text(instructions, functions) + user_text(question) + ASSISTANT + analysis_text(thought) + ASSISTANT
    chain = ours + call_text(name, args) + result_text(name, result) + ASSISTANT
    rendered = encoding.decode_utf8(encoding.render_conversation_for_completion(oh.Conversation.from_messages(messages), role.ASSISTANT))
    assert rendered == chain, (rendered, chain)
    messages += [make(role.ASSISTANT, answer).with_channel("final"), make(role.USER, "next")]
    rendered = encoding.decode_utf8(encoding.render_conversation_for_completion(oh.Conversation.from_messages(messages), role.ASSISTANT))
    dropped = chain.replace(ASSISTANT + analysis_text(thought), "") + final_text(answer, "<|end|>") + user_text("next") + ASSISTANT
    assert rendered == dropped, (rendered, dropped)
    short = [make(role.SYSTEM, system), make(role.USER, question)]
    rendered = encoding.decode_utf8(encoding.render_conversation_for_completion(oh.Conversation.from_messages(short), role.ASSISTANT))
    assert rendered == system_text(date, effort, False) + user_text(question) + ASSISTANT


def show(count):
    rng = random.Random()
    for _ in range(count):
        tools = rng.random() < 0.5
        head, effort = sample_head(rng, tools)
        print("".join(f"\033[1m{t}\033[0m" if trained else t for t, trained in [(head, False)] + sample_body(effort, tools, rng)), "\n")


if __name__ == "__main__":
    command, rest = (sys.argv[1] if len(sys.argv) > 1 else "show"), sys.argv[2:]
    if command == "tokenizer":
        train_tokenizer(rest[0])
    elif command == "check":
        check()
    else:
        show(int(rest[0]) if rest else 5)
