/* bench.c - `llmd bench`: the options. What they do: bench_run.c. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/bench.h"
#include "cmd/chat_client.h"
#include "cmd/commands.h"
#include "core/util/clock.h"
#include "core/util/json.h"

static const char about[] =
    "Puts a server that speaks OpenAI's interface under load and measures it: any server at URL,\n"
    "which is http://127.0.0.1:8080 unless given.\n"
    "\n"
    "A closed loop (--concurrency) has so many clients, each with one request at a time. An open\n"
    "loop (--rate, --replay) sends requests when they are due, however slow the server is, which\n"
    "is what many independent users do. Prompts are random words, different in each request and\n"
    "each run unless --seed is given, so that a prefix cache finds only what the options share.";

static const char footer[] =
    "LENGTH is 128, or 64-256 (uniform), normal:MEAN,SD or lognormal:MEAN,SD, in tokens. Lengths "
    "of\n"
    "prompts are made right by two short requests that ask the server how many tokens our words\n"
    "are; the report counts what the server says it got.\n"
    "\n"
    "What is measured: TTFT, request due to first text. ITL, gap between two pieces of text, all\n"
    "gaps pooled. TPOT, (last - first piece) / (tokens - 1), per request. E2E, request due to end "
    "of\n"
    "answer. Only whole answers count. Goodput: requests per second that keep all bounds of --slo\n"
    "(itl: the longest gap of the request). Knee of a sweep: the level with the most power, "
    "output\n"
    "tokens per second by mean E2E.\n"
    "\n"
    "  llmd bench -c 32 -n 500 --prompt-tokens 512 --output-tokens lognormal:200,100\n"
    "  llmd bench --rate 8 --duration 60 --slo ttft:300ms,itl:60ms https://llm.example\n"
    "  llmd bench --sweep 1,2,4,8,16,32,64 --svg sweep.svg\n"
    "  llmd logs --all --json --last 1h > hour.jsonl; llmd bench --replay hour.jsonl --speed 10\n"
    "\n"
    "The variable LLMD_API_KEY holds the key unless --key or --key-file is given. Ctrl-C ends the\n"
    "run and prints what there is.\n"
    "Exit codes: 0 all answers came whole, 1 some failed or nothing could be run, 2 usage,\n"
    "130 interrupted.";

/* What the table of options fills in: the command runs once in a process. */
static struct bench bench = {
    .burst = 1,
    .timeout_s = 600,
    .speed = 1,
    .work = {.turns = 1, .temperature = NAN, .scale = {1, 0}},
};
/* Options that need more reading than a table can do. */
static struct {
    const char *endpoint, *arrivals, *prompt, *output, *ids, *slo, *sweep, *extra;
    uint32_t seed;
    bool no_stream, stop_at_eos;
} raw = {.endpoint = "chat", .arrivals = "poisson", .prompt = "256", .output = "128"};

