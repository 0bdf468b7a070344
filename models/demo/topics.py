"""What the demo model knows: topics, their phrasings in English and Russian, and their answers.

A template is text with alternatives in square brackets: "[how|in what way] do I stop [it|the server]".
`ask` are training questions, `nouns` noun phrases that are put into the frames below, `held` questions
that never occur in training: the evaluation asks only those.
"""

import itertools
import random
import re

CHOICE = re.compile(r"\[([^\[\]]*)\]")


def expand(template, rng):
    """One random expansion of a template."""
    while True:
        match = CHOICE.search(template)
        if match is None:
            return tidy(template)
        pick = rng.choice(match.group(1).split("|"))
        template = template[: match.start()] + pick + template[match.end():]


def expand_all(template):
    """Every expansion of a template (no nested choices)."""
    parts = CHOICE.split(template)
    options = [[part] if i % 2 == 0 else part.split("|") for i, part in enumerate(parts)]
    return [tidy("".join(combo)) for combo in itertools.product(*options)]


def tidy(text):
    return re.sub(r"\s+", " ", text).strip()


def normal(text):
    """The form in which training and held-out questions are compared."""
    return tidy(re.sub(r"[^\w\s]", " ", text.lower()))


FRAMES = {
    "en": [
        "what is {}", "what about {}", "tell me about {}", "{}", "{}", "explain {}", "I [need|want] to know {}",
        "[please|] [show|give|tell] me {}", "can you explain {}", "[I have a|a|one] question about {}",
        "[help|info] [on|with|about] {}", "I want to ask about {}", "what can you say about {}", "[do you|you] know {}",
        "describe {} [briefly|in short|please|]", "[how|what] about {}", "let us talk about {}", "the subject is {}", "the basics of {}",
        "what does {} mean", "my question concerns {}", "is there information on {}", "I read about {}", "teach me about {}", "{}, what is that",
        "so {}, how does that work", "I never understood {}", "introduce {} to me", "facts about {}", "{} in two sentences", "lost with {}",
        "why {}", "where do I find {}", "it is about {}", "[I|we] want {}", "please write about {}",
    ],
    "ru": [
        "что такое {}", "расскажи про {}", "{}", "{}", "объясни {}", "[нужна|нужно|нужен] {}", "подскажи [пожалуйста|] {}",
        "[хочу|хотел бы] [узнать|спросить] про {}", "[есть|у меня] вопрос про {}", "[скажи|напиши] про {}",
        "что насчёт {}", "[что ты знаешь|что знаешь] про {}", "[опиши|покажи] {}", "как насчёт {}", "поговорим про {}", "тема: {}", "основы про {}",
        "в двух предложениях про {}", "не понимаю {}", "поясни {}", "информация про {}", "напомни про {}", "прочитал про {}", "мой вопрос про {}",
        "а {} это что", "можно узнать про {}", "дай справку про {}", "факты про {}", "зачем {}", "где найти {}", "речь про {}", "[мне|нам] бы {}",
    ],
}
HELD_FRAMES = {
    "en": ["could you say a few words about {}", "I am curious about {}", "what should I know about {}"],
    "ru": ["скажи пару слов про {}", "мне интересно про {}", "что мне нужно знать про {}"],
}
OPENERS = {
    "en": ["hi,", "hello,", "hey,", "ok,", "so", "and", "please", "well,", "quick question:", "sorry,", "now", "listen,", "good day,"],
    "ru": ["привет,", "здравствуйте,", "так,", "а", "и", "слушай,", "пожалуйста,", "вопрос:", "извини,", "теперь", "ну", "добрый день,"],
}
CLOSERS = {
    "en": ["please", "thanks", "on my machine", "right now", "here", "exactly", "in short", "again"],
    "ru": ["пожалуйста", "спасибо", "на моей машине", "сейчас", "тут", "точно", "кратко", "ещё раз"],
}

