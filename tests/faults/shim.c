/*
 * An LD_PRELOAD library that stands between a process and one directory. It
 *
 *   records   every call that changes a file below EVERLOG_FAULT_DIR, and every acknowledgement, in order, in
 *             EVERLOG_FAULT_LOG;
 *   kills     the process around the Nth such call;
 *   fails     chosen calls with an errno, without doing them.
 *
 * With EVERLOG_FAULT_DIR unset it does nothing.
 *
 *   EVERLOG_FAULT_DIR        the directory, which must exist
 *   EVERLOG_FAULT_LOG        the recording, appended to; keep it outside that directory
 *   EVERLOG_FAULT_ACK_FD     what the process writes here is an acknowledgement (default 1)
 *   EVERLOG_FAULT_KILL_AT    N: die around the Nth changing call of this process, whatever its kind
 *   EVERLOG_FAULT_KILL_WHEN  before (default), after, or torn: half of the write done; before, if it is no write
 *   EVERLOG_FAULT_FAIL       kind:N:error:M, comma-separated: calls N to N+M-1 of this kind fail. Kinds are in
 *                            `kind_names`; errors are in `error_names`, and SHORT, for writes: half is written and
 *                            the call says so
 *
 * A change and its record are made under one lock, so the recording has the order in which things happened. That
 * also serialises the threads of the process, a price worth paying for a recording that does not lie.
 *
 * Not seen, on purpose: files that end in -shm, SQLite's index in shared memory. It is rebuilt after a crash, and
 * it is changed through mmap anyway. Not seen, beware: changes through other mmaps, io_uring, stdio and hard links.
 */
#define _GNU_SOURCE
#if !defined(__linux__) || !defined(__LP64__)
#error "the shim passes system calls on as 64-bit Linux takes them"
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* ---- The recording: tests/faults/recording.py reads it, so these two change together. ---- */

enum kind {
    WRITE = 'W',
    TRUNCATE = 'T', /* to exactly `offset` bytes */
    GROW = 'G',     /* to at least `offset` bytes */
    CREATE = 'C',
    UNLINK = 'U',
    RENAME = 'R', /* `data` is the new name */
    SYNC = 'S',
    SYNC_DIRECTORY = 'D',
    ACK = 'A',
    FAILED = 'F', /* injected; `of` is the kind of call that failed or was shortened */
    KILLED = 'K', /* injected; `of` is the kind of call it died at */
};

struct header {
    uint8_t kind, of;
    uint16_t path_length; /* of the path below the directory, which follows the header */
    uint32_t data_length; /* of the data, which follows the path */
    int64_t offset;
    uint64_t call; /* the number EVERLOG_FAULT_KILL_AT means */
};
_Static_assert(sizeof(struct header) == 24, "recording.py unpacks 24 bytes");

/* ---- What to do, read from the environment once. ---- */

static const struct { const char *name; enum kind kind; } kind_names[] = {
    {"write", WRITE}, {"truncate", TRUNCATE}, {"allocate", GROW}, {"create", CREATE},
    {"unlink", UNLINK}, {"rename", RENAME}, {"fsync", SYNC}, /* fsync, fdatasync, of files and of directories */
};

enum { SHORT = -1 };
static const struct { const char *name; int number; } error_names[] = {
    {"EIO", EIO}, {"ENOSPC", ENOSPC}, {"EDQUOT", EDQUOT}, {"EROFS", EROFS}, {"EACCES", EACCES},
    {"EFBIG", EFBIG}, {"EINTR", EINTR}, {"EMFILE", EMFILE}, {"ENFILE", ENFILE}, {"SHORT", SHORT},
};

#define LENGTH(array) (sizeof(array) / sizeof *(array))

struct rule {
    enum kind kind;
    int error;
    unsigned long first, count, seen;
};

static struct {
    bool active;
    char root[PATH_MAX];
    size_t root_length;
    int log, acks;
    unsigned long calls, kill_at;
    enum { BEFORE, AFTER, TORN } kill_when;
    struct rule rules[8];
    size_t rule_count;
} plan;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* A harness that quietly does nothing would let every test pass. */
static void give_up(const char *why, const char *value)
{
    dprintf(STDERR_FILENO, "fault shim: %s: %s\n", why, value);
    _exit(96);
}

static unsigned long number(const char *text)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end)
        give_up("not a number", text);
    return value;
}

