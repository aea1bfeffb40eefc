/* config_check.c - what concerns several options or the world outside: addresses, names, files. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/config/config_int.h"
#include "core/util/cidr.h"

/* ---- addresses ---- */

struct address {
    int family;
    uint8_t ip[16]; /* 4 bytes of it for IPv4 */
    uint32_t port;
};

static bool parse_port(const char *s, uint32_t *out)
{
    size_t n = strspn(s, "0123456789");
    if (n == 0 || n > 5 || s[n] != '\0')
        return false;
    *out = (uint32_t)strtoul(s, NULL, 10);
    return *out <= UINT16_MAX;
}

/* "127.0.0.1:8080" or "[::1]:8080". */
static bool parse_address(const char *s, struct address *out)
{
    char host[INET6_ADDRSTRLEN];
    bool v6 = s[0] == '[';
    const char *from = s + (v6 ? 1 : 0), *end = strchr(from, v6 ? ']' : ':');
    if (!end || (size_t)(end - from) >= sizeof(host))
        return false;
    const char *port = end + (v6 ? 1 : 0);
    memcpy(host, from, (size_t)(end - from));
    host[end - from] = '\0';
    *out = (struct address){.family = v6 ? AF_INET6 : AF_INET};
    return *port == ':' && parse_port(port + 1, &out->port) &&
           inet_pton(out->family, host, out->ip) == 1;
}

static bool is_loopback(const struct address *a)
{
    static const uint8_t one[16] = {[15] = 1}; /* ::1 */
    return a->family == AF_INET ? a->ip[0] == 127 : memcmp(a->ip, one, sizeof(one)) == 0;
}

static bool same_address(const struct address *a, const struct address *b)
{
    return a->family == b->family && a->port == b->port && a->port != 0 &&
           memcmp(a->ip, b->ip, sizeof(a->ip)) == 0;
}

/* The line of element i of a list, that of the option when the list is its default. */
static int element_line(const struct config_setting *set, uint32_t i)
{
    const struct config_line *l = set->elements;
    for (; l && i > 0; i--)
        l = l->next;
    return l ? l->line : set->line;
}

static void check_listen(struct config_ctx *c)
{
    struct config *cfg = c->config;
    const struct config_setting *set = config_setting_of(c->sections, "listen");
    struct address *all = arena_array(&c->scratch, cfg->n_listen, sizeof(*all));
    if (!all) {
        c->no_memory = true;
        return;
    }
    for (uint32_t i = 0; i < cfg->n_listen && !set->bad; i++) {
        int line = element_line(set, i);
        const char *shown = config_shown(c, cfg->listen[i]);
        if (!parse_address(cfg->listen[i], &all[i])) {
            config_fault(c, line, "listen",
                         "'%s' is no numeric address with a port; write \"127.0.0.1:8080\" or "
                         "\"[::1]:8080\"",
                         shown);
            continue;
        }
        if (cfg->n_keys == 0 && !is_loopback(&all[i]))
            config_fault(c, line, "listen",
                         "'%s' is not a loopback address, and without keys llmd serves loopback "
                         "only; add key \"name\" { sha256 = \"...\" } or listen on 127.0.0.1",
                         shown);
        for (uint32_t k = 0; k < i; k++)
            if (same_address(&all[i], &all[k])) {
                config_fault(c, line, "listen", "'%s' stands there twice; remove one", shown);
                break;
            }
    }
}

static void check_blocks(struct config_ctx *c, const char *option, const char *const *blocks,
                         uint32_t n)
{
    const struct config_setting *set = config_setting_of(c->sections, option);
    for (uint32_t i = 0; i < n && !set->bad; i++) {
        struct cidr block;
        struct err why = {0};
        if (cidr_parse(config_shown(c, blocks[i]), &block, &why) != 0)
            config_fault(c, element_line(set, i), option, "%s", why.msg);
    }
}

/* ---- files ---- */

