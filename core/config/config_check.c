/* config_check.c - what concerns several options or the world outside: addresses, names, files. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/config/config_int.h"
#include "core/util/cidr.h"
#include "core/util/clock.h"
#include "core/util/endpoint.h"

/* ---- addresses ---- */

/* The line of element i of a list, that of the option when the list is its default. */
static int element_line(const struct config_setting *set, uint32_t i)
{
    const struct config_line *l = set->elements;
    for (; l && i > 0; i--)
        l = l->next;
    return l ? l->line : set->line;
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

/* Relative paths of sockets start there, too. False: it is too long for a socket. */
static bool resolve_socket(struct config_ctx *c, int line, const char *option, const char **path)
{
    const int64_t max = config_option_find(CONFIG_TOP, "control_socket")->max;
    resolve_path(c, path);
    if (strlen(*path) <= (size_t)max)
        return true;
    config_fault(c, line, option,
                 "%s has %zu bytes with the folder of this file; a socket's path has at most %lld: "
                 "write another whole path",
                 config_shown(c, *path), strlen(*path), (long long)max);
    return false;
}

static void check_control_socket(struct config_ctx *c)
{
    const struct config_setting *set = config_setting_of(c->sections, "control_socket");
    const char **path = &c->config->control_socket;
    if (!set->bad && **path)
        (void)resolve_socket(c, set->line, "control_socket", path);
}

/* ---- listeners ---- */

/* All addresses of listen and admin_listen, to find what stands there twice. */
struct endpoints {
    struct endpoint *all;
    uint32_t n;
};

/* Of a UNIX socket: its text with the whole path. */
static bool resolve_file(struct config_ctx *c, int line, const char *option, struct endpoint *p,
                         const char **text)
{
    const char *path = p->path;
    if (!resolve_socket(c, line, option, &path))
        return false;
    struct buf whole = {0};
    buf_addf(&whole, "%.*s%s", (int)(p->path - *text), *text, path);
    const char *copy = arena_strndup(&c->config->arena, buf_str(&whole), whole.len);
    p->path = path;
    if (copy && !whole.failed)
        *text = copy;
    else
        c->no_memory = true;
    buf_fini(&whole);
    return true;
}

static void check_address(struct config_ctx *c, const char *option, int line, const char **text,
                          struct endpoints *seen)
{
    const char *shown = config_shown(c, *text);
    struct endpoint p;
    struct err why = {0};
    if (endpoint_parse(*text, &p, NULL) != 0) {
        (void)!endpoint_parse(shown, &p, &why);
        config_fault(c, line, option, "%s", why.msg);
        return;
    }
    if (p.path && !resolve_file(c, line, option, &p, text))
        return;
    if (p.scheme == ENDPOINT_HTTPS && !config_has_tls(c->config))
        config_fault(c, line, option,
                     "'%s' asks for TLS; add tls { certificate = \"FILE\" key = \"FILE\" }", shown);
    if (c->config->n_keys == 0 && !endpoint_is_local(&p))
        config_fault(c, line, option,
                     "'%s' is not a loopback address, and without keys llmd serves loopback "
                     "only; add key \"name\" { sha256 = \"...\" } or listen on 127.0.0.1",
                     shown);
    for (uint32_t k = 0; k < seen->n; k++)
        if (endpoint_same(&p, &seen->all[k])) {
            config_fault(c, line, option, "'%s' stands there twice; remove one", shown);
            break;
        }
    seen->all[seen->n++] = p;
}

static void check_addresses(struct config_ctx *c, const char *option, const char *const *list,
                            uint32_t n, struct endpoints *seen)
{
    const struct config_setting *set = config_setting_of(c->sections, option);
    const char **texts = (const char **)list; /* the arena's: config_parse made the list */
    for (uint32_t i = 0; i < n && !set->bad; i++)
        check_address(c, option, element_line(set, i), &texts[i], seen);
}

static void check_listeners(struct config_ctx *c)
{
    struct config *cfg = c->config;
    struct endpoints seen = {.all = arena_array(&c->scratch,
                                                (size_t)cfg->n_listen + cfg->n_admin_listen + 1,
                                                sizeof(*seen.all))};
    if (!seen.all) {
        c->no_memory = true;
        return;
    }
    check_addresses(c, "listen", cfg->listen, cfg->n_listen, &seen);
    check_addresses(c, "admin_listen", cfg->admin_listen, cfg->n_admin_listen, &seen);
}

bool config_is_tls(const struct config *c, const char *address)
{
    struct endpoint p;
    return config_has_tls(c) && endpoint_parse(address, &p, NULL) == 0 && !p.path &&
           p.scheme != ENDPOINT_HTTP;
}

static void check_tls(struct config_ctx *c)
{
    const struct config *cfg = c->config;
    struct config_tls *tls = &c->config->tls;
    bool spoken = false;
    for (uint32_t i = 0; i < cfg->n_listen; i++)
        spoken |= config_is_tls(cfg, cfg->listen[i]);
    for (uint32_t i = 0; i < cfg->n_admin_listen; i++)
        spoken |= config_is_tls(cfg, cfg->admin_listen[i]);
    if (config_has_tls(cfg) && !spoken)
        config_warn(c, tls->line, NULL,
                    "section 'tls' has no effect: every address has http:// or unix: in front");
    if (tls->certificate[0])
        resolve_path(c, &tls->certificate);
    if (tls->key[0])
        resolve_path(c, &tls->key);
}

/* ---- traces ---- */

/* What is wrong with the URL; NULL when nothing is. */
static const char *url_fault(const char *url)
{
    const size_t n_scheme = strncmp(url, "http://", 7) == 0    ? 7
                            : strncmp(url, "https://", 8) == 0 ? 8
                                                               : 0;
    const char *host = url + n_scheme;
    const size_t n_host = strcspn(host, "/?#");
    if (n_scheme == 0 || n_host == 0)
        return "is no URL; write \"http://127.0.0.1:4318\" or \"https://HOST:PORT\"";
    if (memchr(host, '@', n_host))
        return "holds a password; write it as a header into headers_file";
    for (const char *p = url; *p; p++)
        if (*p <= ' ' || *p > '~')
            return "holds characters that no URL has; write them as %XX";
    return NULL;
}

static void check_attributes(struct config_ctx *c, struct config_section *s)
{
    const struct config_traces *t = &c->config->traces;
    const struct config_setting *set = config_setting_of(s, "attributes");
    for (uint32_t i = 0; i < t->n_attributes && !set->bad; i++) {
        const char *equals = strchr(t->attributes[i], '=');
        if (!equals || equals == t->attributes[i])
            config_fault(c, element_line(set, i), "attributes", "'%s' is no \"name=value\"",
                         config_shown(c, t->attributes[i]));
    }
}

static void check_traces(struct config_ctx *c)
{
    struct config_traces *t = &c->config->traces;
    for (struct config_section *s = c->sections; s; s = s->next) {
        if (s->scope != CONFIG_TRACES)
            continue;
        const struct config_setting *set = config_setting_of(s, "endpoint");
        const char *fault = t->endpoint[0] && !set->bad ? url_fault(t->endpoint) : NULL;
        if (fault) /* a password is not repeated: this goes into logs, and to the status page */
            config_fault(c, set->line, "endpoint", "'%s' %s",
                         strchr(t->endpoint, '@') ? "..." : config_shown(c, t->endpoint), fault);
        check_attributes(c, s);
    }
    if (t->headers_file[0])
        resolve_path(c, &t->headers_file);
    if (t->ca_file[0])
        resolve_path(c, &t->ca_file);
}

/* ---- names ---- */

bool config_name_valid(const char *s)
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
        if (config_scope_titled(s->scope) && !config_name_valid(s->title))
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
        if (!config_name_valid(model->aliases[a]))
            config_fault(c, element_line(set, a), "aliases", "'%s': a name consists of %s", shown,
                         name_rule);
        else if (name_taken(c->config, m, a, model->aliases[a]))
            config_fault(c, element_line(set, a), "aliases",
                         "'%s' is already the name or alias of a model; remove one", shown);
    }
}

