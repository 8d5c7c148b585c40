/*
 * The meters of a whole site: LINES lines of METERS each, all read by whoever is compared.
 *
 *     meters LINES METERS CLIENTS BAUD TURNAROUND_US SPEED
 *
 * Each client has each line as a pseudo-terminal (RTU) and as a port of 127.0.0.1 (Modbus TCP); "path port" is printed
 * for each, the first client's lines first. BAUD 0 answers at once; else an answer on the terminal takes the time of
 * its bytes, 11 bits each, and the turnaround, as on a wire. TCP answers at once. The registers are those of
 * edge/meters/hiking_dds238_2.toml; energy runs SPEED times as fast as time. A line on the input is answered with one
 * line for each client: requests, values, and the monotonic nanoseconds of the first request, of the first answer and
 * of the first second answer of one meter (its first value, confirmed), 0 until there is one. "reset" counts anew after
 * that. A value is one of the POINTS below inside an answered block. Ends with its input.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { LINES_MAX = 16, METERS_MAX = 247, CLIENTS_MAX = 8, PORTS_MAX = 512 };
enum { FRAME_MAX = 264, REGISTERS_MAX = 125, BITS = 11 };
enum { RELAY_REGISTER = 0x1A, IMPORT_REGISTER = 0x0A };

struct client {
	int64_t requests, values, first_request_ns, first_answer_ns, first_value_ns;
	uint32_t answered[LINES_MAX][METERS_MAX + 1]; /* with the money register */
};

struct port {
	struct client *client;
	int file, line;
	bool tcp, listens;
	uint8_t request[FRAME_MAX], answer[FRAME_MAX];
	size_t received, answer_bytes;
	int64_t due_ns; /* 0: nothing due */
};

/* energy_total, energy_export_total, energy_import_total, voltage, current, power, power factor, frequency, relay */
static const struct {
	unsigned address, count;
} POINTS[] = {{0x00, 2}, {0x08, 2}, {0x0A, 2}, {0x0C, 1}, {0x0D, 1}, {0x0E, 1}, {0x10, 1}, {0x11, 1}, {0x1A, 1}};

static struct port ports[PORTS_MAX];
static int port_count;
static uint16_t relays[LINES_MAX][METERS_MAX + 1];
static struct client clients[CLIENTS_MAX];
static int64_t byte_ns, turnaround_ns, gap_ns, start_ns, speed;
static int meters, client_count;

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

static uint16_t
register_at(int line, int device, unsigned address)
{
	int64_t power_w = 300 + 10 * ((line * METERS_MAX + device) % 97);
	int64_t ms = (now_ns() - start_ns) / 1000000 * speed;
	uint32_t import_10wh = (uint32_t)(100000 + 1000 * device + ms * power_w / 36000000);

	switch (address) {
	case 0x00:
	case IMPORT_REGISTER:
		return (uint16_t)(import_10wh >> 16);
	case 0x01:
	case IMPORT_REGISTER + 1:
		return (uint16_t)import_10wh;
	case 0x0C:
		return (uint16_t)(2300 + ms / 1000 % 20);
	case 0x0D:
		return (uint16_t)(power_w * 100 / 230);
	case 0x0E:
		return (uint16_t)power_w;
	case 0x10:
		return 1000;
	case 0x11:
		return 5000;
	case RELAY_REGISTER:
		return relays[line][device];
	default:
		return 0;
	}
}

