/*
 * The wires of serial lines under AddressSanitizer and UBSan, on sockets in place of terminals. The input is a script:
 * exchanges of any length, bytes that come in any pieces and at any state, requests taken back, ends that are closed.
 * The oracle counts bit by bit where line.c has a table, and says of every answer that is believed whether it may be.
 */

#define _GNU_SOURCE

#include "line.h"

#include <assert.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LINES = 3, PATIENCE_NS = 1000 };

struct script {
	const uint8_t *data;
	size_t left;
};

static unsigned
take(struct script *script)
{
	if (script->left == 0)
		return 0;
	script->left--;
	return *script->data++;
}

static int
may_be_believed(const uint8_t *request, uint32_t request_bytes, uint32_t answer_bytes, const uint8_t *received,
		uint32_t received_bytes)
{
	unsigned crc = 0xFFFF;

	for (uint32_t index = 0; index < received_bytes; index++) {
		crc ^= received[index];
		for (int bit = 0; bit < 8; bit++)
			crc = crc & 1 ? crc >> 1 ^ 0xA001 : crc >> 1;
	}
	if (request_bytes < 3 || received_bytes < 5 || received_bytes != answer_bytes || crc != 0)
		return 0;
	if (received[0] != request[0] || received[1] != request[1] || (received[1] != 3 && received[1] != 4))
		return 0;
	if (received[2] != (uint8_t)(received_bytes - 5))
		return 0;
	return received_bytes < request_bytes || memcmp(received, request, request_bytes) != 0;
}

static void
close_with_crc(uint8_t *frame, unsigned bytes)
{
	unsigned crc = 0xFFFF;

	for (unsigned index = 0; index + 2 < bytes; index++) {
		crc ^= frame[index];
		for (int bit = 0; bit < 8; bit++)
			crc = crc & 1 ? crc >> 1 ^ 0xA001 : crc >> 1;
	}
	if (bytes >= 2) {
		frame[bytes - 2] = (uint8_t)crc;
		frame[bytes - 1] = (uint8_t)(crc >> 8);
	}
}

/* A frame from the script: mostly one that could be an answer to the request. */
static unsigned
make_frame(struct script *script, const uint8_t *request, uint8_t *frame)
{
	unsigned kind = take(script), bytes = take(script) + take(script) % 3;

	for (unsigned index = 0; index < bytes; index++)
		frame[index] = (uint8_t)take(script);
	if (kind & 1 && bytes >= 5) {
		frame[0] = request[0];
		frame[1] = request[1];
		frame[2] = (uint8_t)(bytes - 5);
	}
	if (kind & 2)
		close_with_crc(frame, bytes);
	return bytes;
}

static void
judge(struct script *script)
{
	uint8_t request[LINE_FRAME_BYTES], frame[260];
	unsigned request_bytes = take(script) % 12, bytes, answer_bytes;

	for (unsigned index = 0; index < request_bytes; index++)
		request[index] = (uint8_t)take(script);
	if (request_bytes > 1 && take(script) % 4 != 0)
		request[1] = 3;
	bytes = make_frame(script, request_bytes >= 3 ? request : (const uint8_t *)"\1\3\0", frame);
	answer_bytes = take(script) % 4 ? bytes : take(script);
	/* Copies of just these lengths: a byte too far is seen. */
	uint8_t exact_request[request_bytes + 1], exact_frame[bytes + 1];
	memcpy(exact_request + 1, request, request_bytes);
	memcpy(exact_frame + 1, frame, bytes);
	assert((line_answer(exact_request + 1, request_bytes, answer_bytes, exact_frame + 1, bytes) == LINE_GOOD) ==
	       may_be_believed(request, request_bytes, answer_bytes, frame, bytes));
}

