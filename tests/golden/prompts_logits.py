"""The 32 prompts of gen_logits.py: (label, text). Labels have at most 15 characters."""

SYSTEM = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n"
)


def chat(*turns):
    """User and assistant turns in alternation, ending where the assistant answers."""
    out = SYSTEM
    for i, text in enumerate(turns):
        role = "assistant" if i % 2 else "user"
        out += f"<|im_start|>{role}\n{text}<|im_end|>\n"
    return out + "<|im_start|>assistant\n"


HARBOUR = """The harbour wakes before the town does. At half past four the ice machine starts, a dull
rattle behind the cold store, and the first of the boats comes round the mole with its deck lights
still burning. Nobody speaks much. Crates are swung up, hosed down, weighed and tagged, and the
figures go onto a board that has hung in the same place since the fire of 1961. By six the buyers
have come: two from the city, one from the canning works, and an old woman who has bought a single
box of whiting every morning for thirty years and has never once said what she does with it.

The scales are the harbour's only court. They were checked by an inspector each spring until the
office was closed, and since then the fishermen check them against a set of brass weights kept in
the chandler's safe. A dispute was settled there last winter. A skipper swore that his catch had
been read forty kilos light; the weights were fetched, the pan was levelled, and the scale was found
to be right to within the weight of a coin. He paid for the coffee.

What changes is the water. Old men show the line on the slipway where the spring tide used to reach,
and then the line, a hand's breadth higher, where it reaches now. The lower steps are slippery all
year. Insurance for the cold store has doubled. The council has had plans drawn for a wall, and the
plans hang in the library, where the light from the window has bleached the sea to a pale yellow.
"""

QUEUE_C = """#include <stdbool.h>
#include <stdlib.h>

struct queue {
    int *items;
    size_t head, tail, cap;
};

bool queue_init(struct queue *q, size_t cap)
{
    q->items = calloc(cap, sizeof(*q->items));
    q->head = q->tail = 0;
    q->cap = cap;
    return q->items != NULL;
}

bool queue_push(struct queue *q, int value)
{
    size_t next = (q->tail + 1) % q->cap;
    if (next == q->head)
        return false;
    q->items[q->tail] = value;
    q->tail = next;
    return true;
}

bool queue_pop(struct queue *q, int *out)
{
"""


def readings(n):
    """A table whose figures follow a simple rule."""
    rows = [f"{i:3d} | {i * i % 97:2d} | {i * 37 % 101:3d} | {i * 0.125:.3f}" for i in range(n)]
    return "  n | a  |  b  |  c\n" + "\n".join(rows) + "\n"


def inventory(n):
    rows = [
        f'  {{"id": {1000 + i}, "name": "part-{chr(97 + i % 26)}{i}", "stock": {i * 13 % 50}}}'
        for i in range(n)
    ]
    return "[\n" + ",\n".join(rows) + ",\n"


PROMPTS = [
    ("paris", chat("What is the capital of France? Answer in one sentence.")),
    ("gravity", chat("Explain gravity to a six year old in two sentences.")),
    ("list", chat("Name five fruits and give the colour of each.")),
    (
        "turns",
        chat(
            "My name is Ana and I keep bees.",
            "Nice to meet you, Ana! How many hives do you have?",
            "Seven. What should I check in spring?",
        ),
    ),
    ("chat-code", chat("Write a Python function that returns the n-th Fibonacci number.")),
    ("chat-sum", chat("What is 17 + 25? Show your steps.")),
    (
        "chat-long",
        chat("Read this text. What starts at half past four?\n\n" + HARBOUR),
    ),
    ("chat-haiku", chat("Write a short poem about rain on a tin roof.")),
    ("fox", "The quick brown fox jumps over"),
    ("once", "Once upon a time there was a clockmaker who could not tell the time."),
    ("water", "Water boils at 100 degrees Celsius at sea level because"),
    ("history", "The French Revolution began in 1789. Among its causes were"),
    ("recipe", "Ingredients:\n- 200 g flour\n- 3 eggs\n- 400 ml milk\n\nMethod:\n1."),
    ("letter", "Dear Mr. Holloway,\n\nThank you for your letter of 14 March. I regret to"),
    ("harbour", HARBOUR),
    ("harbour-half", HARBOUR[: len(HARBOUR) // 2]),
    ("c-queue", QUEUE_C),
    ("python", "def is_prime(n):\n    if n < 2:\n        return False\n    for"),
    ("html", '<!DOCTYPE html>\n<html lang="en">\n<head>\n    <meta charset="utf-8">\n'),
    ("sql", "SELECT customer_id, COUNT(*) AS orders\nFROM orders\nWHERE"),
    ("json", inventory(18)),
    ("shell", "#!/bin/sh\nset -eu\nfor f in *.txt; do\n"),
    ("table", readings(17)),
    ("digits", "3.14159265358979323846264338327950288419716939937510"),
    ("sequence", "1, 1, 2, 3, 5, 8, 13, 21, 34,"),
    ("arithmetic", "12 + 30 = 42\n15 + 21 = 36\n44 + 13 = 57\n28 + 31 ="),
    ("french", "La mer était calme ce matin-là, et les pêcheurs"),
    ("german", "Die Donaudampfschifffahrt war früher ein wichtiger Verkehrsweg, weil"),
    ("spanish", "¿Cuál es el río más largo del mundo? El río"),
    ("russian", "Привет! Сегодня хорошая погода, поэтому"),
    ("japanese", "東京は日本の首都であり、世界で最も人口の多い都市の一つです。"),
    ("emoji", "Weather today: ☀️ 24°C → tomorrow: 🌧️ 17°C → Friday:"),
]