/* The answer to a request without its framing: its length, 0 for silence. */
static size_t
answer_to(const struct port *port, const uint8_t *request, uint8_t *answer)
{
	struct client *client = port->client;
	int line = port->line, device = request[0];
	unsigned address = (unsigned)request[2] << 8 | request[3], count = (unsigned)request[4] << 8 | request[5];
	size_t bytes = 3;

	if (device < 1 || device > meters)
		return 0;
	client->requests++;
	memcpy(answer, request, 6);
	if (request[1] == 16 || request[1] == 6) {
		if (address == RELAY_REGISTER)
			relays[line][device] = request[1] == 6 ? (uint16_t)count : request[8];
		return 6;
	}
	if ((request[1] != 3 && request[1] != 4) || count == 0 || count > REGISTERS_MAX) {
		answer[1] = request[1] | 0x80;
		answer[2] = 1;
		return 3;
	}
	for (size_t index = 0; index < sizeof POINTS / sizeof POINTS[0]; index++)
		if (address <= POINTS[index].address && POINTS[index].address + POINTS[index].count <= address + count)
			client->values++;
	answer[2] = (uint8_t)(2 * count);
	for (unsigned index = address; index < address + count; index++) {
		uint16_t value = register_at(line, device, index);

		answer[bytes++] = (uint8_t)(value >> 8);
		answer[bytes++] = (uint8_t)value;
	}
	if (address <= IMPORT_REGISTER && IMPORT_REGISTER < address + count)
		client->answered[line][device]++;
	return bytes;
}

static void
note_answer(const struct port *port)
{
	struct client *client = port->client;
	int64_t now = now_ns();

	if (client->first_answer_ns == 0)
		client->first_answer_ns = now;
	if (client->first_value_ns == 0 && client->answered[port->line][port->answer[port->tcp ? 6 : 0]] == 2)
		client->first_value_ns = now;
}

static void
send_answer(struct port *port)
{
	port->due_ns = 0;
	note_answer(port);
	if (write(port->file, port->answer, port->answer_bytes) < 0)
		perror("write");
}

/* Length of the request at the head of what was received, 0 while that cannot be told. */
static size_t
request_bytes(const struct port *port)
{
	if (port->tcp)
		return port->received < 6 ? 0 : 6 + ((size_t)port->request[4] << 8 | port->request[5]);
	if (port->received < 7)
		return 0;
	return port->request[1] == 16 ? 9 + (size_t)port->request[6] : 8;
}

static void
take_request(struct port *port, size_t bytes)
{
	uint8_t *answer = port->answer;
	size_t length;
	uint16_t crc;

	if (port->client->first_request_ns == 0)
		port->client->first_request_ns = now_ns();
	if (port->tcp) {
		length = answer_to(port, port->request + 6, answer + 6);
		memcpy(answer, port->request, 4);
		answer[4] = (uint8_t)(length >> 8);
		answer[5] = (uint8_t)length;
		port->answer_bytes = length + 6;
	} else {
		length = answer_to(port, port->request, answer);
		crc = crc16(answer, length);
		answer[length] = (uint8_t)crc;
		answer[length + 1] = (uint8_t)(crc >> 8);
		port->answer_bytes = length + 2;
	}
	memmove(port->request, port->request + bytes, port->received - bytes);
	port->received -= bytes;
	if (length == 0)
		return;
	port->due_ns = now_ns();
	if (!port->tcp && byte_ns != 0)
		port->due_ns += (int64_t)(bytes + port->answer_bytes) * byte_ns +
		    (turnaround_ns > gap_ns ? turnaround_ns : gap_ns);
	else
		send_answer(port);
}

static void
take_bytes(struct port *port)
{
	ssize_t got = read(port->file, port->request + port->received, FRAME_MAX - port->received);
	size_t bytes;

	if (got <= 0 && port->tcp && (got == 0 || errno != EAGAIN)) {
		close(port->file);
		port->file = -1;
		return;
	}
	if (got <= 0)
		return;
	port->received += (size_t)got;
	while ((bytes = request_bytes(port)) != 0 && port->received >= bytes)
		take_request(port, bytes);
	if (port->received == FRAME_MAX)
		port->received = 0;
}

static void
new_port(struct client *client, int file, int line, bool tcp, bool listens)
{
	struct port *port = NULL;

	for (int index = 0; index < port_count && port == NULL; index++)
		if (ports[index].file < 0)
			port = &ports[index];
	if (port == NULL && port_count < PORTS_MAX)
		port = &ports[port_count++];
	if (port == NULL) {
		close(file);
		return;
	}
	*port = (struct port){.client = client, .file = file, .line = line, .tcp = tcp, .listens = listens};
}

