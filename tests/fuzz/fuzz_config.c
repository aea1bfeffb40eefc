/* fuzz_config.c - any bytes as a configuration file: refused with lines that name file and line, or
 * accepted, and then what config_print writes is accepted again and prints the same. */
#include <stdlib.h>
#include <string.h>

#include "core/config/config_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_faults(const struct buf *faults, const struct err *e)
{
    static const char start[] = "fuzz.conf:";
    BUG_ON(faults->len == 0 || e->msg[0] == '\0');
    for (const char *p = buf_str(faults); *p; p = strchr(p, '\n') + 1)
        BUG_ON(strncmp(p, start, strlen(start)) != 0 || !strchr(p, '\n'));
}

static void check_round_trip(const struct config *c)
{
    struct buf text = {0}, again = {0};
    struct config *d = NULL;
    config_print(c, &text);
    if (c->n_keys == 0) { /* digests are printed shortened */
        BUG_ON(config_load_text("fuzz.conf", buf_str(&text), text.len, &d, NULL, NULL) != 0);
        config_print(d, &again);
        BUG_ON(strcmp(buf_str(&text), buf_str(&again)) != 0);
    }
    config_free(d);
    buf_fini(&again);
    buf_clear(&text);
    config_print_json(c, &text);
    buf_fini(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct config *c = NULL;
    struct buf faults = {0};
    struct err e = {0};
    char *text = malloc(n + 1);
    if (!text)
        return 0;
    if (n > 0)
        memcpy(text, data, n);
    text[n] = '\0';
    if (config_load_text("fuzz.conf", text, n, &c, &faults, &e) == 0)
        check_round_trip(c);
    else
        check_faults(&faults, &e);
    config_free(c);
    buf_fini(&faults);
    free(text);
    return 0;
}