static void
look(struct line_loop *loop)
{
	assert(loop->happened_count <= LINES && loop->other_count <= LINE_OTHERS);
	for (uint32_t index = 0; index < loop->happened_count; index++) {
		struct line_wire *wire = &loop->wires[loop->happened[index]];

		assert(wire->event != LINE_NOTHING && wire->phase == LINE_LISTENING && wire->due_ns == INT64_MAX);
		assert(wire->received_bytes <= LINE_RECEIVED_BYTES);
		if (wire->event == LINE_ANSWERED)
			assert(wire->sent_ns != 0 && may_be_believed(wire->request, wire->request_bytes,
								      wire->answer_bytes, wire->received,
								      wire->received_bytes));
	}
}

static void
open_lines(struct line_loop *loop, int *theirs)
{
	loop->epoll = epoll_create1(0);
	loop->wire_count = LINES;
	for (int index = 0; index < LINES; index++) {
		int pair[2];
		struct epoll_event event = {.events = EPOLLIN};

		assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
		loop->wires[index].descriptor = event.data.fd = pair[0];
		loop->wires[index].due_ns = INT64_MAX;
		theirs[index] = pair[1];
		assert(epoll_ctl(loop->epoll, EPOLL_CTL_ADD, pair[0], &event) == 0);
	}
}

static void
close_lines(const struct line_loop *loop, const int *theirs)
{
	for (int index = 0; index < LINES; index++) {
		close(loop->wires[index].descriptor);
		if (theirs[index] >= 0)
			close(theirs[index]);
	}
	close(loop->epoll);
}

static void
arm(struct script *script, struct line_wire *wire, unsigned what)
{
	unsigned request_bytes = 8 + (what & 64 ? take(script) * 2 : 0);
	unsigned answer_bytes = take(script) + (what & 128 ? take(script) * 2 : 0);
	uint8_t request[600] = {5, 3 + (what >> 4 & 1), (uint8_t)take(script)};
	int listening = wire->phase == LINE_LISTENING;
	int armed = line_arm(wire, request, request_bytes, answer_bytes, what & 32 ? INT64_MAX - 1 : 0, PATIENCE_NS,
			     what & 8 ? LINE_SPAN_NS_MAX : PATIENCE_NS, PATIENCE_NS);

	assert((armed == 0) ==
	       (listening && request_bytes <= LINE_FRAME_BYTES && answer_bytes <= LINE_RECEIVED_BYTES));
}

/* Bytes for a wire: whatever the script makes, or a whole good answer, or the rest of one. */
static void
answer(struct script *script, const struct line_wire *wire, int theirs, unsigned what)
{
	uint8_t frame[LINE_RECEIVED_BYTES] = {0};
	unsigned bytes = make_frame(script, wire->request, frame);

	if (what & 64 && wire->answer_bytes >= 5) {
		bytes = wire->answer_bytes;
		memcpy(frame, wire->request, 2);
		frame[2] = (uint8_t)(bytes - 5);
		close_with_crc(frame, bytes);
		if (what & 128 && wire->received_bytes < bytes) {
			bytes -= wire->received_bytes;
			memmove(frame, frame + wire->received_bytes, bytes);
		}
	}
	if (theirs >= 0 && write(theirs, frame, bytes) < 0)
		return; /* full: as good as silence */
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct line_loop loop;
	struct script script = {data, size};
	int theirs[LINES];

	signal(SIGPIPE, SIG_IGN); /* as Python has it */
	memset(&loop, 0, sizeof loop);
	loop.without_pwait2 = (int32_t)(take(&script) & 1);
	open_lines(&loop, theirs);
	while (script.left > 0) {
		unsigned what = take(&script), index = take(&script) % LINES;
		struct line_wire *wire = &loop.wires[index];

		switch (what % 8) {
		case 0:
		case 1:
			arm(&script, wire, what);
			break;
		case 2:
		case 3:
			answer(&script, wire, theirs[index], what);
			break;
		case 4:
			line_disarm(wire);
			break;
		case 5:
			judge(&script);
			break;
		case 6:
			if (theirs[index] >= 0 && what & 64) {
				close(theirs[index]);
				theirs[index] = -1;
			}
			break;
		default:
			assert(line_wait(&loop, 0) == LINE_CALLED);
			look(&loop);
			break;
		}
	}
	close_lines(&loop, theirs);
	return 0;
}