/* Relative paths start at the folder of the configuration file. */
static void resolve_path(struct config_ctx *c, const char **path)
{
    const char *slash = strrchr(c->path, '/');
    if ((*path)[0] == '/' || !slash)
        return;
    size_t n_folder = (size_t)(slash - c->path) + 1, n_path = strlen(*path);
    char *joined = arena_alloc(&c->config->arena, n_folder + n_path + 1);
    if (!joined) {
        c->no_memory = true;
        return;
    }
    memcpy(joined, c->path, n_folder);
    memcpy(joined + n_folder, *path, n_path + 1);
    *path = joined;
}

static void check_control_socket(struct config_ctx *c)
{
    const struct config_option *o = config_option_find(CONFIG_TOP, "control_socket");
    const struct config_setting *set = config_setting(c->sections, o);
    const char **path = &c->config->control_socket;
    if (set->bad || !**path)
        return;
    resolve_path(c, path);
    if (strlen(*path) > (size_t)o->max)
        config_fault(c, set->line, o->name,
                     "%s has %zu bytes with the folder of this file; a socket's path has at most "
                     "%lld: write another whole path",
                     config_shown(c, *path), strlen(*path), (long long)o->max);
}

/* ---- names ---- */

static bool valid_name(const char *s)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789-_.:/@+";
    size_t n = strspn(s, allowed);
    return n > 0 && n <= CONFIG_MAX_NAME && s[n] == '\0';
}

static const char name_rule[] = "1 to 128 letters, digits and - _ . : / @ +";

static void check_section_names(struct config_ctx *c)
{
    for (const struct config_section *s = c->sections; s; s = s->next)
        if (config_scope_titled(s->scope) && !valid_name(s->title))
            config_fault(c, s->line, NULL, "section '%s \"%s\"': a name consists of %s",
                         config_scope_name(s->scope), config_shown(c, s->title), name_rule);
}

/* Whether any model before (models[m], alias a) answers to that name. */
static bool name_taken(const struct config *cfg, uint32_t m, uint32_t a, const char *name)
{
    for (uint32_t i = 0; i < cfg->n_models; i++) {
        const struct config_model *model = &cfg->models[i];
        if (strcmp(model->name, name) == 0)
            return true;
        uint32_t n = i < m ? model->n_aliases : i == m ? a : 0;
        for (uint32_t k = 0; k < n; k++)
            if (strcmp(model->aliases[k], name) == 0)
                return true;
    }
    return false;
}

static void check_aliases(struct config_ctx *c, struct config_section *s, uint32_t m)
{
    const struct config_model *model = &c->config->models[m];
    const struct config_setting *set = config_setting_of(s, "aliases");
    for (uint32_t a = 0; a < model->n_aliases && !set->bad; a++) {
        const char *shown = config_shown(c, model->aliases[a]);
        if (!valid_name(model->aliases[a]))
            config_fault(c, element_line(set, a), "aliases", "'%s': a name consists of %s", shown,
                         name_rule);
        else if (name_taken(c->config, m, a, model->aliases[a]))
            config_fault(c, element_line(set, a), "aliases",
                         "'%s' is already the name or alias of a model; remove one", shown);
    }
}

/* ---- keys ---- */

static void check_keys(struct config_ctx *c)
{
    /* SHA-256 of nothing: what `printf %s "$KEY" | sha256sum` gives while KEY is not set. */
    static const uint8_t empty[32] = {
        0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4,
        0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b,
        0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
    };
    const struct config *cfg = c->config;
    uint32_t i = 0;
    for (struct config_section *s = c->sections; s; s = s->next) {
        const struct config_setting *set;
        if (s->scope != CONFIG_KEY)
            continue;
        const struct config_key *key = &cfg->keys[i++];
        set = config_setting_of(s, "sha256");
        if (set->line == 0 || set->bad)
            continue;
        if (memcmp(key->sha256, empty, sizeof(empty)) == 0)
            config_fault(c, set->line, "sha256",
                         "is the digest of an empty key; was the variable in printf %%s \"$KEY\" "
                         "| sha256sum set?");
        for (uint32_t k = 0; k + 1 < i; k++)
            if (memcmp(key->sha256, cfg->keys[k].sha256, sizeof(key->sha256)) == 0) {
                config_fault(c, set->line, "sha256",
                             "is the digest of key \"%s\" in line %d too; remove one of the keys",
                             config_shown(c, cfg->keys[k].name), cfg->keys[k].line);
                break;
            }
    }
}

