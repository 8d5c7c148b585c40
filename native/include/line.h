/*
 * The wires of serial lines: each sends its request when the silence before it is over, and takes the answer. Its owner
 * is woken once for each exchange, when the answer is whole, and not for the gap or for a part of an answer.
 *
 * What is believed is decided by line_answer() alone: the one look of Framing.good_registers() in edge/bus/frame.py,
 * which is the authority; a test holds the two to the same verdict. Whatever is not exactly a good answer ends the
 * exchange and goes to the owner as it came: naming faults, draining and saying when to ask again are not done here.
 *
 * Times are nanoseconds of CLOCK_MONOTONIC, lengths bytes. No allocation, no globals. One thread for each loop. Lengths
 * that are too much for an array are refused, never cut. Linux; elsewhere line_wait() answers LINE_NOT_HERE.
 */
#ifndef LINE_H
#define LINE_H

#include <stdint.h>

/* [cffi */

/* The longest frame of Modbus RTU has 256 bytes; what babbles is handed over in pieces. */
#define LINE_FRAME_BYTES 256
#define LINE_RECEIVED_BYTES 512
#define LINE_WIRES 128
/* Spans, so that the sum of three and of the clock stays below 2^63: 512 bytes of a second each, 11 days. */
#define LINE_BYTE_NS_MAX 1000000000
#define LINE_SPAN_NS_MAX 1000000000000000
#define LINE_OTHERS 64

enum line_phase {
	LINE_LISTENING = 0, /* whatever comes goes to the owner */
	LINE_ARMED = 1,     /* a request waits until due_ns */
	LINE_SENT = 2       /* its answer is expected until due_ns */
};

/* What has happened to a wire. But for LINE_BYTES without an exchange, each ends the exchange. */
enum line_event {
	LINE_NOTHING = 0,
	LINE_ANSWERED = 1, /* 'received' is the good answer */
	LINE_BYTES = 2,    /* 'received' is what came: unasked, damaged, an exception */
	LINE_SILENT = 3,   /* nothing came in time after what is in 'received', which may be nothing */
	LINE_UNSENT = 4,   /* the driver took only the first 'written' bytes of the request */
	LINE_LOST = 5      /* 'problem' is its errno; 0: the device is gone */
};

enum line_verdict {
	LINE_GOOD = 0,
	LINE_PART = 1, /* nothing speaks against it, and it is not whole */
	LINE_OTHER = 2 /* not a good answer, whatever follows */
};

enum line_result {
	LINE_CALLED = 0,
	LINE_INTERRUPTED = -1, /* by a signal: nothing is lost, wait again */
	LINE_BROKEN = -2,      /* epoll itself failed */
	LINE_NOT_HERE = -3     /* this system has none of this */
};

struct line_wire {
	int64_t due_ns;      /* LINE_ARMED: when to send; LINE_SENT: until when to wait; INT64_MAX in between */
	int64_t sent_ns;     /* of the latest exchange; 0: it was not sent */
	int64_t came_ns;     /* the newest bytes, after they were read */
	int64_t byte_ns;     /* one character on the wire */
	int64_t first_ns;    /* patience from the end of the request to the first byte */
	int64_t part_ns;     /* between two parts, beyond the time that the missing bytes take */
	int32_t descriptor;  /* below 0: nobody's */
	int32_t phase;
	int32_t event;
	int32_t problem;
	uint32_t written;
	uint32_t request_bytes;
	uint32_t answer_bytes;   /* length of the good answer; 0: this exchange has none that is judged here */
	uint32_t received_bytes;
	uint8_t request[LINE_FRAME_BYTES];
	uint8_t received[LINE_RECEIVED_BYTES];
};

struct line_other {
	int32_t descriptor;
	uint32_t events; /* as epoll says it */
};

struct line_loop {
	int32_t epoll;          /* the descriptors of the wires and of others are registered there */
	int32_t without_pwait2; /* set where the kernel has no epoll_pwait2 */
	int64_t lead_ns;        /* how much before a gap's end the timer is set: as late as it rings at the least */
	uint32_t wire_count;    /* wires from this one on are nobody's */
	uint32_t happened_count;
	uint32_t other_count;
	uint32_t happened[LINE_WIRES];      /* the wires whose 'event' is to be looked at */
	struct line_other others[LINE_OTHERS]; /* descriptors that belong to no wire */
	struct line_wire wires[LINE_WIRES];
};

/* Is this the good answer to the request? Reads nothing behind the two lengths. */
enum line_verdict
line_answer(const uint8_t *request, uint32_t request_bytes, uint32_t answer_bytes, const uint8_t *received,
	    uint32_t received_bytes);

/* Begins an exchange: sends at due_ns. 0, or -1 when a length or a span is too much or the wire is not listening. */
int
line_arm(struct line_wire *wire, const uint8_t *request, uint32_t request_bytes, uint32_t answer_bytes,
	 int64_t due_ns, int64_t byte_ns, int64_t first_ns, int64_t part_ns);

/* Takes back a request that waits for its gap: 1. 0 when there is none, or when it is sent already. */
int
line_disarm(struct line_wire *wire);

/*
 * Waits until something has happened to a wire, another descriptor is ready, or it is until_ns (INT64_MAX: for ever).
 * Bytes go before time. What it found stands in happened[] and others[].
 */
enum line_result
line_wait(struct line_loop *loop, int64_t until_ns);

/* cffi] */

#endif
