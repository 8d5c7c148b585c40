/*
 * Writes down what a process does to the files below a folder: every write, truncation, sync, creation,
 * rename and removal, in the order they were done. Loaded with LD_PRELOAD; the folder is TRACE_ROOT (with a
 * slash at its end), the notes go to TRACE_FILE. One note: op, length of the name, offset, length of the data
 * (little endian: u8, u16, u64, u32), name, data. Ops: C created, W written, T truncated, S synced, D folder
 * synced, R renamed (data: the new name), U removed.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define FILES_MAX 1024
#define NAME_BYTES_MAX 128
#define REAL(name) ((__typeof__(&name))real(#name))

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static char names[FILES_MAX][NAME_BYTES_MAX];
static int notes = -1;

static void *
real(const char *name)
{
	return dlsym(RTLD_NEXT, name);
}

/* The part of a path below the root, or NULL. The root itself is ".". */
static const char *
below_root(const char *path)
{
	const char *root = getenv("TRACE_ROOT");
	size_t length = root == NULL ? 0 : strlen(root);

	if (length == 0 || path == NULL)
		return NULL;
	if (strncmp(path, root, length) == 0)
		return path + length;
	if (strncmp(path, root, length - 1) == 0 && path[length - 1] == '\0')
		return ".";
	return NULL;
}

static void
note(char op, const char *name, uint64_t offset, const void *data, uint32_t size)
{
	unsigned char head[15];
	uint16_t name_size = (uint16_t)strlen(name);

	if (notes < 0)
		notes = REAL(open)(getenv("TRACE_FILE"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	head[0] = (unsigned char)op;
	memcpy(head + 1, &name_size, 2);
	memcpy(head + 3, &offset, 8);
	memcpy(head + 11, &size, 4);
	if (REAL(write)(notes, head, sizeof(head)) != (ssize_t)sizeof(head) ||
	    REAL(write)(notes, name, name_size) != name_size ||
	    (size > 0 && REAL(write)(notes, data, size) != (ssize_t)size))
		abort();
}

static const char *
name_of(int descriptor)
{
	if (descriptor < 0 || descriptor >= FILES_MAX || names[descriptor][0] == '\0')
		return NULL;
	return names[descriptor];
}

static int
opened(int descriptor, const char *name, int existed, int flags)
{
	if (descriptor < 0 || descriptor >= FILES_MAX || name == NULL)
		return descriptor;
	strncpy(names[descriptor], name, NAME_BYTES_MAX - 1);
	if ((flags & O_CREAT) != 0 && !existed)
		note('C', name, 0, NULL, 0);
	else if ((flags & O_TRUNC) != 0)
		note('T', name, 0, NULL, 0);
	return descriptor;
}

#define OPEN(function)                                                                 \
	int function(const char *path, int flags, ...)                                 \
	{                                                                              \
		const char *name = below_root(path);                                   \
		mode_t mode = 0;                                                       \
		int existed, descriptor;                                               \
		va_list arguments;                                                     \
                                                                                       \
		va_start(arguments, flags);                                            \
		if ((flags & O_CREAT) != 0)                                            \
			mode = (mode_t)va_arg(arguments, int);                         \
		va_end(arguments);                                                     \
		pthread_mutex_lock(&turn);                                             \
		existed = name == NULL || access(path, F_OK) == 0;                     \
		descriptor = opened(REAL(function)(path, flags, mode), name, existed, flags); \
		pthread_mutex_unlock(&turn);                                           \
		return descriptor;                                                     \
	}

OPEN(open)
OPEN(open64)

int
close(int descriptor)
{
	pthread_mutex_lock(&turn);
	if (name_of(descriptor) != NULL)
		names[descriptor][0] = '\0';
	pthread_mutex_unlock(&turn);
	return REAL(close)(descriptor);
}

ssize_t
write(int descriptor, const void *data, size_t size)
{
	ssize_t done;
	off_t offset;

	if (name_of(descriptor) == NULL)
		return REAL(write)(descriptor, data, size);
	pthread_mutex_lock(&turn);
	offset = lseek(descriptor, 0, SEEK_CUR);
	done = REAL(write)(descriptor, data, size);
	if (done > 0)
		note('W', names[descriptor], (uint64_t)offset, data, (uint32_t)done);
	pthread_mutex_unlock(&turn);
	return done;
}

#define PWRITE(function, offset_type)                                                  \
	ssize_t function(int descriptor, const void *data, size_t size, offset_type offset) \
	{                                                                              \
		ssize_t done;                                                          \
                                                                                       \
		pthread_mutex_lock(&turn);                                             \
		done = REAL(function)(descriptor, data, size, offset);                 \
		if (done > 0 && name_of(descriptor) != NULL)                           \
			note('W', names[descriptor], (uint64_t)offset, data, (uint32_t)done); \
		pthread_mutex_unlock(&turn);                                           \
		return done;                                                           \
	}

PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define TRUNCATE(function, offset_type)                                                \
	int function(int descriptor, offset_type size)                                 \
	{                                                                              \
		int done;                                                              \
                                                                                       \
		pthread_mutex_lock(&turn);                                             \
		done = REAL(function)(descriptor, size);                               \
		if (done == 0 && name_of(descriptor) != NULL)                          \
			note('T', names[descriptor], (uint64_t)size, NULL, 0);         \
		pthread_mutex_unlock(&turn);                                           \
		return done;                                                           \
	}

TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

#define SYNC(function)                                                                 \
	int function(int descriptor)                                                   \
	{                                                                              \
		struct stat found;                                                     \
		int done;                                                              \
                                                                                       \
		pthread_mutex_lock(&turn);                                             \
		done = REAL(function)(descriptor);                                     \
		if (done == 0 && name_of(descriptor) != NULL && fstat(descriptor, &found) == 0) \
			note(S_ISDIR(found.st_mode) ? 'D' : 'S', names[descriptor], 0, NULL, 0); \
		pthread_mutex_unlock(&turn);                                           \
		return done;                                                           \
	}

SYNC(fsync)
SYNC(fdatasync)

int
rename(const char *from, const char *to)
{
	const char *name = below_root(from), *new_name = below_root(to);
	int done;

	pthread_mutex_lock(&turn);
	done = REAL(rename)(from, to);
	if (done == 0 && name != NULL && new_name != NULL)
		note('R', name, 0, new_name, (uint32_t)strlen(new_name));
	pthread_mutex_unlock(&turn);
	return done;
}

int
unlink(const char *path)
{
	const char *name = below_root(path);
	int done;

	pthread_mutex_lock(&turn);
	done = REAL(unlink)(path);
	if (done == 0 && name != NULL)
		note('U', name, 0, NULL, 0);
	pthread_mutex_unlock(&turn);
	return done;
}