/* ---- models ---- */

static bool has_device(const struct config_model *m, const char *device)
{
    for (uint32_t i = 0; i < m->n_devices; i++)
        if (strcmp(m->devices[i], device) == 0)
            return true;
    return false;
}

static void check_devices(struct config_ctx *c, struct config_section *s,
                          const struct config_model *m)
{
    const struct config_setting *set = config_setting_of(s, "devices");
    for (uint32_t i = 0; i < m->n_devices && !set->bad; i++) {
        const char *device = m->devices[i], *shown = config_shown(c, device);
        int line = element_line(set, i);
        if (strncmp(device, "cuda", 4) == 0)
            config_fault(c, line, "devices",
                         "'%s': this build has no CUDA backend; write \"cpu\" or \"sim\"", shown);
        else if (strcmp(device, "cpu") != 0 && strcmp(device, "sim") != 0)
            config_fault(c, line, "devices", "'%s' is unknown; write \"cpu\" or \"sim\"", shown);
        for (uint32_t k = 0; k < i; k++)
            if (strcmp(device, m->devices[k]) == 0) {
                config_fault(c, line, "devices",
                             "'%s' stands there twice; for more workers set cpu_workers or "
                             "sim_workers",
                             shown);
                break;
            }
    }
}

/* Options that only matter to a device which the model does not use. */
static void warn_unused(struct config_ctx *c, struct config_section *s,
                        const struct config_model *m)
{
    static const struct {
        const char *option, *device;
    } of_device[] = {
        {"cpu_workers", "cpu"}, {"threads", "cpu"},     {"cpu_isa", "cpu"},    {"dtype", "cpu"},
        {"sim_workers", "sim"}, {"sim_step_us", "sim"}, {"sim_row_ns", "sim"},
    };
    if (config_setting_of(s, "devices")->bad)
        return;
    for (size_t i = 0; i < ARRAY_LEN(of_device); i++) {
        const struct config_setting *set = config_setting_of(s, of_device[i].option);
        if (set->line > 0 && !has_device(m, of_device[i].device))
            config_warn(c, set->line, of_device[i].option,
                        "has no effect: devices does not name \"%s\"", of_device[i].device);
    }
}

static void warn_threads(struct config_ctx *c, struct config_section *s,
                         const struct config_model *m)
{
    const struct config_setting *threads = config_setting_of(s, "threads");
    const struct config_setting *workers = config_setting_of(s, "cpu_workers");
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t wanted = (uint64_t)m->cpu_workers * (m->threads ? m->threads : 1);
    if (threads->bad || workers->bad || !has_device(m, "cpu") || cores < 1 ||
        wanted <= (uint64_t)cores)
        return;
    const struct config_setting *at = threads->line > 0 ? threads : workers;
    config_warn(c, at->line, threads->line > 0 ? "threads" : "cpu_workers",
                "%u CPU workers with %u threads each are more than the host's %ld cores",
                m->cpu_workers, m->threads ? m->threads : 1, cores);
}

