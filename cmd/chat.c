/* chat.c - `llmd chat`: a terminal client for a running server.
 *
 * Answers go to standard output, everything else to standard error. Ctrl-C stops the answer that is
 * running: its connection is closed, and the server frees the sequence. What models write reaches
 * the terminal without control characters. */
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/args.h"
#include "cmd/chat_client.h"
#include "cmd/commands.h"
#include "cmd/key.h"
#include "core/util/http.h"
#include "core/util/printable.h"
#include "core/util/utf8.h"

enum { MAX_PROMPT = 16 << 20 };

struct chat {
    struct chat_client client;
    const char *url, *key_file, *system_option;
    bool no_stream, stats;
    struct buf base_url, key, model, system;
    json_t *messages; /* the conversation so far */
};

static volatile sig_atomic_t interrupted;

static void on_sigint(int sig)
{
    (void)sig;
    interrupted = 1;
}

/* Without SA_RESTART, so that a Ctrl-C ends a read of the terminal too. */
static void catch_signals(void)
{
    struct sigaction act = {.sa_handler = on_sigint};
    sigemptyset(&act.sa_mask);
    (void)sigaction(SIGINT, &act, NULL);
    act.sa_handler = SIG_IGN; /* a closed pipe is an error of fwrite */
    (void)sigaction(SIGPIPE, &act, NULL);
}

static bool is_cancelled(void *ctx)
{
    (void)ctx;
    return interrupted != 0;
}

static int print_text(void *ctx, const char *text, size_t n)
{
    struct buf clean = {0};
    (void)ctx;
    printable_add(&clean, text, n);
    size_t written = fwrite(buf_str(&clean), 1, clean.len, stdout);
    bool failed = clean.failed || written != clean.len || fflush(stdout) != 0;
    buf_fini(&clean);
    return failed ? -LLMD_EIO : 0;
}

/* ---- the conversation ---- */

/* Appends {role, content}; invalid UTF-8 is replaced. */
static void add_message(struct chat *c, const char *role, const char *text, size_t n)
{
    struct buf clean = {0};
    utf8_add_lossy(&clean, text, n);
    json_t *m = json_pack("{s:s, s:s%}", "role", role, "content", buf_str(&clean), clean.len);
    if (json_array_append_new(c->messages, m) != 0)
        fputs("llmd chat: out of memory; the conversation is incomplete\n", stderr);
    buf_fini(&clean);
}

static void start_over(struct chat *c)
{
    json_array_clear(c->messages);
    if (c->system.len > 0)
        add_message(c, "system", buf_str(&c->system), c->system.len);
}

static void print_stats(const struct chat_answer *a)
{
    uint64_t n = a->completion_tokens;
    double seconds = (double)(a->total_us - a->first_text_us) / 1e6;
    fprintf(stderr, "[%llu tokens", (unsigned long long)n);
    if (n > 1 && a->first_text_us > 0 && seconds > 0)
        fprintf(stderr, ", %.1f tok/s", (double)(n - 1) / seconds);
    if (a->first_text_us > 0)
        fprintf(stderr, ", first after %.0f ms", (double)a->first_text_us / 1e3);
    fprintf(stderr, ", %.2f s%s%s]\n", (double)a->total_us / 1e6, a->finish_reason[0] ? ", " : "",
            a->finish_reason);
}

/* Asks, prints the answer, keeps both in the conversation. Returns an exit code. */
static int ask(struct chat *c, const char *prompt, size_t n_prompt)
{
    struct chat_answer answer = {0};
    struct err e = {0};
    add_message(c, "user", prompt, n_prompt);
    int rc = chat_ask(&c->client, c->messages, &answer, &e);
    if (answer.text.len > 0)
        add_message(c, "assistant", buf_str(&answer.text), answer.text.len);
    else /* a question without an answer would confuse the next one */
        json_array_remove(c->messages, json_array_size(c->messages) - 1);
    if (answer.text.len > 0 && answer.text.data[answer.text.len - 1] != '\n')
        (void)!print_text(NULL, "\n", 1);
    if (rc == -LLMD_ECANCELLED)
        fputs("[stopped]\n", stderr);
    else if (rc != 0)
        fprintf(stderr, "llmd chat: %s\n", e.msg);
    else if (c->stats)
        print_stats(&answer);
    chat_answer_fini(&answer);
    return rc == 0 ? EXIT_SUCCESS : rc == -LLMD_ECANCELLED ? EXIT_INTERRUPTED : EXIT_FAILED;
}

