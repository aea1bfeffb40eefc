/* test_lock.c - exclusion, time-outs, and that a wrong order of locks is caught at once. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/util/clock.h"
#include "core/util/lock.h"

enum { N_THREADS = 4, N_ROUNDS = 20000 };

static struct lock counter_lock;
static uint64_t counter;

static void *count(void *arg)
{
    (void)arg;
    for (int i = 0; i < N_ROUNDS; i++) {
        lock_take(&counter_lock);
        counter++;
        lock_drop(&counter_lock);
    }
    return NULL;
}

static void test_excludes(void **state)
{
    pthread_t t[N_THREADS];
    (void)state;
    lock_init(&counter_lock, LOCK_RANK_LEAF);
    for (int i = 0; i < N_THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, count, NULL), 0);
    for (int i = 0; i < N_THREADS; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(counter, N_THREADS * N_ROUNDS);
    lock_fini(&counter_lock);
}

struct turns {
    struct lock lock;
    pthread_cond_t changed;
    int turn; /* 0 or 1: whose it is; -1: over */
    int n;
};

static void *take_turns(void *arg)
{
    struct turns *t = arg;
    lock_take(&t->lock);
    while (t->turn >= 0) {
        if (t->turn == 0) {
            lock_wait(&t->lock, &t->changed, UINT64_MAX);
            continue;
        }
        t->n++;
        t->turn = 0;
        pthread_cond_broadcast(&t->changed);
    }
    lock_drop(&t->lock);
    return NULL;
}

static void test_wakes(void **state)
{
    struct turns t = {.turn = 0};
    pthread_t other;
    (void)state;
    lock_init(&t.lock, LOCK_RANK_INBOX);
    lock_cond_init(&t.changed);
    assert_int_equal(pthread_create(&other, NULL, take_turns, &t), 0);
    lock_take(&t.lock);
    for (int i = 0; i < 2000; i++) {
        t.turn = 1;
        pthread_cond_broadcast(&t.changed);
        while (t.turn == 1)
            lock_wait(&t.lock, &t.changed, clock_now_us() + 10000000);
        assert_int_equal(t.n, i + 1);
    }
    t.turn = -1;
    pthread_cond_broadcast(&t.changed);
    lock_drop(&t.lock);
    pthread_join(other, NULL);
    pthread_cond_destroy(&t.changed);
    lock_fini(&t.lock);
}

/* The clock is the monotonic one, in microseconds. */
static void test_times_out(void **state)
{
    struct lock l;
    pthread_cond_t c;
    (void)state;
    lock_init(&l, LOCK_RANK_INBOX);
    lock_cond_init(&c);
    lock_take(&l);
    uint64_t start = clock_now_us();
    while (lock_wait(&l, &c, start + 30000))
        ;
    uint64_t took = clock_now_us() - start;
    assert_true(took >= 30000 && took < 15000000);
    assert_false(lock_wait(&l, &c, 0)); /* long past */
    lock_drop(&l);
    pthread_cond_destroy(&c);
    lock_fini(&l);
}

/* --- misuse ends the process: tried in a child --- */

static void misuse(int how)
{
    struct lock router, inbox, other;
    pthread_cond_t c;
    lock_init(&router, LOCK_RANK_ROUTER);
    lock_init(&inbox, LOCK_RANK_INBOX);
    lock_init(&other, LOCK_RANK_INBOX);
    lock_cond_init(&c);
    switch (how) {
    case 0: /* fine: ascending, dropped in any order, taken again */
        lock_take(&router);
        lock_take(&inbox);
        lock_drop(&router);
        lock_drop(&inbox);
        lock_take(&router);
        lock_take(&other);
        lock_drop(&other);
        lock_drop(&router);
        break;
    case 1: /* descending */
        lock_take(&inbox);
        lock_take(&router);
        break;
    case 2: /* two of one rank */
        lock_take(&inbox);
        lock_take(&other);
        break;
    case 3: /* twice */
        lock_take(&inbox);
        lock_take(&inbox);
        break;
    case 4: /* dropped without being held */
        lock_drop(&inbox);
        break;
    case 5: /* waits with a second lock held */
        lock_take(&router);
        lock_take(&inbox);
        lock_wait(&inbox, &c, 0);
        break;
    default: /* waits without the lock */
        lock_wait(&inbox, &c, 0);
        break;
    }
}

static void test_order(void **state)
{
    (void)state;
    for (int how = 0; how <= 6; how++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
            signal(SIGABRT, SIG_DFL);
            dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
            alarm(20); /* a lock that is not checked would hang */
            misuse(how);
            _exit(0);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (how == 0)
            assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        else if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT)
            fail_msg("misuse %d: status %#x, not an abort", how, (unsigned)status);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order), /* first: it forks, and there is one thread yet */
        cmocka_unit_test(test_excludes),
        cmocka_unit_test(test_wakes),
        cmocka_unit_test(test_times_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