static void check_batch(struct config_ctx *c, struct config_section *s,
                        const struct config_model *m)
{
    const struct config_setting *tokens = config_setting_of(s, "max_num_batched_tokens");
    const struct config_setting *seqs = config_setting_of(s, "max_num_seqs");
    if (tokens->bad || seqs->bad || m->max_num_batched_tokens >= m->max_num_seqs)
        return;
    bool at_tokens = tokens->line > 0;
    config_fault(c, at_tokens ? tokens->line : seqs->line,
                 at_tokens ? "max_num_batched_tokens" : "max_num_seqs",
                 "max_num_batched_tokens = %u is less than max_num_seqs = %u, but every sequence "
                 "takes a token per step; set max_num_batched_tokens = %u or more",
                 m->max_num_batched_tokens, m->max_num_seqs, m->max_num_seqs);
}

/* What is wrong with a folder as a model; NULL: nothing that can be seen from here. */
static const char *check_folder(const char *path)
{
    struct stat st;
    int folder = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    bool found = folder >= 0 && fstatat(folder, "config.json", &st, 0) == 0;
    bool readable = found && faccessat(folder, "config.json", R_OK, AT_EACCESS) == 0;
    if (folder >= 0)
        close(folder);
    if (readable)
        return NULL;
    return found ? "holds files that cannot be read by this user; check their permissions"
                 : "is a folder without config.json; name a GGUF file, or the folder of a model in "
                   "Hugging Face form";
}

static void check_path(struct config_ctx *c, struct config_section *s, struct config_model *m)
{
    const struct config_setting *set = config_setting_of(s, "path");
    struct stat st;
    if (set->line == 0 || set->bad)
        return;
    bool relative = m->path[0] != '/';
    resolve_path(c, &m->path);
    const char *shown = config_shown(c, m->path);
    const char *why = NULL;
    if (stat(m->path, &st) != 0)
        config_fault(c, set->line, "path", "%s: %s%s", shown, strerror(errno),
                     relative ? " (relative paths start at the folder of this file)" : "");
    else if (S_ISDIR(st.st_mode))
        why = check_folder(m->path);
    else if (!S_ISREG(st.st_mode))
        why = "is not a regular file; name a GGUF file, or the folder of a model";
    else if (faccessat(AT_FDCWD, m->path, R_OK, AT_EACCESS) != 0)
        why = "cannot be read by this user; check the permissions of file and folders";
    if (why)
        config_fault(c, set->line, "path", "%s %s", shown, why);
}

static void check_models(struct config_ctx *c)
{
    struct config *cfg = c->config;
    uint32_t i = 0;
    uint64_t n_workers = 0;
    for (struct config_section *s = c->sections; s; s = s->next) {
        if (s->scope != CONFIG_MODEL)
            continue;
        struct config_model *m = &cfg->models[i];
        check_path(c, s, m);
        check_aliases(c, s, i++);
        check_devices(c, s, m);
        check_batch(c, s, m);
        warn_unused(c, s, m);
        warn_threads(c, s, m);
        n_workers += has_device(m, "cpu") ? m->cpu_workers : 0;
        n_workers += has_device(m, "sim") ? m->sim_workers : 0;
        if (n_workers > CONFIG_MAX_WORKERS)
            config_fault(c, s->line, NULL,
                         "section 'model \"%s\"': with its workers there are %llu, more than %d; "
                         "lower cpu_workers or sim_workers",
                         config_shown(c, m->name), (unsigned long long)n_workers,
                         CONFIG_MAX_WORKERS);
    }
    if (c->n_sections[CONFIG_MODEL] == 0)
        config_fault(c, 0, NULL, "there is no model; add model \"name\" { path = \"FILE.gguf\" }");
}

void config_check(struct config_ctx *c)
{
    check_listen(c);
    check_blocks(c, "allow", c->config->allow, c->config->n_allow);
    check_blocks(c, "proxy_protocol_from", c->config->proxy_protocol_from,
                 c->config->n_proxy_protocol_from);
    check_control_socket(c);
    if (c->config->store.directory[0])
        resolve_path(c, &c->config->store.directory);
    check_section_names(c);
    check_keys(c);
    check_models(c);
}
