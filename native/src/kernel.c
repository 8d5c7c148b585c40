/* The tariff kernel. The contract of every public function, and every bound, stands in kernel.h. */

#include "kernel.h"

#include <stddef.h>

/* Where an account stands while its intervals are rated. */
struct cursor {
	int64_t tariff;
	int64_t segment; /* of the last second rated */
	int64_t cycle_start_at;
	int64_t *energy_wh; /* block positions, in the caller's result */
};

/* --- checks: no function of this part writes anything --------------------------------------- */

/* Whether run numbers start at 0, never fall, and end at 'count', with 'least' or more in each run. */
static int
runs_are_good(const int64_t *first, int64_t runs, int64_t count, int64_t least)
{
	if (first[0] != 0 || first[runs] != count)
		return 0;
	for (int64_t i = 0; i < runs; i++) {
		if (first[i] < 0 || first[i] > count || first[i + 1] > count || first[i + 1] - first[i] < least)
			return 0;
	}
	return 1;
}

static int
cells_are_good(const struct tariff_tables *t, int64_t period, int64_t energy_wh_max)
{
	int64_t price_max = TARIFF_AMOUNT_NANO_MAX / energy_wh_max;
	int64_t limit_wh = 0;
	for (int64_t c = t->period_first_cell[period]; c < t->period_first_cell[period + 1]; c++) {
		if (t->cell_price_micro_per_kwh[c] > price_max || t->cell_price_micro_per_kwh[c] < -price_max)
			return 0;
		if (t->cell_limit_wh[c] <= limit_wh || t->cell_limit_wh[c] > TARIFF_ENERGY_WH_MAX)
			return 0;
		limit_wh = t->cell_limit_wh[c];
	}
	return limit_wh >= energy_wh_max;
}

static int
periods_are_good(const struct tariff_tables *t, int64_t tariff)
{
	int64_t positions = t->tariff_position_count[tariff];
	int64_t energy_wh_max = t->tariff_energy_wh_max[tariff];
	if (positions < 1 || positions > TARIFF_STRIDE_MAX)
		return 0;
	if (energy_wh_max < 1 || energy_wh_max > TARIFF_ENERGY_WH_MAX)
		return 0;
	for (int64_t p = t->tariff_first_period[tariff]; p < t->tariff_first_period[tariff + 1]; p++) {
		if (t->period_position[p] < 0 || t->period_position[p] >= positions)
			return 0;
		if (!cells_are_good(t, p, energy_wh_max))
			return 0;
	}
	return 1;
}

static int
segments_are_good(const struct tariff_tables *t, int64_t tariff)
{
	int64_t first = t->tariff_first_segment[tariff];
	for (int64_t s = first; s < t->tariff_first_segment[tariff + 1]; s++) {
		int64_t at = t->segment_start_at[s];
		int64_t cycle_start_at = t->segment_cycle_start_at[s];
		if (at < -TARIFF_AT_MAX || at > TARIFF_AT_MAX)
			return 0;
		if (cycle_start_at < -TARIFF_AT_MAX || cycle_start_at > at)
			return 0;
		if (t->segment_period[s] < t->tariff_first_period[tariff]
		    || t->segment_period[s] >= t->tariff_first_period[tariff + 1])
			return 0;
		if (s > first
		    && (at <= t->segment_start_at[s - 1] || cycle_start_at < t->segment_cycle_start_at[s - 1]))
			return 0;
	}
	return 1;
}

enum tariff_result
tariff_check_tables(const struct tariff_tables *t)
{
	if (t->tariff_count < 1 || t->tariff_count >= TARIFF_COUNT_MAX)
		return TARIFF_BAD_TABLES;
	if (t->segment_count < 1 || t->segment_count >= TARIFF_COUNT_MAX)
		return TARIFF_BAD_TABLES;
	if (t->period_count < 1 || t->period_count >= TARIFF_COUNT_MAX)
		return TARIFF_BAD_TABLES;
	if (t->cell_count < 1 || t->cell_count >= TARIFF_COUNT_MAX)
		return TARIFF_BAD_TABLES;
	if (!runs_are_good(t->tariff_first_segment, t->tariff_count, t->segment_count, 2)
	    || !runs_are_good(t->tariff_first_period, t->tariff_count, t->period_count, 1)
	    || !runs_are_good(t->period_first_cell, t->period_count, t->cell_count, 1))
		return TARIFF_BAD_TABLES;
	for (int64_t i = 0; i < t->tariff_count; i++) {
		if (!periods_are_good(t, i) || !segments_are_good(t, i))
			return TARIFF_BAD_TABLES;
	}
	return TARIFF_OK;
}

