"""The functions that training and evaluation declare: their schemas, requests, closed lists of values and results.

A request template holds slots such as {city}; each value is (text in the question, argument).
`held` requests never occur in training.
"""

import itertools
import json

CITIES_EN = ["Paris", "London", "Berlin", "Rome", "Madrid", "Moscow", "Tokyo", "Oslo", "Cairo", "Delhi", "Prague", "Vienna", "Warsaw", "Lisbon", "Dublin", "Athens", "Boston", "Chicago", "Toronto", "Sydney"]
CITIES_RU = [("Париже", "Париж"), ("Лондоне", "Лондон"), ("Берлине", "Берлин"), ("Риме", "Рим"), ("Мадриде", "Мадрид"), ("Москве", "Москва"), ("Казани", "Казань"), ("Праге", "Прага"), ("Варшаве", "Варшава"), ("Минске", "Минск"), ("Самаре", "Самара"), ("Омске", "Омск")]
MINUTES = [1, 2, 3, 5, 10, 15, 20, 25, 30, 45, 60, 90]
GENRES_EN = ["jazz", "rock", "blues", "pop", "folk", "techno", "opera", "disco", "metal", "soul"]
GENRES_RU = [("джаз", "джаз"), ("рок", "рок"), ("блюз", "блюз"), ("поп", "поп"), ("техно", "техно"), ("оперу", "опера"), ("диско", "диско"), ("метал", "метал")]
ROOMS_EN = ["kitchen", "bedroom", "bathroom", "garage", "hall", "office", "garden", "basement"]
ROOMS_RU = [("на кухне", "кухня"), ("в спальне", "спальня"), ("в ванной", "ванная"), ("в гараже", "гараж"), ("в зале", "зал"), ("в офисе", "офис"), ("в саду", "сад")]
WORDS_EN = ["dog", "cat", "house", "tree", "water", "bread", "sun", "moon", "book", "friend", "table", "window", "river", "horse", "apple", "stone"]
WORDS_RU = ["собака", "кошка", "дом", "дерево", "вода", "хлеб", "солнце", "луна", "книга", "друг", "стол", "окно"]
LANGUAGES_EN = ["German", "French", "Spanish", "Italian", "Russian", "Polish", "Greek", "Turkish"]
LANGUAGES_RU = [("немецкий", "немецкий"), ("французский", "французский"), ("испанский", "испанский"), ("итальянский", "итальянский"), ("английский", "английский"), ("польский", "польский")]
DOCS_EN = ["port", "memory", "licence", "streaming", "context", "tools", "safetensors", "Harmony", "benchmark", "chat", "models", "effort"]
DOCS_RU = ["порт", "память", "лицензия", "контекст", "инструменты", "чат", "модели", "скорость", "тесты"]
CONDITIONS = {"sunny": "солнечно", "cloudy": "облачно", "rainy": "дождь", "windy": "ветрено", "foggy": "туман", "snowy": "снег"}
STATES = {"ok": "в порядке", "busy": "занят", "starting": "запускается", "stopping": "останавливается"}
TRANSLATIONS = ["Hund", "chat", "casa", "albero", "Wasser", "pain", "sol", "luna", "livre", "amigo", "tavolo", "Fenster", "собака", "дом", "вода", "книга"]
ERRORS = ["not found", "timeout", "access denied", "bad request", "no connection"]


def same(values):
    return [(str(v), v) for v in values]


def string(about=None, enum=None):
    out = {"type": "string"}
    if about:
        out["description"] = about
    if enum:
        out["enum"] = enum
    return out


def integer(about=None):
    return {"type": "integer", **({"description": about} if about else {})}


def weather_result(rng, args, lang):
    degrees, sky = rng.randint(-15, 38), rng.choice(list(CONDITIONS))
    place = next(iter(args.values()))
    text = rng.choice([json.dumps({"temperature": degrees, "condition": sky}), json.dumps({"city": place, "temperature": degrees, "condition": sky}, ensure_ascii=False), f"{degrees} C, {sky}"])
    return text, f"{place}: {degrees} °C, {sky}." if lang == "en" else f"{place}: {degrees} °C, {CONDITIONS[sky]}."


def time_result(rng, args, lang):
    clock = f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}"
    place = next(iter(args.values()))
    return rng.choice([json.dumps({"time": clock}), clock]), f"It is {clock} in {place}." if lang == "en" else f"{place}: {clock}."


def timer_result(rng, args, lang):
    minutes = next(iter(args.values()))
    text = rng.choice(['{"ok": true}', "ok", json.dumps({"status": "set"})])
    return text, f"The timer is set: {minutes} min." if lang == "en" else f"Таймер поставлен: {minutes} мин."


