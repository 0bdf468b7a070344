"""How people may put a request: frames, side remarks, strange words and typing errors. Used for training only."""

import re

import topics

STOPWORDS = set("the a an do i to can is of it me please how what does you are in for on my this there with и в на ли же мне у как что ты он с для".split())
LEADS = {"en": ["can you tell me", "do you know", "please say", "my question is:", "I wonder", "tell me", "please tell me", "I would like to know", "I want to know", "just tell me", "say,", "one thing:", "remind me:", "answer me:", "I ask you:", "any idea,"],
         "ru": ["можешь сказать,", "не знаешь,", "подскажи,", "хочу понять,", "вопрос такой:", "скажи,", "скажи пожалуйста,", "мне интересно,", "хочу знать,", "расскажи,", "напомни,", "ответь,", "такой вопрос:", "спрошу так:", "поясни,", "одно дело:"]}
NOISE = {"en": ["really", "just", "maybe", "today", "actually", "then", "still", "now", "simply", "quickly", "friend", "man", "somehow", "exactly", "also", "first", "again", "always", "here", "hm"],
         "ru": ["правда", "просто", "может", "сегодня", "вообще", "тогда", "ещё", "сейчас", "быстро", "друг", "как-то", "точно", "тоже", "сначала", "снова", "всегда", "здесь", "хм", "например", "собственно"]}
REMARKS = {
    "en": ["I am at work", "my friend asked me", "there is little time", "I am new here", "it is late", "we are in the office", "I read the text yesterday", "my laptop is old", "my boss wants an answer",
           "I tried it twice", "sorry for the trouble", "I am writing a report", "my colleague cannot say", "I sit in a train", "this is my first day", "I am a student", "we talked about it at lunch", "I am tired",
           "nobody at home knows", "I slept badly", "my {} is {}", "before I go home", "I looked everywhere", "just one thing", "it is not clear to me", "I did this never before", "I see {} and {}", "I like {}",
           "my brother likes {}", "{} came today", "yesterday it was {}", "we had {} for dinner", "I live near {}", "they say {}", "you said {}", "in the morning", "on Monday", "after the {}", "because of {}", "without {}"],
    "ru": ["я на работе", "меня спросил друг", "времени мало", "я тут новичок", "уже поздно", "мы в офисе", "вчера я читал текст", "мой ноутбук старый", "начальник ждёт ответа", "я пробовал дважды",
           "прости за беспокойство", "я пишу отчёт", "коллега не может сказать", "я еду в поезде", "это мой первый день", "я студент", "мы говорили об этом за обедом", "я устал", "дома никто не знает", "я плохо спал",
           "моя {} это {}", "пока я не ушёл домой", "я везде искал", "только одно", "мне неясно", "раньше я так не делал", "я вижу {} и {}", "я люблю {}", "мой брат любит {}", "сегодня пришла {}",
           "вчера было {}", "на ужин была {}", "я живу рядом с {}", "говорят {}", "ты сказала {}", "утром", "в понедельник", "после {}", "из-за {}", "без {}"],
}
# For what follows "how do I", "how to" or "как": the same wish in other words.
WISHES = {
    "en": ["I want to {}", "I need to {}", "help me {}", "is there a way to {}", "the way to {}", "show how to {}", "teach me to {}", "I try to {}", "the command to {}", "what does it take to {}", "let me {}", "we have to {}",
           "my task is to {}", "I was asked to {}", "{}", "{}, please", "I cannot {}", "I must {}", "can we {}", "steps to {}", "I do not know how to {}", "time to {}", "it is my wish to {}", "where can I {}", "when I {}, what then"],
    "ru": ["хочу {}", "надо {}", "мне надо {}", "как правильно {}", "есть ли способ {}", "покажи, как {}", "научи меня {}", "помоги {}", "можно ли {}", "пытаюсь {}", "нам нужно {}", "команда, чтобы {}", "не знаю, как {}",
           "моя задача {}", "попросили {}", "{}", "{}, пожалуйста", "не могу {}", "я должен {}", "можем ли мы {}", "шаги, чтобы {}", "пора {}", "способ {}", "где можно {}", "хотелось бы {}"],
}
WISHING = {"en": re.compile(r"how (?:do I|to|can I|does one) (.+)"), "ru": re.compile(r"как (?:мне )?(\w+(?:ть|ти|ться) .+)")}


def strange_word(lang, rng):
    """The head of one word with the tail of another."""
    words = [word for thing in topics.OFF_THINGS[lang] for word in thing.split() if len(word) > 3]
    head, tail = rng.choice(words), rng.choice(words)
    return (head[:rng.randint(2, 4)] + tail[rng.randint(1, len(tail) - 2):]).lower()


def remark(lang, rng):
    text = rng.choice(REMARKS[lang])
    while "{}" in text:
        text = text.replace("{}", strange_word(lang, rng) if rng.random() < 0.5 else rng.choice(topics.OFF_THINGS[lang]), 1)
    return text


def other_wish(question, lang, rng):
    """A question about how to do something, often as another wish to do it."""
    match = WISHING[lang].fullmatch(question)
    return rng.choice(WISHES[lang]).replace("{}", match.group(1)) if match and rng.random() < 0.5 else question


def typo(text, rng):
    if len(text) < 6:
        return text
    i = rng.randrange(1, len(text) - 2)
    return rng.choice([text[:i] + text[i + 1:], text[:i] + text[i + 1] + text[i] + text[i + 2:], text[:i] + text[i] + text[i:]])


def vary(text, lang, rng, extra=True):
    """A question as a person may type it."""
    words = text.split()
    if len(words) > 3 and rng.random() < 0.2:
        drop = [i for i, word in enumerate(words) if word.lower() in STOPWORDS]
        for i in sorted(rng.sample(drop, min(len(drop), rng.randint(1, 2))), reverse=True):
            del words[i]
    if extra and rng.random() < 0.15:
        for _ in range(rng.choice([1, 1, 2, 3])):
            words.insert(rng.randint(0, len(words)), strange_word(lang, rng) if rng.random() < 0.6 else rng.choice(NOISE[lang]))
    text = " ".join(words)
    draw = rng.random()
    if extra and draw < 0.2:
        text = rng.choice(LEADS[lang]) + " " + text
    elif extra and draw < 0.32:
        text = rng.choice(topics.OPENERS[lang]) + " " + text
    elif extra and draw < 0.44:
        text = remark(lang, rng) + rng.choice([", ", ". ", ", ", ": "]) + text
    if extra and rng.random() < 0.16:
        text = text + rng.choice([" " + rng.choice(topics.CLOSERS[lang]), ", " + remark(lang, rng)])
    return spell(text, rng, typos=0.04)


def spell(text, rng, typos=0.0):
    """Case, punctuation and typing errors."""
    if rng.random() < typos:
        text = typo(text, rng)
    if rng.random() < 0.3:
        text = text.lower()
    elif rng.random() < 0.75:
        text = text[0].upper() + text[1:]
    return text + rng.choice(["?", "?", "", "", ".", "!", "?"])