static enum tariff_result
check_position(const struct tariff_tables *t, const struct tariff_accounts *a, int64_t account)
{
	int64_t tariff = a->tariff[account];
	if (tariff < 0 || tariff >= t->tariff_count)
		return TARIFF_BAD_ACCOUNT;
	if (t->tariff_position_count[tariff] > a->position_stride)
		return TARIFF_BAD_ACCOUNT;
	int64_t cycle_start_at = a->cycle_start_at[account];
	if (cycle_start_at != TARIFF_NO_CYCLE && (cycle_start_at < -TARIFF_AT_MAX || cycle_start_at > TARIFF_AT_MAX))
		return TARIFF_BAD_ACCOUNT;
	int64_t left_wh = t->tariff_energy_wh_max[tariff];
	for (int64_t i = 0; i < t->tariff_position_count[tariff]; i++) {
		int64_t energy_wh = a->energy_wh[account * a->position_stride + i];
		if (energy_wh < 0 || energy_wh > left_wh)
			return TARIFF_BAD_ACCOUNT;
		left_wh -= energy_wh;
	}
	return TARIFF_OK;
}

static int64_t
energy_left(const struct tariff_tables *t, const struct tariff_accounts *a, int64_t account)
{
	int64_t tariff = a->tariff[account];
	int64_t left_wh = t->tariff_energy_wh_max[tariff];
	for (int64_t i = 0; i < t->tariff_position_count[tariff]; i++)
		left_wh -= a->energy_wh[account * a->position_stride + i];
	return left_wh;
}

static enum tariff_result
check_intervals(const struct tariff_tables *t, const struct tariff_accounts *a, int64_t account)
{
	int64_t tariff = a->tariff[account];
	int64_t span_start_at = t->segment_start_at[t->tariff_first_segment[tariff]];
	int64_t span_end_at = t->segment_start_at[t->tariff_first_segment[tariff + 1] - 1];
	int64_t left_wh = energy_left(t, a, account);
	int64_t last_end_at = INT64_MIN;
	for (int64_t i = a->first_interval[account]; i < a->first_interval[account + 1]; i++) {
		int64_t start_at = a->interval_start_at[i];
		int64_t end_at = a->interval_end_at[i];
		int64_t energy_wh = a->interval_energy_wh[i];
		if (start_at > end_at || start_at < last_end_at)
			return TARIFF_BAD_INTERVAL;
		/* an interval of no length belongs to the second before it */
		if (end_at > span_end_at || start_at < span_start_at || end_at <= span_start_at)
			return TARIFF_OUTSIDE_SPAN;
		if (end_at - start_at > TARIFF_INTERVAL_S_MAX)
			return TARIFF_BAD_INTERVAL;
		if (energy_wh < 0 || energy_wh > left_wh)
			return TARIFF_BAD_ENERGY;
		left_wh -= energy_wh;
		last_end_at = end_at;
	}
	return TARIFF_OK;
}

static enum tariff_result
check_accounts(const struct tariff_tables *t, const struct tariff_accounts *a, const struct tariff_details *details)
{
	if (a->account_count < 0 || a->account_count >= TARIFF_COUNT_MAX)
		return TARIFF_BAD_ACCOUNT;
	if (a->position_stride < 1 || a->position_stride > TARIFF_STRIDE_MAX)
		return TARIFF_BAD_ACCOUNT;
	int64_t interval_count = a->first_interval[a->account_count];
	if (interval_count < 0 || interval_count >= TARIFF_COUNT_MAX)
		return TARIFF_BAD_ACCOUNT;
	if (!runs_are_good(a->first_interval, a->account_count, interval_count, 0))
		return TARIFF_BAD_ACCOUNT;
	if (details != NULL && (details->cell_stride < 1 || details->cell_stride > TARIFF_STRIDE_MAX))
		return TARIFF_BAD_ACCOUNT;
	for (int64_t i = 0; i < a->account_count; i++) {
		enum tariff_result result = check_position(t, a, i);
		if (result != TARIFF_OK)
			return result;
		int64_t tariff = a->tariff[i];
		int64_t cells = t->period_first_cell[t->tariff_first_period[tariff + 1]]
				- t->period_first_cell[t->tariff_first_period[tariff]];
		if (details != NULL && cells > details->cell_stride)
			return TARIFF_BAD_ACCOUNT;
		result = check_intervals(t, a, i);
		if (result != TARIFF_OK)
			return result;
	}
	return TARIFF_OK;
}

/* --- rating: everything has been checked ----------------------------------------------------- */

/* The second that says which segment an interval starts in: one of no length belongs to the second before it. */
static int64_t
first_second(int64_t start_at, int64_t end_at)
{
	return start_at < end_at ? start_at : end_at - 1;
}