def add_result(rng, args, lang):
    total = sum(args.values())
    return rng.choice([json.dumps({"result": total}), str(total), json.dumps({"sum": total})]), f"The sum is {total}." if lang == "en" else f"Сумма: {total}."


def translate_result(rng, args, lang):
    word = rng.choice(TRANSLATIONS)
    return rng.choice([json.dumps({"translation": word}, ensure_ascii=False), word]), f"The translation: {word}." if lang == "en" else f"Перевод: {word}."


def music_result(rng, args, lang):
    text = rng.choice(['{"ok": true}', "ok", json.dumps({"status": "playing"})])
    genre = args["genre"]
    return text, f"Playing {genre}." if lang == "en" else f"Играет {genre}."


def light_result(rng, args, lang):
    text = rng.choice(['{"ok": true}', "ok", json.dumps({"status": "done"})])
    room, state = args["room"], args["state"]
    if lang == "en":
        return text, f"The light is {state}: {room}."
    return text, f"Свет {'включён' if state == 'on' else 'выключен'}: {room}."


def docs_result(rng, args, lang):
    hits = rng.randint(1, 9)
    return rng.choice([json.dumps({"hits": hits}), json.dumps({"count": hits})]), f"Pages found: {hits}." if lang == "en" else f"Найдено страниц: {hits}."


def status_result(rng, args, lang):
    state = rng.choice(list(STATES))
    return rng.choice([json.dumps({"status": state}), state]), f"The server is {state}." if lang == "en" else f"Сервер {STATES[state]}."


