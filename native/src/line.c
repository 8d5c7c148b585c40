/* The wires of serial lines. The contract of every public function stands in line.h. */

#define _GNU_SOURCE

#include "line.h"

#include <stddef.h>
#include <string.h>

/* Device id, function code, byte count; then the registers and the CRC. */
#define HEAD_BYTES 3
#define CRC_BYTES 2
#define READ_HOLDING_REGISTERS 3
#define READ_INPUT_REGISTERS 4

/* CRC-16/MODBUS four bits at a time: 32 bytes of table stay in the cache, 512 would not. */
static uint16_t
crc16(const uint8_t *data, uint32_t bytes)
{
	static const uint16_t table[16] = {0x0000, 0xCC01, 0xD801, 0x1400, 0xF001, 0x3C00, 0x2800, 0xE401,
					   0xA001, 0x6C00, 0x7800, 0xB401, 0x5000, 0x9C01, 0x8801, 0x4400};
	uint16_t crc = 0xFFFF;

	for (uint32_t index = 0; index < bytes; index++) {
		crc = (uint16_t)(crc ^ data[index]);
		crc = (uint16_t)((crc >> 4) ^ table[crc & 0xF]);
		crc = (uint16_t)((crc >> 4) ^ table[crc & 0xF]);
	}
	return crc;
}

enum line_verdict
line_answer(const uint8_t *request, uint32_t request_bytes, uint32_t answer_bytes, const uint8_t *received,
	    uint32_t received_bytes)
{
	uint8_t head[HEAD_BYTES];
	uint32_t seen = received_bytes < HEAD_BYTES ? received_bytes : HEAD_BYTES;

	if (request_bytes < HEAD_BYTES || answer_bytes < HEAD_BYTES + CRC_BYTES || received_bytes > answer_bytes)
		return LINE_OTHER;
	if (request[1] != READ_HOLDING_REGISTERS && request[1] != READ_INPUT_REGISTERS)
		return LINE_OTHER;
	head[0] = request[0];
	head[1] = request[1];
	head[2] = (uint8_t)(answer_bytes - HEAD_BYTES - CRC_BYTES);
	if (memcmp(received, head, seen) != 0)
		return LINE_OTHER;
	if (received_bytes < answer_bytes)
		return LINE_PART;
	if (received_bytes >= request_bytes && memcmp(received, request, request_bytes) == 0)
		return LINE_OTHER; /* our own request, heard again */
	return crc16(received, received_bytes) == 0 ? LINE_GOOD : LINE_OTHER;
}

int
line_arm(struct line_wire *wire, const uint8_t *request, uint32_t request_bytes, uint32_t answer_bytes,
	 int64_t due_ns, int64_t byte_ns, int64_t first_ns, int64_t part_ns)
{
	if (wire->phase != LINE_LISTENING || request_bytes > LINE_FRAME_BYTES || answer_bytes > LINE_RECEIVED_BYTES)
		return -1;
	if (byte_ns < 0 || byte_ns > LINE_BYTE_NS_MAX || first_ns < 0 || first_ns > LINE_SPAN_NS_MAX || part_ns < 0 ||
	    part_ns > LINE_SPAN_NS_MAX)
		return -1;
	memcpy(wire->request, request, request_bytes);
	wire->request_bytes = request_bytes;
	wire->answer_bytes = answer_bytes;
	wire->received_bytes = 0;
	wire->sent_ns = 0;
	wire->due_ns = due_ns;
	wire->byte_ns = byte_ns;
	wire->first_ns = first_ns;
	wire->part_ns = part_ns;
	wire->phase = LINE_ARMED;
	return 0;
}

int
line_disarm(struct line_wire *wire)
{
	if (wire->phase != LINE_ARMED)
		return 0;
	wire->phase = LINE_LISTENING;
	wire->due_ns = INT64_MAX;
	return 1;
}

#ifdef __linux__

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SECOND_NS INT64_C(1000000000)
#define EVENTS 32
/* A timer rings late by what a wake-up takes. What it is late at the least is taken off, learnt by little steps. */
#define LEAD_STEP_NS 500
#define LEAD_NS_MAX 100000

