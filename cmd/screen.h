/* screen.h - the terminal as a page that is painted again and again: no curses, ECMA-48 alone.
 *
 * Between screen_open and screen_close the alternate screen is shown, without a cursor, and keys come as
 * they are pressed. What ends or stops the process (SIGINT, SIGTERM, SIGHUP, SIGTSTP) comes as a key, so
 * that the terminal is as it was before in any case.
 *
 * Thread  one; one screen per process. */
#pragma once
#include "core/util/base.h"
#include "core/util/buf.h"

enum screen_key {
    KEY_NONE, /* time is over */
    KEY_END,  /* a signal, or standard input ended */
    KEY_SIZE, /* another size: paint anew */
    KEY_UP,
    KEY_DOWN,
    KEY_PAGE_UP,
    KEY_PAGE_DOWN,
    KEY_OTHER, /* screen_wait's *out_char */
};

/* False: standard input or output is no terminal. */
bool screen_open(void);
void screen_close(void);
/* Columns and rows; 80 and 24 where the terminal does not say. */
void screen_size(uint32_t *out_columns, uint32_t *out_rows);
/* Shows the lines of the page, as many as there is room for; false when they cannot be written. */
bool screen_paint(const struct buf *page);
/* Waits for a key, for at most so long. */
enum screen_key screen_wait(uint32_t timeout_ms, char *out_char);
