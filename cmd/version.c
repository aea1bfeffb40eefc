/* version.c - `llmd version`: what this program was made from. */
#include <confuse.h>
#include <curl/curl.h>
#include <jansson.h>
#include <microhttpd.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <utf8proc.h>

#include "cmd/args.h"
#include "cmd/commands.h"
#include "cmd/gpus.h"
#include "core/util/json.h"

#if defined(__clang__)
#define COMPILER "clang " __clang_version__
#elif defined(__GNUC__)
#define COMPILER "gcc " __VERSION__
#else
#define COMPILER "unknown"
#endif

/* Libraries at the version that is loaded, where they can tell. */
static void list_libraries(struct buf *out, bool json)
{
    const struct {
        const char *name, *version;
    } libraries[] = {
        {"libmicrohttpd", MHD_get_version()},
        {"libcurl", curl_version_info(CURLVERSION_NOW)->version},
        {"openssl", OpenSSL_version(OPENSSL_VERSION_STRING)},
        {"jansson", jansson_version_str()},
        {"libconfuse", confuse_version},
        {"utf8proc", utf8proc_version()},
    };
    for (size_t i = 0; i < ARRAY_LEN(libraries); i++)
        if (json) {
            buf_addstr(out, i ? "," : "");
            json_add_cstr(out, libraries[i].name);
            buf_addch(out, ':');
            json_add_cstr(out, libraries[i].version);
        } else
            buf_addf(out, "%s%s %s", i ? ", " : "", libraries[i].name, libraries[i].version);
}

int cmd_version(int argc, char **argv)
{
    bool json = false;
    const struct arg_option options[] = {
        {.name = "json", .type = ARG_FLAG, .help = "as one JSON object", .out = &json},
    };
    const struct arg_spec spec = {
        .command = "llmd version",
        .operands = "",
        .about = "Shows the version of llmd, its compiler and the libraries that it runs with.",
        .options = options,
        .n_options = ARRAY_LEN(options),
        .footer = ARGS_EXIT_CODES,
    };
    int first, rc = args_or_exit(&spec, argc, argv, &first);
    if (rc >= 0)
        return rc;
    struct buf out = {0};
    if (json) {
        buf_addstr(&out, "{\"version\":");
        json_add_cstr(&out, LLMD_VERSION);
        buf_addstr(&out, ",\"compiler\":");
        json_add_cstr(&out, COMPILER);
        buf_addf(&out, ",\"cuda\":%s,\"libraries\":{", gpus_built_in() ? "true" : "false");
        list_libraries(&out, true);
        buf_addstr(&out, "}}\n");
    } else {
        buf_addf(&out, "llmd " LLMD_VERSION "\n" COMPILER ", with%s CUDA\n",
                 gpus_built_in() ? "" : "out");
        list_libraries(&out, false);
        buf_addch(&out, '\n');
    }
    fputs(buf_str(&out), stdout);
    rc = out.failed ? EXIT_FAILED : EXIT_SUCCESS;
    buf_fini(&out);
    return rc;
}