static const struct arg_option options[] = {
    {NULL, 0, ARG_HEADING, NULL, "The server:", NULL, 0, 0},
    {"model", 'm', ARG_STRING, "NAME", "the model (default: the server's first)", &bench.model, 0,
     0},
    {"endpoint", 0, ARG_STRING, "WHICH", "chat (default) or completions", &raw.endpoint, 0, 0},
    {"key", 0, ARG_STRING, "KEY", "the key that the server wants; others see it in ps", &bench.key,
     0, 0},
    {"key-file", 0, ARG_STRING, "FILE", "file with the key", &bench.key_file, 0, 0},
    {"header", 'H', ARG_LIST, "LINE", "a further header, 'Name: value'", &bench.headers, 0, 0},
    {"cacert", 0, ARG_STRING, "FILE", "https: certificates to trust (default: the system's)",
     &bench.ca, 0, 0},
    {"insecure", 0, ARG_FLAG, NULL, "https: take any certificate", &bench.insecure, 0, 0},
    {NULL, 0, ARG_HEADING, NULL, "The load:", NULL, 0, 0},
    {"concurrency", 'c', ARG_UINT, "N",
     "closed loop: clients (default 8); open loop: most requests at once", &bench.concurrency, 1,
     65536},
    {"rate", 'r', ARG_NUMBER, "R", "open loop: requests per second", &bench.rate, 1e-3, 1e6},
    {"arrivals", 0, ARG_STRING, "HOW", "of --rate: poisson (default) or constant", &raw.arrivals, 0,
     0},
    {"burst", 0, ARG_UINT, "N", "of --rate: so many requests at each arrival", &bench.burst, 1,
     65536},
    {"requests", 'n', ARG_UINT, "N",
     "end after so many requests (default: 4 for each client, at least 32)", &bench.requests, 1,
     UINT32_MAX},
    {"duration", 'd', ARG_NUMBER, "S", "start no request after S seconds", &bench.duration_s, 0.01,
     1e6},
    {"warmup", 0, ARG_UINT, "N", "requests in front that are not measured", &bench.warmup, 0,
     UINT32_MAX},
    {"ramp", 0, ARG_NUMBER, "S", "clients start, or the rate grows, over the first S seconds",
     &bench.ramp_s, 0, 1e5},
    {"timeout", 0, ARG_NUMBER, "S", "of a request (default 600)", &bench.timeout_s, 0.001, 1e6},
    {"sweep", 0, ARG_STRING, "LIST", "one run for each concurrency, like 1,2,4,8", &raw.sweep, 0,
     0},
    {NULL, 0, ARG_HEADING, NULL, "The requests:", NULL, 0, 0},
    {"prompt-tokens", 'p', ARG_STRING, "LENGTH", "length of prompts (default 256)", &raw.prompt, 0,
     0},
    {"output-tokens", 'o', ARG_STRING, "LENGTH", "length of answers (default 128)", &raw.output, 0,
     0},
    {"prefix-groups", 0, ARG_UINT, "G", "each prompt begins as all of one of G groups do",
     &bench.work.prefix_groups, 1, 1 << 20},
    {"prefix-tokens", 0, ARG_UINT, "N", "how long: in front of the prompt's own tokens",
     &bench.work.prefix_tokens, 1, LENGTHS_MAX},
    {"turns", 0, ARG_UINT, "T", "conversations of T requests, which grow with the answers",
     &bench.work.turns, 1, 1000},
    {"token-ids", 0, ARG_STRING, "LOW-HIGH",
     "completions: prompts of these token ids, which are exact", &raw.ids, 0, 0},
    {"dataset", 0, ARG_STRING, "FILE",
     "prompts from JSON lines with prompt, messages or conversations (ShareGPT), max_tokens",
     &bench.dataset, 0, 0},
    {"replay", 0, ARG_STRING, "FILE",
     "arrivals, lengths and shared beginnings of a request log ('llmd logs --all --json' or --csv)",
     &bench.replay, 0, 0},
    {"speed", 0, ARG_NUMBER, "X", "replay X times as fast", &bench.speed, 1e-3, 1e6},
    {"no-stream", 0, ARG_FLAG, NULL, "ask for whole answers", &raw.no_stream, 0, 0},
    {"stop-at-eos", 0, ARG_FLAG, NULL,
     "let answers end early (default: ignore_eos, which some servers refuse)", &raw.stop_at_eos, 0,
     0},
    {"temperature", 't', ARG_NUMBER, "T", "0 to 2 (default: the server's)", &bench.work.temperature,
     0, 2},
    {"extra", 0, ARG_STRING, "JSON", "an object whose members each request gets too", &raw.extra, 0,
     0},
    {"seed", 0, ARG_UINT, "N", "the same requests again (default: from the clock)", &raw.seed, 1,
     UINT32_MAX},
    {NULL, 0, ARG_HEADING, NULL, "The report:", NULL, 0, 0},
    {"slo", 0, ARG_STRING, "LIST", "bounds for goodput: ttft:200ms,itl:50ms,tpot:40ms,e2e:5s",
     &raw.slo, 0, 0},
    {"json", 0, ARG_FLAG, NULL, "print JSON", &bench.json, 0, 0},
    {"csv", 0, ARG_FLAG, NULL, "print CSV, a line for each run", &bench.csv, 0, 0},
    {"svg", 0, ARG_STRING, "FILE", "write a chart too", &bench.svg, 0, 0},
    {"quiet", 'q', ARG_FLAG, NULL, "no progress on the terminal", &bench.quiet, 0, 0},
};

static const struct arg_spec spec = {
    .command = "llmd bench",
    .operands = "[URL]",
    .about = about,
    .options = options,
    .n_options = ARRAY_LEN(options),
    .max_operands = 1,
    .footer = footer,
};

static int parse_sweep(struct bench *b, const char *text)
{
    for (const char *p = text;; p++) {
        char *end;
        unsigned long v = strtoul(p, &end, 10);
        if (*p < '0' || *p > '9' || v < 1 || v > 65536 || b->n_levels == BENCH_MAX_LEVELS ||
            (*end && *end != ','))
            return -LLMD_EINVAL;
        b->levels[b->n_levels++] = (uint32_t)v;
        p = end;
        if (!*end)
            return 0;
    }
}

static int parse_ids(struct workload_opts *w, const char *text)
{
    char *end;
    unsigned long low = strtoul(text, &end, 10), high = 0;
    if (*text < '0' || *text > '9' || *end != '-' || end[1] < '0' || end[1] > '9')
        return -LLMD_EINVAL;
    high = strtoul(end + 1, &end, 10);
    if (*end || low > high || high > INT32_MAX)
        return -LLMD_EINVAL;
    w->token_ids = true;
    w->first_id = (uint32_t)low;
    w->last_id = (uint32_t)high;
    return 0;
}