/* ---- the terminal ---- */

static const char repl_help[] = "/reset          forget the conversation\n"
                                "/system TEXT    set the system message, start over\n"
                                "/exit           end (as Ctrl-D does)\n"
                                "Ctrl-C stops an answer. A line that ends with \\ goes on.\n";

/* A command of the terminal; false: end. */
static bool command(struct chat *c, const char *line)
{
    static const char set_system[] = "/system";
    size_t n = strlen(set_system);
    if (strcmp(line, "/exit") == 0 || strcmp(line, "/quit") == 0)
        return false;
    if (strcmp(line, "/reset") == 0) {
        start_over(c);
        fputs("[a new conversation]\n", stderr);
    } else if (strncmp(line, set_system, n) == 0 && (line[n] == ' ' || line[n] == '\0')) {
        buf_clear(&c->system);
        buf_addstr(&c->system, line + n + strspn(line + n, " "));
        start_over(c);
        fputs(c->system.len ? "[a new conversation]\n" : "[no system message]\n", stderr);
    } else
        fputs(repl_help, stderr);
    return true;
}

/* Shows sign and waits for a line; false: Ctrl-C came instead. SIGINT is let in only while ppoll
 * waits, so that none falls between the prompt and the read. (A terminal hands out one line per read:
 * stdin's buffer holds nothing here.) */
static bool wait_for_line(const char *sign)
{
    struct pollfd terminal = {.fd = STDIN_FILENO, .events = POLLIN};
    sigset_t block, before;
    sigemptyset(&block);
    sigaddset(&block, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &block, &before);
    interrupted = 0;
    fputs(sign, stderr);
    (void)ppoll(&terminal, 1, NULL, &before);
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    return !interrupted;
}

/* One prompt, over several lines when they end with a backslash. False at the end of input. */
static bool read_prompt(struct buf *out)
{
    char *line = NULL;
    size_t cap = 0;
    bool more = true, ended = false;
    buf_clear(out);
    for (const char *sign = "> "; more && !ended; sign = ". ") {
        ssize_t n = wait_for_line(sign) ? getline(&line, &cap, stdin) : -1;
        if (n < 0) {
            ended = !interrupted;
            clearerr(stdin);
            fputc('\n', stderr);
            buf_clear(out); /* Ctrl-C: the prompt is given up */
            break;
        }
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
            n--;
        more = n > 0 && line[n - 1] == '\\';
        buf_add(out, line, (size_t)n - (more ? 1 : 0));
        if (more)
            buf_addch(out, '\n');
    }
    free(line);
    return !ended;
}

static int repl(struct chat *c)
{
    struct buf prompt = {0};
    fprintf(stderr, "%s at %s. /help shows the commands, Ctrl-D ends.\n", c->client.model,
            c->client.url);
    while (read_prompt(&prompt)) {
        const char *text = buf_str(&prompt);
        if (text[strspn(text, " \t")] == '\0')
            continue;
        if (text[0] == '/') {
            if (!command(c, text))
                break;
        } else
            (void)ask(c, text, prompt.len);
    }
    buf_fini(&prompt);
    return EXIT_SUCCESS;
}

/* ---- start ---- */

/* The prompt on the command line, else all of standard input. */
static int read_single(int argc, char **argv, int first, struct buf *out)
{
    out->max_len = MAX_PROMPT;
    for (int i = first; i < argc; i++) {
        buf_addstr(out, i > first ? " " : "");
        buf_addstr(out, argv[i]);
    }
    while (first == argc && buf_reserve(out, BUFSIZ)) {
        size_t n = fread(out->data + out->len, 1, BUFSIZ, stdin);
        out->len += n;
        out->data[out->len] = '\0';
        if (n == 0)
            break;
    }
    while (out->len > 0 && out->data[out->len - 1] == '\n')
        buf_truncate(out, out->len - 1);
    if (!out->failed && out->len > 0 && !ferror(stdin))
        return 0;
    fprintf(stderr, "llmd chat: %s\n",
            out->failed     ? "the prompt is too long"
            : ferror(stdin) ? "standard input cannot be read"
                            : "the prompt is empty");
    return EXIT_FAILED;
}

