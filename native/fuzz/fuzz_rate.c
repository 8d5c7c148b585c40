/*
 * libFuzzer harness: tariff_rate() against an oracle in 128-bit integers that knows nothing of the
 * kernel's ways: it shares out by sorting, fills blocks one by one, and looks segments up from the
 * start. Run by `python3 build.py fuzz`, with ASan and UBSan; every array has exactly its length.
 */

#include "kernel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef __int128 wide;

enum { TARIFFS = 2, PERIODS = 3, BLOCKS = 3, SEGMENTS = 8, ACCOUNTS = 3, ROWS = 8 };

/* Bytes of the input, zeros after its end. */
struct input {
	const uint8_t *data;
	size_t size;
};

static int64_t
take(struct input *in, int bytes)
{
	uint64_t value = 0;
	for (int i = 0; i < bytes && in->size > 0; i++, in->size--)
		value = value << 8 | *in->data++;
	return (int64_t)value;
}

/* 0 .. most; small numbers often, and the walls. */
static int64_t
up_to(struct input *in, int64_t most)
{
	int64_t kind = take(in, 1);
	if (kind < 8)
		return most;
	if (kind < 128)
		return take(in, 1) % (most + 1);
	return (take(in, 5) & INT64_MAX) % (most + 1);
}

static int64_t *
array(int64_t count)
{
	int64_t *made = malloc((size_t)count * sizeof *made + (count == 0));
	if (made == NULL)
		abort();
	for (int64_t i = 0; i < count; i++)
		made[i] = -77;
	return made;
}

static void
make_tables(struct input *in, struct tariff_tables *t, int64_t *const to[11])
{
	int64_t segment = 0, period = 0, cell = 0;
	for (int64_t g = 0; g < t->tariff_count; g++) {
		int64_t most = in->size > 0 && take(in, 1) < 40 ? TARIFF_ENERGY_WH_MAX : 1 + up_to(in, 100000);
		int64_t own = take(in, 1) & 1;
		to[0][g] = segment;
		to[1][g] = period;
		to[2][g] = own ? PERIODS : 1;
		to[3][g] = most;
		int64_t at = -50, cycle = at - up_to(in, 9);
		for (int64_t s = 0; s < SEGMENTS; s++, segment++) {
			if (take(in, 1) < 64)
				cycle = at;
			to[4][segment] = at;
			to[5][segment] = period + take(in, 1) % PERIODS;
			to[6][segment] = cycle;
			at += 1 + up_to(in, take(in, 1) < 16 ? 10000000 : 100);
		}
		for (int64_t p = 0; p < PERIODS; p++, period++) {
			int64_t limit = 0, price_max = TARIFF_AMOUNT_NANO_MAX / most;
			to[7][period] = cell;
			to[8][period] = own ? p : 0;
			for (int64_t c = 0; c < BLOCKS; c++, cell++) {
				limit += 1 + up_to(in, 300);
				to[9][cell] = c == BLOCKS - 1 ? TARIFF_ENERGY_WH_MAX : limit;
				to[10][cell] = up_to(in, price_max) * (take(in, 1) & 1 ? 1 : -1);
			}
		}
	}
	to[0][t->tariff_count] = segment;
	to[1][t->tariff_count] = period;
	to[7][period] = cell;
}

/* What the oracle says; 'result' first. */
struct answer {
	enum tariff_result result;
	wide amount[ROWS], position[ROWS][PERIODS], cells[ROWS][PERIODS * BLOCKS];
	int64_t cycle[ROWS], estimated[ROWS];
};

static void
fill_blocks(const struct tariff_tables *t, int64_t g, int64_t segment, wide energy, wide position[PERIODS],
	    int64_t *cycle, struct answer *out, int64_t row)
{
	if (t->segment_cycle_start_at[segment] > *cycle) {
		for (int64_t k = 0; k < PERIODS && *cycle != TARIFF_NO_CYCLE; k++)
			position[k] = 0;
		*cycle = t->segment_cycle_start_at[segment];
	}
	int64_t p = t->segment_period[segment], k = t->period_position[p];
	wide lower = 0;
	for (int64_t c = t->period_first_cell[p]; c < t->period_first_cell[p + 1]; c++) {
		wide upper = t->cell_limit_wh[c];
		wide from = position[k] > lower ? position[k] : lower;
		wide to = position[k] + energy < upper ? position[k] + energy : upper;
		if (to > from) {
			out->amount[row] += (to - from) * t->cell_price_micro_per_kwh[c];
			out->cells[row][c - t->period_first_cell[t->tariff_first_period[g]]] += to - from;
		}
		lower = upper;
	}
	position[k] += energy;
}

static void
share_out(wide energy, wide total, const wide seconds[SEGMENTS], wide share[SEGMENTS])
{
	wide left = energy;
	for (int s = 0; s < SEGMENTS; s++) {
		share[s] = energy * seconds[s] / total;
		left -= share[s];
	}
	int given[SEGMENTS] = {0};
	for (; left > 0; left--) {
		int best = -1;
		for (int s = 0; s < SEGMENTS; s++) {
			wide best_rest = best < 0 ? -1 : energy * seconds[best] % total;
			if (!given[s] && seconds[s] > 0 && energy * seconds[s] % total > best_rest)
				best = s;
		}
		given[best] = 1;
		share[best]++;
	}
}

