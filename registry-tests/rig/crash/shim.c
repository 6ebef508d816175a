/*
 * Stands between a process and libc (LD_PRELOAD), and disturbs it at one of the calls that change
 * files. Calls on sockets, pipes and terminals are let through uncounted. All threads share one
 * count. The process is told what to do by its environment, read at its start and whenever it
 * calls `crash_start`:
 *
 *   CRASH_LOG=FILE    add a line to FILE for every call: its number, its name, its path
 *   CRASH_AT=N        the call that is hit, from 1; none without it
 *   CRASH_CALL=NAME   only calls of this name are numbered
 *   CRASH_HOW=kill    SIGKILL before the call
 *   CRASH_HOW=tear    SIGKILL after the call; of a write only the first half is made
 *   CRASH_HOW=E       the call fails with the error number E
 *   CRASH_ON=1        all later calls fail too; with ENOSPC and EDQUOT those that need space
 *   CRASH_LIE=1       fsync, fdatasync and syncfs do nothing and say that all is well
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PASS = 0, TEAR = -1, NOTHING = -2 };
enum kind { GROWS, CHANGES, SYNCS };

static atomic_long count;
static long at;
static char only[32];
static int how, on, lie, log_fd = -1, armed;

__attribute__((visibility("default"), constructor)) void crash_start(void)
{
    const char *text;
    armed = 0;
    atomic_store(&count, 0);
    at = (text = getenv("CRASH_AT")) ? atol(text) : 0;
    snprintf(only, sizeof only, "%s", (text = getenv("CRASH_CALL")) ? text : "");
    text = getenv("CRASH_HOW");
    how = !text || !strcmp(text, "kill") ? PASS : !strcmp(text, "tear") ? TEAR : atoi(text);
    on = getenv("CRASH_ON") != NULL;
    lie = getenv("CRASH_LIE") != NULL;
    log_fd = (text = getenv("CRASH_LOG"))
        ? (int)syscall(SYS_openat, AT_FDCWD, text, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)
        : -1;
    armed = at || lie || log_fd >= 0;
}

static void die(void)
{
    syscall(SYS_kill, getpid(), SIGKILL);
    /* The first process of a namespace is not to be killed from within. */
    syscall(SYS_exit_group, 128 + SIGKILL);
    __builtin_unreachable();
}

static void note(long number, const char *call, int fd, const char *name)
{
    char path[PATH_MAX] = "", link[40], line[2 * PATH_MAX + 64];
    if (fd >= 0) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = syscall(SYS_readlink, link, path, sizeof path - 1);
        path[length < 0 ? 0 : length] = 0;
    }
    int length = snprintf(line, sizeof line, "%ld %s %s%s%s\n", number, call, path,
                          fd >= 0 && name ? "/" : "", name ? name : "");
    for (int i = 0; i < length - 1; i++)
        if (line[i] == '\n')
            line[i] = '?';
    syscall(SYS_write, log_fd, line, (size_t)length);
}

/* Says what is to become of a call: PASS, NOTHING, TEAR, or the error number it fails with. `name`
   is relative to `fd`; without it the call is on `fd` itself, which has to be a file. */
