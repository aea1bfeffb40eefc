#include "cmd/ask.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* False at the end of input. A line that is too long is cut. */
static bool read_line(char out[ANSWER_MAX])
{
    fflush(stdout);
    out[0] = '\0';
    if (!fgets(out, ANSWER_MAX, stdin)) {
        putchar('\n');
        return false;
    }
    for (int c; !strchr(out, '\n') && (c = getchar()) != EOF && c != '\n';)
        ;
    size_t from = 0, n = strlen(out);
    while (n > 0 && isspace((unsigned char)out[n - 1]))
        n--;
    while (from < n && isspace((unsigned char)out[from]))
        from++;
    memmove(out, out + from, n - from);
    out[n - from] = '\0';
    return true;
}

bool ask_text(const char *question, const char *standard, char out[ANSWER_MAX])
{
    do {
        printf("%s%s%s%s: ", question, standard ? " [" : "", standard ? standard : "",
               standard ? "]" : "");
        if (!read_line(out) && !standard)
            return false;
        if (!out[0] && standard)
            snprintf(out, ANSWER_MAX, "%s", standard);
    } while (!out[0]);
    return true;
}

bool ask_yes(const char *question, bool standard)
{
    char answer[ANSWER_MAX];
    do {
        printf("%s [%s]: ", question, standard ? "Y/n" : "y/N");
        if (!read_line(answer) || !answer[0])
            return standard;
    } while (!strchr("yYnN", answer[0]));
    return answer[0] == 'y' || answer[0] == 'Y';
}