/* ---- keys ---- */

static bool is_model(const struct config *cfg, const char *name)
{
    for (uint32_t i = 0; i < cfg->n_models; i++) {
        if (strcmp(cfg->models[i].name, name) == 0)
            return true;
        for (uint32_t k = 0; k < cfg->models[i].n_aliases; k++)
            if (strcmp(cfg->models[i].aliases[k], name) == 0)
                return true;
    }
    return false;
}

static void check_key_models(struct config_ctx *c, struct config_section *s,
                             const struct config_key *key)
{
    const struct config_setting *set = config_setting_of(s, "models");
    for (uint32_t i = 0; i < key->n_models && !set->bad; i++)
        if (!is_model(c->config, key->models[i]))
            config_fault(c, element_line(set, i), "models",
                         "'%s' is neither the name nor an alias of a model in this file",
                         config_shown(c, key->models[i]));
}

static void warn_expired(struct config_ctx *c, struct config_section *s,
                         const struct config_key *key)
{
    const struct config_setting *set = config_setting_of(s, "expires");
    if (key->expires > 0 && (uint64_t)key->expires <= clock_wall_us() / 1000000)
        config_warn(c, set->line, "expires", "has passed: key \"%s\" is refused",
                    config_shown(c, key->name));
}

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
        check_key_models(c, s, key);
        warn_expired(c, s, key);
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

