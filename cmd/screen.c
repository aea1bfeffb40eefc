#include "cmd/screen.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

/* Alternate screen, no cursor, lines that are too long are cut rather than wrapped; and back. */
static const char enter[] = "\033[?1049h\033[?25l\033[?7l",
                  leave[] = "\033[?7h\033[?25h\033[?1049l";

static struct termios before;
static volatile sig_atomic_t ended, stopped, resized;

static void on_signal(int signal)
{
    if (signal == SIGWINCH || signal == SIGCONT)
        resized = 1;
    else if (signal == SIGTSTP)
        stopped = 1;
    else
        ended = 1;
}

static bool put(const char *bytes, size_t n)
{
    while (n > 0) {
        const ssize_t k = write(STDOUT_FILENO, bytes, n);
        if (k < 0 && errno != EINTR)
            return false;
        bytes += k > 0 ? k : 0;
        n -= k > 0 ? (size_t)k : 0;
    }
    return true;
}

static void set_up(void)
{
    struct termios raw = before;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw);
    (void)put(enter, sizeof(enter) - 1);
}

bool screen_open(void)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGCONT, SIGWINCH};
    const struct sigaction action = {.sa_handler = on_signal}; /* without SA_RESTART: poll ends */
    if (!isatty(STDOUT_FILENO) || tcgetattr(STDIN_FILENO, &before) != 0)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(signals); i++)
        (void)sigaction(signals[i], &action, NULL);
    set_up();
    return true;
}

void screen_close(void)
{
    (void)put(leave, sizeof(leave) - 1);
    (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
}

/* Gives the terminal back, stops, and goes on when the shell says so. */
static void stop(void)
{
    stopped = 0;
    screen_close();
    (void)raise(SIGSTOP);
    set_up();
    resized = 1;
}

void screen_size(uint32_t *out_columns, uint32_t *out_rows)
{
    struct winsize w;
    const bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0;
    *out_columns = known && w.ws_col > 0 ? w.ws_col : 80;
    *out_rows = known && w.ws_row > 0 ? w.ws_row : 24;
}

bool screen_paint(const struct buf *page)
{
    uint32_t columns, rows, n = 0;
    struct buf out = {0};
    screen_size(&columns, &rows);
    buf_addstr(&out, "\033[H");
    for (const char *at = buf_str(page), *end; *at && n < rows; at = end + (*end == '\n'), n++) {
        end = at + strcspn(at, "\n");
        buf_addstr(&out, n > 0 ? "\n" : "");
        buf_add(&out, at, (size_t)(end - at));
        buf_addstr(&out, "\033[0m\033[K");
    }
    buf_addstr(&out, n < rows ? "\n\033[J" : "");
    const bool done = !out.failed && put(out.data, out.len);
    buf_fini(&out);
    return done;
}

/* What follows ESC: "[A" and the like; others are passed over. */
static enum screen_key read_escape(void)
{
    static const struct {
        const char *bytes;
        enum screen_key key;
    } known[] = {{"[A", KEY_UP},   {"[B", KEY_DOWN},     {"OA", KEY_UP},
                 {"OB", KEY_DOWN}, {"[5~", KEY_PAGE_UP}, {"[6~", KEY_PAGE_DOWN}};
    enum { PATIENCE_MS = 20 };
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    char bytes[8] = "";
    size_t n = 0;
    while (n + 1 < sizeof(bytes) && poll(&p, 1, PATIENCE_MS) > 0 &&
           read(STDIN_FILENO, bytes + n, 1) == 1) {
        n++;
        for (size_t i = 0; i < ARRAY_LEN(known); i++)
            if (strcmp(bytes, known[i].bytes) == 0)
                return known[i].key;
    }
    return KEY_SIZE;
}

enum screen_key screen_wait(uint32_t timeout_ms, char *out_char)
{
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    const int n = ended || stopped || resized ? -1 : poll(&p, 1, (int)timeout_ms);
    if (ended)
        return KEY_END;
    if (stopped)
        stop();
    if (resized) {
        resized = 0;
        return KEY_SIZE;
    }
    if (n <= 0)
        return KEY_NONE;
    if (read(STDIN_FILENO, out_char, 1) != 1)
        return KEY_END;
    return *out_char == '\033' ? read_escape() : KEY_OTHER;
}