static struct rule parse_rule(char *text)
{
    char *rest = NULL, *kind = strtok_r(text, ":", &rest), *first = strtok_r(NULL, ":", &rest),
         *error = strtok_r(NULL, ":", &rest), *count = strtok_r(NULL, ":", &rest);
    if (!count)
        give_up("EVERLOG_FAULT_FAIL wants kind:N:error:M, not", text);
    struct rule rule = {.first = number(first), .count = number(count)};
    for (size_t i = 0; i < LENGTH(kind_names); i++)
        if (!strcmp(kind, kind_names[i].name))
            rule.kind = kind_names[i].kind;
    for (size_t i = 0; i < LENGTH(error_names); i++)
        if (!strcmp(error, error_names[i].name))
            rule.error = error_names[i].number;
    if (!rule.kind)
        give_up("unknown kind of call", kind);
    if (!rule.error || (rule.error == SHORT && rule.kind != WRITE))
        give_up("unknown error for that kind", error);
    return rule;
}

static void parse_rules(const char *spec)
{
    static char copy[1024];
    if (strlen(spec) >= sizeof copy)
        give_up("too long", spec);
    char *rest = NULL;
    for (char *text = strtok_r(strcpy(copy, spec), ",", &rest); text; text = strtok_r(NULL, ",", &rest)) {
        if (plan.rule_count == LENGTH(plan.rules))
            give_up("more than 8 rules", spec);
        plan.rules[plan.rule_count++] = parse_rule(text);
    }
}

static void parse_kill(const char *at, const char *when)
{
    if (at)
        plan.kill_at = number(at);
    if (!when || !strcmp(when, "before"))
        plan.kill_when = BEFORE;
    else if (!strcmp(when, "after"))
        plan.kill_when = AFTER;
    else if (!strcmp(when, "torn"))
        plan.kill_when = TORN;
    else
        give_up("EVERLOG_FAULT_KILL_WHEN is before, after or torn, not", when);
}

static int open_log(const char *path)
{
    int low = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (low < 0)
        give_up("cannot open EVERLOG_FAULT_LOG", path);
    /* High up, so that the process gets the descriptor numbers it would get without us. */
    int high = fcntl(low, F_DUPFD_CLOEXEC, 500);
    if (high < 0)
        return low;
    syscall(SYS_close, low);
    return high;
}

static void take_lock(void) { pthread_mutex_lock(&lock); }
static void drop_lock(void) { pthread_mutex_unlock(&lock); }

/* Exported, because a fork of a waiting process learns only then what it has to suffer: see nursery.py. */
void everlog_fault_start(void)
{
    const char *directory = getenv("EVERLOG_FAULT_DIR"), *log = getenv("EVERLOG_FAULT_LOG"),
               *acks = getenv("EVERLOG_FAULT_ACK_FD"), *fail = getenv("EVERLOG_FAULT_FAIL");
    if (!directory)
        return;
    if (!realpath(directory, plan.root))
        give_up("EVERLOG_FAULT_DIR does not exist", directory);
    if (!log)
        give_up("EVERLOG_FAULT_LOG is not set, but the directory is", directory);
    plan.root_length = strlen(plan.root);
    plan.log = open_log(log);
    plan.acks = acks ? (int)number(acks) : STDOUT_FILENO;
    parse_kill(getenv("EVERLOG_FAULT_KILL_AT"), getenv("EVERLOG_FAULT_KILL_WHEN"));
    if (fail)
        parse_rules(fail);
    /* A child forked while another thread holds the lock would wait for it for ever. */
    pthread_atfork(take_lock, drop_lock, drop_lock);
    plan.active = true;
}

__attribute__((constructor)) static void start(void) { everlog_fault_start(); }

/* ---- Which files are watched. ---- */

static bool ends_in(const char *text, const char *end)
{
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && !strcmp(text + length - tail, end);
}

/* The path below the directory ("" for the directory itself), or NULL if it is none of our business. */
static const char *below_root(const char *path)
{
    if (strncmp(path, plan.root, plan.root_length))
        return NULL;
    const char *rest = path + plan.root_length;
    if (*rest != '/' && *rest != '\0')
        return NULL;
    if (ends_in(rest, "-shm") || ends_in(rest, " (deleted)"))
        return NULL;
    return *rest ? rest + 1 : rest;
}

static bool path_of(int fd, char path[PATH_MAX])
{
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = '\0';
    return length > 0;
}

/* Asking the kernel each time costs a microsecond, and cannot be fooled by dup, rename or a closed descriptor. */
static const char *watched(int fd, char path[PATH_MAX])
{
    return plan.active && path_of(fd, path) ? below_root(path) : NULL;
}

