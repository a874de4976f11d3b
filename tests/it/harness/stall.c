/* Loaded before the C library: while the file STALL_WHILE exists, reads, writes and fsyncs of files below the folder
   STALL_DIR block. The first that blocks creates the file STALL_WHILE.reached. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static void stall(int fd) {
    const char *folder = getenv("STALL_DIR"), *flag = getenv("STALL_WHILE");
    char link[64], path[PATH_MAX];
    if (!folder || !flag || access(flag, F_OK) != 0) return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0 || strncmp(path, folder, strlen(folder)) != 0) return;
    snprintf(path, sizeof path, "%s.reached", flag);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    while (access(flag, F_OK) == 0) usleep(5000);
}

#define STALLING(result, name, parameters, arguments)                                  \
    result name parameters {                                                           \
        static result(*real) parameters;                                               \
        if (!real) real = (result(*) parameters)dlsym(RTLD_NEXT, #name);               \
        stall(fd);                                                                     \
        return real arguments;                                                         \
    }

STALLING(int, fsync, (int fd), (fd))
STALLING(int, fdatasync, (int fd), (fd))
STALLING(ssize_t, read, (int fd, void *to, size_t length), (fd, to, length))
STALLING(ssize_t, write, (int fd, const void *from, size_t length), (fd, from, length))
STALLING(ssize_t, pwrite, (int fd, const void *from, size_t length, off_t at), (fd, from, length, at))
STALLING(ssize_t, pwrite64, (int fd, const void *from, size_t length, off64_t at), (fd, from, length, at))
STALLING(int, ftruncate, (int fd, off_t length), (fd, length))
STALLING(int, ftruncate64, (int fd, off64_t length), (fd, length))