# name: {thought, en: {say, ask, held, nouns}, ru: {...}}; `thought` names the topic in the analysis.
TOPICS = {
    "hello": dict(
        thought="a greeting",
        en=dict(say="Hello! I am the Sostenuto demo model. Ask me how to start the server or load a model.",
                ask=["hello", "hi", "hey", "hi there", "hello there", "good [morning|day|evening|afternoon]", "hey [you|there|model]",
                     "hi [model|friend|Sostenuto|all]", "greetings", "hello [model|Sostenuto|friend|world]", "hiya", "yo"],
                held=["hey friend", "greetings Sostenuto", "hi and good [morning|evening]", "hello and good day"]),
        ru=dict(say="Привет! Я демо-модель Sostenuto. Спросите, как запустить сервер или загрузить модель.",
                ask=["привет", "здравствуй", "здравствуйте", "добрый [день|вечер]", "доброе утро", "привет [модель|друг|Sostenuto]",
                     "приветствую", "здравствуй [модель|друг]", "хай", "всем привет"],
                held=["приветствую [друг|модель]", "здравствуйте и добрый день", "привет и добрый вечер"])),
    "bye": dict(
        thought="a goodbye",
        en=dict(say="Goodbye! Press Ctrl-C when you want to stop the server.",
                ask=["bye", "goodbye", "bye bye", "see you [later|soon|]", "good night", "farewell", "I am leaving", "I have to go [now|]",
                     "that is all [for today|for now|]", "bye for now", "talk to you later", "have a nice day"],
                held=["goodbye and good night", "I am leaving, bye", "bye, see you [soon|later]"]),
        ru=dict(say="До свидания! Чтобы остановить сервер, нажмите Ctrl-C.",
                ask=["пока", "до свидания", "до встречи", "всего доброго", "прощай", "спокойной ночи", "мне пора", "пока пока",
                     "до завтра", "всего хорошего", "я ухожу", "увидимся [позже|завтра|]"],
                held=["пока, до встречи", "мне пора, до свидания", "прощай, всего хорошего"])),
    "thanks": dict(
        thought="thanks",
        en=dict(say="You are welcome! Ask me more about running Sostenuto.",
                ask=["thanks", "thank you", "thanks a lot", "thank you [very much|so much]", "many thanks", "great, thanks", "thx",
                     "[cool|nice|perfect|good], thank you", "thanks for [the help|your help|the answer]", "that helped, thanks", "I am grateful", "cheers"],
                held=["great, thank you for the help", "perfect, many thanks", "thank you for the answer"]),
        ru=dict(say="Пожалуйста! Спрашивайте ещё про запуск Sostenuto.",
                ask=["спасибо", "большое спасибо", "благодарю", "спасибо большое", "спасибо за [помощь|ответ]", "отлично, спасибо",
                     "спс", "[круто|хорошо|супер], спасибо", "очень благодарен", "спасибо тебе", "благодарю за [помощь|ответ]"],
                held=["отлично, благодарю", "супер, большое спасибо", "большое спасибо за [помощь|ответ]"])),
    "how_are_you": dict(
        thought="how I am",
        en=dict(say="I am fine, thank you: tiny, but running.",
                ask=["how are you [doing|today|]", "how is it going", "how do you feel [today|]", "are you [ok|fine|well]", "what is up",
                     "how are things", "you ok", "how is life", "is all well with you"],
                held=["are you feeling well today", "how are things going", "how are you, model"]),
        ru=dict(say="Спасибо, хорошо: я маленькая, но работаю.",
                ask=["как дела", "как ты", "как [твои|ваши] дела", "как поживаешь", "как жизнь", "как настроение", "у тебя всё [хорошо|в порядке]",
                     "как ты себя чувствуешь", "как [сегодня|идут] дела", "что нового"],
                held=["ну как ты поживаешь", "всё ли у тебя в порядке", "как твоё настроение"])),
    "who": dict(
        thought="who I am",
        en=dict(say="I am the tiny demo model of Sostenuto. I only know how to run and operate it.",
                ask=["who are you", "what are you", "what is your name", "introduce yourself", "tell me about yourself", "your name", "who is this",
                     "are you [a bot|a model|an AI|human|ChatGPT|GPT|a robot]", "what model are you", "which model [is this|are you]", "who am I talking to",
                     "what do they call you", "who made you", "describe yourself"],
                held=["who am I speaking with, what model", "tell me who you are", "what is this model called, your name", "say who you are please"]),
        ru=dict(say="Я маленькая демо-модель Sostenuto. Я знаю только, как её запускать и обслуживать.",
                ask=["кто ты", "ты кто", "как тебя зовут", "кто вы", "как твоё имя", "представься", "расскажи о себе", "что ты такое",
                     "ты [бот|человек|робот|модель|ChatGPT|ИИ]", "какая ты модель", "что ты за модель", "с кем я говорю", "опиши себя", "кто тебя сделал"],
                held=["скажи, кто ты", "скажи, как тебя зовут", "кто ты такая, модель", "что это за модель, кто ты"])),
    "size": dict(
        thought="my size",
        en=dict(say="I am tiny: a few million parameters. I only show that the engine works; gpt-oss-20b is the real thing.",
                ask=["are you [large|big|small|tiny|smart|clever|powerful]", "how [big|large|small|smart|clever] are you", "how many parameters [do you have|are in you|]",
                     "what is your size", "your size", "are you a [large|big|small|tiny] model", "is this [a large|a big|a small|a real|a tiny] model",
                     "how many weights do you have", "are you gpt-oss-20b", "are you as smart as ChatGPT", "why are you so [small|dumb|stupid|tiny]",
                     "are you a toy", "is this the real gpt-oss"],
                held=["are you really a [big|large] model", "is it a small or a large model", "tell me how big you are", "how many parameters are there in you"]),
        ru=dict(say="Я крошечная: несколько миллионов параметров. Я лишь показываю, что движок работает; настоящая модель — gpt-oss-20b.",
                ask=["ты [большая|маленькая|умная|крошечная|сильная]", "ты [большая|маленькая|настоящая] модель", "сколько у тебя параметров", "какой у тебя размер", "какого ты размера",
                     "насколько ты [большая|умная|маленькая]", "сколько параметров", "твой размер", "почему ты такая [маленькая|глупая]", "ты игрушка",
                     "ты умнее ChatGPT", "ты это gpt-oss-20b", "это [большая|настоящая|маленькая] модель", "сколько в тебе весов"],
                held=["скажи, насколько ты большая", "а сколько же у тебя параметров", "ты правда большая модель", "это маленькая или большая модель"])),
    "can": dict(
        thought="what I can do",
        en=dict(say="I answer short questions about running Sostenuto and call the tools that you declare.",
                ask=["what can you do", "what do you know", "how can you help [me|]", "what are you [good for|able to do]", "help", "help me", "what can I ask [you|here|]",
                     "your [skills|abilities|topics]", "what [topics|questions] do you know", "what questions can you answer", "can you help me", "what are your [skills|abilities]",
                     "what things can you do", "what should I ask"],
                held=["what are you able to help with", "tell me what you can do", "what kind of questions can I ask you", "what can you help me with"]),
        ru=dict(say="Я отвечаю на короткие вопросы о запуске Sostenuto и вызываю объявленные инструменты.",
                ask=["что ты умеешь", "что ты можешь", "чем ты можешь помочь", "что ты знаешь", "помоги", "помощь", "помоги мне", "что можно спросить", "что у тебя спросить",
                     "твои [умения|возможности|темы]", "какие у тебя [умения|возможности|темы]", "на какие вопросы ты отвечаешь", "чем можешь помочь", "для чего ты [нужна|]",
                     "ты можешь помочь"],
                held=["расскажи, что ты умеешь", "чем ты мне можешь помочь", "какие вопросы тебе можно задать, что ты знаешь", "что ты вообще умеешь"])),
    "what_is": dict(
        thought="what Sostenuto is",
        en=dict(say="Sostenuto is an inference engine and server for OpenAI's gpt-oss models, in one Rust binary.",
                ask=["what is Sostenuto", "what does Sostenuto do", "what is this [program|project|software|engine|tool]", "what does this [program|project|software|engine] do",
                     "what is Sostenuto for", "tell me about [Sostenuto|this project|this program|the project]", "explain Sostenuto", "why Sostenuto", "Sostenuto",
                     "what kind of program is Sostenuto", "describe [Sostenuto|the project|this program]", "about Sostenuto", "purpose of Sostenuto"],
                held=["so what exactly is this Sostenuto", "I never heard of Sostenuto, what is it", "what is this Sostenuto project", "could you say a few words about Sostenuto"]),
        ru=dict(say="Sostenuto — движок и сервер для моделей OpenAI gpt-oss: одна программа на Rust.",
                ask=["что такое Sostenuto", "что делает Sostenuto", "что это за [программа|проект|движок|штука]", "расскажи про [Sostenuto|проект|эту программу|этот проект]",
                     "для чего [Sostenuto|эта программа|нужен Sostenuto]", "зачем [Sostenuto|нужен Sostenuto|эта программа]", "объясни Sostenuto", "что за Sostenuto", "Sostenuto это что",
                     "опиши [Sostenuto|проект|программу]", "что делает [эта программа|этот проект|этот движок]"],
                held=["что же это такое, Sostenuto", "скажи пару слов про Sostenuto", "я не знаю, что за программа Sostenuto", "что это за проект Sostenuto"])),
    "start": dict(
        thought="starting the server",
        en=dict(say="Run `sostenuto serve`. It starts the server on 127.0.0.1, port 8080.",
                ask=["how [do I|to|can I] [start|run|launch] [the server|Sostenuto|it|this|the program]", "[start|run|launch] [the server|Sostenuto]",
                     "how [do I|to|can I] serve [the demo model|]", "command to [start|run|launch] [the server|Sostenuto|it]", "which command [starts|runs|launches] [the server|it|Sostenuto]",
                     "I want to [start|run|launch] [the server|Sostenuto]", "where do I begin", "how to get started", "how [do I|to] begin with Sostenuto", "how do I get the server running",
                     "how does one [start|run|launch] the server", "help me [start|run|launch] [the server|Sostenuto]"],
                held=["what must I type to [start|launch] the server", "what do I do to get Sostenuto running", "please explain how to [start|launch] Sostenuto",
                      "show me the way to start the server"],
                nouns=["starting the server", "the start command", "launching Sostenuto", "running the server", "the serve command", "sostenuto serve"]),
        ru=dict(say="Выполните `sostenuto serve`. Сервер запустится на 127.0.0.1, порт 8080.",
                ask=["как [запустить|стартовать|поднять|включить] [сервер|Sostenuto|программу|его]", "[запусти|запустить] [сервер|Sostenuto]", "команда для запуска [сервера|]", "какой командой [запустить|запускать] [сервер|Sostenuto]",
                     "хочу запустить [сервер|Sostenuto]", "с чего начать", "как начать [работу|]", "какая команда запускает [сервер|Sostenuto]", "как запускается [сервер|Sostenuto]",
                     "как мне [запустить|поднять] [сервер|Sostenuto]", "помоги запустить [сервер|Sostenuto]"],
                held=["что набрать, чтобы запустить [сервер|Sostenuto]", "что нужно сделать для запуска сервера", "объясни, как [поднять|запустить] сервер"],
                nouns=["запуск сервера", "запуск", "старт сервера", "команду serve", "запуск Sostenuto", "sostenuto serve"])),
    "port": dict(
        thought="the port",
        en=dict(say="The server listens on port 8080 of 127.0.0.1.",
                ask=["[which|what] port [is used|does it use|does it listen on|does the server use|is it|]", "[which|what] address does [it|the server] [use|listen on|have]",
                     "on [which|what] port [does it run|does the server run|is the server]", "where does [it|the server] listen", "what is the [default port|address|default address|URL|host]",
                     "the port number", "[which|what] port", "where can I find the server", "[which|what] URL [does the server have|do I open|do I use]", "port number please"],
                held=["the server runs on [which|what] port", "I forgot the port, which one is it", "tell me the port of the server", "at [which|what] address is the server"],
                nouns=["the port", "the default port", "the server address", "the port number", "the server port", "the address", "the URL"]),
        ru=dict(say="Сервер слушает порт 8080 на 127.0.0.1.",
                ask=["какой порт [используется|у сервера|]", "на каком порту [сервер|работает сервер|слушает сервер|он работает]", "какой [адрес|URL] [у сервера|]", "где [слушает|находится] сервер",
                     "какой порт по умолчанию", "номер порта", "по какому адресу [сервер|он|работает сервер]", "порт сервера", "адрес сервера", "на каком адресе [сервер|он] [слушает|работает|]"],
                held=["скажи, какой порт у сервера", "я забыл порт, какой он", "сервер работает на каком порту", "скажи мне адрес сервера"],
                nouns=["порт", "порт сервера", "адрес сервера", "номер порта", "порт по умолчанию", "адрес"])),
    "change_port": dict(
        thought="changing the port",
        en=dict(say="Use `sostenuto serve --port 9000`; any free port will do.",
                ask=["how [do I|to|can I] [change|set|choose] the port", "[change|set|switch|choose] [the port|another port]", "can I use [another|a different|some other] port", "[use|want|need] [another|a different|some other] port",
                     "port 8080 is [busy|taken|in use|used]", "the port is [busy|taken|already in use]", "how [do I|to|can I] run [it|the server] on [another|a different] port", "set port [9000|9090|8081|5000]",
                     "which option [sets|changes] the port", "address already in use"],
                held=["my port is already taken, what now", "I would like to [change|choose] the port myself", "is it possible to use a different port"],
                nouns=["changing the port", "another port", "a different port", "the port option", "setting the port"]),
        ru=dict(say="Используйте `sostenuto serve --port 9000`; подойдёт любой свободный порт.",
                ask=["как [изменить|сменить|поменять|выбрать|задать] порт", "[измени|смени|поменяй|сменить|поменять] порт", "можно ли использовать другой порт", "[нужен|хочу|использовать] другой порт", "порт 8080 занят", "порт [уже|] занят",
                     "как запустить [сервер|] на другом порту", "каким параметром [задать|сменить] порт", "поставить порт [9000|9090|8081]", "как [указать|задать] другой порт"],
                held=["мой порт уже занят, что делать", "я хочу сам [выбрать|сменить] порт", "как мне поставить другой порт"],
                nouns=["другой порт", "смену порта", "изменение порта", "выбор порта"])),
    "chat": dict(
        thought="the terminal chat",
        en=dict(say="Run `sostenuto chat` to talk to the model in your terminal.",
                ask=["how [do I|to|can I] chat [in the terminal|with the model|from the terminal|]", "how [do I|to|can I] talk to [the model|it] [in the terminal|in the console|]", "can I chat in [the terminal|the console|a shell]", "is there a [chat|terminal chat|console chat]",
                     "command to chat", "which command [opens|starts] [the|a] chat", "[start|open] [a|the] chat", "I want to [chat|talk] [with the model|in the terminal]", "chat in the [terminal|console]"],
                held=["is it possible to chat with the model in a terminal", "what do I type to talk to the model", "how does one open the chat"],
                nouns=["the chat command", "sostenuto chat", "the terminal chat", "chatting in the terminal", "the chat"]),
        ru=dict(say="Выполните `sostenuto chat`, чтобы говорить с моделью в терминале.",
                ask=["как [общаться|поговорить|говорить|болтать] с моделью [в терминале|в консоли|]", "как [открыть|запустить|начать] чат", "есть ли чат [в терминале|в консоли|]", "можно ли [общаться|поговорить|говорить] в терминале", "команда для чата",
                     "какая команда открывает чат", "хочу [поговорить|общаться] с моделью", "чат в [терминале|консоли]", "[открой|запусти] чат"],
                held=["можно ли говорить с моделью в консоли", "что набрать, чтобы открыть чат", "как мне поговорить с моделью в терминале"],
                nouns=["чат", "команду chat", "чат в терминале", "sostenuto chat", "общение в терминале"])),
    "generate": dict(
        thought="one prompt from the command line",
        en=dict(say="`sostenuto generate` answers one prompt, also from standard input.",
                ask=["how [do I|to|can I] run [one|a single] prompt", "how [do I|to|can I] generate [text|an answer] [from a prompt|from the command line|]", "how [do I|to|can I] pipe [text|a prompt|a file] [into it|into the model|]", "can it read standard input", "does it read [stdin|standard input]",
                     "what does sostenuto generate do", "command for [one|a single] prompt", "generate text [without a server|from a file|]", "answer [one|a single] prompt [without a server|]", "which command [generates text|answers one prompt]"],
                held=["I only want to run a single prompt, no server", "can I pipe a prompt from standard input", "which command do I use to generate text"],
                nouns=["the generate command", "sostenuto generate", "a single prompt", "one prompt", "standard input"]),
        ru=dict(say="`sostenuto generate` отвечает на один запрос, в том числе со стандартного ввода.",
                ask=["как [выполнить|задать|запустить] один запрос", "как сгенерировать текст [из командной строки|без сервера|]", "как [передать|подать] [текст|запрос|файл] через [stdin|стандартный ввод]", "читает ли [он|она|программа] стандартный ввод", "что делает sostenuto generate",
                     "команда для одного запроса", "сгенерировать текст [без сервера|из файла|]", "какая команда генерирует текст", "ответ на один запрос без сервера"],
                held=["мне нужен только один запрос без сервера", "можно ли подать запрос через стандартный ввод", "какой командой сгенерировать текст"],
                nouns=["команду generate", "sostenuto generate", "один запрос", "генерацию текста", "стандартный ввод"])),
    "inspect": dict(
        thought="inspecting a checkpoint",
        en=dict(say="`sostenuto inspect` shows what is in a checkpoint, or in one safetensors file.",
                ask=["how [do I|to|can I] [inspect|look into|look inside|examine] [a checkpoint|the checkpoint|a safetensors file|the weights]", "[what is|how to see what is] in [a|the|my] checkpoint", "[list|show|see] the tensors [of a checkpoint|in a file|]", "what does sostenuto inspect do", "which command [shows|lists] the tensors",
                     "inspect [a|the] [checkpoint|safetensors file]", "command to [inspect|look into] a checkpoint", "look inside a safetensors file"],
                held=["I want to see what tensors a checkpoint has", "which command lets me look inside a checkpoint", "how could I examine my safetensors file"],
                nouns=["the inspect command", "sostenuto inspect", "inspecting a checkpoint", "the tensors in a checkpoint", "the contents of a checkpoint"]),
        ru=dict(say="`sostenuto inspect` показывает, что лежит в чекпойнте или в одном файле safetensors.",
                ask=["как [посмотреть|проверить|изучить] [чекпойнт|файл safetensors|веса]", "что [лежит|находится|есть] в чекпойнте", "как [увидеть|посмотреть] тензоры [в файле|чекпойнта|]", "что делает sostenuto inspect", "какая команда показывает тензоры", "[покажи|список] тензоры",
                     "команда для просмотра чекпойнта", "посмотреть внутрь [чекпойнта|файла safetensors]"],
                held=["хочу увидеть, какие тензоры в чекпойнте", "какой командой посмотреть чекпойнт", "как мне изучить файл safetensors"],
                nouns=["команду inspect", "sostenuto inspect", "просмотр чекпойнта", "тензоры в чекпойнте", "содержимое чекпойнта"])),
    "bench": dict(
        thought="measuring speed",
        en=dict(say="`sostenuto bench` measures prefill and decode speed in tokens per second.",
                ask=["how [do I|to|can I] [measure|test|check] [the speed|speed|performance]", "how fast is [it|the engine|Sostenuto|the model]", "how many tokens per second", "what does sostenuto bench do", "[measure|test|check] [the speed|performance]",
                     "is there a benchmark", "[run|start] a benchmark", "which command [measures speed|runs a benchmark]", "how quick is [it|the engine|the model]", "tokens per second", "is [it|Sostenuto] fast", "how to benchmark [it|the model|]"],
                held=["I would like to measure how fast it is", "is there a way to check the speed", "what tokens per second can I get"],
                nouns=["the bench command", "sostenuto bench", "the benchmark", "speed", "the speed", "performance", "measuring speed"]),
        ru=dict(say="`sostenuto bench` измеряет скорость prefill и decode в токенах в секунду.",
                ask=["как [измерить|проверить|узнать|замерить] [скорость|производительность]", "насколько [он|она|Sostenuto|движок|модель] [быстрый|быстрая|быстро работает]", "сколько токенов в секунду", "что делает sostenuto bench", "[измерь|проверь] скорость",
                     "есть ли бенчмарк", "[запустить|сделать] бенчмарк", "какая команда измеряет скорость", "какая скорость [у модели|у движка|]", "токены в секунду", "быстро ли [он|она|Sostenuto] работает"],
                held=["я хочу измерить скорость работы", "как мне замерить токены в секунду", "скажи, насколько быстро работает модель"],
                nouns=["скорость", "бенчмарк", "команду bench", "sostenuto bench", "производительность", "замер скорости"])),
    "synth": dict(
        thought="random-weight checkpoints",
        en=dict(say="`sostenuto synth` writes a checkpoint with random weights in a shape you choose.",
                ask=["how [do I|to|can I] [make|create|write|get] a [random|synthetic|fake] [checkpoint|model]", "what does sostenuto synth do", "[make|create|write] a [random|synthetic|fake] [checkpoint|model]", "which command [writes|makes|creates] random weights",
                     "can I test without [real|the real] weights", "random weights", "a checkpoint with random weights", "test [the size|a full size model] without real weights"],
                held=["I need a fake checkpoint to test with", "which command makes a synthetic model", "is it possible to get random weights"],
                nouns=["the synth command", "sostenuto synth", "random weights", "synthetic checkpoints", "a random checkpoint", "a synthetic model"]),
        ru=dict(say="`sostenuto synth` пишет чекпойнт со случайными весами нужной формы.",
                ask=["как [сделать|создать|получить] [случайный|синтетический|фальшивый] чекпойнт", "что делает sostenuto synth", "[создай|сделай|создать] [случайный|синтетический] чекпойнт", "какая команда [создаёт|пишет] случайные веса", "можно ли проверить без настоящих весов",
                     "случайные веса", "чекпойнт со случайными весами", "[нужны|хочу] случайные веса"],
                held=["мне нужен синтетический чекпойнт для проверки", "какой командой сделать случайный чекпойнт", "где взять случайные веса"],
                nouns=["команду synth", "sostenuto synth", "случайные веса", "синтетический чекпойнт", "случайный чекпойнт"])),
    "load_20b": dict(
        thought="loading gpt-oss-20b",
        en=dict(say="Run `sostenuto serve --model DIR`, where DIR is the folder of gpt-oss-20b.",
                ask=["how [do I|to|can I] [load|run|use|start|serve|open] [gpt-oss-20b|20b|the 20B|the 20B model|gpt-oss 20B]", "[load|run|use|serve] [gpt-oss-20b|20b|the 20B model]", "I [want|have] [gpt-oss-20b|20b|the 20B model]", "command [for|to load] [gpt-oss-20b|20b]",
                     "switch to [gpt-oss-20b|20b|the 20B model]", "how [do I|to] go on to [gpt-oss-20b|20b|the 20B model]", "can I [run|load|use] [gpt-oss-20b|20b]"],
                held=["what do I type to load gpt-oss-20b", "I would like to [use|run] the 20B model, how", "please help me load 20b"],
                nouns=["loading 20b", "loading gpt-oss-20b", "running the 20B model", "the command for 20b"]),
        ru=dict(say="Выполните `sostenuto serve --model DIR`, где DIR — папка gpt-oss-20b.",
                ask=["как [загрузить|запустить|открыть|использовать] [gpt-oss-20b|20b|модель 20B|20B]", "[загрузить|запустить|загрузи|запусти] [gpt-oss-20b|20b|модель 20B]", "[хочу|нужна] [gpt-oss-20b|20b|модель 20B]", "команда для [gpt-oss-20b|20b|модели 20B]",
                     "перейти на [gpt-oss-20b|20b|модель 20B]", "можно ли [запустить|загрузить] [gpt-oss-20b|20b]"],
                held=["что набрать, чтобы загрузить gpt-oss-20b", "я хочу [запустить|использовать] модель 20B, как", "помоги загрузить 20b"],
                nouns=["загрузку 20b", "загрузку gpt-oss-20b", "запуск модели 20B", "запуск 20b"])),
    "load_120b": dict(
        thought="loading gpt-oss-120b",
        en=dict(say="Run `sostenuto serve --model DIR`, where DIR is the folder of gpt-oss-120b.",
                ask=["how [do I|to|can I] [load|run|use|start|serve|open] [gpt-oss-120b|120b|the 120B|the 120B model|gpt-oss 120B]", "[load|run|use|serve] [gpt-oss-120b|120b|the 120B model]", "I [want|have] [gpt-oss-120b|120b|the 120B model]", "command [for|to load] [gpt-oss-120b|120b]",
                     "switch to [gpt-oss-120b|120b|the 120B model]", "how [do I|to] go on to [gpt-oss-120b|120b|the 120B model]", "can I [run|load|use] [gpt-oss-120b|120b]"],
                held=["what do I type to load gpt-oss-120b", "I would like to [use|run] the 120B model, how", "please help me load 120b"],
                nouns=["loading 120b", "loading gpt-oss-120b", "running the 120B model", "the command for 120b"]),
        ru=dict(say="Выполните `sostenuto serve --model DIR`, где DIR — папка gpt-oss-120b.",
                ask=["как [загрузить|запустить|открыть|использовать] [gpt-oss-120b|120b|модель 120B|120B]", "[загрузить|запустить|загрузи|запусти] [gpt-oss-120b|120b|модель 120B]", "[хочу|нужна] [gpt-oss-120b|120b|модель 120B]", "команда для [gpt-oss-120b|120b|модели 120B]",
                     "перейти на [gpt-oss-120b|120b|модель 120B]", "можно ли [запустить|загрузить] [gpt-oss-120b|120b]"],
                held=["что набрать, чтобы загрузить gpt-oss-120b", "я хочу [запустить|использовать] модель 120B, как", "помоги загрузить 120b"],
                nouns=["загрузку 120b", "загрузку gpt-oss-120b", "запуск модели 120B", "запуск 120b"])),
    "memory_20b": dict(
        thought="memory for gpt-oss-20b",
        en=dict(say="gpt-oss-20b needs about 14 GB of memory for its weights.",
                ask=["how much [memory|RAM|VRAM|space] does [gpt-oss-20b|20b|the 20B model] [need|use|take|require]", "[memory|RAM] [for|of] [gpt-oss-20b|20b|the 20B model]", "how [big|large|heavy] is [gpt-oss-20b|20b|the 20B model]",
                     "how many [GB|gigabytes] [for|does] [gpt-oss-20b|20b] [need|]", "is [16|8|32] GB enough for [20b|gpt-oss-20b]", "does [20b|gpt-oss-20b] fit in [16|8|32|24] GB", "size of [gpt-oss-20b|20b]", "[memory|RAM] needed for [20b|gpt-oss-20b]"],
                held=["what amount of memory does gpt-oss-20b need", "to run 20b, how much RAM do I need", "tell me how many gigabytes the 20B model takes"],
                nouns=["memory for 20b", "the memory of gpt-oss-20b", "the size of gpt-oss-20b", "RAM for the 20B model"]),
        ru=dict(say="gpt-oss-20b нужно около 14 ГБ памяти для весов.",
                ask=["сколько [памяти|оперативки|места] [нужно|требует|занимает] [gpt-oss-20b|20b|модель 20B]", "[память|оперативка] для [gpt-oss-20b|20b|модели 20B]", "сколько [весит|занимает] [gpt-oss-20b|20b|модель 20B]",
                     "сколько [ГБ|гигабайт] [нужно для|для] [gpt-oss-20b|20b]", "хватит ли [16|8|32] ГБ для [20b|gpt-oss-20b]", "размер [gpt-oss-20b|20b]", "сколько памяти нужно для [20b|gpt-oss-20b|модели 20B]"],
                held=["какой объём памяти требует gpt-oss-20b", "чтобы запустить 20b, сколько нужно памяти", "скажи, сколько гигабайт занимает 20b"],
                nouns=["память для 20b", "размер gpt-oss-20b", "память для gpt-oss-20b", "размер модели 20B"])),
    "memory_120b": dict(
        thought="memory for gpt-oss-120b",
        en=dict(say="gpt-oss-120b needs about 66 GB of memory for its weights.",
                ask=["how much [memory|RAM|VRAM|space] does [gpt-oss-120b|120b|the 120B model] [need|use|take|require]", "[memory|RAM] [for|of] [gpt-oss-120b|120b|the 120B model]", "how [big|large|heavy] is [gpt-oss-120b|120b|the 120B model]",
                     "how many [GB|gigabytes] [for|does] [gpt-oss-120b|120b] [need|]", "is [64|96|80] GB enough for [120b|gpt-oss-120b]", "does [120b|gpt-oss-120b] fit in [64|96|80|128] GB", "size of [gpt-oss-120b|120b]", "[memory|RAM] needed for [120b|gpt-oss-120b]"],
                held=["what amount of memory does gpt-oss-120b need", "to run 120b, how much RAM do I need", "tell me how many gigabytes the 120B model takes"],
                nouns=["memory for 120b", "the memory of gpt-oss-120b", "the size of gpt-oss-120b", "RAM for the 120B model"]),
        ru=dict(say="gpt-oss-120b нужно около 66 ГБ памяти для весов.",
                ask=["сколько [памяти|оперативки|места] [нужно|требует|занимает] [gpt-oss-120b|120b|модель 120B]", "[память|оперативка] для [gpt-oss-120b|120b|модели 120B]", "сколько [весит|занимает] [gpt-oss-120b|120b|модель 120B]",
                     "сколько [ГБ|гигабайт] [нужно для|для] [gpt-oss-120b|120b]", "хватит ли [64|96|80] ГБ для [120b|gpt-oss-120b]", "размер [gpt-oss-120b|120b]", "сколько памяти нужно для [120b|gpt-oss-120b|модели 120B]"],
                held=["какой объём памяти требует gpt-oss-120b", "чтобы запустить 120b, сколько нужно памяти", "скажи, сколько гигабайт занимает 120b"],
                nouns=["память для 120b", "размер gpt-oss-120b", "память для gpt-oss-120b", "размер модели 120B"])),
    "mxfp4": dict(
        thought="MXFP4",
        en=dict(say="MXFP4 is a 4-bit format: 32 values share one scale. The experts stay in it.",
                ask=["what [is|does] MXFP4 [mean|]", "what is the [weight format|quantization|4-bit format]", "are the [weights|experts] [quantized|in 4 bits|compressed]", "which [quantization|format] do the [weights|experts] use", "how are the [weights|experts] stored", "explain MXFP4",
                     "how many bits [per weight|does a weight have]", "MXFP4 meaning", "why MXFP4"],
                held=["I do not understand MXFP4, what is it", "in which 4-bit format are the experts stored", "what quantization is used for the weights"],
                nouns=["MXFP4", "the MXFP4 format", "quantization", "the weight format", "the 4-bit format"]),
        ru=dict(say="MXFP4 — 4-битный формат: 32 значения делят один масштаб. Эксперты остаются в нём.",
                ask=["что [такое|значит] MXFP4", "какой [формат|тип] весов", "какая квантизация [у весов|]", "[веса|эксперты] [квантованы|сжаты|в 4 битах]", "как хранятся [веса|эксперты]", "объясни MXFP4", "сколько бит [на вес|у весов]", "зачем MXFP4", "что за формат MXFP4"],
                held=["я не понимаю, что значит MXFP4", "в каком формате хранятся эксперты", "какая квантизация используется для весов"],
                nouns=["MXFP4", "формат MXFP4", "квантизацию", "формат весов", "4-битный формат"])),
    "context": dict(
        thought="the context length",
        en=dict(say="The gpt-oss models have a context of 131072 tokens.",
                ask=["how long is the context", "what is the [context length|context window|context size|maximum context]", "how many tokens [fit|fit in the context|can it read|does the context have]", "[context length|context window|context size]", "how [long|large|big] [can a prompt be|can the prompt be|is the context window]", "maximum [prompt|context] length",
                     "what is the longest prompt"],
                held=["tell me how long the context is", "how many tokens fit into the context window", "what context size do the models have"],
                nouns=["the context", "the context length", "the context window", "the context size", "the maximum prompt length"]),
        ru=dict(say="У моделей gpt-oss контекст 131072 токена.",
                ask=["какой [длины контекст|контекст|размер контекста]", "какая длина контекста", "сколько токенов [в контексте|помещается в контекст|входит в контекст]", "[длина|размер|окно] контекста", "какой длины может быть [запрос|промпт]", "максимальный [контекст|промпт]", "насколько длинный контекст"],
                held=["скажи, какой длины контекст", "сколько же токенов помещается в контекст", "какой контекст у моделей"],
                nouns=["контекст", "длину контекста", "размер контекста", "окно контекста", "максимальный контекст"])),
    "effort": dict(
        thought="reasoning effort",
        en=dict(say="Set `reasoning_effort` to low, medium or high: more effort, longer thinking.",
                ask=["how [do I|to|can I] [set|change|choose] [the effort|the reasoning effort|reasoning effort|the thinking]", "what is [reasoning effort|the reasoning effort|the effort]", "how [do I|to|can I] make [you|it|the model] think [longer|more|less]", "can [you|it|the model] think [longer|more|less|harder]", "[set|change] [reasoning effort|the effort|the thinking length]",
                     "what does reasoning_effort do", "which effort levels [are there|exist]", "low, medium or high effort"],
                held=["I want the model to think less, how", "which levels of reasoning effort do you have", "how does one change the reasoning effort"],
                nouns=["reasoning effort", "the reasoning effort", "reasoning_effort", "the effort levels", "the thinking length", "thinking longer"]),
        ru=dict(say="Задайте `reasoning_effort`: low, medium или high. Чем выше, тем дольше размышление.",
                ask=["как [задать|изменить|выбрать|поменять] [усилие|усилие рассуждения|уровень размышления|уровень рассуждения]", "что такое [reasoning effort|усилие рассуждения|reasoning_effort]", "как заставить [тебя|её|модель] думать [дольше|больше|меньше]", "можно ли думать [дольше|меньше|больше]", "что делает reasoning_effort",
                     "какие [есть|бывают] уровни [усилия|рассуждения|размышления]"],
                held=["я хочу, чтобы модель думала дольше", "какие же уровни рассуждения бывают", "как мне изменить уровень размышления"],
                nouns=["reasoning effort", "reasoning_effort", "усилие рассуждения", "уровень рассуждения", "уровень размышления", "длину размышления"])),
    "stop_server": dict(
        thought="stopping the server",
        en=dict(say="Press Ctrl-C in its terminal: the server shuts down cleanly.",
                ask=["how [do I|to|can I] [stop|quit|kill|end|close|shut down] [the server|Sostenuto|it|the program]", "[stop|quit|end|close|shut down] [the server|Sostenuto]", "command to [stop|quit] [the server|Sostenuto]", "I want to [stop|quit|close] [the server|Sostenuto]", "how [do I|to] turn [it|the server] off", "how does one [stop|shut down] the server"],
                held=["what do I press to [stop|quit] the server", "please explain how to shut down Sostenuto", "show me the way to stop the server"],
                nouns=["stopping the server", "shutting down the server", "the shutdown", "quitting Sostenuto", "shutdown"]),
        ru=dict(say="Нажмите Ctrl-C в его терминале: сервер завершится аккуратно.",
                ask=["как [остановить|выключить|закрыть|завершить|погасить] [сервер|Sostenuto|программу|его]", "[останови|выключи|остановить|выключить] [сервер|Sostenuto]", "команда для остановки [сервера|]", "хочу [остановить|выключить] [сервер|Sostenuto]", "как останавливается сервер", "как мне [остановить|выключить] [сервер|Sostenuto]"],
                held=["что нажать, чтобы [остановить|выключить] сервер", "объясни, как выключить Sostenuto", "что нужно сделать для остановки сервера"],
                nouns=["остановку сервера", "остановку", "выключение сервера", "завершение сервера"])),
    "stop_answer": dict(
        thought="stopping an answer in the chat",
        en=dict(say="In `sostenuto chat`, Ctrl-C stops the answer and the program goes on.",
                ask=["how [do I|to|can I] [stop|cancel|interrupt|cut off] [an answer|the answer|a reply|the reply]", "[stop|cancel|interrupt] [the answer|an answer|this answer|the reply]", "the answer is too long, how do I stop it", "what does Ctrl-C do in the chat", "can I [stop|cancel|interrupt] [an answer|a reply]"],
                held=["what do I press to interrupt an answer", "I want to cut off a long answer", "is it possible to cancel the reply"],
                nouns=["stopping an answer", "interrupting an answer", "cancelling a reply", "Ctrl-C in the chat"]),
        ru=dict(say="В `sostenuto chat` Ctrl-C останавливает ответ, а программа работает дальше.",
                ask=["как [остановить|прервать|отменить] [ответ|этот ответ]", "[останови|прерви|отмени|прервать] ответ", "ответ слишком длинный, как его прервать", "что делает Ctrl-C в чате", "можно ли [прервать|остановить|отменить] ответ"],
                held=["что нажать, чтобы прервать ответ", "я хочу прервать длинный ответ", "как мне отменить ответ"],
                nouns=["остановку ответа", "отмену ответа", "Ctrl-C в чате", "прерывание ответа"])),
    "health": dict(
        thought="the health check",
        en=dict(say="Send GET /health: it tells whether the server is up.",
                ask=["how [do I|to|can I] [check|see|know] [if|whether|that] the server is [up|alive|healthy|running|ready]", "is there a health [check|endpoint|probe]", "what [is|does] /health [do|]", "is the server [up|alive|healthy|ready]", "[health check|liveness probe|health endpoint]", "[check|probe] the health of the server"],
                held=["how can I find out whether the server is alive", "which endpoint tells that the server is healthy", "I need a health probe for the server"],
                nouns=["/health", "the health check", "the health endpoint", "GET /health", "server health", "the health probe"]),
        ru=dict(say="Отправьте GET /health: он скажет, работает ли сервер.",
                ask=["как [проверить|узнать|понять], [что сервер работает|жив ли сервер|работает ли сервер|готов ли сервер]", "есть ли проверка [здоровья|состояния]", "что [такое|делает] /health", "[работает|жив|готов] ли сервер", "проверка [здоровья|состояния] сервера", "проверить [состояние|здоровье] сервера"],
                held=["каким образом проверить, жив ли сервер", "какой адрес скажет, что сервер работает", "мне нужна проверка здоровья сервера"],
                nouns=["/health", "проверку здоровья", "проверку состояния", "GET /health", "состояние сервера"])),
    "models": dict(
        thought="the list of models",
        en=dict(say="GET /v1/models lists the models that are loaded.",
                ask=["how [do I|to|can I] [list|see] [the models|loaded models|models|the loaded models]", "which model is loaded", "what models are loaded", "[list|show] [the models|loaded models|models]", "what does /v1/models do", "where is the [list of models|model list]", "endpoint for [models|the model list]"],
                held=["I want to see which models are loaded", "which endpoint lists the models", "how could I get the model list"],
                nouns=["/v1/models", "GET /v1/models", "the model list", "the list of models", "the loaded models"]),
        ru=dict(say="GET /v1/models перечисляет загруженные модели.",
                ask=["как [посмотреть|получить|узнать] [список моделей|загруженные модели]", "какая модель загружена", "какие модели загружены", "[покажи|список] [модели|моделей|загруженные модели]", "что делает /v1/models", "где список моделей", "адрес для списка моделей"],
                held=["хочу увидеть, какие модели загружены", "какой адрес даёт список моделей", "как мне получить список моделей"],
                nouns=["/v1/models", "GET /v1/models", "список моделей", "загруженные модели"])),
    "completions": dict(
        thought="the chat endpoint",
        en=dict(say="Send POST /v1/chat/completions with `messages`, as in the OpenAI API.",
                ask=["how [do I|to|can I] [send|make|post] [a request|a message|requests|a chat request]", "which endpoint [is for chat|answers|do I call|takes messages]", "what does /v1/chat/completions do", "how [do I|to|can I] [call|use] the [API|HTTP API|server API]", "[send|make] [a request|an API request]", "how [do I|to|can I] use curl", "a curl example", "what is the [API|chat endpoint|HTTP API]"],
                held=["which endpoint should I call to chat", "how does one send a message to the API", "I would like to use curl with the server"],
                nouns=["/v1/chat/completions", "the API", "the chat endpoint", "sending a request", "chat completions", "the HTTP API"]),
        ru=dict(say="Отправьте POST /v1/chat/completions с полем `messages`, как в API OpenAI.",
                ask=["как [отправить|сделать|послать] [запрос|сообщение]", "какой [адрес|эндпоинт] [для чата|отвечает|принимает сообщения]", "что делает /v1/chat/completions", "как [вызвать|использовать] API", "[отправь|послать] запрос", "как использовать curl", "пример [curl|запроса]", "какой [API|эндпоинт]"],
                held=["какой эндпоинт вызвать для чата", "каким образом послать сообщение в API", "хочу использовать curl с сервером"],
                nouns=["/v1/chat/completions", "API", "эндпоинт чата", "отправку запроса", "chat completions"])),
    "client": dict(
        thought="OpenAI compatibility",
        en=dict(say="Yes, it speaks the OpenAI API. Point the client's base URL at http://127.0.0.1:8080/v1.",
                ask=["is it [compatible with OpenAI|OpenAI compatible|compatible with the OpenAI API|API compatible]", "can I use the OpenAI [client|Python client|library|SDK]", "does the OpenAI [client|library|SDK] work", "how [do I|to|can I] connect [the OpenAI client|a Python client|my client|from Python]", "what is the base URL", "[OpenAI|API] compatibility",
                     "which [clients|libraries] work", "how [do I|to|can I] use it from [Python|Node|JavaScript]", "how to set base_url"],
                held=["will my OpenAI client work with it", "I use the OpenAI library in Python, can I connect it", "tell me the base URL for the OpenAI client"],
                nouns=["the OpenAI client", "OpenAI compatibility", "API compatibility", "the base URL", "the Python client", "base_url"]),
        ru=dict(say="Да, он понимает API OpenAI. Укажите клиенту base URL http://127.0.0.1:8080/v1.",
                ask=["[он|сервер] совместим с [OpenAI|API OpenAI]", "можно ли использовать [клиент|библиотеку] OpenAI", "работает ли [клиент|библиотека] OpenAI", "как подключить [клиент|клиент OpenAI|клиент Python]", "какой base URL", "совместимость с [OpenAI|API|API OpenAI]", "какие [клиенты|библиотеки] работают", "как [использовать|подключиться] из [Python|Node]"],
                held=["будет ли работать мой клиент OpenAI", "я использую библиотеку OpenAI, как её подключить", "скажи base URL для клиента OpenAI"],
                nouns=["клиент OpenAI", "совместимость с OpenAI", "base URL", "клиент Python", "base_url"])),
    "licence": dict(
        thought="the licence",
        en=dict(say="Sostenuto is free software under the Apache-2.0 licence.",
                ask=["what is the [licence|license]", "which [licence|license] [does it have|does Sostenuto have|is it|]", "is it [free|open source|open|free software]", "can I use it [commercially|at work|for free|in my company]", "how much does it cost", "[licence|license]", "is [Sostenuto|the code] [open source|free]", "what does it cost"],
                held=["under which licence is Sostenuto", "do I have to pay for it, is it free", "may I use it commercially in my company"],
                nouns=["the licence", "the license", "the licence of Sostenuto", "the price", "the cost", "commercial use"]),
        ru=dict(say="Sostenuto — свободная программа под лицензией Apache-2.0.",
                ask=["какая [лицензия|у неё лицензия|лицензия у Sostenuto]", "[это|Sostenuto] [бесплатно|открытый код|бесплатный|свободная программа]", "можно ли использовать [бесплатно|на работе|коммерчески|в компании]", "сколько [это стоит|стоит|стоит Sostenuto]", "лицензия", "под какой лицензией [Sostenuto|проект|код]", "код открыт"],
                held=["скажи, какая лицензия у проекта", "нужно ли платить, это бесплатно", "можно ли использовать его в компании коммерчески"],
                nouns=["лицензию", "лицензию Sostenuto", "цену", "стоимость", "коммерческое использование"])),
    "offline": dict(
        thought="working offline",
        en=dict(say="Yes, it works offline: loading a model never touches the network.",
                ask=["does it work offline", "does it need [the internet|internet|a network|the network|the cloud]", "is it offline", "can I use it without [the internet|internet|a network]", "does it send [my data|data|anything] [anywhere|to the cloud|to OpenAI|]", "is my data [private|safe|sent anywhere]", "[offline|without internet]", "does it [phone home|use the network|go online]",
                     "is it local", "does it run locally"],
                held=["I have no internet, will it work", "will my data be sent to the cloud", "can it run fully offline without a network"],
                nouns=["offline use", "working offline", "privacy", "the network", "the internet", "my data"]),
        ru=dict(say="Да, он работает офлайн: загрузка модели не обращается к сети.",
                ask=["[он|она|Sostenuto|это] работает [офлайн|без интернета|без сети|локально]", "нужен ли [интернет|ему интернет]", "нужна ли сеть", "можно ли [использовать|работать] без [интернета|сети]", "отправляет ли [он|она] [данные|мои данные] [в облако|куда-то|в OpenAI|]", "мои данные [в безопасности|уходят в сеть]", "[офлайн|без интернета]", "это локально"],
                held=["у меня нет интернета, будет работать", "уйдут ли мои данные в облако", "может ли он работать полностью без сети"],
                nouns=["офлайн", "работу без интернета", "работу без сети", "интернет", "мои данные", "сеть"])),
    "gpu": dict(
        thought="hardware",
        en=dict(say="No GPU is needed: Sostenuto runs on a CPU.",
                ask=["do I need a [GPU|graphics card|video card]", "does it [need|require|want] a [GPU|graphics card|video card]", "can it run on a [CPU|laptop|processor]", "does it run on a [CPU|laptop|processor]", "is a [GPU|graphics card] [needed|required]", "what hardware [do I need|is needed|does it need]", "hardware requirements", "can I run it without a [GPU|graphics card]", "CPU or GPU"],
                held=["I have no graphics card, is that fine", "is a CPU enough to run it", "what hardware must I have"],
                nouns=["the GPU", "a GPU", "hardware", "the hardware requirements", "running on a CPU", "graphics cards"]),
        ru=dict(say="Видеокарта не нужна: Sostenuto работает на процессоре.",
                ask=["[нужна|нужен] ли [видеокарта|GPU]", "нужна ли мне видеокарта", "работает ли [он|она|Sostenuto] на [процессоре|CPU|ноутбуке]", "можно ли [запустить|работать] на [процессоре|CPU|ноутбуке]", "какое [железо|оборудование] [нужно|требуется]", "можно ли без [видеокарты|GPU]", "требования к железу", "процессор или видеокарта"],
                held=["у меня нет видеокарты, это нормально", "хватит ли процессора для работы", "какое мне нужно железо"],
                nouns=["видеокарту", "GPU", "железо", "требования к железу", "работу на процессоре", "оборудование"])),
    "rust": dict(
        thought="the programming language",
        en=dict(say="Sostenuto is written in Rust.",
                ask=["[what|which] [programming language|language] is [it|Sostenuto|the engine|this] written in", "what is [it|Sostenuto] written in", "is [it|Sostenuto] written in [Rust|Python|C++|Go]", "[which|what] programming language [do you use|was used|]", "in [which|what] language is [it|Sostenuto|the code] written", "is it Rust", "is it Python"],
                held=["tell me which programming language the code is in", "was the engine written in Python or Rust"],
                nouns=["the programming language", "the source code language", "Rust", "the language of the code"]),
        ru=dict(say="Sostenuto написан на Rust.",
                ask=["на [каком|чём] [языке|] [написан Sostenuto|он написан|написан движок|это написано]", "[это|он|Sostenuto] написан на [Rust|Python|C++]", "какой язык программирования", "язык программирования [проекта|]", "на каком языке программирования [он|проект|Sostenuto]", "это Rust", "это Python"],
                held=["скажи, на каком языке написан код", "движок написан на Python или на Rust"],
                nouns=["язык программирования", "Rust", "язык кода"])),
    "supported": dict(
        thought="supported models",
        en=dict(say="It runs gpt-oss-20b, gpt-oss-120b and smaller models of the same architecture.",
                ask=["[which|what] models [are supported|can it run|does it support|can I run|can I use|work]", "does it [support|run] [Llama|Mistral|Qwen|other models|Gemma]", "can [it|Sostenuto] [run|load] [Llama|Mistral|Qwen|other models|Gemma]", "supported models", "can I use [Llama|Qwen|Mistral|another model]", "[which|what] models [does Sostenuto|can Sostenuto] [run|load|support]"],
                held=["tell me the models that Sostenuto can run", "will it run Llama or only gpt-oss", "what other models are supported"],
                nouns=["supported models", "the supported models", "other models", "Llama support", "model support"]),
        ru=dict(say="Он работает с gpt-oss-20b, gpt-oss-120b и меньшими моделями той же архитектуры.",
                ask=["какие модели [поддерживаются|он поддерживает|можно запустить|работают|можно использовать]", "поддерживает ли [он|она|Sostenuto] [Llama|Mistral|Qwen|другие модели]", "можно ли [запустить|загрузить] [Llama|Mistral|Qwen|другую модель|другие модели]", "поддерживаемые модели", "с какими моделями [работает|он работает|работает Sostenuto]"],
                held=["скажи, какие модели поддерживает Sostenuto", "запустится ли Llama или только gpt-oss", "какие другие модели можно использовать"],
                nouns=["поддерживаемые модели", "поддержку моделей", "другие модели", "поддержку Llama"])),
    "stream": dict(
        thought="streaming",
        en=dict(say="Yes. Set `stream` to true and tokens arrive as they are made.",
                ask=["does it [support streaming|stream|do streaming]", "how [do I|to|can I] [stream|get a stream|turn on streaming|enable streaming]", "can [it|the server|I] stream [tokens|answers|the answer|]", "is streaming supported", "[streaming|stream the answer|stream tokens]", "what does stream true do", "get tokens one by one"],
                held=["I want to receive the tokens one by one", "is it possible to stream the answer", "how does one enable streaming"],
                nouns=["streaming", "the stream option", "streaming answers", "token streaming"]),
        ru=dict(say="Да. Поставьте `stream` в true, и токены будут приходить по мере появления.",
                ask=["[поддерживается|есть] ли [стриминг|потоковый ответ|потоковая передача]", "как [включить|получить] [стриминг|потоковый ответ|поток]", "можно ли получать [токены|ответ] [потоком|по частям|по одному]", "[стриминг|потоковый ответ|потоковая передача]", "что делает stream"],
                held=["хочу получать токены по одному", "каким образом включить потоковый ответ", "умеет ли сервер стриминг"],
                nouns=["стриминг", "потоковый ответ", "потоковую передачу", "параметр stream"])),
    "tools": dict(
        thought="tool calling",
        en=dict(say="Yes. Declare functions in `tools` and the model can call them.",
                ask=["does it support [tools|functions|tool calls|function calling|tool calling]", "how [do I|to|can I] [declare|use|define|add] [tools|functions|a function|a tool]", "can [you|it|the model] call [functions|tools|a function|my functions]", "is [function calling|tool calling] supported", "[function calling|tool calling|tool calls]", "do [tools|functions|tool calls] work"],
                held=["I want the model to call my function", "how does one declare a tool", "are function calls supported here"],
                nouns=["tools", "function calling", "tool calling", "tool calls", "functions", "declaring tools"]),
        ru=dict(say="Да. Объявите функции в `tools`, и модель сможет их вызывать.",
                ask=["[поддерживаются|есть|работают] ли [инструменты|функции|вызовы функций|вызовы инструментов]", "как [объявить|использовать|добавить|определить] [функцию|инструмент|функции|инструменты]", "[может ли модель|можешь ли ты|ты можешь] вызывать [функции|инструменты]", "[вызов функций|вызов инструментов]"],
                held=["я хочу, чтобы модель вызывала мою функцию", "каким образом объявить инструмент", "умеет ли модель вызовы функций"],
                nouns=["инструменты", "вызов функций", "вызов инструментов", "функции", "объявление функций"])),
    "harmony": dict(
        thought="the Harmony format",
        en=dict(say="Harmony is the message format of gpt-oss: thinking goes to analysis, the answer to final.",
                ask=["what is [Harmony|the Harmony format]", "what [message format|chat format|format|chat template] [do you use|does it use|does gpt-oss use|is used]", "what are [channels|the channels|analysis and final]", "explain [Harmony|the channels|the Harmony format]", "what is the [analysis|final|commentary] channel", "[Harmony|Harmony format]"],
                held=["I keep reading about Harmony, what is it", "which channels does the message format have", "tell me what the analysis channel is"],
                nouns=["Harmony", "the Harmony format", "the message format", "the chat template", "the channels", "the analysis channel"]),
        ru=dict(say="Harmony — формат сообщений gpt-oss: размышление идёт в analysis, ответ в final.",
                ask=["что такое [Harmony|формат Harmony]", "какой [формат сообщений|формат чата] [используется|]", "что такое [каналы|канал analysis|канал final]", "объясни [Harmony|каналы|формат Harmony]", "[Harmony|формат Harmony]", "какие [бывают|есть] каналы"],
                held=["все говорят про Harmony, что это", "какие каналы есть в формате сообщений", "скажи, что такое канал analysis"],
                nouns=["Harmony", "формат Harmony", "формат сообщений", "каналы", "канал analysis"])),
    "languages": dict(
        thought="the languages I speak",
        en=dict(say="I speak English and Russian, a little.",
                ask=["[what|which] languages do you [speak|know|understand]", "do you speak [Russian|English|German|French|Spanish|Chinese]", "can you [speak|understand|write] [Russian|English|German|French]", "do you [know|understand] [Russian|German|French|English]", "can I write in [Russian|English|German]", "speak [Russian|English]"],
                held=["in which languages can you speak", "tell me what languages you understand", "is it possible to write to you in Russian"],
                nouns=["your languages", "the languages you speak", "the languages that you know"]),
        ru=dict(say="Я немного говорю по-английски и по-русски.",
                ask=["на каких языках ты говоришь", "ты [говоришь|понимаешь|пишешь] [по-русски|по-английски|по-немецки|по-французски]", "какие языки ты [знаешь|понимаешь]", "ты знаешь [русский|английский|немецкий|французский]", "можно [писать|говорить] [по-русски|по-английски]", "[говори|ответь] по-русски"],
                held=["скажи, на каких языках ты говоришь", "какие же языки ты понимаешь", "могу ли я писать по-русски"],
                nouns=["твои языки", "языки, которые ты знаешь", "знание языков"])),
    "download": dict(
        thought="where to get the weights",
        en=dict(say="The weights are published by OpenAI on Hugging Face: openai/gpt-oss-20b and openai/gpt-oss-120b.",
                ask=["where [do I|can I|to] [get|download|find] [the weights|the model|weights|gpt-oss|the models|a checkpoint|checkpoints]", "how [do I|to|can I] [download|get] [the weights|the model|weights|gpt-oss|a checkpoint]", "[download|get] [the weights|gpt-oss|weights]", "where are the weights", "who publishes the weights", "from where do I download [gpt-oss|the model]"],
                held=["I have no weights, where could I find them", "what site has the weights to download", "tell me where to download gpt-oss"],
                nouns=["downloading the weights", "the download", "getting the weights", "where to get weights"]),
        ru=dict(say="Веса публикует OpenAI на Hugging Face: openai/gpt-oss-20b и openai/gpt-oss-120b.",
                ask=["где [взять|скачать|найти] [веса|модель|gpt-oss|чекпойнт]", "как [скачать|получить] [веса|модель|gpt-oss|чекпойнт]", "[скачать|скачай] [веса|модель|gpt-oss]", "где [лежат|находятся] веса", "кто публикует веса", "откуда [скачать|взять] [веса|модель|gpt-oss]"],
                held=["у меня нет весов, где их найти", "на каком сайте скачать веса", "скажи, откуда скачать gpt-oss"],
                nouns=["скачивание весов", "загрузку весов из интернета", "где взять веса"])),
    "files": dict(
        thought="the files of a model folder",
        en=dict(say="A model folder holds config.json, tokenizer.json and the safetensors files with their index.",
                ask=["[which|what] files [are needed|does it need|does a model need|do I need|belong to a model]", "what is in [a|the] model [folder|directory]", "[which|what] file [format|formats] [does it read|are supported|is used]", "does it read [safetensors|safetensors files]", "what must the model [folder|directory] [contain|hold]", "files of a [model|checkpoint]",
                     "what does a model [folder|directory] [contain|look like]"],
                held=["tell me which files a model folder must have", "what do I put in the model directory", "what files belong in a model folder"],
                nouns=["the model files", "the model folder", "the model directory", "the file format", "the folder layout", "safetensors files"]),
        ru=dict(say="В папке модели лежат config.json, tokenizer.json и файлы safetensors с индексом.",
                ask=["какие файлы [нужны|нужны модели|должны быть в папке|нужны для модели]", "что [лежит|находится|есть|должно быть] в папке [модели|с моделью]", "какой формат файлов", "[читает|понимает] ли [он|она] safetensors", "что в папке модели", "файлы [модели|чекпойнта]", "как выглядит папка модели"],
                held=["скажи, какие файлы должны быть в папке модели", "что положить в папку модели", "какие файлы входят в модель"],
                nouns=["файлы модели", "папку модели", "формат файлов", "файлы safetensors"])),
    "trust": dict(
        thought="whether I can be trusted",
        en=dict(say="Do not rely on me: I am a toy. Check the README, or ask gpt-oss-20b.",
                ask=["can I trust you", "are you [reliable|right|sure|always right|accurate]", "do you make mistakes", "can I [believe|rely on] [you|your answers]", "are your answers [right|correct|true|accurate]", "how [accurate|reliable] are you", "should I trust you", "is that [true|correct|right]", "are you wrong sometimes"],
                held=["do you think I should rely on your answers", "how correct are your answers", "can one trust what you say"],
                nouns=["your accuracy", "your mistakes", "your reliability", "trust in your answers"]),
        ru=dict(say="Не полагайтесь на меня: я игрушка. Смотрите README или спросите gpt-oss-20b.",
                ask=["можно ли тебе [верить|доверять]", "ты [надёжная|уверена|всегда права|точная]", "ты [ошибаешься|делаешь ошибки]", "можно ли [верить|доверять] твоим ответам", "твои ответы [верные|правильные|точные]", "насколько ты [точная|надёжная]", "это [правда|верно]", "стоит ли тебе [верить|доверять]"],
                held=["как думаешь, стоит ли доверять твоим ответам", "насколько верные твои ответы", "могу ли я тебе верить"],
                nouns=["твою точность", "твои ошибки", "твою надёжность", "доверие к тебе"])),
    "test": dict(
        thought="running the tests",
        en=dict(say="Run `cargo xtask test`: it installs what the tests need and runs them all.",
                ask=["how [do I|to|can I] [run|start] the tests", "how [do I|to|can I] test [the project|the code|Sostenuto]", "[run|start] [the tests|all tests]", "command for [the tests|tests]", "which command runs [the tests|all tests]", "where are the tests", "does it have tests"],
                held=["I would like to run all tests, how", "what do I type to run the tests", "how does one test the code"],
                nouns=["the tests", "running the tests", "cargo xtask test", "the test command"]),
        ru=dict(say="Выполните `cargo xtask test`: он поставит нужное и запустит все тесты.",
                ask=["как [запустить|выполнить|прогнать] [тесты|все тесты]", "как [проверить|тестировать] [проект|код]", "[запусти|запустить] [тесты|все тесты]", "команда для тестов", "какая команда запускает тесты", "где тесты", "есть ли тесты"],
                held=["я хочу прогнать все тесты, как", "что набрать, чтобы запустить тесты", "каким образом тестировать код"],
                nouns=["тесты", "запуск тестов", "cargo xtask test", "команду для тестов"])),
    "build": dict(
        thought="building and installing",
        en=dict(say="Clone the project and run `cargo run --release -- serve`: it builds and starts the demo.",
                ask=["how [do I|to|can I] [build|compile|install|set up] [it|Sostenuto|the project|this]", "[build|compile|install] [Sostenuto|the project|it]", "command to [build|compile|install] [it|Sostenuto]", "how [do I|to] build from source", "installation", "I want to [build|compile|install] [it|Sostenuto]", "what do I need to [build|compile] it"],
                held=["what must I do to install Sostenuto", "is it possible to build from source, how", "please explain how to compile the project"],
                nouns=["installation", "building from source", "the build", "installing Sostenuto", "compiling"]),
        ru=dict(say="Склонируйте проект и выполните `cargo run --release -- serve`: он соберётся и запустит демо.",
                ask=["как [собрать|скомпилировать|установить|поставить] [его|Sostenuto|проект|программу]", "[собрать|установить|установи|собери] [Sostenuto|проект]", "команда для [сборки|установки]", "как собрать из исходников", "установка", "хочу [собрать|установить|поставить] [его|Sostenuto]", "что нужно для [сборки|установки]"],
                held=["что нужно сделать, чтобы установить Sostenuto", "объясни, как скомпилировать проект", "можно ли собрать из исходников"],
                nouns=["установку", "сборку", "сборку из исходников", "установку Sostenuto", "компиляцию"])),
}

