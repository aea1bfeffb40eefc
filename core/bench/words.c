#include "core/bench/words.h"

#include <math.h>

#include "core/bench/rng.h"

static const char *const list[WORDS_N] = {
    "time",     "year",    "people",      "way",       "day",        "man",    "thing",   "woman",
    "life",     "child",   "world",       "school",    "state",      "family", "student", "group",
    "country",  "problem", "hand",        "part",      "place",      "case",   "week",    "company",
    "system",   "program", "question",    "work",      "government", "number", "night",   "point",
    "home",     "water",   "room",        "mother",    "area",       "money",  "story",   "fact",
    "month",    "lot",     "right",       "study",     "book",       "eye",    "job",     "word",
    "business", "issue",   "side",        "kind",      "head",       "house",  "service", "friend",
    "father",   "power",   "hour",        "game",      "line",       "end",    "member",  "law",
    "car",      "city",    "community",   "name",      "president",  "team",   "minute",  "idea",
    "kid",      "body",    "information", "back",      "parent",     "face",   "others",  "level",
    "office",   "door",    "health",      "person",    "art",        "war",    "history", "party",
    "result",   "change",  "morning",     "reason",    "research",   "girl",   "guy",     "moment",
    "air",      "teacher", "force",       "education", "foot",       "boy",    "age",     "policy",
    "music",    "market",  "food",        "sound",     "image",      "paper",  "table",   "road",
    "river",    "stone",   "field",       "street",    "tree",       "garden", "window",  "horse",
    "bird",     "fish",    "sun",         "moon",      "star",       "rain",   "snow",    "wind",
    "fire",     "land",    "sea",         "ship",      "plan",       "test",   "note",    "list",
    "page",     "letter",  "color",       "form",      "shape",      "size",   "price",   "cost",
    "value",    "rate",    "sign",        "step",      "path",       "wall",   "floor",   "glass",
    "wood",     "metal",   "gold",        "silver",    "iron",       "oil",    "salt",    "milk",
    "bread",    "meat",    "fruit",       "tea",       "wine",       "cup",    "box",     "bag",
    "bed",      "chair",   "key",         "lock",      "ring",       "clock",  "watch",   "phone",
    "radio",    "film",    "picture",     "camera",    "record",     "song",   "dance",   "voice",
    "sport",    "ball",    "race",        "score",     "goal",       "train",  "plane",   "boat",
    "bridge",   "station", "park",        "hill",      "lake",       "island", "beach",   "forest",
    "farm",     "village", "town",        "north",     "south",      "east",   "west",    "summer",
    "winter",   "spring",  "season",      "hot",       "cold",       "dark",   "light",   "high",
    "low",      "long",    "short",       "big",       "small",      "old",    "new",     "young",
    "good",     "bad",     "early",       "late",      "fast",       "slow",   "open",    "close",
    "hard",     "soft",    "full",        "empty",     "rich",       "poor",   "clean",   "dry",
    "green",    "blue",    "red",         "white",     "black",      "brown",  "first",   "last",
    "next",     "great",   "little",      "own",       "other",      "many",   "few",     "more",
};

uint32_t words_for(const struct word_scale *s, uint32_t tokens)
{
    double n = round((tokens - s->overhead_tokens) / s->tokens_per_word);
    return n < 1 ? 1 : (uint32_t)n;
}

static void add_word(struct buf *b, size_t start, const char *word)
{
    if (b->len > start)
        buf_addch(b, ' ');
    buf_addstr(b, word);
}

void words_add(struct buf *b, size_t start, uint64_t key, uint32_t from, uint32_t to)
{
    for (uint32_t k = from; k < to; k++)
        add_word(b, start, list[rng_hash(key, k) % WORDS_N]);
}

void words_add_list(struct buf *b, uint32_t n)
{
    size_t start = b->len;
    for (uint32_t k = 0; k < n && k < WORDS_N; k++)
        add_word(b, start, list[k]);
}

void words_add_ids(struct buf *b, size_t start, uint64_t key, uint32_t from, uint32_t to,
                   uint32_t low, uint32_t high)
{
    const uint64_t n = (uint64_t)high - low + 1;
    for (uint32_t k = from; k < to; k++)
        buf_addf(b, "%s%u", b->len > start ? "," : "", low + (uint32_t)(rng_hash(key, k) % n));
}
