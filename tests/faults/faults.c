/* Lets one operation on files fail that a job does in the directory of its run.
 *
 * To be preloaded into the programs of a job, which count their operations together, in a
 * file below FAULTS_COUNTS. The script itself and Slurm's log are left alone: slurmd has
 * a copy of the one, and has opened the other. With all variables set:
 *
 *     FAULTS_BELOW   a part of the paths that are meant
 *     FAULTS_AT      which operation fails, from 1 on; of the tasks of an array each one
 *                    fails at another operation, so many plus their index
 *     FAULTS_ERRNO   with which error
 *     FAULTS_FOR     for how many milliseconds all operations fail from then on; 0: none
 *                    but this one
 *     FAULTS_COUNTS  a directory elsewhere; its file "told" gets a line for each fault
 *
 *     cc -shared -fPIC -O2 -o faults.so faults.c -ldl
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static struct shared { long count, until_ms; } *shared;
static const char *below;
static long at, error, for_ms;

static long number_of(const char *name)
{
	const char *text = getenv(name);

	return text ? atol(text) : 0;
}

static long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

__attribute__((constructor)) static void start(void)
{
	const char *counts = getenv("FAULTS_COUNTS"), *job = getenv("SLURM_JOB_ID");
	char path[4096];
	void *place;
	int file;

	below = getenv("FAULTS_BELOW");
	if (!below || !counts || !job)
		return;
	at = number_of("FAULTS_AT") + number_of("SLURM_ARRAY_TASK_ID");
	error = number_of("FAULTS_ERRNO");
	for_ms = number_of("FAULTS_FOR");
	snprintf(path, sizeof(path), "%s/%s", counts, job);
	file = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (file < 0)
		return;
	syscall(SYS_ftruncate, file, sizeof(*shared));
	place = mmap(0, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	syscall(SYS_close, file);
	if (place != MAP_FAILED)
		shared = place;
}

static void tell(const char *what, const char *path)
{
	char told[4096], line[8192];
	int file, size;

	snprintf(told, sizeof(told), "%s/told", getenv("FAULTS_COUNTS"));
	size = snprintf(line, sizeof(line), "%ld %s %s\n", at, what, path);
	file = syscall(SYS_openat, AT_FDCWD, told, O_WRONLY | O_CREAT | O_APPEND, 0600);
	syscall(SYS_write, file, line, size);
	syscall(SYS_close, file);
}

/* Whether the operation that comes is to fail; errno is set then. */
static int fails(const char *what, const char *path)
{
	int saved = errno;
	long count, until;

	if (!shared || !path || !strstr(path, below) || strstr(path, "/logs/") ||
	    strstr(path, "/script.sh"))
		return 0;
	count = __atomic_add_fetch(&shared->count, 1, __ATOMIC_SEQ_CST);
	if (count == at && for_ms)
		__atomic_store_n(&shared->until_ms, now_ms() + for_ms, __ATOMIC_SEQ_CST);
	until = __atomic_load_n(&shared->until_ms, __ATOMIC_SEQ_CST);
	if (count == at)
		tell(what, path);
	errno = saved;
	if (count != at && !(until && now_ms() < until))
		return 0;
	errno = error;
	return 1;
}

static int descriptor_fails(const char *what, int file)
{
	char link[32], path[4096];
	int saved = errno;
	long size;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", file);
	size = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof(path) - 1);
	errno = saved;
	if (size < 0)
		return 0;
	path[size] = 0;
	return fails(what, path);
}

static void *real(const char *name)
{
	return dlsym(RTLD_NEXT, name);
}

