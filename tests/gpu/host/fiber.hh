/* fiber.hh - stacks that take turns on one OS thread.
 *
 * A fiber runs from its entry until it switches away, and goes on there when it is switched to.
 * Under AddressSanitizer every switch is announced. */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct fiber {
    void *sp; /* where it left off */
    uint8_t *stack;
    size_t stack_bytes;
};

/* Maps a stack with an inaccessible page below. Aborts when there is no memory. */
void fiber_new(struct fiber *f, size_t stack_bytes);
void fiber_free(struct fiber *f);
/* The next switch to f calls entry on an empty stack; entry never returns. */
void fiber_reset(struct fiber *f, void (*entry)());
/* From the running fiber to another; `from` may be the OS thread's own stack (all zero). */
void fiber_switch(struct fiber *from, struct fiber *to);
/* First call of an entry; `from` is who switched here. */
void fiber_entered(struct fiber *from);
/* The last switch of a fiber. */
void fiber_leave(struct fiber *from, struct fiber *to);
