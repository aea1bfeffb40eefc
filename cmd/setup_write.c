#include "cmd/setup_write.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd/certificate.h"
#include "core/config/config.h"
#include "core/util/fsio.h"

enum { PATH_BYTES = 4096, CONFIG_BYTES = 4 << 20 };

/* A value of the file's syntax. */
static void add_quoted(const char *text, struct buf *out)
{
    buf_addch(out, '"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            buf_addch(out, '\\');
        buf_addch(out, *text);
    }
    buf_addch(out, '"');
}

static void add_option(const char *name, const char *value, struct buf *out)
{
    buf_addf(out, "    %s = ", name);
    add_quoted(value, out);
    buf_addch(out, '\n');
}

void setup_text(const struct setup_plan *p, struct buf *out)
{
    buf_addstr(out, "# llmd.conf, made by `llmd setup`. All options: man llmd.conf\n"
                    "# After a change: llmd check, then llmd reload.\n\nlisten = { ");
    add_quoted(p->listen, out);
    buf_addstr(out, " }\n");
    if (p->tls_certificate) {
        buf_addstr(out, "\ntls {\n");
        add_option("certificate", p->tls_certificate, out);
        add_option("key", p->tls_key, out);
        buf_addstr(out, "}\n");
    }
    if (p->key_name) {
        buf_addf(out, "\n# Further keys: llmd key new NAME\nkey \"%s\" {\n", p->key_name);
        add_option("sha256", p->key_sha256, out);
        buf_addstr(out, "    scope = \"admin\" # the models, and the status page\n}\n");
    }
    buf_addf(out, "\nmodel \"%s\" {\n", p->model_name);
    add_option("path", p->model_path, out);
    buf_addstr(out, "    devices = { ");
    add_quoted(p->device, out);
    buf_addstr(out, " }\n}\n");
}

bool setup_is_in_use(const char *path)
{
    struct buf text = {0};
    struct err e = {0};
    bool used = false;
    if (file_read(path, CONFIG_BYTES, &text, &e) == 0)
        for (const char *p = buf_str(&text); *p && !used; p += strcspn(p, "\n"), p += *p == '\n') {
            const char *word = p + strspn(p, " \t\r");
            used = *word != '\n' && *word != '#' && *word != '\0';
        }
    buf_fini(&text);
    return used;
}

static int io_fault(const char *path, struct err *e)
{
    return err_set(e, LLMD_EIO, "%s: %s", path, strerror(errno));
}

/* As the file that was there; a new one belongs to the group that the server runs as. */
static int set_owner(int fd, const char *path, struct err *e)
{
    struct stat st;
    const struct group *g = getgrnam("llmd");
    if (stat(path, &st) == 0) {
        if (fchown(fd, st.st_uid, st.st_gid) != 0 || fchmod(fd, st.st_mode & 07777) != 0)
            return io_fault(path, e);
        return 0;
    }
    if (g && geteuid() == 0 && fchown(fd, 0, g->gr_gid) != 0)
        return io_fault(path, e);
    return 0;
}

static int write_new(const char *to, const char *as, const struct buf *text, struct err *e)
{
    unlink(to); /* of a setup that was cut off; whatever it is, it is not written into */
    const int fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    if (fd < 0)
        return io_fault(to, e);
    int rc = set_owner(fd, as, e);
    for (size_t at = 0; rc == 0 && at < text->len;) {
        const ssize_t n = write(fd, text->data + at, text->len - at);
        if (n > 0)
            at += (size_t)n;
        else if (n == 0 || errno != EINTR)
            rc = io_fault(to, e);
    }
    if (rc == 0 && fsync(fd) != 0)
        rc = io_fault(to, e);
    close(fd);
    return rc;
}

/* The faults name the file that was written for the check: rather the one that is meant. */
static int check(const char *file, const char *meant, struct err *e)
{
    struct config *c = NULL;
    struct tls *tls = NULL;
    struct buf warnings = {0};
    int rc = config_load(file, &c, NULL, e);
    const size_t n = strlen(file);
    if (rc == 0)
        rc = certificate_load(c, &tls, &warnings, e);
    tls_free(tls);
    buf_fini(&warnings);
    config_free(c);
    if (rc != 0 && strncmp(e->msg, file, n) == 0) {
        char rest[sizeof(e->msg)];
        snprintf(rest, sizeof(rest), "%s", e->msg + n);
        *e = (struct err){0};
        return err_set(e, -rc, "%s%s", meant, rest);
    }
    return rc;
}

int setup_write(const char *path, const struct buf *text, struct err *e)
{
    char new[PATH_BYTES], kept[PATH_BYTES];
    if (text->failed)
        return err_set(e, LLMD_ENOMEM, "out of memory for the configuration");
    if ((size_t)snprintf(new, sizeof(new), "%s.new", path) >= sizeof(new) ||
        (size_t)snprintf(kept, sizeof(kept), "%s.before-setup", path) >= sizeof(kept))
        return err_set(e, LLMD_EINVAL, "the path of the configuration file is too long");
    int rc = write_new(new, path, text, e);
    if (rc == 0)
        rc = check(new, path, e);
    if (rc == 0 && setup_is_in_use(path)) {
        unlink(kept);
        if (link(path, kept) != 0) /* so that there is a configuration at any moment */
            rc = io_fault(kept, e);
    }
    if (rc == 0 && rename(new, path) != 0)
        rc = io_fault(path, e);
    if (rc != 0)
        unlink(new);
    return rc;
}
