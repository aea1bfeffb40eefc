/* input.c - see input.h. */
#include "cmd/input.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/util/printable.h"

int input_read_all(size_t max_bytes, struct buf *out, struct err *e)
{
    size_t start = out->len;
    for (;;) {
        if (!buf_reserve(out, 65536))
            return err_set(e, LLMD_ENOMEM, "out of memory for standard input");
        ssize_t n = read(STDIN_FILENO, out->data + out->len, 65536);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(e, LLMD_EIO, "standard input: %s", strerror(errno));
        if (n == 0)
            return 0;
        out->len += (size_t)n;
        out->data[out->len] = '\0';
        if (out->len - start > max_bytes)
            return err_set(e, LLMD_ETOOBIG, "standard input holds more than %zu MiB",
                           max_bytes >> 20);
    }
}

bool output_text(const char *s, size_t n)
{
    struct buf clean = {0};
    if (isatty(STDOUT_FILENO)) {
        printable_add(&clean, s, n);
        if (clean.failed)
            return false;
        s = buf_str(&clean);
        n = clean.len;
    }
    bool written = fwrite(s, 1, n, stdout) == n;
    buf_fini(&clean);
    return written;
}