/* As `watched`, for a name that may not exist yet: its directory is resolved, its last part is kept. */
static const char *watched_name(int directory, const char *name, char path[PATH_MAX])
{
    char given[PATH_MAX] = "";
    if (!plan.active)
        return NULL;
    if (*name != '/' && directory != AT_FDCWD && !path_of(directory, given))
        return NULL;
    if (strlen(given) + 1 + strlen(name) >= sizeof given)
        return NULL;
    if (*given)
        strcat(given, "/");
    strcat(given, name);

    char *slash = strrchr(given, '/'), *last = slash ? slash + 1 : given, kept[NAME_MAX + 1];
    if (strlen(last) > NAME_MAX)
        return NULL;
    strcpy(kept, last);
    *last = '\0';
    if (!realpath(*given ? given : ".", path) || strlen(path) + 1 + strlen(kept) >= PATH_MAX)
        return NULL;
    if (!ends_in(path, "/"))
        strcat(path, "/");
    return below_root(strcat(path, kept));
}

/* ---- Recording and judging. All of it runs under the lock. ---- */

static void record(enum kind kind, enum kind of, const char *path, int64_t offset, const void *data, size_t length)
{
    struct header header = {kind, of, (uint16_t)strlen(path), (uint32_t)length, offset, plan.calls};
    struct iovec parts[] = {
        {&header, sizeof header}, {(void *)path, header.path_length}, {(void *)data, length}};
    /* One call, because processes that append to one log must not mix their records. */
    ssize_t written = syscall(SYS_writev, plan.log, parts, LENGTH(parts));
    if (written != (ssize_t)(sizeof header + header.path_length + length))
        give_up("cannot write the recording", strerror(errno));
}

static void change(enum kind kind, const char *path, int64_t offset)
{
    record(kind, 0, path, offset, NULL, 0);
}

static void die(enum kind of, const char *path)
{
    record(KILLED, of, path, 0, NULL, 0);
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

static int planned_error(enum kind kind)
{
    int error = 0;
    enum kind named = kind == SYNC_DIRECTORY ? SYNC : kind;
    for (struct rule *rule = plan.rules; rule < plan.rules + plan.rule_count; rule++)
        if (rule->kind == named && ++rule->seen >= rule->first && rule->seen - rule->first < rule->count && !error)
            error = rule->error; /* no early exit: every rule counts every call */
    return error;
}

enum fate { GOES, FAILS, IS_CUT_SHORT, DIES_TORN, DIES_AFTER };

/* Called once for each changing call, before it is made. */
static enum fate judge(enum kind kind, const char *path)
{
    if (++plan.calls == plan.kill_at) {
        if (plan.kill_when == AFTER)
            return DIES_AFTER;
        if (plan.kill_when == TORN && kind == WRITE)
            return DIES_TORN;
        die(kind, path);
    }
    int error = planned_error(kind);
    if (!error)
        return GOES;
    record(FAILED, kind, path, 0, NULL, 0);
    if (error == SHORT)
        return IS_CUT_SHORT;
    errno = error;
    return FAILS;
}

static enum fate enter(enum kind kind, const char *path)
{
    take_lock();
    return judge(kind, path);
}

static long leave(enum fate fate, enum kind kind, const char *path, long result)
{
    int error = errno;
    if (fate == DIES_AFTER || fate == DIES_TORN)
        die(kind, path);
    drop_lock();
    errno = error;
    return result;
}

/* ---- The calls. Each goes straight to the kernel: no dlsym, so nothing depends on who was loaded first. ---- */

enum { AT_POSITION = -1 };

static ssize_t plain_write(int fd, const void *data, size_t size, off_t offset)
{
    return offset == AT_POSITION ? syscall(SYS_write, fd, data, size) : syscall(SYS_pwrite64, fd, data, size, offset);
}

static ssize_t acknowledge(const void *data, size_t size)
{
    take_lock();
    ssize_t done = plain_write(plan.acks, data, size, AT_POSITION);
    if (done > 0)
        record(ACK, 0, "", 0, data, (size_t)done);
    return leave(GOES, ACK, "", done);
}

static ssize_t any_write(int fd, const void *data, size_t size, off_t offset)
{
    char path[PATH_MAX];
    if (plan.active && fd == plan.acks)
        return acknowledge(data, size);
    const char *name = watched(fd, path);
    if (!name)
        return plain_write(fd, data, size, offset);

    enum fate fate = enter(WRITE, name);
    size_t wanted = fate == DIES_TORN || fate == IS_CUT_SHORT ? size / 2 : size;
    ssize_t done = fate == FAILS ? -1 : plain_write(fd, data, wanted, offset);
    if (done > 0) {
        /* Asked afterwards, so that it is right for O_APPEND too. */
        off_t begin = offset == AT_POSITION ? lseek(fd, 0, SEEK_CUR) - done : offset;
        record(WRITE, 0, name, begin, data, (size_t)done);
    }
    return leave(fate, WRITE, name, done);
}

/* Gathered into one buffer, because a recording knows only plain writes. */
static ssize_t gathered_write(int fd, const struct iovec *parts, int count, off_t offset)
{
    size_t size = 0;
    for (int i = 0; i < count; i++)
        size += parts[i].iov_len;
    char *all = malloc(size ? size : 1), *end = all;
    if (!all) {
        errno = ENOMEM;
        return -1;
    }
    for (int i = 0; i < count; end += parts[i++].iov_len)
        memcpy(end, parts[i].iov_base, parts[i].iov_len);
    ssize_t done = any_write(fd, all, size, offset);
    int error = errno;
    free(all);
    errno = error;
    return done;
}

ssize_t write(int fd, const void *data, size_t size) { return any_write(fd, data, size, AT_POSITION); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return any_write(fd, data, size, offset); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) { return any_write(fd, data, size, offset); }

static bool gathers(int fd)
{
    char path[PATH_MAX];
    return plan.active && (fd == plan.acks || watched(fd, path));
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    return gathers(fd) ? gathered_write(fd, parts, count, AT_POSITION) : syscall(SYS_writev, fd, parts, count);
}

/* Of the flags only RWF_APPEND would change what is stored; nobody uses it here. */
ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off64_t offset, int flags)
{
    return gathers(fd) ? gathered_write(fd, parts, count, offset)
                       : syscall(SYS_pwritev2, fd, parts, count, offset, 0, flags);
}
ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    return pwritev64v2(fd, parts, count, offset, flags);
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset)
{
    return pwritev64v2(fd, parts, count, offset, 0);
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    return pwritev64v2(fd, parts, count, offset, 0);
}