static int64_t
now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * SECOND_NS + now.tv_nsec;
}

static void
happen(struct line_loop *loop, struct line_wire *wire, enum line_event event)
{
	if (wire->event == LINE_NOTHING)
		loop->happened[loop->happened_count++] = (uint32_t)(wire - loop->wires);
	wire->event = (int32_t)event;
	wire->phase = LINE_LISTENING;
	wire->due_ns = INT64_MAX;
}

static void
lose(struct line_loop *loop, struct line_wire *wire, int problem)
{
	wire->problem = problem;
	happen(loop, wire, LINE_LOST);
}

/* To be called when there is something to read: a terminal without anything may answer 0, as if it were gone. */
static void
take_bytes(struct line_loop *loop, struct line_wire *wire)
{
	ssize_t got;

	if (wire->phase != LINE_SENT)
		wire->received_bytes = 0; /* the owner has what came before */
	got = read(wire->descriptor, wire->received + wire->received_bytes, LINE_RECEIVED_BYTES - wire->received_bytes);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		lose(loop, wire, got < 0 ? errno : 0);
		return;
	}
	wire->came_ns = now_ns();
	wire->received_bytes += (uint32_t)got;
	if (wire->phase != LINE_SENT) {
		happen(loop, wire, LINE_BYTES);
		return;
	}
	switch (line_answer(wire->request, wire->request_bytes, wire->answer_bytes, wire->received,
			    wire->received_bytes)) {
	case LINE_GOOD:
		happen(loop, wire, LINE_ANSWERED);
		break;
	case LINE_PART:
		wire->due_ns = wire->came_ns + (int64_t)(wire->answer_bytes - wire->received_bytes) * wire->byte_ns +
			       wire->part_ns;
		break;
	case LINE_OTHER:
		happen(loop, wire, LINE_BYTES);
		break;
	}
}

static int
has_bytes(const struct line_wire *wire)
{
	struct pollfd watched = {.fd = wire->descriptor, .events = POLLIN};

	return poll(&watched, 1, 0) == 1;
}

static void
send_request(struct line_loop *loop, struct line_wire *wire, int64_t now)
{
	ssize_t written = write(wire->descriptor, wire->request, wire->request_bytes);

	wire->sent_ns = now;
	if (written < 0 && errno != EAGAIN && errno != EINTR) {
		lose(loop, wire, errno);
		return;
	}
	wire->written = written < 0 ? 0 : (uint32_t)written;
	if (wire->written < wire->request_bytes) {
		happen(loop, wire, LINE_UNSENT);
		return;
	}
	wire->phase = LINE_SENT;
	wire->due_ns = now + (int64_t)wire->request_bytes * wire->byte_ns + wire->first_ns;
}

static int
wait_until(struct line_loop *loop, struct epoll_event *events, int64_t until_ns)
{
	int64_t wait_ns = until_ns == INT64_MAX ? INT64_MAX : until_ns - now_ns();
	/* What the kernel takes on every machine, and what the library takes. */
	struct {
		int64_t seconds, nanoseconds;
	} exact;
	struct timespec wait;
	struct pollfd watched = {.fd = loop->epoll, .events = POLLIN};

	if (wait_ns <= 0)
		return epoll_wait(loop->epoll, events, EVENTS, 0);
	exact.seconds = wait_ns / SECOND_NS;
	exact.nanoseconds = wait_ns % SECOND_NS;
#ifdef SYS_epoll_pwait2
	if (!loop->without_pwait2) {
		long got = syscall(SYS_epoll_pwait2, loop->epoll, events, EVENTS, wait_ns == INT64_MAX ? NULL : &exact,
				   NULL, 0);

		if (got >= 0 || (errno != ENOSYS && errno != EPERM))
			return (int)got;
		loop->without_pwait2 = 1;
	}
#endif
	wait.tv_sec = (time_t)exact.seconds;
	wait.tv_nsec = (long)exact.nanoseconds;
	if (ppoll(&watched, 1, wait_ns == INT64_MAX ? NULL : &wait, NULL) < 0)
		return -1;
	return epoll_wait(loop->epoll, events, EVENTS, 0);
}