/* The segment that holds an instant of the span: the last one that does not start after it. */
static int64_t
find_segment(const struct tariff_tables *t, int64_t tariff, int64_t at)
{
	int64_t low = t->tariff_first_segment[tariff];
	int64_t high = t->tariff_first_segment[tariff + 1] - 1;
	while (high - low > 1) {
		int64_t middle = low + (high - low) / 2;
		if (t->segment_start_at[middle] <= at)
			low = middle;
		else
			high = middle;
	}
	return low;
}

/* Seconds of [at, end_at) that lie in a segment which holds 'at'. */
static int64_t
seconds_in(const struct tariff_tables *t, int64_t segment, int64_t at, int64_t end_at)
{
	int64_t segment_end_at = t->segment_start_at[segment + 1];
	return (segment_end_at < end_at ? segment_end_at : end_at) - at;
}

/* A position starts over from zero in a later cycle than its own; an earlier one never resets it. */
static void
enter_cycle(const struct tariff_tables *t, struct cursor *cursor, int64_t segment)
{
	int64_t cycle_start_at = t->segment_cycle_start_at[segment];
	if (cycle_start_at <= cursor->cycle_start_at)
		return;
	if (cursor->cycle_start_at != TARIFF_NO_CYCLE) {
		for (int64_t i = 0; i < t->tariff_position_count[cursor->tariff]; i++)
			cursor->energy_wh[i] = 0;
	}
	cursor->cycle_start_at = cycle_start_at;
}

/*
 * Cost of energy within one segment, split exactly at the block limits; moves the position on.
 * 'cell_energy_wh' may be NULL; its entry 0 is the tariff's first cell. The last limit of a period
 * is not below energy_wh_max, so the loop ends within the period's cells.
 */
static int64_t
rate_part(const struct tariff_tables *t, struct cursor *cursor, int64_t segment, int64_t energy_wh,
	  int64_t *cell_energy_wh)
{
	enter_cycle(t, cursor, segment);
	int64_t period = t->segment_period[segment];
	int64_t *position_wh = &cursor->energy_wh[t->period_position[period]];
	int64_t first_cell = t->period_first_cell[t->tariff_first_period[cursor->tariff]];
	int64_t amount_nano = 0;
	for (int64_t c = t->period_first_cell[period]; energy_wh > 0; c++) {
		int64_t room_wh = t->cell_limit_wh[c] - *position_wh;
		if (room_wh <= 0)
			continue;
		int64_t taken_wh = energy_wh < room_wh ? energy_wh : room_wh;
		amount_nano += taken_wh * t->cell_price_micro_per_kwh[c];
		*position_wh += taken_wh;
		energy_wh -= taken_wh;
		if (cell_energy_wh != NULL)
			cell_energy_wh[c - first_cell] += taken_wh;
	}
	return amount_nano;
}

/* How many parts of an interval leave a remainder above 'remainder' when its energy is shared out. */
static int64_t
count_above(const struct tariff_tables *t, int64_t segment, int64_t start_at, int64_t end_at, int64_t energy_wh,
	    int64_t remainder)
{
	int64_t count = 0;
	for (int64_t at = start_at; at < end_at; segment++) {
		int64_t seconds = seconds_in(t, segment, at, end_at);
		if (energy_wh * seconds % (end_at - start_at) > remainder)
			count++;
		at += seconds;
	}
	return count;
}

/* Watt-hours that are left when every part has got its share cut off to whole ones: below the number of parts. */
static int64_t
left_over(const struct tariff_tables *t, int64_t segment, int64_t start_at, int64_t end_at, int64_t energy_wh)
{
	int64_t remainders = 0;
	for (int64_t at = start_at; at < end_at; segment++) {
		int64_t seconds = seconds_in(t, segment, at, end_at);
		remainders += energy_wh * seconds % (end_at - start_at);
		at += seconds;
	}
	return remainders / (end_at - start_at);
}

/* The remainder of the last part that gets one of 'extra' watt-hours: fewer than 'extra' parts are above it. */
static int64_t
find_threshold(const struct tariff_tables *t, int64_t segment, int64_t start_at, int64_t end_at, int64_t energy_wh,
	       int64_t extra)
{
	int64_t low = -1; /* at least 'extra' parts are above it */
	int64_t high = end_at - start_at - 1;
	while (high - low > 1) {
		int64_t middle = low + (high - low) / 2;
		if (count_above(t, segment, start_at, end_at, energy_wh, middle) < extra)
			high = middle;
		else
			low = middle;
	}
	return high;
}

/*
 * Cost of an interval that lies in several segments: energy by seconds, whole watt-hours, largest
 * remainder, the earlier of equals first. Without memory for the parts they are walked again
 * instead, to find the remainder from which on a part gets one more.
 */
