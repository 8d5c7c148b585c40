/*
 * Meters at the other end of pseudo-terminals that take the time of a wire.
 *
 *     paced_line BAUD TURNAROUND_US BITS_PER_BYTE LINES
 *
 * Prints the path of each line's terminal, then answers every "read holding registers" request, register number as
 * value, until its input ends; then prints one line per terminal: requests, gaps broken, nanoseconds that the line
 * stood still without need. An answer is due at the end of the request's bytes, the turnaround and the answer's own
 * bytes. The next request may begin t3.5 after the answer was handed over; one that comes earlier has broken the gap
 * and is taken as if it had kept it, one that comes later has left the line unused. Our own lateness is nobody's fault
 * and is not counted.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { LINES_MAX = 64, REQUEST_BYTES = 8, ANSWER_OVERHEAD = 5, REGISTERS_MAX = 125 };

struct line {
	int master, held;
	uint8_t request[REQUEST_BYTES];
	size_t received;
	uint8_t answer[ANSWER_OVERHEAD + 2 * REGISTERS_MAX];
	size_t answer_bytes;
	int64_t due_ns, quiet_ns; /* 0: nothing due; when the last answer was handed over */
	int64_t requests, gaps_broken, unused_ns;
};

static struct line lines[LINES_MAX];
static int64_t byte_ns, turnaround_ns, gap_ns;

static int64_t
now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static uint16_t
crc16(const uint8_t *data, size_t bytes)
{
	uint16_t crc = 0xFFFF;

	for (size_t index = 0; index < bytes; index++) {
		crc ^= data[index];
		for (int bit = 0; bit < 8; bit++)
			crc = (uint16_t)((crc & 1) ? (crc >> 1) ^ 0xA001 : crc >> 1);
	}
	return crc;
}

static void
make_answer(struct line *line)
{
	const uint8_t *request = line->request;
	unsigned address = (unsigned)request[2] << 8 | request[3];
	unsigned count = (unsigned)request[4] << 8 | request[5];
	uint8_t *answer = line->answer;
	uint16_t crc;
	size_t bytes = 3;

	if (count > REGISTERS_MAX)
		count = REGISTERS_MAX;
	answer[0] = request[0];
	answer[1] = request[1];
	answer[2] = (uint8_t)(2 * count);
	for (unsigned index = address; index < address + count; index++) {
		answer[bytes++] = (uint8_t)(index >> 8);
		answer[bytes++] = (uint8_t)index;
	}
	crc = crc16(answer, bytes);
	answer[bytes++] = (uint8_t)crc;
	answer[bytes++] = (uint8_t)(crc >> 8);
	line->answer_bytes = bytes;
}

static void
take_request(struct line *line, int64_t now)
{
	ssize_t got = read(line->master, line->request + line->received, REQUEST_BYTES - line->received);
	int64_t start_ns = now, wait_ns = turnaround_ns > gap_ns ? turnaround_ns : gap_ns;

	if (got <= 0)
		return;
	line->received += (size_t)got;
	if (line->received < REQUEST_BYTES)
		return;
	line->received = 0;
	if (line->quiet_ns != 0) {
		int64_t unused_ns = now - line->quiet_ns - gap_ns;

		if (unused_ns < 0) {
			line->gaps_broken++;
			start_ns = line->quiet_ns + gap_ns;
		} else {
			line->unused_ns += unused_ns;
		}
		line->requests++;
	}
	make_answer(line);
	line->due_ns = start_ns + (REQUEST_BYTES + (int64_t)line->answer_bytes) * byte_ns + wait_ns;
}

static int64_t
answer_what_is_due(int count)
{
	int64_t next_ns = INT64_MAX;

	for (int index = 0; index < count; index++) {
		struct line *line = &lines[index];

		if (line->due_ns != 0 && line->due_ns <= now_ns()) {
			line->due_ns = 0;
			line->quiet_ns = now_ns();
			if (write(line->master, line->answer, line->answer_bytes) < 0)
				perror("write");
		}
		if (line->due_ns != 0 && line->due_ns < next_ns)
			next_ns = line->due_ns;
	}
	return next_ns;
}

static void
open_lines(int count)
{
	for (int index = 0; index < count; index++) {
		struct line *line = &lines[index];
		struct termios raw;

		line->master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
		if (line->master < 0 || grantpt(line->master) < 0 || unlockpt(line->master) < 0) {
			perror("pseudo-terminal");
			exit(1);
		}
		line->held = open(ptsname(line->master), O_RDWR | O_NOCTTY);
		tcgetattr(line->held, &raw);
		cfmakeraw(&raw);
		tcsetattr(line->held, TCSANOW, &raw);
		puts(ptsname(line->master));
	}
	fflush(stdout);
}

static void
serve(int count)
{
	struct pollfd watched[LINES_MAX + 1];

	for (int index = 0; index < count; index++)
		watched[index] = (struct pollfd){.fd = lines[index].master, .events = POLLIN};
	watched[count] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
	while (watched[count].revents == 0) {
		int64_t next_ns = answer_what_is_due(count), wait_ns = next_ns - now_ns();
		struct timespec wait;

		if (next_ns == INT64_MAX)
			wait_ns = 1000000000;
		if (wait_ns < 0)
			wait_ns = 0;
		wait = (struct timespec){.tv_sec = wait_ns / 1000000000, .tv_nsec = wait_ns % 1000000000};
		if (ppoll(watched, (nfds_t)count + 1, &wait, NULL) < 0 && errno != EINTR)
			return;
		for (int index = 0; index < count; index++)
			if (watched[index].revents & POLLIN)
				take_request(&lines[index], now_ns());
	}
}

int
main(int arguments, char **argument)
{
	long baud, bits, count;

	if (arguments != 5) {
		fprintf(stderr, "usage: paced_line BAUD TURNAROUND_US BITS_PER_BYTE LINES\n");
		return 2;
	}
	baud = atol(argument[1]);
	turnaround_ns = atol(argument[2]) * 1000;
	bits = atol(argument[3]);
	count = atol(argument[4]);
	if (baud <= 0 || bits <= 0 || count <= 0 || count > LINES_MAX)
		return 2;
	byte_ns = bits * 1000000000 / baud;
	gap_ns = baud <= 19200 ? 11 * 3500000000 / baud : 1750000;
	prctl(PR_SET_TIMERSLACK, 1L, 0L, 0L, 0L);
	open_lines((int)count);
	serve((int)count);
	for (int index = 0; index < (int)count; index++)
		printf("%lld %lld %lld\n", (long long)lines[index].requests, (long long)lines[index].gaps_broken,
		    (long long)lines[index].unused_ns);
	return 0;
}