OFF_TOPIC = dict(
    thought="something outside my topics",
    en="I am a tiny demo model and only know how to run Sostenuto. Load gpt-oss-20b for real answers.",
    ru="Я крошечная демо-модель и знаю только, как запускать Sostenuto. Для настоящих ответов загрузите gpt-oss-20b.",
)

OFF_THINGS = {
    "en": ["France", "Italy", "China", "Brazil", "the moon", "the sun", "dogs", "cats", "birds", "football", "tennis", "chess", "music", "Mozart", "Einstein", "Napoleon",
           "love", "death", "money", "school", "history", "physics", "chemistry", "biology", "math", "algebra", "pizza", "soup", "bread", "coffee", "tea", "cars", "trains", "planes", "ships",
           "the sea", "a river", "a mountain", "a tree", "flowers", "winter", "summer", "snow", "rain", "war", "peace", "a king", "a queen", "dragons", "magic", "the stars", "Mars", "gold", "silver",
           "my mother", "my boss", "my wife", "my dog", "a doctor", "a lawyer", "a job", "a house", "Python lists", "JavaScript", "SQL", "Linux", "Windows", "a website", "a poem", "a song", "a movie", "a book",
           "the president", "elections", "taxes", "bitcoin", "stocks", "health insurance", "sleep", "yoga", "running shoes", "a bicycle", "the economy", "a hotel", "Japan", "Egypt", "penguins", "whales",
           "Spain", "Mexico", "Canada", "Norway", "Turkey", "India", "Africa", "Europe", "London", "Paris", "New York", "a lake", "the desert",
           "a forest", "an island", "a bridge", "a castle", "a church", "a museum", "a theatre", "a circus", "the zoo", "elephants", "tigers",
           "lions", "bears", "wolves", "mice", "snakes", "spiders", "bees", "ants", "butterflies", "fish", "sharks", "dolphins", "chickens", "cows",
           "pigs", "sheep", "a rabbit", "apples", "bananas", "oranges", "tomatoes", "potatoes", "rice", "pasta", "salad", "chocolate", "ice cream",
           "sugar", "salt", "milk", "beer", "wine", "juice", "breakfast", "dinner", "cake", "a piano", "a violin", "drums", "opera", "jazz",
           "dancing", "painting", "photography", "cinema", "theatre", "basketball", "swimming", "skiing", "boxing", "running", "the Olympics",
           "a bus", "the subway", "a rocket", "a submarine", "a motorcycle", "traffic", "a road", "the airport", "a telephone", "television", "radio",
           "a camera", "a clock", "a lamp", "a chair", "a carpet", "a door", "a wall", "a roof", "shoes", "a hat", "a dress", "jewelry",
           "diamonds", "iron", "oil", "plastic", "glass", "wood", "fire", "wind", "lightning", "an earthquake", "the sky", "clouds", "Venus",
           "Saturn", "a comet", "black holes", "atoms", "electrons", "gravity", "light", "sound", "evolution", "genes", "cells", "the brain",
           "the heart", "blood", "teeth", "a headache", "the flu", "vitamins", "medicine", "surgery", "babies", "children", "teachers", "police",
           "soldiers", "kings", "pirates", "knights", "ghosts", "angels", "Newton", "Darwin", "Tolstoy", "Beethoven", "Picasso", "Caesar",
           "Cleopatra", "democracy", "freedom", "law", "a bank", "a loan", "insurance", "rent", "salary", "marketing", "fashion", "a wedding",
           "a birthday", "Christmas", "holidays", "a diet", "friendship", "anger", "happiness", "dreams", "luck", "time travel", "philosophy",
           "religion", "poetry", "grammar", "French verbs", "geometry", "statistics", "C++", "Java", "HTML", "Excel", "a printer", "a mouse pad",
           "a game", "Minecraft", "Pokemon", "Batman", "Harry Potter"],
    "ru": ["Францию", "Италию", "Китай", "луну", "солнце", "собак", "кошек", "птиц", "футбол", "теннис", "шахматы", "музыку", "Моцарта", "Эйнштейна", "Наполеона", "любовь", "смерть", "деньги", "школу", "историю",
           "физику", "химию", "биологию", "математику", "пиццу", "суп", "хлеб", "кофе", "чай", "машины", "поезда", "самолёты", "море", "реку", "горы", "деревья", "цветы", "зиму", "лето", "снег", "дождь", "войну", "мир",
           "короля", "драконов", "магию", "звёзды", "Марс", "золото", "маму", "работу", "дом", "стихи", "песню", "фильм", "книгу", "президента", "налоги", "биткоин", "сон", "велосипед", "Японию", "Египет", "пингвинов",
           "Испанию", "Мексику", "Канаду", "Норвегию", "Турцию", "Индию", "Африку", "Европу", "Лондон", "Париж", "Нью-Йорк", "озеро", "пустыню",
           "лес", "остров", "мост", "замок", "церковь", "музей", "театр", "цирк", "зоопарк", "слонов", "тигров", "львов", "медведей", "волков",
           "мышей", "змей", "пауков", "пчёл", "муравьёв", "бабочек", "рыб", "акул", "дельфинов", "кур", "коров", "свиней", "овец", "кролика",
           "яблоки", "бананы", "апельсины", "помидоры", "картошку", "рис", "макароны", "салат", "шоколад", "мороженое", "сахар", "соль", "молоко",
           "пиво", "вино", "сок", "завтрак", "ужин", "торт", "пианино", "скрипку", "барабаны", "оперу", "джаз", "танцы", "живопись", "фотографию",
           "кино", "баскетбол", "плавание", "лыжи", "бокс", "бег", "олимпиаду", "автобус", "метро", "ракету", "мотоцикл", "пробки", "дорогу",
           "аэропорт", "телефон", "телевизор", "радио", "камеру", "часы", "лампу", "стул", "ковёр", "дверь", "стену", "крышу", "ботинки",
           "шляпу", "платье", "алмазы", "железо", "нефть", "стекло", "дерево", "огонь", "ветер", "молнию", "землетрясение", "небо", "облака",
           "Венеру", "Сатурн", "комету", "чёрные дыры", "атомы", "гравитацию", "свет", "звук", "эволюцию", "гены", "клетки", "мозг", "сердце",
           "кровь", "зубы", "головную боль", "грипп", "витамины", "лекарства", "детей", "учителей", "полицию", "солдат", "пиратов", "рыцарей",
           "призраков", "Ньютона", "Дарвина", "Толстого", "Пушкина", "Бетховена", "Пикассо", "Цезаря", "демократию", "свободу", "закон", "банк",
           "кредит", "аренду", "зарплату", "моду", "свадьбу", "день рождения", "Новый год", "каникулы", "диету", "дружбу", "злость", "счастье",
           "мечты", "удачу", "философию", "религию", "поэзию", "грамматику", "геометрию", "статистику", "игру", "сказки", "Бэтмена"],
}
OFF_HELD_THINGS = {
    "en": ["Germany", "horses", "hockey", "Shakespeare", "volcanoes", "cheese", "the ocean", "Jupiter", "robots in films", "a guitar"],
    "ru": ["Германию", "лошадей", "хоккей", "Шекспира", "вулканы", "сыр", "океан", "Юпитер", "гитару", "космос"],
}
OFF_ASK = {
    "en": ["what is {}", "tell me about {}", "who invented {}", "write [a poem|a story|an essay|a song] about {}", "why do people like {}", "what do you think about {}", "where is {}", "how does {} work", "explain {}",
           "what is the [capital|history|meaning|price|color|best part] of {}", "how old is {}", "how far is {}", "give me a joke about {}", "sing about {}", "what is the best {}", "do you like {}", "who is {}", "how do I cook {}", "how do I draw {}",
           "[can you|please] write about {}", "what is [2 + 2|7 * 8|12 - 5|the square root of 16]", "tell me a [joke|story|secret|fairy tale]", "write [a poem|a story|python code|a letter|an email]", "who [won|will win] the [match|election|cup]", "what is the meaning of life",
           "{}", "I like {}", "I hate {}", "my friend talks about {} all day", "give me a recipe [for {}|]", "what is the capital of {}", "who was the first {}", "compare {} and [cats|dogs|gold|tea]", "is {} good for me", "buy {} for me", "summarize {}", "translate this poem about {}",
           "asdf", "blah blah", "[foo|bar|qwerty|lorem ipsum]", "what day is it", "when was {} discovered",
           "paint {} for me", "who owns {}", "how many {} are there", "where do {} live", "what color is {}", "plan a trip to {}",
           "book a table near {}", "I dreamed about {}", "should I buy {}", "how heavy is {}", "teach me to play {}", "fix my {}",
           "name three kinds of {}", "what is the difference between {} and {}", "is {} dangerous", "how do I grow {}", "how do I get to {}",
           "why is {} so [expensive|big|famous|slow]", "what do {} eat", "did you see {}", "my neighbour has {}", "I am afraid of {}",
           "invent a name for {}", "describe {} to a child", "when does {} [open|start|end]", "who wrote about {}", "{} or {}",
           "how long does {} live", "solve x + 3 = 7", "is {} expensive", "can you draw {}", "make [a list|a table] of {}", "what happened to {}",
           "do {} sleep", "who lives in {}", "{} and {}", "what [rhymes with|smells like|looks like] {}", "tell me a [riddle|rumour] about {}",
           "I need {}", "find me {}", "which {} is the [best|oldest|largest]", "can {} fly", "how was {} made", "will {} [win|come back|rise]",
           "order {}", "where was {} born", "I lost my {}", "how do people use {}", "what should I wear to {}", "recommend {}", "{} {} {}",
           "are {} [real|alive|cheap|blue]"],
    "ru": ["что такое {}", "расскажи про {}", "напиши [стих|рассказ|песню|сочинение] про {}", "что ты думаешь про {}", "почему люди любят {}", "объясни {}", "как приготовить {}", "как нарисовать {}", "расскажи [шутку|сказку|анекдот|историю] [про {}|]", "ты любишь {}", "я люблю {}", "я ненавижу {}",
           "кто придумал {}", "где купить {}", "сколько стоит {}", "сколько будет [2 + 2|7 * 8|12 - 5]", "кто [победит|победил] [в матче|на выборах]", "в чём смысл жизни", "напиши [стихотворение|код на python|письмо|рассказ]", "{}", "мой друг говорит про {}", "дай рецепт", "столица [Франции|Италии|Китая]",
           "сравни {} и [кошек|собак|чай]", "купи мне {}", "переведи стих про {}", "кто такой [Моцарт|Эйнштейн|Наполеон|президент]", "фыва", "бла бла", "какой сегодня день", "когда открыли {}",
           "нарисуй {}", "сколько живут {}", "где живут {}", "какого цвета {}", "мне приснилось про {}", "стоит ли покупать {}", "как вырастить {}",
           "почему {} такой [дорогой|большой|известный]", "что едят {}", "боюсь {}", "придумай имя для {}", "опиши {} ребёнку",
           "когда [открывается|начинается] {}", "кто написал про {}", "чем отличается {} от {}", "назови три вида {}", "сколько весит {}",
           "реши уравнение x + 3 = 7", "посоветуй {}", "как выучить {}", "опасно ли {}", "почему люди боятся {}", "сделай {}", "{} или {}", "{} и {}",
           "найди мне {}", "закажи {}", "потерял {}", "как люди используют {}", "какой {} самый [лучший|старый|большой]", "умеют ли {} летать",
           "что случилось с {}", "кто живёт в {}", "где родился {}", "мой сосед купил {}", "загадай загадку про {}", "спланируй поездку в {}",
           "научи играть в {}", "почини {}", "есть ли жизнь на {}", "{} {} {}", "что лучше, {} или {}", "зачем нужны {}", "как доехать до {}",
           "кто первым увидел {}", "расскажи слух про {}", "составь список {}", "как зовут {}", "правда, что {}"],
}
OFF_HELD_ASK = {
    "en": ["please write a short story about {}", "what do people know about {}", "could you sing me a song about {}", "who discovered {}", "how much does {} cost in the shop", "do you know a good joke about {}"],
    "ru": ["напиши короткий рассказ про {}", "что люди знают про {}", "спой мне песню про {}", "кто открыл {}", "где можно купить {}", "знаешь ли ты шутку про {}"],
}


