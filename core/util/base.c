#include "core/util/base.h"

#include <execinfo.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void bug_die(const char *file, int line, const char *what)
{
    void *frames[32];
    fprintf(stderr, "llmd: BUG at %s:%d: %s\n", file, line, what);
    fflush(stderr);
    int n = backtrace(frames, (int)ARRAY_LEN(frames));
    backtrace_symbols_fd(frames, n, STDERR_FILENO);
    abort();
}
