/* auth_timing.c - whether the time of looking a key up tells how much of it was right.
 *
 *   build/bench/auth_timing [TRIES]      (100,000 of each sort)
 *
 * auth_find() gets keys that are wrong in their first letter, and keys that are right up to their last
 * one, in an order drawn anew each time; Welch's t-test over the two sorts of times, whole and without
 * the slowest tenth (interrupts). |t| > 4.5 would be evidence of a difference (the threshold of dudect,
 * Reparaz et al., DATE 2017). For control, the same with a comparison that stops at the first wrong
 * letter: there it must be found. Last line: t=R control=R */
#include <math.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/edge/auth.h"

enum { N_KEYS = 20, TRIES = 100000, BATCH = 8 };

static const char right[] = "Bearer llmd_sk_y7DdQvRos7IcyrqJItfEwpR4gT5RzJl2mIkByOJEGir";
static struct edge_key keys[N_KEYS];
static volatile uintptr_t sink;

struct times {
    double *ns;
    size_t n;
};

static void make_keys(void)
{
    char secret[32];
    for (int i = 0; i < N_KEYS; i++) {
        snprintf(secret, sizeof(secret), "another-%d", i);
        SHA256((const unsigned char *)secret, strlen(secret), keys[i].sha256);
    }
    SHA256((const unsigned char *)right + 7, strlen(right) - 7, keys[0].sha256);
}

static void look_up(const char *value)
{
    sink += (uintptr_t)auth_find(keys, N_KEYS, value);
}

/* What must not be done. */
static void stop_early(const char *value)
{
    size_t i = 0;
    while (value[i] && value[i] == right[i])
        sink += i++;
}

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void moments(const struct times *t, double limit, double *mean, double *variance, double *n)
{
    double sum = 0, squares = 0;
    *n = 0;
    for (size_t i = 0; i < t->n; i++)
        if (t->ns[i] <= limit) {
            (*n)++;
            sum += t->ns[i];
        }
    *mean = sum / *n;
    for (size_t i = 0; i < t->n; i++)
        if (t->ns[i] <= limit)
            squares += (t->ns[i] - *mean) * (t->ns[i] - *mean);
    *variance = squares / (*n - 1);
}

/* Welch's t of the times up to the limit. */
static double welch(const struct times t[2], double limit, double *difference_ns)
{
    double mean[2], variance[2], n[2];
    for (int i = 0; i < 2; i++)
        moments(&t[i], limit, &mean[i], &variance[i], &n[i]);
    *difference_ns = mean[1] - mean[0];
    return *difference_ns / sqrt(variance[0] / n[0] + variance[1] / n[1]);
}

/* The larger |t| of whole and cropped. */
static double measure(const char *what, void (*call)(const char *), size_t tries)
{
    char sorts[2][sizeof(right)];
    struct times t[2] = {{.ns = malloc(tries * sizeof(double))},
                         {.ns = malloc(tries * sizeof(double))}};
    double *all = malloc(2 * tries * sizeof(double)), worst = 0;
    if (!t[0].ns || !t[1].ns || !all)
        exit(1);
    memcpy(sorts[0], right, sizeof(right));
    memcpy(sorts[1], right, sizeof(right));
    sorts[0][7] ^= 1;
    sorts[1][sizeof(right) - 2] ^= 1;
    while (t[0].n < tries || t[1].n < tries) {
        const int sort = t[0].n == tries || (t[1].n < tries && (rand() & 1)) ? 1 : 0;
        char value[sizeof(right)]; /* both from the same place */
        memcpy(value, sorts[sort], sizeof(value));
        const double from = now_ns();
        for (int i = 0; i < BATCH; i++)
            call(value);
        t[sort].ns[t[sort].n++] = (now_ns() - from) / BATCH;
    }
    memcpy(all, t[0].ns, tries * sizeof(double));
    memcpy(all + tries, t[1].ns, tries * sizeof(double));
    qsort(all, 2 * tries, sizeof(double), compare);
    const double limits[] = {INFINITY, all[2 * tries * 9 / 10]};
    for (size_t i = 0; i < 2; i++) {
        double ns;
        const double score = welch(t, limits[i], &ns);
        printf("%-12s %-22s median %7.1f ns   difference of means %+8.3f ns   t %+7.2f\n", what,
               i ? "without slowest tenth" : "all", all[tries], ns, score);
        worst = fmax(worst, fabs(score));
    }
    free(t[0].ns);
    free(t[1].ns);
    free(all);
    return worst;
}

int main(int argc, char **argv)
{
    const size_t tries = argc > 1 ? strtoul(argv[1], NULL, 10) : TRIES;
    make_keys();
    measure("(warm up)", look_up, tries / 10 + 2);
    const double t = measure("auth_find", look_up, tries);
    const double control = measure("stop early", stop_early, tries);
    printf("t=%.2f control=%.2f\n", t, control);
    return t < 4.5 && control > 4.5 ? 0 : 1;
}
