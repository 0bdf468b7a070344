"""A second set of held-out questions. No miss on them was looked at while the training questions were written."""

import topics

# topic: (English, Russian)
QUESTIONS = {
    "hello": ("a warm hello to you", "шлю тебе привет"),
    "bye": ("ok, goodbye then", "ладно, до встречи"),
    "thanks": ("thanks, that is all I needed", "спасибо, это мне помогло"),
    "how_are_you": ("how have you been", "как твои дела сегодня"),
    "who": ("with which model am I chatting", "с какой моделью я общаюсь"),
    "size": ("do you have many parameters", "много ли у тебя параметров"),
    "can": ("list what you can do for me", "перечисли, что ты умеешь"),
    "what_is": ("I found Sostenuto on the web, what does it do", "нашёл в сети Sostenuto, что он делает"),
    "start": ("I cloned it, now how is the server started", "скачал проект, теперь как запускается сервер"),
    "port": ("my browser needs the port number of the server", "браузеру нужен номер порта сервера"),
    "change_port": ("another program has port 8080, can I pick a different port", "порт 8080 занят другой программой, как выбрать другой порт"),
    "chat": ("is it possible to talk to the model from my terminal", "можно ли поговорить с моделью прямо в терминале"),
    "generate": ("I have one prompt in a file, how can I get the answer without a server", "у меня один запрос в файле, как получить ответ без сервера"),
    "inspect": ("which tensors are inside this checkpoint", "какие тензоры внутри этого чекпойнта"),
    "bench": ("what speed in tokens per second does it reach", "какой скорости в токенах в секунду он достигает"),
    "synth": ("can you create a checkpoint of random weights", "можно ли создать чекпойнт из случайных весов"),
    "load_20b": ("the gpt-oss-20b folder is on my disk, how do I serve it", "папка gpt-oss-20b у меня на диске, как её запустить"),
    "load_120b": ("the gpt-oss-120b folder is on my disk, how do I serve it", "папка gpt-oss-120b у меня на диске, как её запустить"),
    "memory_20b": ("is 16 GB of memory enough for gpt-oss-20b", "хватит ли 16 ГБ памяти для gpt-oss-20b"),
    "memory_120b": ("is 64 GB of memory enough for gpt-oss-120b", "хватит ли 64 ГБ памяти для gpt-oss-120b"),
    "mxfp4": ("how are MXFP4 weights stored", "как хранятся веса MXFP4"),
    "context": ("what is the longest context in tokens", "какой самый длинный контекст в токенах"),
    "effort": ("what does the option reasoning_effort do", "что делает параметр reasoning_effort"),
    "stop_server": ("the server is running, how can I shut it down", "сервер запущен, как его выключить"),
    "stop_answer": ("the model writes too much, can I interrupt the answer", "модель пишет слишком много, как прервать ответ"),
    "health": ("my script must know whether the server is alive", "мой скрипт должен знать, жив ли сервер"),
    "models": ("how can a client see the list of loaded models", "как клиенту увидеть список загруженных моделей"),
    "completions": ("what address gets the chat requests", "на какой адрес слать запросы чата"),
    "client": ("my program uses the OpenAI SDK, is it compatible", "моя программа использует библиотеку OpenAI, совместимо ли это"),
    "licence": ("is the code of Sostenuto free to use", "код Sostenuto можно использовать бесплатно"),
    "offline": ("on a train without internet, does it still work", "в поезде без интернета это работает"),
    "gpu": ("my laptop only has a processor, can it run there", "в ноутбуке только процессор, он там работает"),
    "rust": ("in what language did they write the engine", "на каком языке они написали движок"),
    "supported": ("which other models does Sostenuto support", "какие ещё модели поддерживает Sostenuto"),
    "stream": ("can the answer arrive token by token as a stream", "может ли ответ приходить потоком, токен за токеном"),
    "tools": ("is it able to call functions that I define", "умеет ли он вызывать функции, которые я определю"),
    "harmony": ("why does gpt-oss use the Harmony format", "зачем gpt-oss нужен формат Harmony"),
    "languages": ("can I write to you in English and in Russian", "можно писать тебе по-английски и по-русски"),
    "download": ("from which site do people download the weights", "с какого сайта люди скачивают веса"),
    "files": ("what has to be in the folder of a model", "что обязательно должно быть в папке модели"),
    "trust": ("how sure can I be that your answers are right", "насколько можно быть уверенным в твоих ответах"),
    "test": ("after a change, how do I run all the tests", "после правки, как запустить все тесты"),
    "build": ("what do I type to compile and install it", "что набрать, чтобы собрать и установить"),
}
OFF_TOPIC = {
    "en": ["how tall is the Eiffel tower", "which team has the best goalkeeper", "cook me a lasagna", "why do my knees hurt", "name the rivers of Germany", "should I learn the guitar", "what did Shakespeare eat"],
    "ru": ["какой высоты Эйфелева башня", "у какой команды лучший вратарь", "приготовь мне лазанью", "почему болят колени", "назови реки Германии", "стоит ли учиться играть на гитаре", "что ел Шекспир"],
}


def questions():
    """All of them as (topic, language, question, right answer)."""
    out = [(name, lang, question, topics.TOPICS[name][lang]["say"]) for name, pair in QUESTIONS.items() for lang, question in zip(("en", "ru"), pair)]
    return out + [("off_topic", lang, question, topics.OFF_TOPIC[lang]) for lang in ("en", "ru") for question in OFF_TOPIC[lang]]
