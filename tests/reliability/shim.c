/* Interposed between a process and the C library: counts what it does to the files below one
   folder, and at a chosen one of these operations kills the process, or lets the disk refuse.

   Built and preloaded by crash_server.py, which arms it in a forked process. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { OFF, COUNT, KILL, NO_SPACE, BROKEN };
enum { FILES = 65536, LONGEST = 4096 };

static int mode = OFF, log_to = -1;
static long chosen = -1, done = 0;
static char root[LONGEST];
static char* name_of[FILES]; /* of open files below the folder, by number */

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

void shim_arm(const char* folder, int what, long at, int log) {
    snprintf(root, sizeof root, "%s/", folder);
    mode = what;
    chosen = at;
    done = 0;
    log_to = log;
}

long shim_done(void) { return done; }

static int is_below(const char* path) { return mode != OFF && !strncmp(path, root, strlen(root)); }

static const char* whole(const char* path, char* room) {
    if (path[0] == '/') return path;
    if (!getcwd(room, LONGEST / 2)) return path;
    strcat(room, "/");
    return strncat(room, path, LONGEST / 2 - 2);
}

/* A line of the log, and what was written. */
static void tell(const char* what, const char* path, const char* to, long at, const void* data,
                 size_t size) {
    if (log_to < 0) return;
    char line[3 * LONGEST];
    int n = snprintf(line, sizeof line, "%s\t%s\t%s\t%ld\t%zu\n", what, path, to, at, size);
    if (REAL(write)(log_to, line, n) != n) abort();
    if (size && REAL(write)(log_to, data, size) != (ssize_t)size) abort();
}

/* Called before an operation: whether it is to fail. */
static int fails(int can_be_full) {
    long number = done++;
    if (number != chosen) return 0;
    if (mode == KILL) raise(SIGKILL);
    if (mode == BROKEN) return errno = EIO, 1;
    if (mode == NO_SPACE && can_be_full) return errno = ENOSPC, 1;
    return 0;
}

static int opened(int handle, const char* path, int flags, int existed) {
    if (handle < 0 || handle >= FILES) return handle;
    free(name_of[handle]);
    name_of[handle] = NULL;
    char room[LONGEST];
    const char* full = whole(path, room);
    if (!is_below(full) && strncmp(full, root, strlen(root) - 1)) return handle;
    if (mode == OFF) return handle;
    name_of[handle] = strdup(full);
    if (!existed && (flags & O_CREAT)) tell("create", full, "", 0, NULL, 0);
    if (flags & O_TRUNC) tell("truncate", full, "", 0, NULL, 0);
    return handle;
}

#define OPEN(name, declared, call)                                   \
    int name declared {                                              \
        mode_t rights = 0;                                           \
        if (flags & (O_CREAT | O_TMPFILE)) {                         \
            va_list more;                                            \
            va_start(more, flags);                                   \
            rights = va_arg(more, mode_t);                           \
            va_end(more);                                            \
        }                                                            \
        char room[LONGEST];                                          \
        const char* full = whole(path, room);                        \
        int existed = access(full, F_OK) == 0;                       \
        if (is_below(full) && (flags & O_CREAT) && !existed && fails(1)) return -1; \
        return opened(REAL(name) call, path, flags, existed);        \
    }

OPEN(open, (const char* path, int flags, ...), (path, flags, rights))
OPEN(open64, (const char* path, int flags, ...), (path, flags, rights))
OPEN(openat, (int folder, const char* path, int flags, ...), (folder, path, flags, rights))
OPEN(openat64, (int folder, const char* path, int flags, ...), (folder, path, flags, rights))

static const char* held(int handle) {
    return mode != OFF && handle >= 0 && handle < FILES ? name_of[handle] : NULL;
}

int close(int handle) {
    if (held(handle)) {
        free(name_of[handle]);
        name_of[handle] = NULL;
    }
    return REAL(close)(handle);
}

ssize_t write(int handle, const void* data, size_t size) {
    const char* name = held(handle);
    if (!name) return REAL(write)(handle, data, size);
    if (fails(1)) return -1;
    tell("write", name, "", lseek(handle, 0, SEEK_CUR), data, size);
    return REAL(write)(handle, data, size);
}

#define PWRITE(name, offset)                                                \
    ssize_t name(int handle, const void* data, size_t size, offset at) {    \
        const char* file = held(handle);                                    \
        if (!file) return REAL(name)(handle, data, size, at);               \
        if (fails(1)) return -1;                                            \
        tell("write", file, "", at, data, size);                            \
        return REAL(name)(handle, data, size, at);                          \
    }

PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define SYNC(name)                                     \
    int name(int handle) {                             \
        const char* file = held(handle);               \
        if (!file) return REAL(name)(handle);          \
        if (fails(0)) return -1;                       \
        int result = REAL(name)(handle);               \
        if (!result) tell("sync", file, "", 0, NULL, 0); \
        return result;                                 \
    }

SYNC(fsync)
SYNC(fdatasync)

#define TRUNCATE(name, offset)                             \
    int name(int handle, offset size) {                    \
        const char* file = held(handle);                   \
        if (!file) return REAL(name)(handle, size);        \
        if (fails(1)) return -1;                           \
        tell("truncate", file, "", size, NULL, 0);         \
        return REAL(name)(handle, size);                   \
    }

TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

int rename(const char* from, const char* to) {
    char one[LONGEST], two[LONGEST];
    const char *old = whole(from, one), *new = whole(to, two);
    if (!is_below(new)) return REAL(rename)(from, to);
    if (fails(1)) return -1;
    int result = REAL(rename)(from, to);
    if (!result) tell("rename", old, new, 0, NULL, 0);
    return result;
}

int unlink(const char* path) {
    char room[LONGEST];
    const char* full = whole(path, room);
    if (!is_below(full)) return REAL(unlink)(path);
    if (fails(0)) return -1;
    int result = REAL(unlink)(path);
    if (!result) tell("unlink", full, "", 0, NULL, 0);
    return result;
}