/* --model, else the first that the server has. */
static int choose_model(struct chat *c)
{
    struct err e = {0};
    if (c->client.model)
        return 0;
    int rc = chat_models(&c->client, &c->model, &e);
    if (rc == 0 && c->model.len == 0)
        rc = err_set(&e, LLMD_ENOTFOUND, "%s: the server has no model", c->client.url);
    if (rc != 0) {
        fprintf(stderr, "llmd chat: %s\n", e.msg);
        return rc == -LLMD_ECANCELLED ? EXIT_INTERRUPTED : EXIT_FAILED;
    }
    buf_truncate(&c->model, strcspn(buf_str(&c->model), "\n"));
    c->client.model = buf_str(&c->model);
    return 0;
}

static int run(struct chat *c, int argc, char **argv, int first)
{
    struct buf prompt = {0};
    bool terminal = first == argc && isatty(STDIN_FILENO);
    int rc = terminal ? 0 : read_single(argc, argv, first, &prompt);
    if (rc == 0)
        rc = key_read("llmd chat", NULL, c->key_file, &c->key);
    if (rc == 0 && c->key.len > 0)
        c->client.key = buf_str(&c->key);
    catch_signals();
    if (rc == 0)
        rc = choose_model(c);
    if (rc == 0) {
        start_over(c);
        rc = terminal ? repl(c) : ask(c, buf_str(&prompt), prompt.len);
    }
    buf_fini(&prompt);
    return rc;
}

static int parse(struct chat *c, int argc, char **argv, int *out_first)
{
    struct chat_client *client = &c->client;
    const struct arg_option options[] = {
        {"url", 0, ARG_STRING, "URL", "the server (default http://127.0.0.1:8080)", &c->url, 0, 0},
        {"model", 'm', ARG_STRING, "NAME", "the model (default: the server's first)",
         &client->model, 0, 0},
        {"key-file", 0, ARG_STRING, "FILE",
         "file with the key that the server wants (default: the variable LLMD_API_KEY)",
         &c->key_file, 0, 0},
        {"system", 's', ARG_STRING, "TEXT", "system message", &c->system_option, 0, 0},
        {"temperature", 't', ARG_NUMBER, "T", "0 to 2; 0 takes the likeliest token each time",
         &client->temperature, 0, 2},
        {"max-tokens", 'n', ARG_UINT, "N", "most tokens of an answer", &client->max_tokens, 1,
         UINT32_MAX},
        {"no-stream", 0, ARG_FLAG, NULL, "ask for the whole answer at once", &c->no_stream, 0, 0},
        {"stats", 0, ARG_FLAG, NULL, "show tokens and times behind each answer", &c->stats, 0, 0},
    };
    const struct arg_spec spec = {
        .command = "llmd chat",
        .operands = "[PROMPT]...",
        .about = "Talks to a running server. With PROMPT, or with text on standard input, one\n"
                 "answer is printed; in a terminal without PROMPT, a conversation begins.",
        .options = options,
        .n_options = ARRAY_LEN(options),
        .max_operands = -1,
        .footer = "Ctrl-C stops an answer.\n"
                  "Exit codes: 0 answered, 1 failed, 2 usage, 130 interrupted.",
    };
    struct err e = {0};
    int rc = args_or_exit(&spec, argc, argv, out_first);
    if (rc >= 0)
        return rc;
    if (chat_client_url(c->url, &c->base_url, &e) != 0)
        return args_usage_error(&spec, "option '--url': %s", e.msg);
    if (client->model && !utf8_valid(client->model, strlen(client->model)))
        return args_usage_error(&spec, "option '--model': the name is not UTF-8");
    client->url = buf_str(&c->base_url);
    client->stream = !c->no_stream;
    if (c->system_option)
        buf_addstr(&c->system, c->system_option);
    return -1;
}

int cmd_chat(int argc, char **argv)
{
    struct chat c = {
        .client = {.temperature = NAN, .cancelled = is_cancelled, .on_text = print_text},
        .url = "http://127.0.0.1:8080",
        .messages = json_array(),
    };
    struct err e = {0};
    int first, rc = parse(&c, argc, argv, &first);
    if (rc < 0 && (!c.messages || http_global_init(&e) != 0)) {
        fprintf(stderr, "llmd chat: %s\n", e.code ? e.msg : "out of memory");
        rc = EXIT_FAILED;
    }
    if (rc < 0)
        rc = run(&c, argc, argv, first);
    json_decref(c.messages);
    buf_fini(&c.base_url);
    buf_fini(&c.key);
    buf_fini(&c.model);
    buf_fini(&c.system);
    return rc;
}