# A variant is (name, description, {slot: (argument name, schema)}); every slot is required.
TOOLS = {
    "weather": dict(
        thought="the weather",
        variants=[
            ("get_weather", "Get the weather.", {"city": ("city", string("City name"))}),
            ("get_weather", "Get the current weather in a city.", {"city": ("city", string())}),
            ("get_weather", "Gets the current weather.", {"city": ("city", string("The city"))}),
        ],
        result=weather_result,
        en=dict(slots={"city": same(CITIES_EN)},
                ask=["[what is|how is] the weather in {city} [now|today|]", "weather in {city}", "is it [cold|warm|raining|sunny] in {city} [today|now|]", "[show|tell|give] me the weather in {city}", "{city} weather", "how [warm|cold|hot] is it in {city}", "what [temperature|weather] is it in {city}", "get the weather for {city}", "forecast for {city}", "what is the temperature in {city}", "[should I|do I] take an umbrella in {city}", "I travel to {city}, weather please", "temperature outside in {city}", "does it [rain|snow] in {city}", "how many degrees are there in {city}", "{city}: [weather|temperature|forecast]", "we fly to {city}, is it [cold|warm] there", "tell me about the weather in {city}"],
                held=["I am going to {city}, what is the weather there", "please check the weather in {city} for me", "do I need a coat in {city}, how cold is it"]),
        ru=dict(slots={"city": CITIES_RU},
                ask=["какая погода в {city} [сейчас|сегодня|]", "погода в {city}", "в {city} [холодно|тепло|идёт дождь|солнечно]", "[покажи|скажи] погоду в {city}", "сколько градусов в {city}", "какая температура в {city}", "прогноз [погоды|] в {city}", "[как|что] с погодой в {city}", "узнай погоду в {city}", "нужен ли зонт в {city}", "еду отдыхать, погода в {city}", "есть ли [снег|дождь] в {city}", "насколько [тепло|холодно] в {city}", "расскажи о погоде в {city}"],
                held=["скажи, пожалуйста, какая сейчас в {city} погода", "проверь для меня погоду в {city}", "тепло ли сегодня в {city}"])),
    "time": dict(
        thought="the time",
        variants=[
            ("get_time", "Get the time in a city.", {"city": ("city", string("City name"))}),
            ("get_time", "Get the local time.", {"city": ("city", string())}),
            ("get_time", "Returns the current time.", {"city": ("city", string())}),
        ],
        result=time_result,
        en=dict(slots={"city": same(CITIES_EN)},
                ask=["what time is it in {city} [now|]", "time in {city}", "[what is|tell me] the time in {city}", "current time in {city}", "[local|] time in {city} [please|now]", "what is the [local|current] time in {city}", "{city} time", "the clock in {city}", "show me the time in {city}", "is it [late|early|morning|night] in {city}, what time", "hour in {city}", "{city}: what time", "my brother lives in {city}, what is the time there", "what does the clock say in {city}"],
                held=["could you tell me what time it is in {city}", "I call a friend in {city}, what time is it there", "which time do they have in {city}"]),
        ru=dict(slots={"city": CITIES_RU},
                ask=["[сколько времени|который час] [сейчас|] в {city}", "время в {city}", "[скажи|покажи|узнай] время в {city}", "какое [сейчас|] время в {city}", "текущее время в {city}", "местное время в {city}", "который час в {city}", "сколько на часах в {city}", "мой брат живёт в {city}, сколько там времени", "часы в {city}", "[утро|ночь|день] ли в {city}, сколько времени"],
                held=["скажи, который сейчас час в {city}", "сколько сейчас в {city} времени", "мне нужно время в {city}"])),
    "timer": dict(
        thought="a timer",
        variants=[
            ("set_timer", "Set a timer.", {"n": ("minutes", integer("Minutes"))}),
            ("set_timer", "Starts a timer.", {"n": ("minutes", integer())}),
            ("set_timer", "Start a countdown.", {"n": ("minutes", integer())}),
        ],
        result=timer_result,
        en=dict(slots={"n": same(MINUTES)},
                ask=["set a timer for {n} [minutes|min]", "[timer|a timer]: {n} minutes", "{n} minute timer", "start a [timer|countdown] for {n} minutes", "remind me in {n} minutes", "[wake|call] me in {n} minutes", "timer {n}", "[please|] set the timer to {n} minutes", "give me {n} minutes on the clock", "{n} minutes, start", "[run|make|begin] a timer of {n} min", "in {n} minutes ring the bell", "timer please, {n} minutes", "wait {n} minutes and tell me", "a {n} min [countdown|timer]"],
                held=["I need a timer of {n} minutes", "count down {n} minutes for me", "could you set a {n} minute timer"]),
        ru=dict(slots={"n": same(MINUTES)},
                ask=["[поставь|запусти|включи] таймер на {n} [минут|мин]", "таймер на {n} минут", "таймер {n}", "напомни через {n} минут", "разбуди [меня|] через {n} минут", "[засеки|отсчитай] {n} минут", "[поставь|нужен] таймер: {n} минут", "через {n} минут позвони", "{n} минут, старт", "время пошло: {n} минут", "отсчёт на {n} минут", "включи отсчёт, {n} минут", "подожди {n} минут и скажи"],
                held=["мне нужен таймер на {n} минут", "поставь мне таймер, {n} минут", "можешь запустить таймер на {n} минут"])),
    "add": dict(
        thought="a sum",
        variants=[
            ("add", "Add two numbers.", {"a": ("a", integer()), "b": ("b", integer())}),
            ("add", "Adds two numbers.", {"a": ("a", integer("First number")), "b": ("b", integer("Second number"))}),
            ("add", "Sum of two numbers.", {"a": ("a", integer()), "b": ("b", integer())}),
        ],
        result=add_result,
        en=dict(slots={"a": same(range(1, 21)), "b": same(range(1, 21))},
                ask=["add {a} and {b}", "[what is|how much is] {a} + {b}", "{a} plus {b}", "sum of {a} and {b}", "{a} + {b}", "[compute|calculate] {a} + {b}", "[compute|calculate] {a} plus {b}", "add {a} to {b}", "sum {a} {b}", "{a} and {b} together", "the total of {a} and {b}", "what do {a} and {b} make", "put {a} and {b} together", "there are {a} apples and {b} pears, how many in all", "{a} and {b}, add them", "numbers {a} and {b}: the sum", "give me {a} plus {b}", "find {a} plus {b}", "how much do {a} and {b} make", "take {a}, then add {b}", "the sum: {a} and {b}", "add up {a} and {b}", "result of {a} + {b}"],
                held=["what do I get if I add {a} and {b}", "please compute the sum of {a} and {b}", "I have {a} plus {b}, how much is it"]),
        ru=dict(slots={"a": same(range(1, 21)), "b": same(range(1, 21))},
                ask=["сложи {a} и {b}", "сколько будет {a} + {b}", "{a} плюс {b}", "сумма {a} и {b}", "[посчитай|вычисли] {a} + {b}", "[посчитай|вычисли] {a} плюс {b}", "прибавь {a} к {b}", "{a} + {b}", "{a} и {b} вместе", "всего {a} и {b}", "числа {a} и {b}: сумма", "итог {a} плюс {b}", "сложи числа {a} и {b}", "у меня {a} яблок и {b} груш, сколько всего", "чему равно {a} + {b}", "к {a} прибавь {b}", "сложение {a} и {b}", "возьми {a} и добавь {b}", "дай {a} плюс {b}", "складываем {a} и {b}"],
                held=["сколько будет, если сложить {a} и {b}", "посчитай, пожалуйста, сумму {a} и {b}", "найди сумму {a} и {b}"])),
    "translate": dict(
        thought="a translation",
        variants=[
            ("translate", "Translate a word.", {"word": ("text", string()), "to": ("language", string())}),
            ("translate", "Translates text.", {"word": ("text", string("Text")), "to": ("language", string("Target language"))}),
            ("translate", "Translate text to a language.", {"word": ("text", string()), "to": ("language", string())}),
        ],
        result=translate_result,
        en=dict(slots={"word": same(WORDS_EN), "to": same(LANGUAGES_EN)},
                ask=["translate {word} [to|into] {to}", "how do I say {word} in {to}", "what is {word} in {to}", "{word} in {to}", "the {to} word for {word}", "say {word} in {to}", "[please|] translate the word {word} [to|into] {to}", "how to say {word} in {to}", "{word}: {to} translation", "what does {word} mean in {to}", "tell me the {to} for {word}", "in {to}, what is {word}", "{to} translation of {word}", "give me {word} in {to}", "turn {word} into {to}", "the word {word}, [to|into] {to}", "translation of {word} into {to}", "into {to}: {word}", "I learn {to}, what is {word}", "say the word {word} the {to} way", "{word}, [put|write] it in {to}"],
                held=["what is the {to} word for {word}, please translate", "I need the word {word} in {to}", "could you translate {word} to {to} for me"]),
        ru=dict(slots={"word": same(WORDS_RU), "to": LANGUAGES_RU},
                ask=["переведи [слово|] {word} на {to}", "как будет {word} на {to}", "перевод [слова|] {word} на {to}", "{word} на {to}", "переведи на {to}: {word}", "как перевести {word} на {to}", "нужен перевод {word} на {to}", "слово {word}, на {to}", "на {to}: {word}", "{word}, перевод на {to}", "скажи {word} на {to}", "дай перевод на {to} для {word}", "хочу {word} на {to}", "учу {to}, как там {word}", "переведи [это|] слово на {to}: {word}", "слово {word} переведи на {to}", "напиши {word} на {to}"],
                held=["переведи мне, пожалуйста, {word} на {to}", "мне нужно слово {word} на {to}", "можешь перевести {word} на {to}"])),
    "music": dict(
        thought="music",
        variants=[
            ("play_music", "Play music.", {"genre": ("genre", string("Genre"))}),
            ("play_music", "Plays music of a genre.", {"genre": ("genre", string())}),
            ("play_music", "Start playing music.", {"genre": ("genre", string())}),
        ],
        result=music_result,
        en=dict(slots={"genre": same(GENRES_EN)},
                ask=["play [some|] {genre} [music|]", "[put|turn] on [some|] {genre} [music|]", "I want [to hear|to listen to] {genre}", "start {genre} music", "{genre} music please", "listen to {genre}", "let me hear {genre}", "music: {genre}", "time for {genre}", "play me a {genre} song", "a bit of {genre}", "{genre}, [loud|please]", "some {genre} would be nice", "[start|begin] to play {genre}", "we want to dance to {genre}", "is there {genre}, play it"],
                held=["could you play {genre} for me", "I would like some {genre} music", "I feel like listening to {genre}"]),
        ru=dict(slots={"genre": GENRES_RU},
                ask=["[включи|поставь|играй|запусти] {genre}", "хочу [послушать|услышать] {genre}", "музыка: {genre}", "[включи|поставь] музыку {genre}", "давай послушаем {genre}", "сыграй {genre}", "[включи|поставь] [мне|] {genre}", "{genre}, громче", "немного музыки: {genre}", "заведи {genre}", "пусть играет {genre}", "мне бы {genre}", "поставь песню, {genre}", "будем слушать {genre}"],
                held=["можешь включить {genre}", "я бы послушал {genre}", "поставь, пожалуйста, {genre}"])),
    "light": dict(
        thought="a light",
        variants=[
            ("set_light", "Switch a light.", {"room": ("room", string("Room")), "state": ("state", string(None, ["on", "off"]))}),
            ("set_light", "Turns a light on or off.", {"room": ("room", string()), "state": ("state", string(None, ["on", "off"]))}),
            ("set_light", "Switch the light in a room.", {"room": ("room", string()), "state": ("state", string())}),
        ],
        result=light_result,
        en=dict(slots={"room": same(ROOMS_EN), "state": same(["on", "off"])},
                ask=["[turn|switch] {state} the [light|lights] in the {room}", "[turn|switch] the {room} light {state}", "{room} light {state}", "light {state} in the {room}", "put the {room} light {state}", "[turn|switch] {state} the {room} [light|lights]", "lights {state}: {room}", "it is dark, light {state} in the {room}", "the {room} lamp {state}", "make the {room} light go {state}", "{room}: light {state}", "set the light in the {room} to {state}", "lamps {state} in the {room}", "I need the light {state} in the {room}", "[turn|switch] the light in the {room} {state}"],
                held=["could you switch {state} the light in the {room}", "I want the {room} light {state}", "please have the lights {state} in the {room}"]),
        ru=dict(slots={"room": ROOMS_RU, "state": [("включи", "on"), ("выключи", "off")]},
                ask=["{state} свет {room}", "{state} [лампу|освещение|лампы] {room}", "{room} {state} свет", "свет {room} {state}", "{state} [пожалуйста|] свет {room}", "{room}: {state} свет", "{state} там {room} лампу", "темно, {state} свет {room}", "{state} {room} [лампы|освещение]", "{state} весь свет {room}", "лампу {room} {state}"],
                held=["{state} мне свет {room}", "прошу, {state} {room} свет", "теперь {state} {room} лампу"])),
    "docs": dict(
        thought="a search in the docs",
        variants=[
            ("search_docs", "Search the documentation.", {"q": ("query", string("Search text"))}),
            ("search_docs", "Searches the docs.", {"q": ("query", string())}),
            ("search_docs", "Search the docs.", {"q": ("query", string())}),
        ],
        result=docs_result,
        en=dict(slots={"q": same(DOCS_EN)},
                ask=["search [the docs|the documentation|docs] for {q}", "find {q} in the [docs|documentation]", "look up {q} [in the docs|]", "search for {q}", "search: {q}", "look for {q} in the [docs|documentation]", "[docs|documentation] search {q}", "what do the docs say about {q}", "is {q} in the docs", "pages about {q}", "[check|open] the docs: {q}", "the docs on {q}", "docs: {q}", "find pages on {q}"],
                held=["could you search the docs for {q}", "please look in the documentation for {q}", "I want to find {q} in the docs"]),
        ru=dict(slots={"q": same(DOCS_RU)},
                ask=["[найди|ищи|поищи] в документации: {q}", "[найди|поищи] {q} в документации", "поиск [в документации|]: {q}", "[поищи|найди]: {q}", "поиск по документации: {q}", "что в документации про {q}", "страницы про {q}", "есть ли в документации {q}", "открой документацию: {q}", "документация: {q}", "проверь в документации {q}"],
                held=["посмотри в документации: {q}", "мне нужно найти в документации: {q}", "поищи, пожалуйста, {q} в документации"])),
    "status": dict(
        thought="the server status",
        variants=[
            ("get_server_status", "Get the server status.", {}),
            ("get_server_status", "Returns the status of the server.", {}),
            ("get_server_status", "Get the status.", {}),
        ],
        result=status_result,
        en=dict(slots={},
                ask=["[get|show|check|call] the server status", "what is the [server status|status of the server|status]", "server status [please|]", "status of the server", "check the status [of the server|]", "show [me|] the status", "use the status tool"],
                held=["please get me the status of the server", "I want to see the server status", "could you check the server status"]),
        ru=dict(slots={},
                ask=["[покажи|узнай|проверь|получи] статус сервера", "какой статус [сервера|у сервера]", "статус сервера", "[покажи|узнай|проверь] статус", "статус [пожалуйста|]"],
                held=["скажи мне статус сервера", "хочу увидеть статус сервера", "можешь проверить статус сервера"])),
}


def schema(variant):
    """A variant as an OpenAI function definition."""
    name, about, slots = variant
    properties = {argument: dict(form) for argument, form in slots.values()}
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"name": name, "description": about, "parameters": parameters}


def held_out_requests():
    """Every held-out request with every value."""
    out = []
    for tool in TOOLS.values():
        for form in (tool["en"], tool["ru"]):
            for values in itertools.product(*form["slots"].values()):
                for template in form["held"]:
                    for slot, (shown, _) in zip(form["slots"], values):
                        template = template.replace("{" + slot + "}", shown)
                    out.append(template)
    return out


def arguments(variant, values):
    """The call's arguments in the order of the declaration."""
    return {argument: values[slot] for slot, (argument, _) in variant[2].items()}