static int meet(const char *call, enum kind kind, int fd, const char *name)
{
    struct stat found;
    int saved = errno, verdict = PASS;
    if (!armed || (only[0] && strcmp(only, call)))
        return PASS;
    if (!name && (fstat(fd, &found) || !(S_ISREG(found.st_mode) || S_ISDIR(found.st_mode))))
        goto out;
    if (name && name[0] == '/')
        fd = -1;
    long number = atomic_fetch_add(&count, 1) + 1;
    if (log_fd >= 0)
        note(number, call, fd, name);
    if (lie && kind == SYNCS)
        verdict = NOTHING;
    if (at && (number == at || (on && number > at))) {
        if (how == PASS)
            die();
        int needs_space = kind == GROWS || !on || !(how == ENOSPC || how == EDQUOT);
        if (how == TEAR || needs_space)
            verdict = how;
    }
out:
    errno = saved;
    return verdict;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define RUN(kind, call, fd, path, name, ...)                                                       \
    do {                                                                                           \
        static __typeof__(&name) next;                                                             \
        int verdict = meet(call, kind, fd, path);                                                  \
        if (!next)                                                                                 \
            next = NEXT(name);                                                                     \
        if (verdict > 0)                                                                           \
            return errno = verdict, -1;                                                            \
        if (verdict == NOTHING)                                                                    \
            return 0;                                                                              \
        __typeof__(next(__VA_ARGS__)) result = next(__VA_ARGS__);                                  \
        if (verdict == TEAR)                                                                       \
            die();                                                                                 \
        return result;                                                                             \
    } while (0)

/* Of a call that moves bytes, TEAR makes the first half. */
#define HALVE(call, fd, length)                                                                    \
    do {                                                                                           \
        verdict = meet(call, GROWS, fd, NULL);                                                     \
        if (verdict > 0)                                                                           \
            return errno = verdict, -1;                                                            \
        if (verdict == TEAR)                                                                       \
            length /= 2;                                                                           \
    } while (0)

#define FINISH(result)                                                                             \
    do {                                                                                           \
        ssize_t done = result;                                                                     \
        if (verdict == TEAR)                                                                       \
            die();                                                                                 \
        return done;                                                                               \
    } while (0)

/* -- opening -- */

#define CHANGES_FILES(flags) ((flags) & (O_CREAT | O_TRUNC) || ((flags) & O_TMPFILE) == O_TMPFILE)

#define OPEN(name)                                                                                 \
    int name(const char *path, int flags, ...)                                                     \
    {                                                                                              \
        va_list rest;                                                                              \
        va_start(rest, flags);                                                                     \
        mode_t mode = CHANGES_FILES(flags) ? va_arg(rest, mode_t) : 0;                             \
        va_end(rest);                                                                              \
        if (!CHANGES_FILES(flags))                                                                 \
            return NEXT(name)(path, flags);                                                        \
        RUN(GROWS, "open", -1, path, name, path, flags, mode);                                     \
    }
#define OPENAT(name)                                                                               \
    int name(int fd, const char *path, int flags, ...)                                             \
    {                                                                                              \
        va_list rest;                                                                              \
        va_start(rest, flags);                                                                     \
        mode_t mode = CHANGES_FILES(flags) ? va_arg(rest, mode_t) : 0;                             \
        va_end(rest);                                                                              \
        if (!CHANGES_FILES(flags))                                                                 \
            return NEXT(name)(fd, path, flags);                                                    \
        RUN(GROWS, "open", fd, path, name, fd, path, flags, mode);                                 \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
int creat(const char *path, mode_t mode) { RUN(GROWS, "open", -1, path, creat, path, mode); }

/* -- content -- */

ssize_t write(int fd, const void *data, size_t length)
{
    int verdict;
    HALVE("write", fd, length);
    FINISH(NEXT(write)(fd, data, length));
}
ssize_t pwrite(int fd, const void *data, size_t length, off_t place)
{
    int verdict;
    HALVE("pwrite", fd, length);
    FINISH(NEXT(pwrite)(fd, data, length, place));
}
ssize_t pwrite64(int fd, const void *data, size_t length, off64_t place)
{
    int verdict;
    HALVE("pwrite", fd, length);
    FINISH(NEXT(pwrite64)(fd, data, length, place));
}
ssize_t writev(int fd, const struct iovec *parts, int length)
{
    int verdict;
    HALVE("writev", fd, length);
    FINISH(NEXT(writev)(fd, parts, length));
}
ssize_t sendfile(int fd, int source, off_t *place, size_t length)
{
    int verdict;
    HALVE("sendfile", fd, length);
    FINISH(NEXT(sendfile)(fd, source, place, length));
}
ssize_t sendfile64(int fd, int source, off64_t *place, size_t length)
{
    int verdict;
    HALVE("sendfile", fd, length);
    FINISH(NEXT(sendfile64)(fd, source, place, length));
}
ssize_t copy_file_range(int source, off64_t *from, int fd, off64_t *to, size_t length,
                        unsigned flags)
{
    int verdict;
    HALVE("copy_file_range", fd, length);
    FINISH(NEXT(copy_file_range)(source, from, fd, to, length, flags));
}
int ftruncate(int fd, off_t size) { RUN(CHANGES, "ftruncate", fd, NULL, ftruncate, fd, size); }
int ftruncate64(int fd, off64_t size)
{
    RUN(CHANGES, "ftruncate", fd, NULL, ftruncate64, fd, size);
}
int fallocate(int fd, int mode, off_t from, off_t size)
{
    RUN(GROWS, "fallocate", fd, NULL, fallocate, fd, mode, from, size);
}
int fallocate64(int fd, int mode, off64_t from, off64_t size)
{
    RUN(GROWS, "fallocate", fd, NULL, fallocate64, fd, mode, from, size);
}
/* posix_fallocate returns its error number. */
#define POSIX_FALLOCATE(name, type)                                                                \
    int name(int fd, type from, type size)                                                         \
    {                                                                                              \
        int verdict = meet("fallocate", GROWS, fd, NULL);                                          \
        if (verdict > 0)                                                                           \
            return verdict;                                                                        \
        int result = NEXT(name)(fd, from, size);                                                   \
        if (verdict == TEAR)                                                                       \
            die();                                                                                 \
        return result;                                                                             \
    }
POSIX_FALLOCATE(posix_fallocate, off_t)
POSIX_FALLOCATE(posix_fallocate64, off64_t)

/* -- names -- */

int mkdir(const char *path, mode_t mode) { RUN(GROWS, "mkdir", -1, path, mkdir, path, mode); }
int mkdirat(int fd, const char *path, mode_t mode)
{
    RUN(GROWS, "mkdir", fd, path, mkdirat, fd, path, mode);
}
int symlink(const char *target, const char *path)
{
    RUN(GROWS, "symlink", -1, path, symlink, target, path);
}
int symlinkat(const char *target, int fd, const char *path)
{
    RUN(GROWS, "symlink", fd, path, symlinkat, target, fd, path);
}
int link(const char *from, const char *to) { RUN(GROWS, "link", -1, to, link, from, to); }
int linkat(int from_fd, const char *from, int fd, const char *to, int flags)
{
    RUN(GROWS, "link", fd, to, linkat, from_fd, from, fd, to, flags);
}
int rename(const char *from, const char *to) { RUN(CHANGES, "rename", -1, to, rename, from, to); }
int renameat(int from_fd, const char *from, int fd, const char *to)
{
    RUN(CHANGES, "rename", fd, to, renameat, from_fd, from, fd, to);
}
int renameat2(int from_fd, const char *from, int fd, const char *to, unsigned flags)
{
    RUN(CHANGES, "rename", fd, to, renameat2, from_fd, from, fd, to, flags);
}
int unlink(const char *path) { RUN(CHANGES, "unlink", -1, path, unlink, path); }
int unlinkat(int fd, const char *path, int flags)
{
    RUN(CHANGES, flags & AT_REMOVEDIR ? "rmdir" : "unlink", fd, path, unlinkat, fd, path, flags);
}
int rmdir(const char *path) { RUN(CHANGES, "rmdir", -1, path, rmdir, path); }

/* -- attributes -- */

int chmod(const char *path, mode_t mode) { RUN(CHANGES, "chmod", -1, path, chmod, path, mode); }
int fchmod(int fd, mode_t mode) { RUN(CHANGES, "chmod", fd, NULL, fchmod, fd, mode); }
int fchmodat(int fd, const char *path, mode_t mode, int flags)
{
    RUN(CHANGES, "chmod", fd, path, fchmodat, fd, path, mode, flags);
}
int chown(const char *path, uid_t uid, gid_t gid)
{
    RUN(CHANGES, "chown", -1, path, chown, path, uid, gid);
}
int lchown(const char *path, uid_t uid, gid_t gid)
{
    RUN(CHANGES, "chown", -1, path, lchown, path, uid, gid);
}
int fchown(int fd, uid_t uid, gid_t gid) { RUN(CHANGES, "chown", fd, NULL, fchown, fd, uid, gid); }
int fchownat(int fd, const char *path, uid_t uid, gid_t gid, int flags)
{
    RUN(CHANGES, "chown", fd, path, fchownat, fd, path, uid, gid, flags);
}
int futimens(int fd, const struct timespec times[2])
{
    RUN(CHANGES, "utimens", fd, NULL, futimens, fd, times);
}
int utimensat(int fd, const char *path, const struct timespec times[2], int flags)
{
    RUN(CHANGES, "utimens", fd, path, utimensat, fd, path, times, flags);
}
int setxattr(const char *path, const char *key, const void *value, size_t size, int flags)
{
    RUN(GROWS, "setxattr", -1, path, setxattr, path, key, value, size, flags);
}
int lsetxattr(const char *path, const char *key, const void *value, size_t size, int flags)
{
    RUN(GROWS, "setxattr", -1, path, lsetxattr, path, key, value, size, flags);
}
int fsetxattr(int fd, const char *key, const void *value, size_t size, int flags)
{
    RUN(GROWS, "setxattr", fd, NULL, fsetxattr, fd, key, value, size, flags);
}
int ioctl(int fd, unsigned long request, ...)
{
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    if (request != FS_IOC_SETFLAGS)
        return NEXT(ioctl)(fd, request, argument);
    RUN(CHANGES, "setflags", fd, NULL, ioctl, fd, request, argument);
}

/* -- to the disk -- */

int fsync(int fd) { RUN(SYNCS, "fsync", fd, NULL, fsync, fd); }
int fdatasync(int fd) { RUN(SYNCS, "fdatasync", fd, NULL, fdatasync, fd); }
int syncfs(int fd) { RUN(SYNCS, "syncfs", fd, NULL, syncfs, fd); }