static int any_truncate(int fd, off_t size)
{
    char path[PATH_MAX];
    const char *name = watched(fd, path);
    if (!name)
        return (int)syscall(SYS_ftruncate, fd, size);
    enum fate fate = enter(TRUNCATE, name);
    long result = fate == FAILS ? -1 : syscall(SYS_ftruncate, fd, size);
    if (result == 0)
        change(TRUNCATE, name, size);
    return (int)leave(fate, TRUNCATE, name, result);
}

int ftruncate(int fd, off_t size) { return any_truncate(fd, size); }
int ftruncate64(int fd, off64_t size) { return any_truncate(fd, size); }

static int truncate_by_name(const char *path, off_t size)
{
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    int result = any_truncate(fd, size), error = errno;
    syscall(SYS_close, fd);
    errno = error;
    return result;
}

int truncate(const char *path, off_t size) { return truncate_by_name(path, size); }
int truncate64(const char *path, off64_t size) { return truncate_by_name(path, size); }

static int any_fallocate(int fd, int mode, off_t offset, off_t size)
{
    char path[PATH_MAX];
    const char *name = watched(fd, path);
    if (!name)
        return (int)syscall(SYS_fallocate, fd, mode, offset, size);
    if (mode != 0) { /* holes and the like: a recording has no word for them */
        errno = EOPNOTSUPP;
        return -1;
    }
    enum fate fate = enter(GROW, name);
    long result = fate == FAILS ? -1 : syscall(SYS_fallocate, fd, 0, offset, size);
    if (result == 0)
        change(GROW, name, offset + size);
    return (int)leave(fate, GROW, name, result);
}

int fallocate(int fd, int mode, off_t offset, off_t size) { return any_fallocate(fd, mode, offset, size); }
int fallocate64(int fd, int mode, off64_t offset, off64_t size) { return any_fallocate(fd, mode, offset, size); }
int posix_fallocate(int fd, off_t offset, off_t size) { return any_fallocate(fd, 0, offset, size) ? errno : 0; }
int posix_fallocate64(int fd, off64_t offset, off64_t size) { return any_fallocate(fd, 0, offset, size) ? errno : 0; }

static int any_sync(int fd, long call)
{
    char path[PATH_MAX];
    struct stat about;
    const char *name = watched(fd, path);
    if (!name)
        return (int)syscall(call, fd);
    enum kind kind = fstat(fd, &about) == 0 && S_ISDIR(about.st_mode) ? SYNC_DIRECTORY : SYNC;
    enum fate fate = enter(kind, name);
    long result = fate == FAILS ? -1 : syscall(call, fd);
    if (result == 0)
        change(kind, name, 0);
    return (int)leave(fate, kind, name, result);
}

int fsync(int fd) { return any_sync(fd, SYS_fsync); }
int fdatasync(int fd) { return any_sync(fd, SYS_fdatasync); }