static void
open_line(struct client *client, int line)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof address;
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK), held;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct termios raw;

	if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0 || listener < 0 ||
	    bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 16) < 0 ||
	    getsockname(listener, (struct sockaddr *)&address, &length) < 0) {
		perror("line");
		exit(1);
	}
	held = open(ptsname(master), O_RDWR | O_NOCTTY); /* or the master reports a hang-up between two clients */
	tcgetattr(held, &raw);
	cfmakeraw(&raw);
	tcsetattr(held, TCSANOW, &raw);
	new_port(client, master, line, false, false);
	new_port(client, listener, line, true, true);
	printf("%s %d\n", ptsname(master), ntohs(address.sin_port));
}

static bool
obey(void)
{
	char text[64];
	ssize_t got = read(STDIN_FILENO, text, sizeof text);

	if (got <= 0)
		return false;
	for (int index = 0; index < client_count; index++) {
		const struct client *client = &clients[index];

		printf("%lld %lld %lld %lld %lld\n", (long long)client->requests, (long long)client->values,
		    (long long)client->first_request_ns, (long long)client->first_answer_ns,
		    (long long)client->first_value_ns);
	}
	if (text[0] == 'r')
		memset(clients, 0, sizeof clients);
	fflush(stdout);
	return true;
}

static int64_t
answer_what_is_due(void)
{
	int64_t next_ns = INT64_MAX;

	for (int index = 0; index < port_count; index++) {
		struct port *port = &ports[index];

		if (port->file >= 0 && port->due_ns != 0 && port->due_ns <= now_ns())
			send_answer(port);
		if (port->due_ns != 0 && port->due_ns < next_ns)
			next_ns = port->due_ns;
	}
	return next_ns;
}

static void
serve(void)
{
	struct pollfd watched[PORTS_MAX + 1];

	for (;;) {
		int64_t next_ns = answer_what_is_due(), wait_ns = next_ns - now_ns();
		struct timespec wait = {.tv_sec = 1};
		int count = port_count;

		if (wait_ns < 0)
			wait_ns = 0;
		if (next_ns != INT64_MAX)
			wait = (struct timespec){.tv_sec = wait_ns / 1000000000, .tv_nsec = wait_ns % 1000000000};
		for (int index = 0; index < count; index++)
			watched[index] = (struct pollfd){.fd = ports[index].file, .events = POLLIN};
		watched[count] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
		if (ppoll(watched, (nfds_t)count + 1, &wait, NULL) < 0 && errno != EINTR)
			return;
		if (watched[count].revents != 0 && !obey())
			return;
		for (int index = 0; index < count; index++) {
			struct port *port = &ports[index];

			if (watched[index].revents == 0 || port->file < 0)
				continue;
			if (port->listens)
				new_port(port->client, accept4(port->file, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC),
				    port->line, true, false);
			else
				take_bytes(port);
		}
	}
}

int
main(int arguments, char **argument)
{
	long lines, baud;

	if (arguments != 7) {
		fprintf(stderr, "usage: meters LINES METERS CLIENTS BAUD TURNAROUND_US SPEED\n");
		return 2;
	}
	lines = atol(argument[1]);
	meters = atoi(argument[2]);
	client_count = atoi(argument[3]);
	baud = atol(argument[4]);
	turnaround_ns = atol(argument[5]) * 1000;
	speed = atol(argument[6]);
	if (lines < 1 || lines > LINES_MAX || meters < 1 || meters > METERS_MAX || client_count < 1 ||
	    client_count > CLIENTS_MAX || baud < 0 || speed < 1)
		return 2;
	if (baud > 0) {
		byte_ns = BITS * 1000000000L / baud;
		gap_ns = baud <= 19200 ? BITS * 3500000000L / baud : 1750000;
	}
	for (int line = 0; line < lines; line++)
		for (int device = 0; device <= METERS_MAX; device++)
			relays[line][device] = 1;
	start_ns = now_ns();
	prctl(PR_SET_TIMERSLACK, 1L, 0L, 0L, 0L);
	for (int client = 0; client < client_count; client++)
		for (int line = 0; line < lines; line++)
			open_line(&clients[client], line);
	fflush(stdout);
	serve();
	return 0;
}
