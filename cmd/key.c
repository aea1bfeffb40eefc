#include "cmd/key.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/args.h"

enum { MAX_KEY = 1024 };

/* Whether a key can stand in a header: printable ASCII without blanks. */
static bool is_valid(const char *key)
{
    const char *p = key;
    while (*p > ' ' && *p < 0x7f)
        p++;
    return p > key && *p == '\0';
}

int key_read(const char *command, const char *given, const char *file, struct buf *out)
{
    const char *from = given, *source = given ? "--key" : file;
    char line[MAX_KEY];
    if (!given && file) {
        FILE *f = fopen(file, "re");
        if (!f || !fgets(line, sizeof(line), f)) {
            fprintf(stderr, "%s: %s: %s\n", command, file, f ? "holds no key" : strerror(errno));
            if (f)
                fclose(f);
            return EXIT_FAILED;
        }
        const bool cut = !strchr(line, '\n') && fgetc(f) != EOF;
        fclose(f);
        if (cut) {
            fprintf(stderr, "%s: %s: its first line is longer than %d bytes: no key is\n", command,
                    file, MAX_KEY - 1);
            return EXIT_FAILED;
        }
        from = line;
    } else if (!given) {
        from = getenv("LLMD_API_KEY");
        source = "LLMD_API_KEY";
        if (!from || !from[0])
            return 0;
    }
    from += strspn(from, " \t");
    size_t n = strcspn(from, "\r\n");
    while (n > 0 && (from[n - 1] == ' ' || from[n - 1] == '\t'))
        n--;
    buf_add(out, from, n);
    if (is_valid(buf_str(out)))
        return 0;
    fprintf(stderr, "%s: %s holds no key\n", command, source);
    return EXIT_FAILED;
}