static void
oracle_row(const struct tariff_tables *t, int64_t g, int64_t start, int64_t end, int64_t energy, wide position[PERIODS],
	   int64_t *cycle, struct answer *out, int64_t row)
{
	wide seconds[SEGMENTS] = {0}, share[SEGMENTS];
	int64_t first = t->tariff_first_segment[g], parts = 0;
	for (int64_t s = 0; s + 1 < SEGMENTS; s++) {
		int64_t from = t->segment_start_at[first + s], to = t->segment_start_at[first + s + 1];
		if (start == end) {
			seconds[s] = from <= end - 1 && end - 1 < to;
		} else {
			int64_t low = from > start ? from : start, high = to < end ? to : end;
			seconds[s] = high > low ? high - low : 0;
		}
		parts += seconds[s] > 0;
	}
	share_out(energy, start == end ? 1 : (wide)end - start, seconds, share);
	for (int64_t s = 0; s < SEGMENTS; s++) {
		if (seconds[s] > 0)
			fill_blocks(t, g, first + s, share[s], position, cycle, out, row);
	}
	out->estimated[row] = parts > 1 && energy > 0;
	out->cycle[row] = *cycle;
	memcpy(out->position[row], position, sizeof out->position[row]);
}

static enum tariff_result
oracle_check(const struct tariff_tables *t, const struct tariff_accounts *a, int64_t n)
{
	int64_t g = a->tariff[n];
	if (g < 0 || g >= t->tariff_count)
		return TARIFF_BAD_ACCOUNT;
	wide sum = 0;
	for (int64_t k = 0; k < t->tariff_position_count[g]; k++) {
		if (a->energy_wh[n * PERIODS + k] < 0)
			return TARIFF_BAD_ACCOUNT;
		sum += a->energy_wh[n * PERIODS + k];
	}
	if (sum > t->tariff_energy_wh_max[g])
		return TARIFF_BAD_ACCOUNT;
	wide last = INT64_MIN, span = t->segment_start_at[t->tariff_first_segment[g]];
	for (int64_t i = a->first_interval[n]; i < a->first_interval[n + 1]; i++) {
		wide start = a->interval_start_at[i], end = a->interval_end_at[i], energy = a->interval_energy_wh[i];
		if (start > end || start < last)
			return TARIFF_BAD_INTERVAL;
		if (start < span || end <= span || end > t->segment_start_at[t->tariff_first_segment[g + 1] - 1])
			return TARIFF_OUTSIDE_SPAN;
		if (end - start > TARIFF_INTERVAL_S_MAX)
			return TARIFF_BAD_INTERVAL;
		sum += energy;
		if (energy < 0 || sum > t->tariff_energy_wh_max[g])
			return TARIFF_BAD_ENERGY;
		last = end;
	}
	return TARIFF_OK;
}

static void
oracle(const struct tariff_tables *t, const struct tariff_accounts *a, struct answer *out)
{
	memset(out, 0, sizeof *out);
	for (int64_t n = 0; n < ACCOUNTS && out->result == TARIFF_OK; n++)
		out->result = oracle_check(t, a, n);
	for (int64_t n = 0; n < ACCOUNTS && out->result == TARIFF_OK; n++) {
		wide position[PERIODS] = {0};
		int64_t cycle = a->cycle_start_at[n], g = a->tariff[n];
		for (int64_t k = 0; k < t->tariff_position_count[g]; k++)
			position[k] = a->energy_wh[n * PERIODS + k];
		for (int64_t i = a->first_interval[n]; i < a->first_interval[n + 1]; i++)
			oracle_row(t, g, a->interval_start_at[i], a->interval_end_at[i], a->interval_energy_wh[i],
				   position, &cycle, out, i);
	}
}

static void
expect(int64_t found, wide wanted, const char *what, int64_t row)
{
	if (found == wanted)
		return;
	fprintf(stderr, "%s of row %lld: the kernel says %lld, the oracle %lld\n", what, (long long)row,
		(long long)found, (long long)wanted);
	abort();
}

