// Notes how long each file was when it was last synced, in SYNCED_DIR under the file's
// name: what a power cut may take is what comes behind. While there is a file "hold" in
// SYNCED_DIR, the disk stands still. Built and preloaded by TestPowerCuts, and by tests of
// package queue.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int note(const char *name, int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    struct stat before;
    int known = fstat(fd, &before) == 0 && S_ISREG(before.st_mode);
    const char *dir = getenv("SYNCED_DIR");
    char link[64], path[4096], to[8192], text[32];
    if (dir) {
        snprintf(to, sizeof to, "%s/hold", dir);
        while (access(to, F_OK) == 0)
            usleep(5000);
    }
    int result = real(fd);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (result != 0 || !known || !dir || n <= 0)
        return result;
    path[n] = 0;
    snprintf(to, sizeof to, "%s%s", dir, strrchr(path, '/'));
    int length = snprintf(text, sizeof text, "%020lld", (long long)before.st_size);
    int out = open(to, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (out >= 0) {
        if (pwrite(out, text, length, 0) != length)
            abort();
        close(out);
    }
    return result;
}

int fdatasync(int fd) { return note("fdatasync", fd); }
int fsync(int fd) { return note("fsync", fd); }