bool config_names_gpu(const char *device, uint32_t *out_index)
{
    char *end;
    if (strcmp(device, "cuda") == 0) {
        *out_index = CONFIG_ALL_GPUS;
        return true;
    }
    if (strncmp(device, "cuda:", 5) != 0 || device[5] < '0' || device[5] > '9')
        return false;
    const unsigned long index = strtoul(device + 5, &end, 10);
    if (*end != '\0' || index >= CONFIG_MAX_GPUS || (device[5] == '0' && device[6] != '\0'))
        return false;
    *out_index = (uint32_t)index;
    return true;
}

/* "cuda" stands for any of them. */
static bool has_device(const struct config_model *m, const char *device)
{
    uint32_t index;
    const bool gpu = strcmp(device, "cuda") == 0;
    for (uint32_t i = 0; i < m->n_devices; i++)
        if (gpu ? config_names_gpu(m->devices[i], &index) : strcmp(m->devices[i], device) == 0)
            return true;
    return false;
}

/* The device before the i-th that leaves it nothing; NULL. */
static const char *device_twin(const struct config_model *m, uint32_t i)
{
    uint32_t a, b;
    for (uint32_t k = 0; k < i; k++) {
        if (strcmp(m->devices[k], m->devices[i]) == 0)
            return m->devices[k];
        if (config_names_gpu(m->devices[k], &a) && config_names_gpu(m->devices[i], &b) &&
            (a == CONFIG_ALL_GPUS || b == CONFIG_ALL_GPUS))
            return m->devices[k];
    }
    return NULL;
}

static void check_devices(struct config_ctx *c, struct config_section *s,
                          const struct config_model *m)
{
    const struct config_setting *set = config_setting_of(s, "devices");
    for (uint32_t i = 0; i < m->n_devices && !set->bad; i++) {
        const char *device = m->devices[i], *shown = config_shown(c, device);
        int line = element_line(set, i);
        uint32_t gpu;
        const char *twin = device_twin(m, i);
        if (!config_names_gpu(device, &gpu) && strcmp(device, "cpu") != 0 &&
            strcmp(device, "sim") != 0)
            config_fault(c, line, "devices",
                         "'%s' is unknown; write \"cuda:0\", \"cuda\" (all GPUs), \"cpu\" or "
                         "\"sim\"",
                         shown);
        if (twin && strcmp(twin, device) != 0)
            config_fault(c, line, "devices",
                         "'%s' beside '%s': \"cuda\" names every GPU; remove one of them", shown,
                         twin);
        else if (twin)
            config_fault(c, line, "devices",
                         "'%s' stands there twice; for more workers set cpu_workers or "
                         "sim_workers",
                         shown);
    }
}

/* Options that only matter to a device which the model does not use. */
static void warn_unused(struct config_ctx *c, struct config_section *s,
                        const struct config_model *m)
{
    static const struct {
        const char *option, *device;
    } of_device[] = {
        {"cpu_workers", "cpu"}, {"threads", "cpu"},
        {"cpu_isa", "cpu"},     {"dtype", "cpu"},
        {"sim_workers", "sim"}, {"sim_step_us", "sim"},
        {"sim_row_ns", "sim"},  {"gpu_memory_utilization", "cuda"},
        {"cublaslt", "cuda"},
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
        config_warn(c, 0, NULL,
                    "there is no model, so nothing can be asked for; run `llmd setup`, or add "
                    "model \"name\" { path = \"FILE.gguf\" } and `llmd reload`");
}

void config_check(struct config_ctx *c)
{
    check_listeners(c);
    check_blocks(c, "allow", c->config->allow, c->config->n_allow);
    check_blocks(c, "proxy_protocol_from", c->config->proxy_protocol_from,
                 c->config->n_proxy_protocol_from);
    check_control_socket(c);
    if (c->config->store.directory[0])
        resolve_path(c, &c->config->store.directory);
    check_tls(c);
    check_traces(c);
    check_section_names(c);
    check_keys(c);
    check_models(c);
}
