/* config_fixture.h - a folder with a model file, and configurations that lie in it. */
#pragma once
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/config/config.h"
#include "core/config/config_int.h"
#include "core/config/options.h"

static char folder[] = "/tmp/llmd-test-config-XXXXXX";
static char conf_path[64];

static void write_file(const char *name, const void *data, size_t n)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    fclose(f);
}

static int set_up(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(conf_path, sizeof(conf_path), "%s/llmd.conf", folder);
    write_file("m.gguf", "GGUF", 4);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char path[128];
    static const char *const names[] = {"m.gguf", "llmd.conf"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        unlink(path);
    }
    return rmdir(folder);
}

#define M  "model \"m\" { path = \"m.gguf\" }\n"
#define D1 "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
#define D2 "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"