/* When to wake up next: for a request so much earlier that it does not leave late. */
static int64_t
next_wake(const struct line_loop *loop, int *is_gap)
{
	int64_t next_ns = INT64_MAX;

	*is_gap = 0;
	for (uint32_t index = 0; index < loop->wire_count; index++) {
		const struct line_wire *wire = &loop->wires[index];
		int armed = wire->phase == LINE_ARMED;
		int64_t wake_ns = armed ? wire->due_ns - loop->lead_ns : wire->due_ns;

		if (wake_ns < next_ns) {
			next_ns = wake_ns;
			*is_gap = armed;
		}
	}
	return next_ns;
}

/* A timer that was set for 'next_ns' rang now: the lead learns how late that is. Too early is waited out. */
static int64_t
learn_lead(struct line_loop *loop, int64_t next_ns, int64_t now, int was_set)
{
	int64_t due_ns = next_ns + loop->lead_ns;

	if (was_set && now >= due_ns && loop->lead_ns < LEAD_NS_MAX)
		loop->lead_ns += LEAD_STEP_NS;
	if (was_set && now < due_ns)
		loop->lead_ns = now - next_ns;
	while (now < due_ns)
		now = now_ns();
	return now;
}

static struct line_wire *
wire_of(struct line_loop *loop, int descriptor)
{
	for (uint32_t index = 0; index < loop->wire_count; index++)
		if (loop->wires[index].descriptor == descriptor)
			return &loop->wires[index];
	return NULL;
}

static void
take_events(struct line_loop *loop, const struct epoll_event *events, int count)
{
	for (int index = 0; index < count; index++) {
		struct line_wire *wire = wire_of(loop, events[index].data.fd);

		if (wire != NULL)
			take_bytes(loop, wire);
		else if (loop->other_count < LINE_OTHERS)
			loop->others[loop->other_count++] =
			    (struct line_other){events[index].data.fd, events[index].events};
	}
}

/* Does what is due. Before a silence is believed, the port is looked at once more. */
static void
do_what_is_due(struct line_loop *loop, int64_t now)
{
	for (uint32_t index = 0; index < loop->wire_count; index++) {
		struct line_wire *wire = &loop->wires[index];

		if (wire->due_ns > now)
			continue;
		if (wire->phase == LINE_ARMED)
			send_request(loop, wire, now);
		else if (has_bytes(wire))
			take_bytes(loop, wire);
		else
			happen(loop, wire, LINE_SILENT);
	}
}

enum line_result
line_wait(struct line_loop *loop, int64_t until_ns)
{
	struct epoll_event events[EVENTS];
	int64_t next_ns, now;
	int count, is_gap, was_set;

	if (loop->wire_count > LINE_WIRES)
		return LINE_BROKEN;
	loop->happened_count = 0;
	loop->other_count = 0;
	for (uint32_t index = 0; index < loop->wire_count; index++)
		loop->wires[index].event = LINE_NOTHING;
	do {
		next_ns = next_wake(loop, &is_gap);
		was_set = next_ns > now_ns();
		count = wait_until(loop, events, next_ns < until_ns ? next_ns : until_ns);
		if (count < 0)
			return errno == EINTR ? LINE_INTERRUPTED : LINE_BROKEN;
		take_events(loop, events, count);
		now = now_ns();
		if (count == 0 && is_gap && next_ns < until_ns && now >= next_ns)
			now = learn_lead(loop, next_ns, now, was_set);
		do_what_is_due(loop, now);
	} while (loop->happened_count == 0 && loop->other_count == 0 && now < until_ns);
	return LINE_CALLED;
}

#else

enum line_result
line_wait(struct line_loop *loop, int64_t until_ns)
{
	(void)loop;
	(void)until_ns;
	return LINE_NOT_HERE;
}

#endif