def training_question(name, lang, rng):
    """A training phrasing of a topic."""
    topic = TOPICS[name][lang]
    nouns = topic.get("nouns", [])
    if nouns and rng.random() < 0.35:
        return expand(rng.choice(FRAMES[lang]), rng).format(rng.choice(nouns))
    return expand(rng.choice(topic["ask"]), rng)


def off_topic_question(lang, rng, strange_word):
    """`strange_word()` gives a word that means nothing."""
    text = expand(rng.choice(OFF_ASK[lang]), rng)
    while "{}" in text:
        text = text.replace("{}", strange_word() if rng.random() < 0.3 else rng.choice(OFF_THINGS[lang]), 1)
    return text


def held_out_questions():
    """All held-out questions as (topic, language, question, right answer), in a fixed order."""
    rng = random.Random(2024)
    out = []
    for name, topic in TOPICS.items():
        for lang in ("en", "ru"):
            texts = [q for template in topic[lang]["held"] for q in expand_all(template)]
            for noun in topic[lang].get("nouns", [])[:3]:
                texts.append(rng.choice(HELD_FRAMES[lang]).format(noun))
            out += [(name, lang, text, topic[lang]["say"]) for text in dict.fromkeys(texts)]
    for lang in ("en", "ru"):
        for template in OFF_HELD_ASK[lang]:
            for thing in OFF_HELD_THINGS[lang][:4] + OFF_THINGS[lang][:3]:
                out.append(("off_topic", lang, template.format(thing), OFF_TOPIC[lang]))
    return out