static void
make_accounts(struct input *in, const struct tariff_tables *t, int64_t *const to[7])
{
	int64_t row = 0;
	for (int64_t n = 0; n < ACCOUNTS; n++) {
		int64_t g = take(in, 1) % t->tariff_count;
		to[0][n] = g;
		to[1][n] = row;
		for (int64_t k = 0; k < PERIODS; k++)
			to[2][n * PERIODS + k] = k < t->tariff_position_count[g] ? up_to(in, 300) : 0;
		to[3][n] = take(in, 1) < 128 ? TARIFF_NO_CYCLE : up_to(in, 200) - 100;
		int64_t at = t->segment_start_at[t->tariff_first_segment[g]] + up_to(in, 20);
		int64_t rows = n == ACCOUNTS - 1 ? ROWS - row : take(in, 1) % 4;
		for (int64_t i = 0; i < rows && row < ROWS; i++, row++) {
			to[4][row] = at;
			at += up_to(in, take(in, 1) < 16 ? 20000000 : 100);
			int64_t span_end = t->segment_start_at[t->tariff_first_segment[g + 1] - 1];
			at = at > span_end && take(in, 1) < 250 ? span_end : at;
			to[5][row] = at;
			to[6][row] = up_to(in, take(in, 1) < 16 ? TARIFF_ENERGY_WH_MAX : 200);
		}
	}
	to[1][ACCOUNTS] = row;
	if (take(in, 1) > 200) { /* something wild, for the refusals */
		int64_t *wild[] = {&to[0][0], &to[2][1], &to[4][1], &to[5][2], &to[6][ROWS - 1]};
		*wild[take(in, 1) % 5] = take(in, 8);
	}
}

static void
compare(const struct tariff_tables *t, const struct tariff_accounts *a, const struct answer *wanted,
	const struct tariff_bills *b, const struct tariff_details *d)
{
	for (int64_t n = 0; n < ACCOUNTS; n++) {
		wide sum = 0;
		int64_t cells = t->period_first_cell[t->tariff_first_period[a->tariff[n] + 1]]
				- t->period_first_cell[t->tariff_first_period[a->tariff[n]]];
		for (int64_t i = a->first_interval[n]; i < a->first_interval[n + 1]; i++) {
			sum += wanted->amount[i];
			expect(b->amount_nano[i], wanted->amount[i], "amount", i);
			for (int64_t k = 0; d != NULL && k < t->tariff_position_count[a->tariff[n]]; k++)
				expect(d->energy_wh[i * PERIODS + k], wanted->position[i][k], "position", i);
			for (int64_t c = 0; d != NULL && c < cells; c++)
				expect(d->cell_energy_wh[i * d->cell_stride + c], wanted->cells[i][c], "cell", i);
			if (d != NULL) {
				expect(d->cycle_start_at[i], wanted->cycle[i], "cycle", i);
				expect(d->estimated[i], wanted->estimated[i], "estimated", i);
			}
		}
		expect(b->account_amount_nano[n], sum, "sum of account", n);
		int64_t last = a->first_interval[n + 1] - 1;
		for (int64_t k = 0; last >= a->first_interval[n] && k < t->tariff_position_count[a->tariff[n]]; k++)
			expect(b->account_energy_wh[n * PERIODS + k], wanted->position[last][k], "end position", n);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	int64_t tariffs = 1 + take(&in, 1) % TARIFFS, explained = take(&in, 1) & 1;
	int64_t counts[11] = {tariffs + 1, tariffs + 1, tariffs, tariffs, tariffs * SEGMENTS, tariffs * SEGMENTS,
			      tariffs * SEGMENTS, tariffs * PERIODS + 1, tariffs * PERIODS,
			      tariffs * PERIODS * BLOCKS, tariffs * PERIODS * BLOCKS};
	int64_t lengths[15] = {ACCOUNTS, ACCOUNTS + 1, ACCOUNTS * PERIODS, ACCOUNTS, ROWS, ROWS, ROWS,
			       ROWS, ACCOUNTS, ACCOUNTS * PERIODS, ACCOUNTS,
			       ROWS * PERIODS, ROWS, ROWS, ROWS * PERIODS * BLOCKS};
	int64_t *to[11], *x[15];
	for (int i = 0; i < 11; i++)
		to[i] = array(counts[i]);
	for (int i = 0; i < 15; i++)
		x[i] = array(lengths[i]);
	struct tariff_tables t = {tariffs, tariffs * SEGMENTS, tariffs * PERIODS, tariffs * PERIODS * BLOCKS,
				  to[0], to[1], to[2], to[3], to[4], to[5], to[6], to[7], to[8], to[9], to[10]};
	make_tables(&in, &t, to);
	if (tariff_check_tables(&t) == TARIFF_OK) {
		make_accounts(&in, &t, x);
		struct tariff_accounts a = {ACCOUNTS, PERIODS, x[0], x[1], x[2], x[3], x[4], x[5], x[6]};
		struct tariff_bills b = {x[7], x[8], x[9], x[10]};
		struct tariff_details d = {PERIODS * BLOCKS, x[11], x[12], x[13], x[14]};
		struct answer wanted;
		oracle(&t, &a, &wanted);
		enum tariff_result result = tariff_rate(&t, &a, &b, explained ? &d : NULL);
		expect(result, wanted.result, "result", 0);
		if (result == TARIFF_OK)
			compare(&t, &a, &wanted, &b, explained ? &d : NULL);
		for (int i = 7; i < 15 && result != TARIFF_OK; i++) {
			for (int64_t k = 0; k < lengths[i]; k++)
				expect(x[i][k], -77, "place that a refusal wrote to", i);
		}
	}
	for (int i = 0; i < 11; i++)
		free(to[i]);
	for (int i = 0; i < 15; i++)
		free(x[i]);
	return 0;
}
