#include "cmd/setup_start.h"

#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char unit_file[] = "/usr/lib/systemd/system/llmd.service";
static const char user[] = "llmd";

bool setup_can_start(void)
{
    return geteuid() == 0 && access("/run/systemd/system", F_OK) == 0 &&
           access(unit_file, F_OK) == 0;
}

/* The unit hides the homes, whatever their modes say. */
static bool is_hidden(const char *path)
{
    return strncmp(path, "/home/", 6) == 0 || strncmp(path, "/root/", 6) == 0 ||
           strncmp(path, "/run/user/", 10) == 0 || strncmp(path, "/tmp/", 5) == 0 ||
           strncmp(path, "/var/tmp/", 9) == 0;
}

bool setup_service_reads(const char *path)
{
    const struct passwd *as = getpwnam(user);
    if (!setup_can_start() || !as)
        return true;
    if (is_hidden(path))
        return false;
    const pid_t child = fork();
    if (child == 0) { /* its own ids and groups, none of ours: root's would read what is root's */
        const bool good =
            initgroups(user, as->pw_gid) == 0 && setgid(as->pw_gid) == 0 && setuid(as->pw_uid) == 0;
        _exit(good && access(path, R_OK) == 0 ? 0 : 1);
    }
    int status = 0;
    return child < 0 || (waitpid(child, &status, 0) == child && status == 0);
}

static int systemctl(const char *action, bool units, struct err *e)
{
    const pid_t child = fork();
    int status = 0;
    if (child == 0) {
        execlp("systemctl", "systemctl", action, units ? "llmd.socket" : NULL, "llmd.service",
               (char *)NULL);
        _exit(127);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
        return err_set(e, LLMD_EIO,
                       "systemctl %s did not succeed; what happened: journalctl -u llmd -n 30",
                       action);
    return 0;
}

int setup_start(struct err *e)
{
    /* A socket unit takes new addresses only while its service is stopped. */
    int rc = systemctl("daemon-reload", false, e);
    if (rc == 0)
        (void)!systemctl("reset-failed", true,
                         NULL); /* of tries before there was a configuration */
    if (rc == 0)
        rc = systemctl("stop", true, e);
    if (rc == 0)
        rc = systemctl("start", true, e);
    return rc;
}