/* "{...}" to its members. */
static int parse_extra(struct buf *out, const char *text, struct err *e)
{
    json_t *v = NULL;
    int rc = json_parse(text, strlen(text), &v, e);
    char *flat = json_is_object(v) ? json_dumps(v, JSON_COMPACT) : NULL;
    if (rc == 0 && !flat)
        rc = err_set(e, LLMD_EINVAL, "a JSON object is wanted, like {\"top_p\": 0.9}");
    if (rc == 0 && strlen(flat) > 2)
        buf_add(out, flat + 1, strlen(flat) - 2);
    free(flat);
    json_decref(v);
    return rc;
}

/* What is wrong with options that each are right; NULL: nothing. */
static const char *conflict(const struct bench *b)
{
    const struct workload_opts *w = &b->work;
    if (b->n_levels > 0 && (b->rate > 0 || b->replay))
        return "--sweep is for a closed loop: it goes with neither --rate nor --replay";
    if (b->replay && (b->rate > 0 || b->dataset))
        return "--replay has its own arrivals and prompts: it goes with neither --rate nor "
               "--dataset";
    if (b->dataset && (w->turns > 1 || w->prefix_groups > 0))
        return "--dataset has its own prompts: it goes with neither --turns nor --prefix-groups";
    if (b->replay && (w->turns > 1 || w->prefix_groups > 0))
        return "--replay has its own prompts: it goes with neither --turns nor --prefix-groups";
    if (w->token_ids && (!b->completions || w->turns > 1 || b->dataset))
        return "--token-ids is for --endpoint completions with made-up prompts of one turn";
    if ((w->prefix_groups > 0) != (w->prefix_tokens > 0))
        return "--prefix-groups and --prefix-tokens go together";
    if (b->replay && b->warmup > 0)
        return "--warmup has no place in front of a --replay";
    if (b->json && b->csv)
        return "--json and --csv exclude each other";
    if (b->rate == 0 && (b->constant || b->burst > 1))
        return "--arrivals and --burst say how requests come at a --rate";
    return NULL;
}

/* Reads what the table of options cannot check. -1: all is right. */
static int interpret(struct bench *b)
{
    struct err e = {0};
    b->completions = strcmp(raw.endpoint, "completions") == 0;
    if (!b->completions && strcmp(raw.endpoint, "chat") != 0)
        return args_usage_error(&spec, "option '--endpoint': '%s' is neither chat nor completions",
                                raw.endpoint);
    b->constant = strcmp(raw.arrivals, "constant") == 0;
    if (!b->constant && strcmp(raw.arrivals, "poisson") != 0)
        return args_usage_error(&spec, "option '--arrivals': '%s' is neither poisson nor constant",
                                raw.arrivals);
    if (lengths_parse(&b->work.prompt, raw.prompt, &e) != 0)
        return args_usage_error(&spec, "option '--prompt-tokens': %s", e.msg);
    if (lengths_parse(&b->work.output, raw.output, &e) != 0)
        return args_usage_error(&spec, "option '--output-tokens': %s", e.msg);
    if (raw.slo && slo_parse(&b->slo, raw.slo, &e) != 0)
        return args_usage_error(&spec, "option '--slo': %s", e.msg);
    if (raw.sweep && parse_sweep(b, raw.sweep) != 0)
        return args_usage_error(&spec,
                                "option '--sweep': '%s' is no list like 1,2,4,8 (at most %d)",
                                raw.sweep, BENCH_MAX_LEVELS);
    if (raw.ids && parse_ids(&b->work, raw.ids) != 0)
        return args_usage_error(&spec, "option '--token-ids': '%s' is no range like 1000-9999",
                                raw.ids);
    if (raw.extra && parse_extra(&b->extra, raw.extra, &e) != 0)
        return args_usage_error(&spec, "option '--extra': %s", e.msg);
    const char *why = conflict(b);
    if (why)
        return args_usage_error(&spec, "%s", why);
    b->work.chat = !b->completions;
    b->work.stream = !raw.no_stream;
    b->work.ignore_eos = !raw.stop_at_eos;
    b->work.extra = buf_str(&b->extra);
    b->work.seed = raw.seed ? raw.seed : (uint32_t)(clock_wall_us() / 1000);
    return -1;
}

static int parse(struct bench *b, int argc, char **argv)
{
    struct err e = {0};
    int first, rc = args_or_exit(&spec, argc, argv, &first);
    if (rc >= 0)
        return rc;
    if (chat_client_url(first < argc ? argv[first] : "http://127.0.0.1:8080", &b->url, &e) != 0)
        return args_usage_error(&spec, "%s", e.msg);
    return interpret(b);
}

int cmd_bench(int argc, char **argv)
{
    int rc = parse(&bench, argc, argv);
    if (rc < 0)
        rc = bench_run(&bench);
    buf_fini(&bench.url);
    buf_fini(&bench.extra);
    return rc;
}