static int any_unlink(int directory, const char *path, int flags)
{
    char full[PATH_MAX];
    const char *name = flags & AT_REMOVEDIR ? NULL : watched_name(directory, path, full);
    if (!name)
        return (int)syscall(SYS_unlinkat, directory, path, flags);
    enum fate fate = enter(UNLINK, name);
    long result = fate == FAILS ? -1 : syscall(SYS_unlinkat, directory, path, flags);
    if (result == 0)
        change(UNLINK, name, 0);
    return (int)leave(fate, UNLINK, name, result);
}

int unlink(const char *path) { return any_unlink(AT_FDCWD, path, 0); }
int unlinkat(int directory, const char *path, int flags) { return any_unlink(directory, path, flags); }

static int any_rename(int from_directory, const char *from, int to_directory, const char *to)
{
    char from_full[PATH_MAX], to_full[PATH_MAX];
    const char *old = watched_name(from_directory, from, from_full), *new = watched_name(to_directory, to, to_full);
    if (!old && !new)
        return (int)syscall(SYS_renameat2, from_directory, from, to_directory, to, 0);
    if (!old || !new)
        give_up("cannot record a rename across the edge of EVERLOG_FAULT_DIR", from);
    enum fate fate = enter(RENAME, old);
    long result = fate == FAILS ? -1 : syscall(SYS_renameat2, from_directory, from, to_directory, to, 0);
    if (result == 0)
        record(RENAME, 0, old, 0, new, strlen(new));
    return (int)leave(fate, RENAME, old, result);
}

int rename(const char *from, const char *to) { return any_rename(AT_FDCWD, from, AT_FDCWD, to); }
int renameat(int from_directory, const char *from, int to_directory, const char *to)
{
    return any_rename(from_directory, from, to_directory, to);
}

/* Opening changes something only where it makes a file or empties one. */
static int watched_open(int directory, const char *path, int flags, mode_t mode, const char *full, const char *name)
{
    struct stat before;
    take_lock(); /* before looking: two threads may both find no file, and only one of them makes it */
    bool existed = fstatat(AT_FDCWD, full, &before, 0) == 0;
    bool empties = existed && (flags & O_TRUNC) && before.st_size > 0;
    bool creates = !existed && (flags & O_CREAT);
    enum kind kind = creates ? CREATE : TRUNCATE;
    enum fate fate = creates || empties ? judge(kind, name) : GOES;
    long fd = fate == FAILS ? -1 : syscall(SYS_openat, directory, path, flags, mode);
    if (fd >= 0 && (creates || empties))
        change(kind, name, 0);
    return (int)leave(fate, kind, name, fd);
}

static int any_open(int directory, const char *path, int flags, mode_t mode)
{
    char full[PATH_MAX];
    const char *name = flags & (O_CREAT | O_TRUNC) ? watched_name(directory, path, full) : NULL;
    if (!name)
        return (int)syscall(SYS_openat, directory, path, flags, mode);
    return watched_open(directory, path, flags, mode, full, name);
}

/* The mode argument exists only where the flags ask for it, but reading it regardless is harmless on 64-bit ABIs. */
#define MODE_AFTER(last) ({ va_list rest; va_start(rest, last); mode_t m = va_arg(rest, mode_t); va_end(rest); m; })

int open(const char *path, int flags, ...) { return any_open(AT_FDCWD, path, flags, MODE_AFTER(flags)); }
int open64(const char *path, int flags, ...) { return any_open(AT_FDCWD, path, flags, MODE_AFTER(flags)); }
int openat(int directory, const char *path, int flags, ...)
{
    return any_open(directory, path, flags, MODE_AFTER(flags));
}
int openat64(int directory, const char *path, int flags, ...)
{
    return any_open(directory, path, flags, MODE_AFTER(flags));
}
int creat(const char *path, mode_t mode) { return any_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return any_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

/* Copies inside the kernel pass us by, so we refuse them; callers fall back to read and write. */
ssize_t sendfile(int out, int in, off_t *offset, size_t count)
{
    char path[PATH_MAX];
    if (!watched(out, path))
        return syscall(SYS_sendfile, out, in, offset, count);
    errno = EINVAL;
    return -1;
}
ssize_t sendfile64(int out, int in, off64_t *offset, size_t count) { return sendfile(out, in, offset, count); }

ssize_t copy_file_range(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t count, unsigned flags)
{
    char path[PATH_MAX];
    if (!watched(out, path))
        return syscall(SYS_copy_file_range, in, in_offset, out, out_offset, count, flags);
    errno = ENOSYS;
    return -1;
}