static int64_t
rate_shared(const struct tariff_tables *t, struct cursor *cursor, int64_t start_at, int64_t end_at, int64_t energy_wh,
	    int64_t *cell_energy_wh)
{
	int64_t segment = cursor->segment;
	int64_t extra = left_over(t, segment, start_at, end_at, energy_wh);
	int64_t threshold = 0;
	int64_t equals = 0; /* parts with just that remainder that get one more */
	if (extra > 0) {
		threshold = find_threshold(t, segment, start_at, end_at, energy_wh, extra);
		equals = extra - count_above(t, segment, start_at, end_at, energy_wh, threshold);
	}
	int64_t amount_nano = 0;
	for (int64_t at = start_at; at < end_at; segment++) {
		int64_t seconds = seconds_in(t, segment, at, end_at);
		int64_t share_wh = energy_wh * seconds / (end_at - start_at);
		int64_t remainder = energy_wh * seconds % (end_at - start_at);
		if (remainder > threshold) { /* without extra ones every remainder is 0 */
			share_wh++;
		} else if (equals > 0 && remainder == threshold) {
			share_wh++;
			equals--;
		}
		amount_nano += rate_part(t, cursor, segment, share_wh, cell_energy_wh);
		cursor->segment = segment;
		at += seconds;
	}
	return amount_nano;
}

/* Rates one interval, from the segment of its first second on. Returns its cost. */
static int64_t
rate_interval(const struct tariff_tables *t, struct cursor *cursor, int64_t start_at, int64_t end_at,
	      int64_t energy_wh, int64_t *cell_energy_wh, int64_t *estimated)
{
	while (t->segment_start_at[cursor->segment + 1] <= first_second(start_at, end_at))
		cursor->segment++;
	*estimated = 0;
	if (end_at <= t->segment_start_at[cursor->segment + 1])
		return rate_part(t, cursor, cursor->segment, energy_wh, cell_energy_wh);
	*estimated = energy_wh > 0;
	return rate_shared(t, cursor, start_at, end_at, energy_wh, cell_energy_wh);
}

static void
write_details(const struct tariff_tables *t, const struct cursor *cursor, const struct tariff_details *details,
	      int64_t position_stride, int64_t interval, int64_t estimated)
{
	int64_t *energy_wh = &details->energy_wh[interval * position_stride];
	for (int64_t i = 0; i < position_stride; i++)
		energy_wh[i] = i < t->tariff_position_count[cursor->tariff] ? cursor->energy_wh[i] : 0;
	details->cycle_start_at[interval] = cursor->cycle_start_at;
	details->estimated[interval] = estimated;
}

static void
rate_account(const struct tariff_tables *t, const struct tariff_accounts *a, int64_t account,
	     const struct tariff_bills *bills, const struct tariff_details *details)
{
	int64_t first = a->first_interval[account];
	int64_t end = a->first_interval[account + 1];
	int64_t amount_nano = 0;
	struct cursor cursor = {
		.tariff = a->tariff[account],
		.segment = 0,
		.cycle_start_at = a->cycle_start_at[account],
		.energy_wh = &bills->account_energy_wh[account * a->position_stride],
	};
	int64_t positions = t->tariff_position_count[cursor.tariff];
	for (int64_t i = 0; i < a->position_stride; i++)
		cursor.energy_wh[i] = i < positions ? a->energy_wh[account * a->position_stride + i] : 0;
	if (first < end) {
		int64_t at = first_second(a->interval_start_at[first], a->interval_end_at[first]);
		cursor.segment = find_segment(t, cursor.tariff, at);
	}
	for (int64_t i = first; i < end; i++) {
		int64_t estimated = 0;
		int64_t *cell_energy_wh = NULL;
		if (details != NULL) {
			cell_energy_wh = &details->cell_energy_wh[i * details->cell_stride];
			for (int64_t c = 0; c < details->cell_stride; c++)
				cell_energy_wh[c] = 0;
		}
		bills->amount_nano[i] = rate_interval(t, &cursor, a->interval_start_at[i], a->interval_end_at[i],
						      a->interval_energy_wh[i], cell_energy_wh, &estimated);
		amount_nano += bills->amount_nano[i];
		if (details != NULL)
			write_details(t, &cursor, details, a->position_stride, i, estimated);
	}
	bills->account_amount_nano[account] = amount_nano;
	bills->account_cycle_start_at[account] = cursor.cycle_start_at;
}

enum tariff_result
tariff_rate(const struct tariff_tables *t, const struct tariff_accounts *a, const struct tariff_bills *bills,
	    const struct tariff_details *details)
{
	enum tariff_result result = check_accounts(t, a, details);
	if (result != TARIFF_OK)
		return result;
	for (int64_t i = 0; i < a->account_count; i++)
		rate_account(t, a, i, bills, details);
	return TARIFF_OK;
}
