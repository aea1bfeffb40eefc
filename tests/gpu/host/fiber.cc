#include "tests/gpu/host/fiber.hh"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#ifdef __x86_64__
/* Callee-saved registers onto the stack, stack pointer to *rdi, then the same backwards from rsi. */
extern "C" void stand_in_switch(void **save_sp, void *sp);
__asm__(".text\n"
        ".globl stand_in_switch\n"
        ".type stand_in_switch, @function\n"
        "stand_in_switch:\n"
        "    push %rbp\n"
        "    push %rbx\n"
        "    push %r12\n"
        "    push %r13\n"
        "    push %r14\n"
        "    push %r15\n"
        "    mov %rsp, (%rdi)\n"
        "    mov %rsi, %rsp\n"
        "    pop %r15\n"
        "    pop %r14\n"
        "    pop %r13\n"
        "    pop %r12\n"
        "    pop %rbx\n"
        "    pop %rbp\n"
        "    ret\n"
        ".size stand_in_switch, . - stand_in_switch\n");

static void *fresh_stack(const struct fiber *f, void (*entry)())
{
    enum { SAVED = 6 };
    void **sp = reinterpret_cast<void **>(f->stack + f->stack_bytes);
    *--sp = nullptr; /* where entry would return to; keeps the stack aligned for a call */
    *--sp = reinterpret_cast<void *>(entry);
    for (int i = 0; i < SAVED; i++)
        *--sp = nullptr;
    return sp;
}
#else
#include <ucontext.h>

static void stand_in_switch(void **save_sp, void *sp)
{
    ucontext_t here;
    *save_sp = &here;
    swapcontext(&here, static_cast<ucontext_t *>(sp));
}

static void *fresh_stack(const struct fiber *f, void (*entry)())
{
    ucontext_t *c = reinterpret_cast<ucontext_t *>(f->stack);
    getcontext(c);
    c->uc_stack.ss_sp = f->stack + sizeof(*c);
    c->uc_stack.ss_size = f->stack_bytes - sizeof(*c);
    c->uc_link = nullptr;
    makecontext(c, entry, 0);
    return c;
}
#endif

void fiber_new(struct fiber *f, size_t stack_bytes)
{
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    void *p = mmap(nullptr, page + stack_bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED || mprotect(p, page, PROT_NONE) != 0) {
        perror("stand-in: cannot map a stack");
        abort();
    }
    f->stack = static_cast<uint8_t *>(p) + page;
    f->stack_bytes = stack_bytes;
}

void fiber_free(struct fiber *f)
{
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    if (f->stack)
        munmap(f->stack - page, page + f->stack_bytes);
    *f = {};
}

void fiber_reset(struct fiber *f, void (*entry)())
{
#ifdef __SANITIZE_ADDRESS__
    ASAN_UNPOISON_MEMORY_REGION(f->stack, f->stack_bytes); /* frames that were left for good */
#endif
    f->sp = fresh_stack(f, entry);
}

#ifdef __SANITIZE_ADDRESS__
void fiber_switch(struct fiber *from, struct fiber *to)
{
    void *fake;
    const void *bottom;
    size_t bytes;
    __sanitizer_start_switch_fiber(&fake, to->stack, to->stack_bytes);
    stand_in_switch(&from->sp, to->sp);
    __sanitizer_finish_switch_fiber(fake, &bottom, &bytes);
}

void fiber_entered(struct fiber *from)
{
    const void *bottom;
    size_t bytes;
    __sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
    if (!from->stack) { /* the OS thread's stack, learned now */
        from->stack = static_cast<uint8_t *>(const_cast<void *>(bottom));
        from->stack_bytes = bytes;
    }
}

void fiber_leave(struct fiber *from, struct fiber *to)
{
    __sanitizer_start_switch_fiber(nullptr, to->stack, to->stack_bytes);
    stand_in_switch(&from->sp, to->sp);
    abort();
}
#else
void fiber_switch(struct fiber *from, struct fiber *to)
{
    stand_in_switch(&from->sp, to->sp);
}

void fiber_entered(struct fiber *from)
{
    (void)from;
}

void fiber_leave(struct fiber *from, struct fiber *to)
{
    stand_in_switch(&from->sp, to->sp);
    abort();
}
#endif