#define ON_PATH(type, bad, name, path, parameters, ...)                            \
	type name parameters                                                       \
	{                                                                          \
		static type(*next) parameters;                                     \
		if (!next)                                                         \
			next = (type(*) parameters)real(#name);                    \
		return fails(#name, path) ? bad : next(__VA_ARGS__);               \
	}

#define ON_FILE(type, bad, name, parameters, ...)                                  \
	type name parameters                                                       \
	{                                                                          \
		static type(*next) parameters;                                     \
		if (!next)                                                         \
			next = (type(*) parameters)real(#name);                    \
		return descriptor_fails(#name, file) ? bad : next(__VA_ARGS__);    \
	}

#define OPEN(name)                                                                 \
	int name(const char *path, int flags, ...)                                 \
	{                                                                          \
		static int (*next)(const char *, int, ...);                        \
		mode_t mode = 0;                                                   \
		if (flags & (O_CREAT | __O_TMPFILE)) {                             \
			va_list rest;                                              \
			va_start(rest, flags);                                     \
			mode = va_arg(rest, mode_t);                               \
			va_end(rest);                                              \
		}                                                                  \
		if (!next)                                                         \
			next = real(#name);                                        \
		return fails(#name, path) ? -1 : next(path, flags, mode);          \
	}

OPEN(open)
OPEN(open64)
ON_PATH(FILE *, 0, fopen, path, (const char *path, const char *mode), path, mode)
ON_PATH(FILE *, 0, fopen64, path, (const char *path, const char *mode), path, mode)
ON_PATH(DIR *, 0, opendir, path, (const char *path), path)
ON_PATH(int, -1, stat, path, (const char *path, struct stat *to), path, to)
ON_PATH(int, -1, lstat, path, (const char *path, struct stat *to), path, to)
ON_PATH(int, -1, stat64, path, (const char *path, struct stat64 *to), path, to)
ON_PATH(int, -1, lstat64, path, (const char *path, struct stat64 *to), path, to)
ON_PATH(int, -1, fstatat, path, (int at, const char *path, struct stat *to, int flags),
	at, path, to, flags)
ON_PATH(int, -1, fstatat64, path,
	(int at, const char *path, struct stat64 *to, int flags), at, path, to, flags)
ON_PATH(int, -1, access, path, (const char *path, int mode), path, mode)
ON_PATH(int, -1, mkdir, path, (const char *path, mode_t mode), path, mode)
ON_PATH(int, -1, rmdir, path, (const char *path), path)
ON_PATH(int, -1, unlink, path, (const char *path), path)
ON_PATH(int, -1, unlinkat, path, (int at, const char *path, int flags), at, path, flags)
ON_PATH(int, -1, symlink, path, (const char *text, const char *path), text, path)
ON_PATH(int, -1, symlinkat, path, (const char *text, int at, const char *path), text,
	at, path)
ON_PATH(int, -1, link, path, (const char *from, const char *path), from, path)
ON_PATH(int, -1, rename, path, (const char *from, const char *path), from, path)
ON_PATH(ssize_t, -1, readlink, path, (const char *path, char *to, size_t size), path,
	to, size)
ON_FILE(int, -1, fstat, (int file, struct stat *to), file, to)
ON_FILE(int, -1, fstat64, (int file, struct stat64 *to), file, to)
ON_FILE(ssize_t, -1, read, (int file, void *to, size_t size), file, to, size)
ON_FILE(ssize_t, -1, pread, (int file, void *to, size_t size, off_t from), file, to,
	size, from)
ON_FILE(ssize_t, -1, pread64, (int file, void *to, size_t size, off64_t from), file, to,
	size, from)
ON_FILE(ssize_t, -1, write, (int file, const void *from, size_t size), file, from, size)
ON_FILE(ssize_t, -1, pwrite, (int file, const void *from, size_t size, off_t to), file,
	from, size, to)
ON_FILE(ssize_t, -1, pwrite64, (int file, const void *from, size_t size, off64_t to),
	file, from, size, to)
ON_FILE(int, -1, fsync, (int file), file)
ON_FILE(int, -1, ftruncate, (int file, off_t size), file, size)
ON_FILE(int, -1, ftruncate64, (int file, off64_t size), file, size)

/* As the kernel does it, the descriptor is closed all the same. */
int close(int file)
{
	static int (*next)(int);
	int failed = descriptor_fails("close", file), error_now = errno, result;

	if (!next)
		next = real("close");
	result = next(file);
	if (!failed)
		return result;
	errno = error_now;
	return -1;
}

struct dirent64 *readdir64(DIR *directory)
{
	static struct dirent64 *(*next)(DIR *);

	if (!next)
		next = real("readdir64");
	return descriptor_fails("readdir", dirfd(directory)) ? 0 : next(directory);
}

struct dirent *readdir(DIR *directory)
{
	static struct dirent *(*next)(DIR *);

	if (!next)
		next = real("readdir");
	return descriptor_fails("readdir", dirfd(directory)) ? 0 : next(directory);
}
