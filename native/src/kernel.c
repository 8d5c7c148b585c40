/* The tariff kernel. The contract of every public function, and every bound, stands in kernel.h. */

#include "kernel.h"

#include <stddef.h>

/* What is rare stays out of the loops that are not, and leaves them the registers. */
#ifdef __GNUC__
#define NOT_INLINE __attribute__((noinline))
#else
#define NOT_INLINE
#endif

/* Powers of two: dividing by them takes one instruction. */
#define USUAL_S UINT64_C(67108864)
#define USUAL_WH UINT64_C(137438953472)
#define USUAL_COUNT INT64_C(1048576)

/*
 * Contracts in ACSL, proven by `python3 build.py prove`. What they name:
 *
 *   readable   the arrays of the tables may be read as far as the counts say
 *   clear      a place that is written lies outside everything the tables are made of
 *   ..._good   the rules of struct tariff_tables, as tariff_check_tables() checks them
 *   cost       what energy costs from a block position on: the definition the code is proven equal to
 */
/*@
	logic integer cost{L}(int64_t *limit_wh, int64_t *price, integer c, integer position_wh, integer energy_wh) =
		energy_wh <= 0 ? 0
		: limit_wh[c] <= position_wh ? cost(limit_wh, price, c + 1, position_wh, energy_wh)
		: energy_wh <= limit_wh[c] - position_wh ? energy_wh * price[c]
		: (limit_wh[c] - position_wh) * price[c]
			+ cost(limit_wh, price, c + 1, limit_wh[c], energy_wh - (limit_wh[c] - position_wh));

	logic integer price_max(integer energy_wh_max) = 9000000000000000000 / energy_wh_max;

	lemma product_rises: \forall integer a, b, c; 0 <= a && b <= c ==> a * b <= a * c;
	lemma product_sign: \forall integer a, b; 0 <= a && 0 <= b ==> 0 <= a * b;
	lemma amount_fits: \forall integer most, wh;
		0 <= wh <= most && 1 <= most <= 100000000000 ==> 0 <= price_max(most) * wh <= 9000000000000000000;

	predicate readable{L}(struct tariff_tables *t) = \valid_read(t)
		&& \valid_read(t->tariff_first_segment + (0 .. t->tariff_count))
		&& \valid_read(t->tariff_first_period + (0 .. t->tariff_count))
		&& \valid_read(t->tariff_position_count + (0 .. t->tariff_count - 1))
		&& \valid_read(t->tariff_energy_wh_max + (0 .. t->tariff_count - 1))
		&& \valid_read(t->segment_start_at + (0 .. t->segment_count - 1))
		&& \valid_read(t->segment_period + (0 .. t->segment_count - 1))
		&& \valid_read(t->segment_cycle_start_at + (0 .. t->segment_count - 1))
		&& \valid_read(t->period_first_cell + (0 .. t->period_count))
		&& \valid_read(t->period_position + (0 .. t->period_count - 1))
		&& \valid_read(t->cell_limit_wh + (0 .. t->cell_count - 1))
		&& \valid_read(t->cell_price_micro_per_kwh + (0 .. t->cell_count - 1));

	predicate clear{L}(struct tariff_tables *t, int64_t *p, integer n) = \separated(p + (0 .. n - 1), t)
		&& \separated(p + (0 .. n - 1), t->tariff_first_segment + (0 .. t->tariff_count))
		&& \separated(p + (0 .. n - 1), t->tariff_first_period + (0 .. t->tariff_count))
		&& \separated(p + (0 .. n - 1), t->tariff_position_count + (0 .. t->tariff_count - 1))
		&& \separated(p + (0 .. n - 1), t->tariff_energy_wh_max + (0 .. t->tariff_count - 1))
		&& \separated(p + (0 .. n - 1), t->segment_start_at + (0 .. t->segment_count - 1))
		&& \separated(p + (0 .. n - 1), t->segment_period + (0 .. t->segment_count - 1))
		&& \separated(p + (0 .. n - 1), t->segment_cycle_start_at + (0 .. t->segment_count - 1))
		&& \separated(p + (0 .. n - 1), t->period_first_cell + (0 .. t->period_count))
		&& \separated(p + (0 .. n - 1), t->period_position + (0 .. t->period_count - 1))
		&& \separated(p + (0 .. n - 1), t->cell_limit_wh + (0 .. t->cell_count - 1))
		&& \separated(p + (0 .. n - 1), t->cell_price_micro_per_kwh + (0 .. t->cell_count - 1));

	predicate runs_good{L}(int64_t *first, integer runs, integer count, integer least) =
		first[0] == 0 && first[runs] == count
		&& \forall integer i; 0 <= i < runs ==>
			0 <= first[i] <= count && first[i + 1] <= count && first[i] + least <= first[i + 1];

	predicate cells_good{L}(struct tariff_tables *t, integer first, integer end, integer energy_wh_max) =
		0 <= first < end <= t->cell_count
		&& t->cell_limit_wh[end - 1] >= energy_wh_max
		&& \forall integer c; first <= c < end ==>
			0 < t->cell_limit_wh[c] <= 100000000000
			&& -price_max(energy_wh_max) <= t->cell_price_micro_per_kwh[c] <= price_max(energy_wh_max);

	predicate period_good{L}(struct tariff_tables *t, integer p, integer first, integer end, integer positions,
				 integer energy_wh_max) =
		0 <= t->period_position[p] < positions
		&& t->period_first_cell[first] <= t->period_first_cell[p]
		&& t->period_first_cell[p + 1] <= t->period_first_cell[end]
		&& cells_good(t, t->period_first_cell[p], t->period_first_cell[p + 1], energy_wh_max);

	predicate periods_good{L}(struct tariff_tables *t, integer first, integer end, integer positions,
				  integer energy_wh_max) =
		0 <= first < end <= t->period_count
		&& 1 <= positions <= 1048576 && 1 <= energy_wh_max <= 100000000000
		&& \forall integer p; first <= p < end ==> period_good(t, p, first, end, positions, energy_wh_max);

	predicate segment_good{L}(struct tariff_tables *t, integer s, integer first_period, integer end_period) =
		-100000000000 <= t->segment_start_at[s] <= 100000000000
		&& -100000000000 <= t->segment_cycle_start_at[s] <= t->segment_start_at[s]
		&& first_period <= t->segment_period[s] < end_period;

	predicate segments_good{L}(struct tariff_tables *t, integer first, integer end, integer first_period,
				   integer end_period) =
		0 <= first && first + 2 <= end <= t->segment_count
		&& (\forall integer s; first <= s < end ==> segment_good(t, s, first_period, end_period))
		&& (\forall integer s; first < s < end ==>
			t->segment_start_at[s - 1] < t->segment_start_at[s]
			&& t->segment_cycle_start_at[s - 1] <= t->segment_cycle_start_at[s]);

	predicate tariff_good{L}(struct tariff_tables *t, integer g) = 0 <= g < t->tariff_count
		&& periods_good(t, t->tariff_first_period[g], t->tariff_first_period[g + 1],
				t->tariff_position_count[g], t->tariff_energy_wh_max[g])
		&& segments_good(t, t->tariff_first_segment[g], t->tariff_first_segment[g + 1],
				 t->tariff_first_period[g], t->tariff_first_period[g + 1]);

	predicate counts_good{L}(struct tariff_tables *t) = 1 <= t->tariff_count < 2147483647
		&& 1 <= t->segment_count < 2147483647 && 1 <= t->period_count < 2147483647
		&& 1 <= t->cell_count < 2147483647;

	predicate tables_good{L}(struct tariff_tables *t) = counts_good(t)
		&& \forall integer g; 0 <= g < t->tariff_count ==> tariff_good(t, g);
*/

/*@
	predicate accounts_readable{L}(struct tariff_accounts *a) = \valid_read(a)
		&& \valid_read(a->tariff + (0 .. a->account_count - 1))
		&& \valid_read(a->first_interval + (0 .. a->account_count))
		&& \valid_read(a->energy_wh + (0 .. a->account_count * a->position_stride - 1))
		&& \valid_read(a->cycle_start_at + (0 .. a->account_count - 1))
		&& \valid_read(a->interval_start_at + (0 .. a->first_interval[a->account_count] - 1))
		&& \valid_read(a->interval_end_at + (0 .. a->first_interval[a->account_count] - 1))
		&& \valid_read(a->interval_energy_wh + (0 .. a->first_interval[a->account_count] - 1));

	predicate position_good{L}(struct tariff_tables *t, struct tariff_accounts *a, integer n) =
		0 <= a->tariff[n] < t->tariff_count && t->tariff_position_count[a->tariff[n]] <= a->position_stride
		&& (a->cycle_start_at[n] == -9223372036854775807 - 1
		    || -100000000000 <= a->cycle_start_at[n] <= 100000000000);

	logic integer span_start{L}(struct tariff_tables *t, integer g) =
		t->segment_start_at[t->tariff_first_segment[g]];

	logic integer span_end{L}(struct tariff_tables *t, integer g) =
		t->segment_start_at[t->tariff_first_segment[g + 1] - 1];

	predicate interval_good{L}(struct tariff_tables *t, struct tariff_accounts *a, integer g, integer i) =
		a->interval_start_at[i] <= a->interval_end_at[i]
		&& a->interval_end_at[i] - a->interval_start_at[i] <= 90000000
		&& span_start(t, g) <= a->interval_start_at[i] && span_start(t, g) < a->interval_end_at[i]
		&& a->interval_end_at[i] <= span_end(t, g)
		&& 0 <= a->interval_energy_wh[i] <= t->tariff_energy_wh_max[g];

	predicate follows{L}(struct tariff_accounts *a, integer i) =
		a->interval_end_at[i - 1] <= a->interval_start_at[i];

	predicate parts_good{L}(struct tariff_tables *t, integer segment, integer last,
	    integer start_at, integer end_at) =
		0 <= segment < last < t->segment_count < 2147483647
		&& -100000000000 <= start_at < end_at <= 100000000000 && end_at - start_at <= 90000000
		&& t->segment_start_at[segment] <= start_at < t->segment_start_at[segment + 1]
		&& end_at <= t->segment_start_at[last]
		&& \forall integer s; segment < s <= last ==> t->segment_start_at[s - 1] < t->segment_start_at[s];

	predicate intervals_good{L}(struct tariff_tables *t, struct tariff_accounts *a, integer g, integer first,
				    integer end) =
		(\forall integer i; first <= i < end ==> interval_good(t, a, g, i))
		&& (\forall integer i; first < i < end ==> follows(a, i));

	predicate within{L}(int64_t *wh, integer count, integer top_wh) =
		\forall integer k; 0 <= k < count ==> 0 <= wh[k] <= top_wh;

	logic integer cells_of{L}(struct tariff_tables *t, integer g) =
		t->period_first_cell[t->tariff_first_period[g + 1]] - t->period_first_cell[t->tariff_first_period[g]];

	axiomatic rests {
	logic integer wh_rest{L}(int64_t *wh, integer i, integer end) =
		i >= end ? 0 : wh[i] + wh_rest(wh, i + 1, end) <= 0 ? 0 : wh[i] + wh_rest(wh, i + 1, end);

	lemma rest_sign{L}: \forall int64_t *wh, integer i, end; 0 <= wh_rest(wh, i, end);

	lemma rest_step{L}: \forall int64_t *wh, integer i, end;
		i < end && 0 <= wh[i] ==> wh_rest(wh, i, end) == wh[i] + wh_rest(wh, i + 1, end);
	}

	predicate energy_good{L}(struct tariff_tables *t, struct tariff_accounts *a, integer n, integer g) =
		\let rest_wh = wh_rest(a->interval_energy_wh, a->first_interval[n], a->first_interval[n + 1]);
		0 <= rest_wh <= t->tariff_energy_wh_max[g]
		&& within(a->energy_wh + n * a->position_stride, t->tariff_position_count[g],
			  t->tariff_energy_wh_max[g] - rest_wh);

	predicate account_good{L}(struct tariff_tables *t, struct tariff_accounts *a, integer n, integer cell_stride) =
		position_good(t, a, n)
		&& intervals_good(t, a, a->tariff[n], a->first_interval[n], a->first_interval[n + 1])
		&& energy_good(t, a, n, a->tariff[n]) && cells_of(t, a->tariff[n]) <= cell_stride;
*/

/* --- checks: no function of this part writes anything --------------------------------------- */

/* Whether run numbers start at 0, never fall, and end at 'count', with 'least' or more in each run. */
/*@
	requires 0 <= runs < 2147483647 && 0 <= count < 2147483647 && 0 <= least <= 2;
	requires \valid_read(first + (0 .. runs));
	assigns \nothing;
	ensures \result != 0 <==> runs_good(first, runs, count, least);
*/
static int
runs_are_good(const int64_t *first, int64_t runs, int64_t count, int64_t least)
{
	if (first[0] != 0 || first[runs] != count)
		return 0;
	/*@
		loop invariant 0 <= i <= runs;
		loop invariant \forall integer k; 0 <= k < i ==>
			0 <= first[k] <= count && first[k + 1] <= count && first[k] + least <= first[k + 1];
		loop assigns i;
		loop variant runs - i;
	*/
	for (int64_t i = 0; i < runs; i++) {
		if (first[i] < 0 || first[i] > count || first[i + 1] > count || first[i + 1] < first[i] + least)
			return 0;
	}
	return 1;
}

/*@
	requires readable(t) && 0 <= first < end <= t->cell_count < 2147483647;
	requires 1 <= energy_wh_max <= 100000000000;
	assigns \nothing;
	ensures \result != 0 ==> cells_good(t, first, end, energy_wh_max);
	ensures \result != 0 ==> \forall integer c; first < c < end ==> t->cell_limit_wh[c - 1] < t->cell_limit_wh[c];
*/
static int
cells_are_good(const struct tariff_tables *t, int64_t first, int64_t end, int64_t energy_wh_max)
{
	int64_t price_max = TARIFF_AMOUNT_NANO_MAX / energy_wh_max;
	int64_t limit_wh = 0;
	/*@
		loop invariant first <= c <= end;
		loop invariant 0 <= limit_wh <= 100000000000;
		loop invariant c > first ==> limit_wh == t->cell_limit_wh[c - 1];
		loop invariant \forall integer k; first <= k < c ==>
			0 < t->cell_limit_wh[k] <= 100000000000
			&& -price_max <= t->cell_price_micro_per_kwh[k] <= price_max;
		loop invariant \forall integer k; first < k < c ==> t->cell_limit_wh[k - 1] < t->cell_limit_wh[k];
		loop assigns c, limit_wh;
		loop variant end - c;
	*/
	for (int64_t c = first; c < end; c++) {
		if (t->cell_price_micro_per_kwh[c] > price_max || t->cell_price_micro_per_kwh[c] < -price_max)
			return 0;
		if (t->cell_limit_wh[c] <= limit_wh || t->cell_limit_wh[c] > TARIFF_ENERGY_WH_MAX)
			return 0;
		limit_wh = t->cell_limit_wh[c];
	}
	return limit_wh >= energy_wh_max;
}

/*@
	requires readable(t) && 0 <= t->cell_count < 2147483647 && 0 <= t->period_count < 2147483647;
	requires 0 <= first < end <= t->period_count;
	requires runs_good(t->period_first_cell, t->period_count, t->cell_count, 1);
	assigns \nothing;
	ensures \result != 0 ==> periods_good(t, first, end, positions, energy_wh_max);
*/
static int
periods_are_good(const struct tariff_tables *t, int64_t first, int64_t end, int64_t positions, int64_t energy_wh_max)
{
	if (positions < 1 || positions > TARIFF_STRIDE_MAX)
		return 0;
	if (energy_wh_max < 1 || energy_wh_max > TARIFF_ENERGY_WH_MAX)
		return 0;
	/*@
		loop invariant first <= p <= end;
		loop invariant \forall integer k; first <= k < p ==>
			period_good(t, k, first, end, positions, energy_wh_max);
		loop assigns p;
		loop variant end - p;
	*/
	for (int64_t p = first; p < end; p++) {
		int64_t first_cell = t->period_first_cell[p];
		int64_t end_cell = t->period_first_cell[p + 1];
		if (t->period_position[p] < 0 || t->period_position[p] >= positions)
			return 0;
		if (first_cell < t->period_first_cell[first] || end_cell > t->period_first_cell[end])
			return 0;
		if (!cells_are_good(t, first_cell, end_cell, energy_wh_max))
			return 0;
		/*@ assert period_good(t, p, first, end, positions, energy_wh_max); */
	}
	return 1;
}

/*@
	requires readable(t) && 0 <= t->segment_count < 2147483647;
	requires 0 <= first && first + 2 <= end <= t->segment_count;
	assigns \nothing;
	ensures \result != 0 ==> segments_good(t, first, end, first_period, end_period);
*/
static int
segments_are_good(const struct tariff_tables *t, int64_t first, int64_t end, int64_t first_period, int64_t end_period)
{
	/*@
		loop invariant first <= s <= end;
		loop invariant \forall integer k; first <= k < s ==> segment_good(t, k, first_period, end_period);
		loop invariant \forall integer k; first < k < s ==>
			t->segment_start_at[k - 1] < t->segment_start_at[k]
			&& t->segment_cycle_start_at[k - 1] <= t->segment_cycle_start_at[k];
		loop assigns s;
		loop variant end - s;
	*/
	for (int64_t s = first; s < end; s++) {
		int64_t at = t->segment_start_at[s];
		int64_t cycle_start_at = t->segment_cycle_start_at[s];
		if (at < -TARIFF_AT_MAX || at > TARIFF_AT_MAX)
			return 0;
		if (cycle_start_at < -TARIFF_AT_MAX || cycle_start_at > at)
			return 0;
		if (t->segment_period[s] < first_period || t->segment_period[s] >= end_period)
			return 0;
		if (s > first
		    && (at <= t->segment_start_at[s - 1] || cycle_start_at < t->segment_cycle_start_at[s - 1]))
			return 0;
	}
	return 1;
}

/*@
	requires readable(t);
	assigns \nothing;
	ensures \result == TARIFF_OK || \result == TARIFF_BAD_TABLES;
	ensures \result == TARIFF_OK ==> tables_good(t);
*/
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
	/*@
		loop invariant 0 <= g <= t->tariff_count;
		loop invariant \forall integer k; 0 <= k < g ==> tariff_good(t, k);
		loop assigns g;
		loop variant t->tariff_count - g;
	*/
	for (int64_t g = 0; g < t->tariff_count; g++) {
		int64_t first_period = t->tariff_first_period[g];
		int64_t end_period = t->tariff_first_period[g + 1];
		if (!periods_are_good(t, first_period, end_period, t->tariff_position_count[g],
				      t->tariff_energy_wh_max[g])
		    || !segments_are_good(t, t->tariff_first_segment[g], t->tariff_first_segment[g + 1], first_period,
					  end_period))
			return TARIFF_BAD_TABLES;
	}
	return TARIFF_OK;
}

/* What is left of 'most_wh' after the block positions of an account; below 0 when one of them is out of bounds. */
/*@
	requires 0 <= most_wh <= 100000000000 && 0 <= count <= 1048576;
	requires \valid_read(energy_wh + (0 .. count - 1));
	assigns \nothing;
	ensures -1 <= \result <= most_wh;
	ensures \result >= 0 ==> within(energy_wh, count, most_wh - \result);
*/
static int64_t
energy_left(const int64_t *energy_wh, int64_t count, int64_t most_wh)
{
	int64_t left_wh = most_wh;
	/*@
		loop invariant 0 <= i <= count;
		loop invariant 0 <= left_wh <= most_wh;
		loop invariant \forall integer k; 0 <= k < i ==> 0 <= energy_wh[k] <= most_wh - left_wh;
		loop assigns i, left_wh;
		loop variant count - i;
	*/
	for (int64_t i = 0; i < count; i++) {
		if (energy_wh[i] < 0 || energy_wh[i] > left_wh)
			return -1;
		left_wh -= energy_wh[i];
	}
	return left_wh;
}

/*@
	requires readable(t) && tables_good(t) && accounts_readable(a);
	requires 0 <= account < a->account_count < 2147483647 && 1 <= a->position_stride <= 1048576;
	assigns \nothing;
	ensures \result != 0 ==> position_good(t, a, account);
*/
static int
position_is_good(const struct tariff_tables *t, const struct tariff_accounts *a, int64_t account)
{
	int64_t tariff = a->tariff[account];
	if (tariff < 0 || tariff >= t->tariff_count)
		return 0;
	if (t->tariff_position_count[tariff] > a->position_stride)
		return 0;
	int64_t cycle_start_at = a->cycle_start_at[account];
	return cycle_start_at == TARIFF_NO_CYCLE
	       || (cycle_start_at >= -TARIFF_AT_MAX && cycle_start_at <= TARIFF_AT_MAX);
}

/* The lemma that takes the first interval off the energy that is left. */
/*@ ghost
	/@
		requires 0 <= i < end <= 2147483647 && 0 <= wh[i];
		assigns \nothing;
		ensures 0 <= wh_rest(wh, i + 1, end) && wh_rest(wh, i, end) == wh[i] + wh_rest(wh, i + 1, end);
	@/
	static void take(const int64_t *wh, int64_t i, int64_t end)
	{
	}
*/

/* The lemma that a uint64_t of 63 bits is the same number with a sign. */
/*@ ghost
	/@
		requires number < 9223372036854775808;
		assigns \nothing;
		ensures (int64_t)number == number;
	@/
	static void small(uint64_t number)
	{
	}
*/

/* The lemma that subtraction in uint64_t tells an instant that follows soon from all others. */
/*@ ghost
	/@
		requires 0 <= from <= 1152921504606846976;
		assigns \nothing;
		ensures (uint64_t)((uint64_t)at - (uint64_t)from) < 67108864 ==> 0 <= at - from < 67108864;
	@/
	static void apart(int64_t from, int64_t at)
	{
		uint64_t after = (uint64_t)at;
		uint64_t seconds = (uint64_t)at - (uint64_t)from;
		/@ assert (uint64_t)from == from; @/
		if (after < 9223372036854775808u)
			small(after);
		if (seconds < 67108864u)
			small(seconds);
		/@ assert after >= from ==> seconds == after - from; @/
	}
*/

/* The lemma that energy which is small as a uint64_t is not below 0. */
/*@ ghost
	/@
		assigns \nothing;
		ensures (uint64_t)wh < 9223372036854775808 ==> 0 <= wh == (uint64_t)wh;
	@/
	static void signed_wh(int64_t wh)
	{
		uint64_t number = (uint64_t)wh;
		if (number < 9223372036854775808u)
			small(number);
	}
*/

/*
 * The energy of intervals that are as usual: after 1970, in order, none of them and no gap between
 * two of 2^26 seconds or more, none of 2^37 Wh or more. Below 0 when one is not. Without a branch
 * in the loop, so that it takes several intervals at a time.
 */
/*@
	requires 0 <= first < end <= 2147483647 && end - first <= 1048576;
	requires \valid_read(start_at + (first .. end - 1)) && \valid_read(end_at + (first .. end - 1));
	requires \valid_read(energy_wh + (first .. end - 1));
	requires 0 <= start_at[first] <= end_at[first] <= 100000000000;
	assigns \nothing;
	ensures -1 <= \result;
	ensures \result >= 0 ==> wh_rest(energy_wh, first, end) == \result;
	ensures \result >= 0 ==> \forall integer k; first <= k < end ==> 0 <= energy_wh[k] <= \result;
	ensures \result >= 0 ==> \forall integer k; first < k < end ==> end_at[first] <= start_at[k];
	ensures \result >= 0 ==> \forall integer k; first < k < end ==> end_at[k - 1] <= start_at[k];
	ensures \result >= 0 ==> \forall integer k; first < k < end ==> 0 <= end_at[k] - start_at[k] < 67108864;
	ensures \result >= 0 ==> \forall integer k; first <= k < end ==>
		end_at[first] <= end_at[k] <= end_at[end - 1];
*/
static int64_t
usual_energy(const int64_t *start_at, const int64_t *end_at, const int64_t *energy_wh, int64_t first, int64_t end)
{
	uint64_t unusual = (uint64_t)energy_wh[first] / USUAL_WH;
	uint64_t sum_wh = (uint64_t)energy_wh[first];
	/*@ ghost
		signed_wh(energy_wh[first]);
		if (energy_wh[first] >= 0)
			take(energy_wh, first, end);
	*/
	/*@
		loop invariant first + 1 <= i <= end;
		loop invariant 0 <= unusual <= (i - first) * 1099511627776;
		loop invariant unusual == 0 ==> 0 <= sum_wh <= (i - first) * 137438953472;
		loop invariant unusual == 0 ==> wh_rest(energy_wh, first, end) == sum_wh + wh_rest(energy_wh, i, end);
		loop invariant unusual == 0 ==> \forall integer k; first <= k < i ==> 0 <= energy_wh[k] <= sum_wh;
		loop invariant unusual == 0 ==> \forall integer k; first < k < i ==> end_at[first] <= start_at[k];
		loop invariant unusual == 0 ==> \forall integer k; first < k < i ==> end_at[k - 1] <= start_at[k];
		loop invariant unusual == 0 ==> \forall integer k; first < k < i ==>
			0 <= end_at[k] - start_at[k] < 67108864;
		loop invariant unusual == 0 ==> \forall integer k; first <= k < i ==> end_at[first] <= end_at[k];
		loop invariant unusual == 0 ==> \forall integer k; first <= k < i ==> end_at[k] <= end_at[i - 1];
		loop invariant unusual == 0 ==>
			0 <= end_at[i - 1] <= 100000000000 + (i - first) * 134217728;
		loop assigns i, unusual, sum_wh;
		loop variant end - i;
	*/
	for (int64_t i = first + 1; i < end; i++) {
		/*@ ghost
			if (unusual == 0) {
				apart(end_at[i - 1], start_at[i]);
				if (start_at[i] >= 0 && start_at[i] <= 1152921504606846976)
					apart(start_at[i], end_at[i]);
				signed_wh(energy_wh[i]);
				if (energy_wh[i] >= 0)
					take(energy_wh, i, end);
			}
		*/
		unusual += ((uint64_t)start_at[i] - (uint64_t)end_at[i - 1]) / USUAL_S;
		unusual += ((uint64_t)end_at[i] - (uint64_t)start_at[i]) / USUAL_S;
		unusual += (uint64_t)energy_wh[i] / USUAL_WH;
		sum_wh += (uint64_t)energy_wh[i];
		/*@ assert unusual == 0 ==> end_at[i - 1] <= start_at[i] <= end_at[i]; */
	}
	return unusual == 0 ? (int64_t)sum_wh : -1;
}

/* Whether intervals are good and need no closer look, as nearly all do not; most_wh: what they may use together. */
/*@
	requires readable(t) && accounts_readable(a) && tariff_good(t, tariff);
	requires 0 <= first <= end <= a->first_interval[a->account_count] < 2147483647;
	requires 0 <= most_wh <= t->tariff_energy_wh_max[tariff];
	assigns \nothing;
	ensures \result != 0 ==> intervals_good(t, a, tariff, first, end);
	ensures \result != 0 ==> 0 <= wh_rest(a->interval_energy_wh, first, end) <= most_wh;
*/
static int
intervals_are_usual(const struct tariff_tables *t, const struct tariff_accounts *a, int64_t tariff, int64_t first,
		    int64_t end, int64_t most_wh)
{
	/*@ assert 0 <= tariff < 9223372036854775807; */
	/*@ assert (int64_t)(tariff + 1) == tariff + 1; */
	/*@ assert segments_good(t, t->tariff_first_segment[tariff], t->tariff_first_segment[tariff + 1],
				 t->tariff_first_period[tariff], t->tariff_first_period[tariff + 1]); */
	/*@ assert 0 <= t->tariff_first_segment[tariff] < t->tariff_first_segment[tariff + 1] - 1 < t->segment_count; */
	int64_t first_segment = t->tariff_first_segment[tariff];
	int64_t last_segment = t->tariff_first_segment[tariff + 1] - 1;
	/*@ assert \valid_read(t->segment_start_at + (0 .. t->segment_count - 1)); */
	/*@ assert segment_good(t, last_segment, t->tariff_first_period[tariff], t->tariff_first_period[tariff + 1]); */
	int64_t span_start_at = t->segment_start_at[first_segment];
	int64_t span_end_at = t->segment_start_at[last_segment];
	/*@ assert -100000000000 <= span_end_at <= 100000000000; */
	if (first >= end || end - first > USUAL_COUNT)
		return 0;
	int64_t start_at = a->interval_start_at[first];
	int64_t end_at = a->interval_end_at[first];
	if (start_at < 0 || start_at < span_start_at || end_at < start_at || end_at <= span_start_at)
		return 0;
	if (a->interval_end_at[end - 1] > span_end_at || end_at > span_end_at
	    || end_at - start_at > TARIFF_INTERVAL_S_MAX)
		return 0;
	int64_t sum_wh = usual_energy(a->interval_start_at, a->interval_end_at, a->interval_energy_wh, first, end);
	/*@ assert 0 <= sum_wh <= most_wh ==> interval_good(t, a, tariff, first); */
	/*@ assert 0 <= sum_wh <= most_wh
		==> \forall integer k; first < k < end ==> interval_good(t, a, tariff, k); */
	/*@ assert 0 <= sum_wh <= most_wh ==> \forall integer k; first < k < end ==> follows(a, k); */
	return sum_wh >= 0 && sum_wh <= most_wh;
}

/*@
	requires readable(t) && accounts_readable(a) && tariff_good(t, tariff);
	requires 0 <= first <= end <= a->first_interval[a->account_count] < 2147483647;
	requires 0 <= left_wh <= t->tariff_energy_wh_max[tariff];
	assigns \nothing;
	ensures \result == TARIFF_OK ==> intervals_good(t, a, tariff, first, end);
	ensures \result == TARIFF_OK ==> 0 <= wh_rest(a->interval_energy_wh, first, end) <= left_wh;
*/
static enum tariff_result
check_intervals(const struct tariff_tables *t, const struct tariff_accounts *a, int64_t tariff, int64_t first,
		int64_t end, int64_t left_wh)
{
	/*@ assert 0 <= tariff < 9223372036854775807; */
	/*@ assert (int64_t)(tariff + 1) == tariff + 1; */
	/*@ assert segments_good(t, t->tariff_first_segment[tariff], t->tariff_first_segment[tariff + 1],
				 t->tariff_first_period[tariff], t->tariff_first_period[tariff + 1]); */
	/*@ assert 0 <= t->tariff_first_segment[tariff] < t->tariff_first_segment[tariff + 1] - 1 < t->segment_count; */
	int64_t first_segment = t->tariff_first_segment[tariff];
	int64_t last_segment = t->tariff_first_segment[tariff + 1] - 1;
	/*@ assert \valid_read(t->segment_start_at + (0 .. t->segment_count - 1)); */
	/*@ assert segment_good(t, first_segment,
	    t->tariff_first_period[tariff], t->tariff_first_period[tariff + 1]); */
	/*@ assert segment_good(t, last_segment, t->tariff_first_period[tariff], t->tariff_first_period[tariff + 1]); */
	int64_t span_start_at = t->segment_start_at[first_segment];
	int64_t span_end_at = t->segment_start_at[last_segment];
	/*@ assert -100000000000 <= span_start_at <= 100000000000; */
	/*@ assert -100000000000 <= span_end_at <= 100000000000; */
	int64_t last_end_at = INT64_MIN;
	/*@
		loop invariant first <= i <= end;
		loop invariant 0 <= left_wh <= \at(left_wh, Pre);
		loop invariant wh_rest(a->interval_energy_wh, first, end)
			== \at(left_wh, Pre) - left_wh + wh_rest(a->interval_energy_wh, i, end);
		loop invariant i > first ==> last_end_at == a->interval_end_at[i - 1];
		loop invariant \forall integer k; first <= k < i ==> interval_good(t, a, tariff, k);
		loop invariant \forall integer k; first < k < i ==> follows(a, k);
		loop assigns i, left_wh, last_end_at;
		loop variant end - i;
	*/
	for (int64_t i = first; i < end; i++) {
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
		/*@ ghost take(a->interval_energy_wh, i, end); */
		/*@ assert i > first ==> follows(a, i); */
		last_end_at = end_at;
	}
	return TARIFF_OK;
}

/* The lemma behind the index of an account's block positions: they end where the array does, at the latest. */
/*@ ghost
	/@
		requires 0 <= account < count < 2147483647 && 1 <= stride <= 1048576;
		assigns \nothing;
		ensures 0 <= account * stride && account * stride + stride <= count * stride;
		ensures count * stride <= 2251799813685247;
	@/
	static void fits(int64_t account, int64_t count, int64_t stride)
	{
		/@ assert (account + 1) * stride <= count * stride; @/
	}
*/

/* The lemma that the cells of a period lie within those of the tables. */
/*@ ghost
	/@
		requires periods_good(t, first, end, positions, energy_wh_max) && first <= period < end;
		assigns \nothing;
		ensures 0 <= t->period_first_cell[period] < t->period_first_cell[period + 1] <= t->cell_count;
	@/
	static void cells_within(const struct tariff_tables *t, int64_t period, int64_t first, int64_t end,
				 int64_t positions, int64_t energy_wh_max)
	{
	}
*/

/* How many cells a tariff has. */
/*@
	requires readable(t) && tariff_good(t, tariff);
	assigns \nothing;
	ensures \result == t->period_first_cell[t->tariff_first_period[tariff + 1]]
			- t->period_first_cell[t->tariff_first_period[tariff]];
*/
static int64_t
cells_of(const struct tariff_tables *t, int64_t tariff)
{
	int64_t first = t->tariff_first_period[tariff];
	int64_t end = t->tariff_first_period[tariff + 1];
	/*@ assert periods_good(t, first, end, t->tariff_position_count[tariff], t->tariff_energy_wh_max[tariff]); */
	/*@ assert 0 <= first < end <= t->period_count; */
	/*@ ghost
		int64_t positions = t->tariff_position_count[tariff];
		int64_t energy_wh_max = t->tariff_energy_wh_max[tariff];
		cells_within(t, first, first, end, positions, energy_wh_max);
		cells_within(t, end - 1, first, end, positions, energy_wh_max);
	*/
	/*@ assert 0 <= t->period_first_cell[first]; */
	/*@ assert 0 <= t->period_first_cell[end]; */
	/*@ assert \valid_read(t->period_first_cell + (0 .. t->period_count)); */
	/*@ assert \valid_read(t->period_first_cell + first); */
	/*@ assert \valid_read(t->period_first_cell + end); */
	return t->period_first_cell[end] - t->period_first_cell[first];
}

/*@
	requires readable(t) && tables_good(t) && accounts_readable(a);
	requires 0 <= account < a->account_count < 2147483647 && 1 <= a->position_stride <= 1048576;
	requires runs_good(a->first_interval, a->account_count, a->first_interval[a->account_count], 0);
	requires a->first_interval[a->account_count] < 2147483647;
	assigns \nothing;
	ensures \result == TARIFF_OK ==> account_good(t, a, account, cell_stride);
*/
static enum tariff_result
check_account(const struct tariff_tables *t, const struct tariff_accounts *a, int64_t account, int64_t cell_stride)
{
	if (!position_is_good(t, a, account))
		return TARIFF_BAD_ACCOUNT;
	int64_t tariff = a->tariff[account];
	/*@ assert tariff_good(t, tariff); */
	/*@ ghost fits(account, a->account_count, a->position_stride); */
	int64_t left_wh = energy_left(&a->energy_wh[account * a->position_stride], t->tariff_position_count[tariff],
				      t->tariff_energy_wh_max[tariff]);
	if (left_wh < 0)
		return TARIFF_BAD_ACCOUNT;
	if (cells_of(t, tariff) > cell_stride)
		return TARIFF_BAD_ACCOUNT;
	/*@ assert within(a->energy_wh + account * a->position_stride, t->tariff_position_count[tariff],
			  t->tariff_energy_wh_max[tariff] - left_wh); */
	int64_t first = a->first_interval[account];
	int64_t end = a->first_interval[account + 1];
	if (intervals_are_usual(t, a, tariff, first, end, left_wh))
		return TARIFF_OK;
	return check_intervals(t, a, tariff, first, end, left_wh);
}

/*@
	requires readable(t) && tables_good(t) && accounts_readable(a);
	requires details == \null || \valid_read(details);
	assigns \nothing;
	ensures \result == TARIFF_OK ==> 0 <= a->account_count < 2147483647 && 1 <= a->position_stride <= 1048576
		&& (details != \null ==> 1 <= details->cell_stride <= 1048576)
		&& a->first_interval[a->account_count] < 2147483647
		&& runs_good(a->first_interval, a->account_count, a->first_interval[a->account_count], 0)
		&& (\forall integer k; 0 <= k < a->account_count
			==> account_good(t, a, k, details != \null ? details->cell_stride : 9223372036854775807));
*/
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
	int64_t cell_stride = details != NULL ? details->cell_stride : INT64_MAX;
	/*@
		loop invariant 0 <= n <= a->account_count;
		loop invariant \forall integer k; 0 <= k < n ==> account_good(t, a, k, cell_stride);
		loop assigns n;
		loop variant a->account_count - n;
	*/
	for (int64_t n = 0; n < a->account_count; n++) {
		enum tariff_result result = check_account(t, a, n, cell_stride);
		if (result != TARIFF_OK)
			return result;
		/*@ assert account_good(t, a, n, cell_stride); */
	}
	return TARIFF_OK;
}

/* --- rating one part: everything has been checked -------------------------------------------- */

/*@ ghost
	/@
		requires 0 <= price_most && 0 <= part_wh <= energy_wh;
		requires most_nano == price_most * energy_wh && most_nano <= 9000000000000000000;
		assigns \nothing;
		ensures \result == price_most * part_wh;
		ensures 0 <= \result <= most_nano;
		ensures most_nano - \result == price_most * (energy_wh - part_wh);
	@/
	static int64_t split(int64_t price_most, int64_t part_wh, int64_t energy_wh, int64_t most_nano)
	{
		return price_most * part_wh;
	}
*/

/* The product, where it is known to fit. */
/*@
	requires 0 <= energy_wh && -price_most <= price <= price_most;
	requires most_nano == price_most * energy_wh && 0 <= most_nano <= 9000000000000000000;
	assigns \nothing;
	ensures \result == energy_wh * price;
	ensures -most_nano <= \result <= most_nano;
*/
static inline int64_t
multiply(int64_t energy_wh, int64_t price) /*@ ghost (int64_t price_most, int64_t most_nano) */
{
	/*@ assert energy_wh * price <= energy_wh * price_most; */
	/*@ assert energy_wh * -price_most <= energy_wh * price; */
	return energy_wh * price;
}

/* Cost of energy from a block position on, split exactly at the block limits: cost() above. */
/*@
	requires 0 <= cell < end_cell <= 2147483647;
	requires \valid_read(limit_wh + (cell .. end_cell - 1)) && \valid_read(price + (cell .. end_cell - 1));
	requires 0 <= position_wh && 0 <= energy_wh && position_wh + energy_wh <= limit_wh[end_cell - 1];
	requires 0 <= price_most && 0 <= price_most * energy_wh <= 9000000000000000000;
	requires \forall integer c; cell <= c < end_cell ==> 0 < limit_wh[c] <= 100000000000
		&& -price_most <= price[c] <= price_most;
	assigns \nothing;
	ensures \result == cost(limit_wh, price, cell, position_wh, energy_wh);
	ensures -(price_most * energy_wh) <= \result <= price_most * energy_wh;
*/
static inline int64_t
block_cost(const int64_t *limit_wh, const int64_t *price, int64_t cell, int64_t position_wh, int64_t energy_wh)
	/*@ ghost (int64_t end_cell, int64_t price_most) */
{
	int64_t amount_nano = 0;
	/*@ ghost int64_t spent_nano = 0; */
	/*@ ghost int64_t rest_nano = price_most * energy_wh; */
	/*@
		loop invariant cell <= c < end_cell;
		loop invariant 0 <= energy_wh <= \at(energy_wh, Pre);
		loop invariant 0 <= position_wh;
		loop invariant position_wh + energy_wh == \at(position_wh + energy_wh, Pre);
		loop invariant amount_nano + cost(limit_wh, price, c, position_wh, energy_wh)
			== cost(limit_wh, price, cell, \at(position_wh, Pre), \at(energy_wh, Pre));
		loop invariant rest_nano == price_most * energy_wh;
		loop invariant 0 <= spent_nano && 0 <= rest_nano;
		loop invariant spent_nano + rest_nano == price_most * \at(energy_wh, Pre);
		loop invariant -spent_nano <= amount_nano <= spent_nano;
		loop assigns c, energy_wh, position_wh, amount_nano, spent_nano, rest_nano;
		loop variant end_cell - c;
	*/
	for (int64_t c = cell;; c++) {
		int64_t room_wh = limit_wh[c] - position_wh;
		if (energy_wh <= room_wh) {
			/*@ assert cost(limit_wh, price, c, position_wh, energy_wh) == energy_wh * price[c]; */
			return amount_nano + multiply(energy_wh, price[c]) /*@ ghost (price_most, rest_nano) */;
		}
		if (room_wh > 0) {
			/*@ ghost int64_t part_nano = split(price_most, room_wh, energy_wh, rest_nano); */
			/*@ assert cost(limit_wh, price, c, position_wh, energy_wh) == room_wh * price[c]
				+ cost(limit_wh, price, c + 1, limit_wh[c], energy_wh - room_wh); */
			int64_t cost_nano = multiply(room_wh, price[c]) /*@ ghost (price_most, part_nano) */;
			/*@ assert -part_nano <= cost_nano <= part_nano; */
			/*@ assert -(spent_nano + part_nano) <= amount_nano + cost_nano <= spent_nano + part_nano; */
			amount_nano += cost_nano;
			/*@ ghost spent_nano += part_nano; */
			/*@ ghost rest_nano -= part_nano; */
			/*@ assert -spent_nano <= amount_nano <= spent_nano; */
			position_wh += room_wh;
			energy_wh -= room_wh;
		}
	}
}

/* --- rating intervals ------------------------------------------------------------------------ */

/* The second that says which segment an interval starts in: one of no length belongs to the second before it. */
/*@
	requires -9223372036854775807 <= end_at;
	assigns \nothing;
	ensures start_at < end_at ==> \result == start_at;
	ensures start_at >= end_at ==> \result == end_at - 1;
*/
static int64_t
first_second(int64_t start_at, int64_t end_at)
{
	return start_at < end_at ? start_at : end_at - 1;
}

/* The lemma that one number of an array which may be read may be read. */
/*@ ghost
	/@
		requires 0 <= i < count && \valid_read(numbers + (0 .. count - 1));
		assigns \nothing;
		ensures \valid_read(numbers + i);
	@/
	static void one_of(const int64_t *numbers, int64_t i, int64_t count)
	{
	}
*/

/* The segment that holds an instant of the span: the last one that does not start after it. */
/*@
	requires readable(t) && t->segment_count < 2147483647 && tariff_good(t, tariff);
	requires t->segment_start_at[t->tariff_first_segment[tariff]] <= at;
	requires at < t->segment_start_at[t->tariff_first_segment[tariff + 1] - 1];
	assigns \nothing;
	ensures t->tariff_first_segment[tariff] <= \result < t->tariff_first_segment[tariff + 1] - 1;
	ensures t->segment_start_at[\result] <= at < t->segment_start_at[\result + 1];
*/
static int64_t
find_segment(const struct tariff_tables *t, int64_t tariff, int64_t at)
{
	/*@ assert 0 <= tariff < 9223372036854775807; */
	/*@ assert (int64_t)(tariff + 1) == tariff + 1; */
	/*@ assert segments_good(t, t->tariff_first_segment[tariff], t->tariff_first_segment[tariff + 1],
				 t->tariff_first_period[tariff], t->tariff_first_period[tariff + 1]); */
	/*@ assert 0 <= t->tariff_first_segment[tariff] < t->tariff_first_segment[tariff + 1] - 1 < t->segment_count; */
	int64_t low = t->tariff_first_segment[tariff];
	int64_t high = t->tariff_first_segment[tariff + 1] - 1;
	/*@ assert \valid_read(t->segment_start_at + (0 .. t->segment_count - 1)); */
	/*@
		loop invariant t->tariff_first_segment[tariff] <= low < high <= t->tariff_first_segment[tariff + 1] - 1;
		loop invariant 0 <= low < high < t->segment_count;
		loop invariant t->segment_start_at[low] <= at < t->segment_start_at[high];
		loop assigns low, high;
		loop variant high - low;
	*/
	while (high - low > 1) {
		int64_t middle = low + (high - low) / 2;
		/*@ assert low < middle < high; */
		/*@ assert 0 <= middle <= t->segment_count - 1; */
		/*@ ghost one_of(t->segment_start_at, middle, t->segment_count); */
		if (t->segment_start_at[middle] <= at)
			low = middle;
		else
			high = middle;
	}
	/*@ assert high == low + 1; */
	return low;
}

/* Seconds of [at, end_at) that lie in a segment which holds 'at'. */
/*@
	requires readable(t) && 0 <= segment < segment + 1 < t->segment_count < 2147483647;
	requires -100000000000 <= at < end_at <= 100000000000 && at < t->segment_start_at[segment + 1];
	assigns \nothing;
	ensures t->segment_start_at[segment + 1] < end_at ==> \result == t->segment_start_at[segment + 1] - at;
	ensures t->segment_start_at[segment + 1] >= end_at ==> \result == end_at - at;
	ensures 1 <= \result <= end_at - at;
*/
static int64_t
seconds_in(const struct tariff_tables *t, int64_t segment, int64_t at, int64_t end_at)
{
	int64_t segment_end_at = t->segment_start_at[segment + 1];
	return (segment_end_at < end_at ? segment_end_at : end_at) - at;
}

/*@
	requires 0 <= count <= 1048576 && \valid(energy_wh + (0 .. count - 1));
	assigns energy_wh[0 .. count - 1];
	ensures \forall integer i; 0 <= i < count ==> energy_wh[i] == 0;
*/
static void
set_to_zero(int64_t *energy_wh, int64_t count)
{
	/*@
		loop invariant 0 <= i <= count;
		loop invariant \forall integer k; 0 <= k < i ==> energy_wh[k] == 0;
		loop assigns i, energy_wh[0 .. count - 1];
		loop variant count - i;
	*/
	for (int64_t i = 0; i < count; i++)
		energy_wh[i] = 0;
}

/*@
	predicate starts_over(integer cycle_start_at, integer next_start_at) =
		cycle_start_at != -9223372036854775807 - 1 && cycle_start_at < next_start_at;

	predicate in_span{L}(struct tariff_tables *t, integer g, integer segment) =
		t->tariff_first_segment[g] <= segment < t->tariff_first_segment[g + 1] - 1;

	logic integer position_of{L}(struct tariff_tables *t, integer segment) =
		t->period_position[t->segment_period[segment]];

	predicate places_good{L}(struct tariff_tables *t, integer g, int64_t *energy_wh, int64_t *cell_energy_wh,
				 integer cells) =
		\valid(energy_wh + (0 .. t->tariff_position_count[g] - 1))
		&& clear(t, energy_wh, t->tariff_position_count[g])
		&& (cell_energy_wh == \null ? cells == 0 : cells == cells_of(t, g))
		&& \valid(cell_energy_wh + (0 .. cells - 1)) && clear(t, cell_energy_wh, cells)
		&& \separated(energy_wh + (0 .. t->tariff_position_count[g] - 1), cell_energy_wh + (0 .. cells - 1));

	axiomatic kept {
	predicate same{L1, L2}(int64_t *p, integer count) =
		\forall integer k; 0 <= k < count ==> \at(p[k], L1) == \at(p[k], L2);

	predicate same_pointers{L1, L2}(struct tariff_tables *t) =
		\at(t->tariff_first_segment, L1) == \at(t->tariff_first_segment, L2)
		&& \at(t->tariff_first_period, L1) == \at(t->tariff_first_period, L2)
		&& \at(t->tariff_position_count, L1) == \at(t->tariff_position_count, L2)
		&& \at(t->tariff_energy_wh_max, L1) == \at(t->tariff_energy_wh_max, L2)
		&& \at(t->segment_start_at, L1) == \at(t->segment_start_at, L2)
		&& \at(t->segment_period, L1) == \at(t->segment_period, L2)
		&& \at(t->segment_cycle_start_at, L1) == \at(t->segment_cycle_start_at, L2)
		&& \at(t->period_first_cell, L1) == \at(t->period_first_cell, L2)
		&& \at(t->period_position, L1) == \at(t->period_position, L2)
		&& \at(t->cell_limit_wh, L1) == \at(t->cell_limit_wh, L2)
		&& \at(t->cell_price_micro_per_kwh, L1) == \at(t->cell_price_micro_per_kwh, L2);

	predicate only{L1, L2}(int64_t *p, integer n, int64_t *q, integer m) = \forall int64_t *x;
		\separated(x, p + (0 .. n - 1)) && \separated(x, q + (0 .. m - 1)) ==> \at(*x, L1) == \at(*x, L2);

	predicate tables_same{L1, L2}(struct tariff_tables *t) =
		same_pointers{L1, L2}(t)
		&& \at(t->tariff_count, L1) == \at(t->tariff_count, L2)
		&& \at(t->segment_count, L1) == \at(t->segment_count, L2)
		&& \at(t->period_count, L1) == \at(t->period_count, L2)
		&& \at(t->cell_count, L1) == \at(t->cell_count, L2)
		&& same{L1, L2}(\at(t->tariff_first_segment, L1), \at(t->tariff_count, L1) + 1)
		&& same{L1, L2}(\at(t->tariff_first_period, L1), \at(t->tariff_count, L1) + 1)
		&& same{L1, L2}(\at(t->tariff_position_count, L1), \at(t->tariff_count, L1))
		&& same{L1, L2}(\at(t->tariff_energy_wh_max, L1), \at(t->tariff_count, L1))
		&& same{L1, L2}(\at(t->segment_start_at, L1), \at(t->segment_count, L1))
		&& same{L1, L2}(\at(t->segment_period, L1), \at(t->segment_count, L1))
		&& same{L1, L2}(\at(t->segment_cycle_start_at, L1), \at(t->segment_count, L1))
		&& same{L1, L2}(\at(t->period_first_cell, L1), \at(t->period_count, L1) + 1)
		&& same{L1, L2}(\at(t->period_position, L1), \at(t->period_count, L1))
		&& same{L1, L2}(\at(t->cell_limit_wh, L1), \at(t->cell_count, L1))
		&& same{L1, L2}(\at(t->cell_price_micro_per_kwh, L1), \at(t->cell_count, L1));

	lemma array_kept{L1, L2}: \forall int64_t *p, *q, *array, integer n, m, count;
		only{L1, L2}(p, n, q, m) && \separated(p + (0 .. n - 1), array + (0 .. count - 1))
		&& \separated(q + (0 .. m - 1), array + (0 .. count - 1)) ==> same{L1, L2}(array, count);

	lemma tables_kept{L1, L2}: \forall struct tariff_tables *t, int64_t *p, *q, integer n, m;
		only{L1, L2}(p, n, q, m) && clear{L1}(t, p, n) && clear{L1}(t, q, m) && same_pointers{L1, L2}(t)
		==> tables_same{L1, L2}(t);

	lemma clear_kept{L1, L2}: \forall struct tariff_tables *t, int64_t *p, integer n;
		tables_same{L1, L2}(t) && clear{L1}(t, p, n) ==> clear{L2}(t, p, n);

	lemma cells_kept{L1, L2}: \forall struct tariff_tables *t, integer first, end, most;
		tables_same{L1, L2}(t) && cells_good{L1}(t, first, end, most) ==> cells_good{L2}(t, first, end, most);

	lemma period_kept{L1, L2}: \forall struct tariff_tables *t, integer p, first, end, positions, most;
		tables_same{L1, L2}(t) && 0 <= first <= p < end <= \at(t->period_count, L1)
		&& period_good{L1}(t, p, first, end, positions, most)
		==> period_good{L2}(t, p, first, end, positions, most);

	lemma periods_kept{L1, L2}: \forall struct tariff_tables *t, integer first, end, positions, most;
		tables_same{L1, L2}(t) && periods_good{L1}(t, first, end, positions, most)
		==> periods_good{L2}(t, first, end, positions, most);

	lemma segment_kept{L1, L2}: \forall struct tariff_tables *t, integer s, first_period, end_period;
		tables_same{L1, L2}(t) && 0 <= s < \at(t->segment_count, L1)
		&& segment_good{L1}(t, s, first_period, end_period)
		==> segment_good{L2}(t, s, first_period, end_period);

	lemma segments_kept{L1, L2}: \forall struct tariff_tables *t, integer first, end, first_period, end_period;
		tables_same{L1, L2}(t) && segments_good{L1}(t, first, end, first_period, end_period)
		==> segments_good{L2}(t, first, end, first_period, end_period);

	lemma tariff_kept{L1, L2}: \forall struct tariff_tables *t, integer g;
		tables_same{L1, L2}(t) && counts_good{L1}(t) && tariff_good{L1}(t, g) ==> tariff_good{L2}(t, g);

	lemma cells_of_kept{L1, L2}: \forall struct tariff_tables *t, integer g;
		tables_same{L1, L2}(t) && tariff_good{L1}(t, g) ==> cells_of{L1}(t, g) == cells_of{L2}(t, g);
	}

	logic integer start_of{L}(struct tariff_tables *t, integer segment) = t->segment_start_at[segment];

	logic integer nth{L}(int64_t *numbers, integer i) = numbers[i];

	predicate run_good{L}(int64_t *end_at, int64_t *wh, integer first, integer end) =
		(\forall integer k; first <= k < end ==> 0 <= wh[k] <= 100000000000)
		&& \forall integer k; first < k < end ==> end_at[k - 1] <= end_at[k];

	logic integer end_of{L}(struct tariff_accounts *a, integer i) = a->interval_end_at[i];

	predicate span_good{L}(struct tariff_tables *t, integer g) = 0 <= g < t->tariff_count
		&& 0 <= t->tariff_first_segment[g] < t->tariff_first_segment[g + 1] - 1 < t->segment_count;

	predicate starts_in{L}(struct tariff_tables *t, struct tariff_accounts *a, integer segment, integer i) =
		t->segment_start_at[segment] < a->interval_end_at[i]
		&& (a->interval_start_at[i] < a->interval_end_at[i]
		    ==> t->segment_start_at[segment] <= a->interval_start_at[i]);

	predicate accounts_clear{L}(struct tariff_accounts *a, int64_t *p, integer n) = \separated(p + (0 .. n - 1), a)
		&& \separated(p + (0 .. n - 1), a->tariff + (0 .. a->account_count - 1))
		&& \separated(p + (0 .. n - 1), a->first_interval + (0 .. a->account_count))
		&& \separated(p + (0 .. n - 1), a->energy_wh + (0 .. a->account_count * a->position_stride - 1))
		&& \separated(p + (0 .. n - 1), a->cycle_start_at + (0 .. a->account_count - 1))
		&& \separated(p + (0 .. n - 1), a->interval_start_at + (0 .. a->first_interval[a->account_count] - 1))
		&& \separated(p + (0 .. n - 1), a->interval_end_at + (0 .. a->first_interval[a->account_count] - 1))
		&& \separated(p + (0 .. n - 1), a->interval_energy_wh + (0 .. a->first_interval[a->account_count] - 1));

	axiomatic kept_accounts {
	predicate account_pointers{L1, L2}(struct tariff_accounts *a) =
		\at(a->tariff, L1) == \at(a->tariff, L2)
		&& \at(a->first_interval, L1) == \at(a->first_interval, L2)
		&& \at(a->energy_wh, L1) == \at(a->energy_wh, L2)
		&& \at(a->cycle_start_at, L1) == \at(a->cycle_start_at, L2)
		&& \at(a->interval_start_at, L1) == \at(a->interval_start_at, L2)
		&& \at(a->interval_end_at, L1) == \at(a->interval_end_at, L2)
		&& \at(a->interval_energy_wh, L1) == \at(a->interval_energy_wh, L2);

	predicate accounts_same{L1, L2}(struct tariff_accounts *a) = account_pointers{L1, L2}(a)
		&& \at(a->account_count, L1) == \at(a->account_count, L2)
		&& \at(a->position_stride, L1) == \at(a->position_stride, L2)
		&& \at(a->first_interval[a->account_count], L1) == \at(a->first_interval[a->account_count], L2)
		&& same{L1, L2}(\at(a->tariff, L1), \at(a->account_count, L1))
		&& same{L1, L2}(\at(a->first_interval, L1), \at(a->account_count, L1) + 1)
		&& same{L1, L2}(\at(a->energy_wh, L1), \at(a->account_count * a->position_stride, L1))
		&& same{L1, L2}(\at(a->cycle_start_at, L1), \at(a->account_count, L1))
		&& same{L1, L2}(\at(a->interval_start_at, L1), \at(a->first_interval[a->account_count], L1))
		&& same{L1, L2}(\at(a->interval_end_at, L1), \at(a->first_interval[a->account_count], L1))
		&& same{L1, L2}(\at(a->interval_energy_wh, L1), \at(a->first_interval[a->account_count], L1));

	lemma accounts_kept{L1, L2}: \forall struct tariff_accounts *a, int64_t *p, *q, integer n, m;
		only{L1, L2}(p, n, q, m) && accounts_clear{L1}(a, p, n) && accounts_clear{L1}(a, q, m)
		&& account_pointers{L1, L2}(a) && 0 <= \at(a->account_count, L1)
		==> accounts_same{L1, L2}(a);

	lemma span_start_kept{L1, L2}: \forall struct tariff_tables *t, integer g;
		tables_same{L1, L2}(t) && span_good{L1}(t, g) ==> span_start{L1}(t, g) == span_start{L2}(t, g);

	lemma span_end_kept{L1, L2}: \forall struct tariff_tables *t, integer g;
		tables_same{L1, L2}(t) && span_good{L1}(t, g) ==> span_end{L1}(t, g) == span_end{L2}(t, g);

	lemma most_kept{L1, L2}: \forall struct tariff_tables *t, integer g;
		tables_same{L1, L2}(t) && span_good{L1}(t, g)
		==> \at(t->tariff_energy_wh_max[g], L1) == \at(t->tariff_energy_wh_max[g], L2);

	lemma interval_kept{L1, L2}: \forall struct tariff_tables *t, struct tariff_accounts *a, integer g, i;
		accounts_same{L1, L2}(a) && 0 <= i < \at(a->first_interval[a->account_count], L1)
		&& span_start{L1}(t, g) == span_start{L2}(t, g) && span_end{L1}(t, g) == span_end{L2}(t, g)
		&& \at(t->tariff_energy_wh_max[g], L1) == \at(t->tariff_energy_wh_max[g], L2)
		&& interval_good{L1}(t, a, g, i) ==> interval_good{L2}(t, a, g, i);
	}

	logic integer part_cost{L}(struct tariff_tables *t, integer segment, integer position_wh, integer part_wh) =
		cost(t->cell_limit_wh, t->cell_price_micro_per_kwh, t->period_first_cell[t->segment_period[segment]],
		     position_wh, part_wh);
*/

/* Whether a block position starts over from zero in a cycle: in a later one than its own, never in an earlier one. */
/*@
	assigns \nothing;
	ensures \result != 0 <==> starts_over(cycle_start_at, next_start_at);
*/
static int
starts_over(int64_t cycle_start_at, int64_t next_start_at)
{
	return cycle_start_at != TARIFF_NO_CYCLE && cycle_start_at < next_start_at;
}

/* The later of two cycles; that of a position that belongs to none yet is the earliest number. */
/*@
	assigns \nothing;
	ensures \result == \max(cycle_start_at, next_start_at);
*/
static int64_t
later(int64_t cycle_start_at, int64_t next_start_at)
{
	return cycle_start_at < next_start_at ? next_start_at : cycle_start_at;
}

/* The first segment from 'segment' on that ends after 'at'. */
/*@
	requires readable(t) && 0 <= segment < last < t->segment_count < 2147483647;
	requires t->segment_start_at[segment] <= at < t->segment_start_at[last];
	assigns \nothing;
	ensures segment <= \result < last;
	ensures t->segment_start_at[\result] <= at < t->segment_start_at[\result + 1];
*/
static int64_t
skip_to(const struct tariff_tables *t, int64_t segment, int64_t at) /*@ ghost (int64_t last) */
{
	/*@
		loop invariant \at(segment, Pre) <= segment < last;
		loop invariant t->segment_start_at[segment] <= at;
		loop assigns segment;
		loop variant last - segment;
	*/
	while (t->segment_start_at[segment + 1] <= at)
		segment++;
	return segment;
}

/* The segment from 'segment' on that holds the first second of interval 'i', whose end is read only if needed. */
/*@
	requires readable(t) && 0 <= segment < last < t->segment_count < 2147483647;
	requires accounts_readable(a) && 0 <= i < a->first_interval[a->account_count];
	requires a->interval_start_at[i] <= a->interval_end_at[i] <= t->segment_start_at[last];
	requires t->segment_start_at[segment] < a->interval_end_at[i];
	requires a->interval_start_at[i] < a->interval_end_at[i]
		==> t->segment_start_at[segment] <= a->interval_start_at[i];
	assigns \nothing;
	ensures segment <= \result < last;
	ensures a->interval_start_at[i] < a->interval_end_at[i]
		==> t->segment_start_at[\result] <= a->interval_start_at[i] < t->segment_start_at[\result + 1];
	ensures a->interval_start_at[i] == a->interval_end_at[i]
		==> t->segment_start_at[\result] < a->interval_end_at[i] <= t->segment_start_at[\result + 1];
*/
static inline int64_t
skip_into(const struct tariff_tables *t, const struct tariff_accounts *a, int64_t segment, int64_t i)
	/*@ ghost (int64_t last) */
{
	/*@
		loop invariant \at(segment, Pre) <= segment < last;
		loop invariant t->segment_start_at[segment] < a->interval_end_at[i];
		loop invariant a->interval_start_at[i] < a->interval_end_at[i]
			==> t->segment_start_at[segment] <= a->interval_start_at[i];
		loop assigns segment;
		loop variant last - segment;
	*/
	while (t->segment_start_at[segment + 1] <= a->interval_start_at[i]
	       && t->segment_start_at[segment + 1] < a->interval_end_at[i])
		segment++;
	return segment;
}

/* Notes what each cell takes of energy from a block position on. Entry 0 of 'cell_energy_wh' is cell 'first_cell'. */
/*@
	requires 0 <= first_cell <= cell < end_cell <= first_cell + cells && end_cell <= count <= 2147483647;
	requires \valid_read(limit_wh + (0 .. count - 1)) && \valid(cell_energy_wh + (0 .. cells - 1));
	requires \separated(cell_energy_wh + (0 .. cells - 1), limit_wh + (0 .. count - 1));
	requires \forall integer c; cell <= c < end_cell ==> 0 < limit_wh[c] <= 100000000000;
	requires 0 <= position_wh && 0 <= energy_wh && position_wh + energy_wh <= limit_wh[end_cell - 1];
	requires 0 <= noted_wh && noted_wh + energy_wh <= 100000000000;
	requires within(cell_energy_wh, cells, noted_wh);
	assigns cell_energy_wh[0 .. cells - 1];
	ensures within(cell_energy_wh, cells, noted_wh + energy_wh);
*/
static void
note_cells(const int64_t *limit_wh, int64_t cell, int64_t position_wh, int64_t energy_wh, int64_t first_cell,
	   int64_t *cell_energy_wh) /*@ ghost (int64_t end_cell, int64_t count, int64_t cells, int64_t noted_wh) */
{
	/*@
		loop invariant cell <= c <= end_cell && (energy_wh > 0 ==> c < end_cell);
		loop invariant 0 <= energy_wh <= \at(energy_wh, Pre) && 0 <= position_wh;
		loop invariant position_wh + energy_wh == \at(position_wh + energy_wh, Pre);
		loop invariant within(cell_energy_wh, cells, noted_wh + \at(energy_wh, Pre) - energy_wh);
		loop invariant \forall integer k; 0 <= k < count ==> limit_wh[k] == \at(limit_wh[k], Pre);
		loop assigns c, energy_wh, position_wh, cell_energy_wh[0 .. cells - 1];
		loop variant end_cell - c;
	*/
	for (int64_t c = cell; energy_wh > 0; c++) {
		int64_t room_wh = limit_wh[c] - position_wh;
		if (room_wh <= 0)
			continue;
		int64_t taken_wh = energy_wh < room_wh ? energy_wh : room_wh;
		cell_energy_wh[c - first_cell] += taken_wh;
		position_wh += taken_wh;
		energy_wh -= taken_wh;
	}
}

/* The lemma that the cost of energy an account may use fits. */
/*@ ghost
	/@
		requires 1 <= most_wh <= 100000000000 && 0 <= energy_wh <= most_wh;
		assigns \nothing;
		ensures \result == price_max(most_wh) && 0 <= \result <= 9000000000000000000;
		ensures 0 <= \result * energy_wh <= 9000000000000000000;
	@/
	static int64_t price_bound(int64_t most_wh, int64_t energy_wh)
	{
		int64_t price_most = 9000000000000000000 / most_wh;
		/@ assert price_most * most_wh <= 9000000000000000000; @/
		/@ assert price_most * energy_wh <= price_most * most_wh; @/
		return price_most;
	}
*/

/*
 * Cost of energy within one segment; moves the position on. 'cell_energy_wh' may be NULL. The last
 * limit of a period is not below energy_wh_max, so the blocks end within the period's cells.
 */
/*@
	requires readable(t) && counts_good(t) && tariff_good(t, tariff) && in_span(t, tariff, segment);
	requires places_good(t, tariff, energy_wh, cell_energy_wh, cells);
	requires 0 <= part_wh <= top_wh <= t->tariff_energy_wh_max[tariff];
	requires within(energy_wh, t->tariff_position_count[tariff], top_wh - part_wh);
	requires 0 <= noted_wh && noted_wh + part_wh <= 100000000000 && within(cell_energy_wh, cells, noted_wh);
	assigns energy_wh[0 .. t->tariff_position_count[tariff] - 1], cell_energy_wh[0 .. cells - 1];
	ensures within(energy_wh, \old(t->tariff_position_count[tariff]), top_wh);
	ensures within(cell_energy_wh, cells, noted_wh + part_wh);
	ensures starts_over(cycle_start_at, \old(t->segment_cycle_start_at[segment]))
		==> \result == \old(part_cost(t, segment, 0, part_wh));
	ensures !starts_over(cycle_start_at, \old(t->segment_cycle_start_at[segment]))
		==> \result == \old(part_cost(t, segment, energy_wh[position_of(t, segment)], part_wh));
	ensures starts_over(cycle_start_at, \old(t->segment_cycle_start_at[segment]))
		==> energy_wh[\old(position_of(t, segment))] == part_wh;
	ensures !starts_over(cycle_start_at, \old(t->segment_cycle_start_at[segment]))
		==> energy_wh[\old(position_of(t, segment))] == \old(energy_wh[position_of(t, segment)]) + part_wh;
	ensures \let most_nano = price_max(\old(t->tariff_energy_wh_max[tariff])) * part_wh;
		-most_nano <= \result <= most_nano;
*/
static inline int64_t
rate_part(const struct tariff_tables *t, int64_t tariff, int64_t segment, int64_t cycle_start_at, int64_t *energy_wh,
	  int64_t part_wh, int64_t *cell_energy_wh) /*@ ghost (int64_t top_wh, int64_t cells, int64_t noted_wh) */
{
	/*@ ghost int64_t first = t->tariff_first_period[tariff]; */
	/*@ ghost int64_t end = t->tariff_first_period[tariff + 1]; */
	/*@ ghost int64_t most_wh = t->tariff_energy_wh_max[tariff]; */
	/*@ assert periods_good(t, first, end, t->tariff_position_count[tariff], most_wh); */
	/*@ assert segment_good(t, segment, first, end); */
	int64_t period = t->segment_period[segment];
	/*@ assert period_good(t, first, first, end, t->tariff_position_count[tariff], most_wh); */
	/*@ assert period_good(t, period, first, end, t->tariff_position_count[tariff], most_wh); */
	int64_t cell = t->period_first_cell[period];
	int64_t position = t->period_position[period];
	int over = starts_over(cycle_start_at, t->segment_cycle_start_at[segment]);
	/*@ ghost int64_t end_cell = t->period_first_cell[period + 1]; */
	/*@ assert cells_good(t, cell, end_cell, most_wh); */
	int64_t before_wh = over ? 0 : energy_wh[position];
	/*@ assert 0 <= before_wh <= top_wh - part_wh; */
	/*@ ghost int64_t price_most = price_bound(most_wh, part_wh); */
	int64_t amount_nano = block_cost(t->cell_limit_wh, t->cell_price_micro_per_kwh, cell, before_wh, part_wh)
		/*@ ghost (end_cell, price_most) */;
	int64_t first_cell = t->period_first_cell[t->tariff_first_period[tariff]];
	int64_t positions = t->tariff_position_count[tariff];
	/*@ assert 0 <= first_cell <= cell && end_cell - first_cell <= cells_of(t, tariff); */
	/*@ assert \separated(energy_wh + (0 .. positions - 1), cell_energy_wh + (0 .. cells - 1)); */
	if (cell_energy_wh != NULL)
		note_cells(t->cell_limit_wh, cell, before_wh, part_wh, first_cell, cell_energy_wh)
			/*@ ghost (end_cell, t->cell_count, cells, noted_wh) */;
	/*@ assert within(cell_energy_wh, cells, noted_wh + part_wh); */
	/*@ assert only{Pre, Here}(cell_energy_wh, cells, cell_energy_wh, cells); */
	/*@ assert same{Pre, Here}(energy_wh, positions); */
	/*@ assert within(energy_wh, positions, top_wh - part_wh); */
	if (over)
		set_to_zero(energy_wh, positions);
	/*@ assert within(energy_wh, positions, top_wh); */
	/*@ assert within(cell_energy_wh, cells, noted_wh + part_wh); */
	energy_wh[position] = before_wh + part_wh;
	/*@ assert within(cell_energy_wh, cells, noted_wh + part_wh); */
	return amount_nano;
}

/* What is left of a part's energy times seconds after division by the seconds of the interval. */
/*@
	requires 0 <= energy_wh <= 100000000000 && 1 <= seconds <= duration <= 90000000;
	assigns \nothing;
	ensures \result == (energy_wh * seconds) % duration;
	ensures 0 <= \result < duration;
*/
static inline int64_t
remainder_of(int64_t energy_wh, int64_t seconds, int64_t duration)
{
	/*@ assert 0 <= energy_wh * seconds <= energy_wh * 90000000; */
	/*@ assert 0 <= energy_wh * seconds <= 9000000000000000000; */
	return energy_wh * seconds % duration;
}

/* A part's share of energy by seconds, cut off to whole watt-hours. */
/*@
	requires 0 <= energy_wh <= 100000000000 && 1 <= seconds <= duration <= 90000000;
	assigns \nothing;
	ensures \result == (energy_wh * seconds) / duration;
	ensures 0 <= \result <= 9000000000000000000;
*/
static inline int64_t
share_of(int64_t energy_wh, int64_t seconds, int64_t duration)
{
	/*@ assert 0 <= energy_wh * seconds <= energy_wh * 90000000; */
	/*@ assert 0 <= energy_wh * seconds <= 9000000000000000000; */
	return energy_wh * seconds / duration;
}

/* How many parts of an interval leave a remainder above 'remainder' when its energy is shared out. */
/*@
	requires readable(t) && parts_good(t, segment, last, start_at, end_at) && 0 <= energy_wh <= 100000000000;
	assigns \nothing;
	ensures 0 <= \result <= end_at - start_at;
*/
static int64_t
count_above(const struct tariff_tables *t, int64_t segment, int64_t start_at, int64_t end_at, int64_t energy_wh,
	    int64_t remainder) /*@ ghost (int64_t last) */
{
	int64_t count = 0;
	/*@
		loop invariant \at(segment, Pre) <= segment <= last && start_at <= at <= end_at;
		loop invariant at < end_at ==> segment < last
			&& t->segment_start_at[segment] <= at < t->segment_start_at[segment + 1];
		loop invariant 0 <= count <= at - start_at;
		loop assigns at, segment, count;
		loop variant end_at - at;
	*/
	for (int64_t at = start_at; at < end_at; segment++) {
		int64_t seconds = seconds_in(t, segment, at, end_at);
		if (remainder_of(energy_wh, seconds, end_at - start_at) > remainder)
			count++;
		at += seconds;
	}
	return count;
}

/* Watt-hours that are left when every part has got its share cut off to whole ones: below the number of parts. */
/*@
	requires readable(t) && parts_good(t, segment, last, start_at, end_at) && 0 <= energy_wh <= 100000000000;
	assigns \nothing;
	ensures 0 <= \result <= 8100000000000000;
*/
static int64_t
left_over(const struct tariff_tables *t, int64_t segment, int64_t start_at, int64_t end_at, int64_t energy_wh)
	/*@ ghost (int64_t last) */
{
	int64_t remainders = 0;
	/*@
		loop invariant \at(segment, Pre) <= segment <= last && start_at <= at <= end_at;
		loop invariant at < end_at ==> segment < last
			&& t->segment_start_at[segment] <= at < t->segment_start_at[segment + 1];
		loop invariant 0 <= remainders <= (at - start_at) * 90000000;
		loop assigns at, segment, remainders;
		loop variant end_at - at;
	*/
	for (int64_t at = start_at; at < end_at; segment++) {
		int64_t seconds = seconds_in(t, segment, at, end_at);
		remainders += remainder_of(energy_wh, seconds, end_at - start_at);
		at += seconds;
	}
	return remainders / (end_at - start_at);
}

/* The remainder of the last part that gets one of 'extra' watt-hours: fewer than 'extra' parts are above it. */
/*@
	requires readable(t) && parts_good(t, segment, last, start_at, end_at) && 0 <= energy_wh <= 100000000000;
	assigns \nothing;
	ensures 0 <= \result < end_at - start_at;
*/
static int64_t
find_threshold(const struct tariff_tables *t, int64_t segment, int64_t start_at, int64_t end_at, int64_t energy_wh,
	       int64_t extra) /*@ ghost (int64_t last) */
{
	int64_t low = -1; /* at least 'extra' parts are above it */
	int64_t high = end_at - start_at - 1;
	/*@
		loop invariant -1 <= low < high < end_at - start_at;
		loop assigns low, high;
		loop variant high - low;
	*/
	while (high - low > 1) {
		int64_t middle = low + (high - low) / 2;
		if (count_above(t, segment, start_at, end_at, energy_wh, middle) /*@ ghost (last) */ < extra)
			high = middle;
		else
			low = middle;
	}
	return high;
}

/* The lemma that the parts of an interval lie in the segments of its tariff. */
/*@ ghost
	/@
		requires counts_good(t) && tariff_good(t, tariff) && in_span(t, tariff, segment);
		requires t->segment_start_at[segment] <= start_at < t->segment_start_at[segment + 1];
		requires start_at < end_at <= t->segment_start_at[t->tariff_first_segment[tariff + 1] - 1];
		requires end_at - start_at <= 90000000;
		assigns \nothing;
		ensures parts_good(t, segment, t->tariff_first_segment[tariff + 1] - 1, start_at, end_at);
		ensures 0 <= t->tariff_first_segment[tariff];
	@/
	static void segments_within(const struct tariff_tables *t, int64_t tariff, int64_t segment, int64_t start_at,
				    int64_t end_at)
	{
		/@ assert segments_good(t, t->tariff_first_segment[tariff], t->tariff_first_segment[tariff + 1],
					t->tariff_first_period[tariff], t->tariff_first_period[tariff + 1]); @/
		/@ assert segment_good(t, segment, t->tariff_first_period[tariff],
				       t->tariff_first_period[tariff + 1]); @/
		/@ assert segment_good(t, t->tariff_first_segment[tariff + 1] - 1, t->tariff_first_period[tariff],
				       t->tariff_first_period[tariff + 1]); @/
	}
*/

/*
 * Cost of an interval that lies in several segments: energy by seconds, whole watt-hours, largest
 * remainder, the earlier of equals first. Without memory for the parts they are walked again
 * instead, to find the remainder from which on a part gets one more.
 */
/*@
	requires readable(t) && counts_good(t) && tariff_good(t, tariff) && in_span(t, tariff, segment);
	requires places_good(t, tariff, energy_wh, cell_energy_wh, cells);
	requires t->segment_start_at[segment] <= start_at < t->segment_start_at[segment + 1];
	requires start_at < end_at <= t->segment_start_at[t->tariff_first_segment[tariff + 1] - 1];
	requires end_at - start_at <= 90000000;
	requires 0 <= shared_wh <= top_wh <= t->tariff_energy_wh_max[tariff];
	requires within(energy_wh, t->tariff_position_count[tariff], top_wh - shared_wh);
	requires within(cell_energy_wh, cells, 0);
	assigns energy_wh[0 .. t->tariff_position_count[tariff] - 1], cell_energy_wh[0 .. cells - 1];
	ensures within(energy_wh, \old(t->tariff_position_count[tariff]), top_wh);
	ensures within(cell_energy_wh, cells, shared_wh);
	ensures \let most_nano = price_max(\old(t->tariff_energy_wh_max[tariff])) * shared_wh;
		-most_nano <= \result <= most_nano;
*/
static int64_t
rate_shared(const struct tariff_tables *t, int64_t tariff, int64_t segment, int64_t cycle_start_at, int64_t *energy_wh,
	    int64_t start_at, int64_t end_at, int64_t shared_wh, int64_t *cell_energy_wh)
	/*@ ghost (int64_t top_wh, int64_t cells) */
{
	/*@ ghost int64_t last = t->tariff_first_segment[tariff + 1] - 1; */
	/*@ ghost int64_t positions = t->tariff_position_count[tariff]; */
	/*@ ghost int64_t price_most = price_bound(t->tariff_energy_wh_max[tariff], shared_wh); */
	/*@ ghost int64_t spent_nano = 0; */
	/*@ ghost int64_t rest_nano = price_most * shared_wh; */
	/*@ ghost segments_within(t, tariff, segment, start_at, end_at); */
	int64_t extra = left_over(t, segment, start_at, end_at, shared_wh) /*@ ghost (last) */;
	int64_t threshold = 0;
	int64_t equals = 0; /* parts with just that remainder that get one more */
	if (extra > 0) {
		threshold = find_threshold(t, segment, start_at, end_at, shared_wh, extra) /*@ ghost (last) */;
		equals = extra - count_above(t, segment, start_at, end_at, shared_wh, threshold) /*@ ghost (last) */;
	}
	int64_t amount_nano = 0;
	int64_t rest_wh = shared_wh;
	/*@
		loop invariant only{Pre, Here}(energy_wh, positions, cell_energy_wh, cells);
		loop invariant \at(segment, Pre) <= segment && start_at <= at <= end_at;
		loop invariant at < end_at ==> parts_good{Pre}(t, segment, last, at, end_at);
		loop invariant 0 <= rest_wh <= shared_wh && -4000000000000000000 <= equals <= 4000000000000000000;
		loop invariant at == end_at ==> rest_wh == 0;
		loop invariant within(energy_wh, positions, top_wh - rest_wh);
		loop invariant within(cell_energy_wh, cells, shared_wh - rest_wh);
		loop invariant rest_nano == price_most * rest_wh && 0 <= rest_nano && 0 <= spent_nano;
		loop invariant spent_nano + rest_nano == price_most * shared_wh;
		loop invariant -spent_nano <= amount_nano <= spent_nano;
		loop assigns at, segment, equals, rest_wh, amount_nano, cycle_start_at, spent_nano, rest_nano,
			energy_wh[0 .. positions - 1], cell_energy_wh[0 .. cells - 1];
		loop variant end_at - at;
	*/
	for (int64_t at = start_at; at < end_at; segment++) {
		/*@ assert tables_same{Pre, Here}(t); */
		/*@ assert tariff_good(t, tariff); */
		/*@ assert positions == t->tariff_position_count[tariff]; */
		/*@ assert 0 <= segment + 1 < t->segment_count; */
		/*@ assert same{Pre, Here}(t->segment_start_at, t->segment_count); */
		/*@ ghost int64_t next_at = t->segment_start_at[segment + 1]; */
		/*@ assert next_at == start_of{Pre}(t, segment + 1); */
		/*@ assert segment + 1 == last ==> end_at <= next_at; */
		/*@ assert clear(t, energy_wh, positions) && clear(t, cell_energy_wh, cells); */
		/*@ assert cells_of{Pre}(t, tariff) == cells_of{Here}(t, tariff); */
		/*@ assert places_good(t, tariff, energy_wh, cell_energy_wh, cells); */
		/*@ assert price_most == price_max(t->tariff_energy_wh_max[tariff]); */
		int64_t seconds = seconds_in(t, segment, at, end_at);
		int64_t share_wh = share_of(shared_wh, seconds, end_at - start_at);
		int64_t remainder = remainder_of(shared_wh, seconds, end_at - start_at);
		if (remainder > threshold) { /* without extra ones every remainder is 0 */
			share_wh++;
		} else if (equals > 0 && remainder == threshold) {
			share_wh++;
			equals--;
		}
		at += seconds;
		/*@ assert at < end_at ==> at == next_at; */
		/*@ assert at < end_at ==> segment + 1 < last; */
		/*@ assert at < end_at ==> parts_good{Pre}(t, segment + 1, last, at, end_at); */
		if (at == end_at || share_wh > rest_wh)
			share_wh = rest_wh;
		/*@ ghost int64_t part_nano = split(price_most, share_wh, rest_wh, rest_nano); */
		/*@ assert part_nano == price_max(t->tariff_energy_wh_max[tariff]) * share_wh; */
		int64_t cost_nano = rate_part(t, tariff, segment, cycle_start_at, energy_wh, share_wh, cell_energy_wh)
			/*@ ghost (top_wh - rest_wh + share_wh, cells, shared_wh - rest_wh) */;
		/*@ assert only{LoopCurrent, Here}(energy_wh, positions, cell_energy_wh, cells); */
		/*@ assert only{Pre, Here}(energy_wh, positions, cell_energy_wh, cells); */
		/*@ assert -part_nano <= cost_nano <= part_nano; */
		/*@ ghost spent_nano += part_nano; */
		/*@ ghost rest_nano -= part_nano; */
		rest_wh -= share_wh;
		amount_nano += cost_nano;
		cycle_start_at = later(cycle_start_at, t->segment_cycle_start_at[segment]);
	}
	return amount_nano;
}

/* Rates one interval, whose first second is in 'segment'. Returns its cost. */
/*@
	requires readable(t) && counts_good(t) && tariff_good(t, tariff) && in_span(t, tariff, segment);
	requires places_good(t, tariff, energy_wh, cell_energy_wh, cells);
	requires start_at < end_at
		==> t->segment_start_at[segment] <= start_at < t->segment_start_at[segment + 1];
	requires start_at >= end_at ==> end_at <= t->segment_start_at[segment + 1];
	requires end_at <= t->segment_start_at[t->tariff_first_segment[tariff + 1] - 1];
	requires end_at - start_at <= 90000000;
	requires 0 <= interval_wh <= top_wh <= t->tariff_energy_wh_max[tariff];
	requires within(energy_wh, t->tariff_position_count[tariff], top_wh - interval_wh);
	requires within(cell_energy_wh, cells, 0);
	assigns energy_wh[0 .. t->tariff_position_count[tariff] - 1], cell_energy_wh[0 .. cells - 1];
	ensures within(energy_wh, \old(t->tariff_position_count[tariff]), top_wh);
	ensures within(cell_energy_wh, cells, interval_wh);
	ensures \let most_nano = price_max(\old(t->tariff_energy_wh_max[tariff])) * interval_wh;
		-most_nano <= \result <= most_nano;
*/
NOT_INLINE static int64_t
rate_interval(const struct tariff_tables *t, int64_t tariff, int64_t segment, int64_t cycle_start_at,
	      int64_t *energy_wh, int64_t start_at, int64_t end_at, int64_t interval_wh, int64_t *cell_energy_wh)
	/*@ ghost (int64_t top_wh, int64_t cells) */
{
	/*@ assert segments_good(t, t->tariff_first_segment[tariff], t->tariff_first_segment[tariff + 1],
				 t->tariff_first_period[tariff], t->tariff_first_period[tariff + 1]); */
	if (end_at <= t->segment_start_at[segment + 1])
		return rate_part(t, tariff, segment, cycle_start_at, energy_wh, interval_wh, cell_energy_wh)
			/*@ ghost (top_wh, cells, 0) */;
	return rate_shared(t, tariff, segment, cycle_start_at, energy_wh, start_at, end_at, interval_wh,
			   cell_energy_wh) /*@ ghost (top_wh, cells) */;
}

/* Rates interval 'i' by itself, without details. */
/*@
	requires readable(t) && counts_good(t) && tariff_good(t, tariff) && in_span(t, tariff, segment);
	requires accounts_readable(a) && 0 <= i < a->first_interval[a->account_count];
	requires places_good(t, tariff, energy_wh, \null, 0);
	requires a->interval_start_at[i] < a->interval_end_at[i] ==> t->segment_start_at[segment]
		<= a->interval_start_at[i] < t->segment_start_at[segment + 1];
	requires a->interval_start_at[i] >= a->interval_end_at[i]
		==> a->interval_end_at[i] <= t->segment_start_at[segment + 1];
	requires a->interval_end_at[i] <= t->segment_start_at[t->tariff_first_segment[tariff + 1] - 1];
	requires a->interval_end_at[i] - a->interval_start_at[i] <= 90000000;
	requires 0 <= a->interval_energy_wh[i] <= top_wh <= t->tariff_energy_wh_max[tariff];
	requires within(energy_wh, t->tariff_position_count[tariff], top_wh - a->interval_energy_wh[i]);
	assigns energy_wh[0 .. t->tariff_position_count[tariff] - 1];
	ensures within(energy_wh, \old(t->tariff_position_count[tariff]), top_wh);
	ensures \let most_nano = price_max(\old(t->tariff_energy_wh_max[tariff])) * \old(a->interval_energy_wh[i]);
		-most_nano <= \result <= most_nano;
*/
NOT_INLINE static int64_t
rate_single(const struct tariff_tables *t, const struct tariff_accounts *a, int64_t tariff, int64_t i, int64_t segment,
	    int64_t cycle_start_at, int64_t *energy_wh) /*@ ghost (int64_t top_wh) */
{
	return rate_interval(t, tariff, segment, cycle_start_at, energy_wh, a->interval_start_at[i],
			     a->interval_end_at[i], a->interval_energy_wh[i], NULL) /*@ ghost (top_wh, 0) */;
}

/* Copies the first 'count' of 'stride' numbers; the others become 0. */
/*@
	requires 0 <= count <= stride <= 1048576;
	requires \valid(to + (0 .. stride - 1)) && \valid_read(from + (0 .. count - 1));
	requires \separated(to + (0 .. stride - 1), from + (0 .. count - 1));
	assigns to[0 .. stride - 1];
	ensures \forall integer k; 0 <= k < count ==> to[k] == from[k];
	ensures \forall integer k; count <= k < stride ==> to[k] == 0;
*/
static void
copy_positions(int64_t *to, const int64_t *from, int64_t count, int64_t stride)
{
	/*@
		loop invariant 0 <= i <= count;
		loop invariant \forall integer k; 0 <= k < i ==> to[k] == from[k];
		loop invariant \forall integer k; 0 <= k < count ==> from[k] == \at(from[k], Pre);
		loop assigns i, to[0 .. count - 1];
		loop variant count - i;
	*/
	for (int64_t i = 0; i < count; i++)
		to[i] = from[i];
	/*@
		loop invariant count <= i <= stride;
		loop invariant \forall integer k; 0 <= k < count ==> to[k] == from[k];
		loop invariant \forall integer k; count <= k < i ==> to[k] == 0;
		loop assigns i, to[count .. stride - 1];
		loop variant stride - i;
	*/
	for (int64_t i = count; i < stride; i++)
		to[i] = 0;
}

/* Rates the intervals of an account, the first of which starts in 'segment'; 'details' is not NULL. */
static int64_t
rate_explained(const struct tariff_tables *t, const struct tariff_accounts *a, int64_t account, int64_t segment,
	       int64_t *energy_wh, int64_t *amount_nano, const struct tariff_details *details)
{
	int64_t tariff = a->tariff[account];
	/*@ ghost int64_t last = t->tariff_first_segment[tariff + 1] - 1; */
	/*@ ghost int64_t top_wh = 0; */
	/*@ ghost int64_t cells = 0; */
	int64_t cycle_start_at = a->cycle_start_at[account];
	int64_t end = a->first_interval[account + 1];
	int64_t total_nano = 0;
	for (int64_t i = a->first_interval[account]; i < end; i++) {
		int64_t end_at = a->interval_end_at[i];
		int64_t interval_wh = a->interval_energy_wh[i];
		int64_t *cell_energy_wh = &details->cell_energy_wh[i * details->cell_stride];
		set_to_zero(cell_energy_wh, details->cell_stride);
		segment = skip_to(t, segment, first_second(a->interval_start_at[i], end_at)) /*@ ghost (last) */;
		details->estimated[i] = end_at > t->segment_start_at[segment + 1] && interval_wh > 0;
		int64_t cost_nano = rate_interval(t, tariff, segment, cycle_start_at, energy_wh,
						  a->interval_start_at[i], end_at, interval_wh, cell_energy_wh)
			/*@ ghost (top_wh, cells) */;
		segment = skip_to(t, segment, end_at - 1) /*@ ghost (last) */;
		cycle_start_at = later(cycle_start_at, t->segment_cycle_start_at[segment]);
		details->cycle_start_at[i] = cycle_start_at;
		copy_positions(&details->energy_wh[i * a->position_stride], energy_wh, t->tariff_position_count[tariff],
			       a->position_stride);
		amount_nano[i] = cost_nano;
		total_nano += cost_nano;
	}
	return total_nano;
}

/* The energy of intervals as a number that the proof can pass on. */
/*@ ghost
	/@
		requires 0 <= first <= end <= 2147483647 && \valid_read(wh + (first .. end - 1));
		requires \forall integer k; first <= k < end ==> 0 <= wh[k] <= 100000000000;
		requires wh_rest(wh, first, end) <= 100000000000;
		assigns \nothing;
		ensures 0 <= \result == wh_rest(wh, first, end);
	@/
	static int64_t sum_of(const int64_t *wh, int64_t first, int64_t end)
	{
		int64_t sum_wh = 0;
		int64_t i = end;
		/@
			loop invariant first <= i <= end;
			loop invariant sum_wh == \min(wh_rest(wh, i, end), 100000000001) && 0 <= wh_rest(wh, i, end);
			loop assigns i, sum_wh;
			loop variant i - first;
		@/
		while (i > first) {
			i--;
			/@ assert wh_rest(wh, i, end) == wh[i] + wh_rest(wh, i + 1, end); @/
			sum_wh += wh[i];
			if (sum_wh > 100000000001)
				sum_wh = 100000000001;
		}
		return sum_wh;
	}
*/

/* The first cell from 'cell' on that has room above a block position. */
/*@
	requires 0 <= cell < end_cell <= 2147483647 && \valid_read(limit_wh + (cell .. end_cell - 1));
	requires position_wh <= limit_wh[end_cell - 1];
	assigns \nothing;
	ensures cell <= \result < end_cell && position_wh <= limit_wh[\result];
	ensures \forall integer c; cell <= c < \result ==> limit_wh[c] < position_wh;
*/
static inline int64_t
find_cell(const int64_t *limit_wh, int64_t cell, int64_t position_wh) /*@ ghost (int64_t end_cell) */
{
	/*@
		loop invariant \at(cell, Pre) <= cell < end_cell;
		loop invariant \forall integer c; \at(cell, Pre) <= c < cell ==> limit_wh[c] < position_wh;
		loop assigns cell;
		loop variant end_cell - cell;
	*/
	while (limit_wh[cell] < position_wh)
		cell++;
	return cell;
}

/* The cycle of an account from a segment on; its block positions start over where that is a later one. */
/*@
	requires readable(t) && counts_good(t) && tariff_good(t, tariff) && in_span(t, tariff, segment);
	requires \valid(energy_wh + (0 .. t->tariff_position_count[tariff] - 1));
	requires clear(t, energy_wh, t->tariff_position_count[tariff]);
	requires 0 <= top_wh && within(energy_wh, t->tariff_position_count[tariff], top_wh);
	assigns energy_wh[0 .. t->tariff_position_count[tariff] - 1];
	ensures within(energy_wh, \old(t->tariff_position_count[tariff]), top_wh);
*/
static inline int64_t
enter_cycle(const struct tariff_tables *t, int64_t tariff, int64_t segment, int64_t cycle_start_at, int64_t *energy_wh)
	/*@ ghost (int64_t top_wh) */
{
	/*@ assert segments_good(t, t->tariff_first_segment[tariff], t->tariff_first_segment[tariff + 1],
				 t->tariff_first_period[tariff], t->tariff_first_period[tariff + 1]); */
	/*@ assert periods_good(t, t->tariff_first_period[tariff], t->tariff_first_period[tariff + 1],
				t->tariff_position_count[tariff], t->tariff_energy_wh_max[tariff]); */
	int64_t next_start_at = t->segment_cycle_start_at[segment];
	if (cycle_start_at >= next_start_at)
		return cycle_start_at;
	if (cycle_start_at != TARIFF_NO_CYCLE)
		set_to_zero(energy_wh, t->tariff_position_count[tariff]);
	return next_start_at;
}

/*
 * Rates intervals from 'first' on while they end in the segment and stay in the block, so that all
 * of them cost one price. Moves the position on; returns the number of the next interval.
 * Whether the block has room is asked once, at the end; amounts beyond it are written anew later.
 */
/*@
	requires 0 <= first < end <= 2147483647;
	requires \valid_read(interval_end_at + (first .. end - 1)) && \valid_read(interval_wh + (first .. end - 1));
	requires \valid(position_wh) && \valid(amount_nano + (first .. end - 1));
	requires \separated(position_wh, amount_nano + (first .. end - 1));
	requires \separated(position_wh, interval_end_at + (first .. end - 1));
	requires \separated(position_wh, interval_wh + (first .. end - 1));
	requires \separated(amount_nano + (first .. end - 1), interval_end_at + (first .. end - 1));
	requires \separated(amount_nano + (first .. end - 1), interval_wh + (first .. end - 1));
	requires run_good(interval_end_at, interval_wh, first, end);
	requires 0 <= *position_wh <= limit_wh <= 100000000000;
	requires -price_most <= price <= price_most;
	requires 0 <= rest_wh == wh_rest(interval_wh, first, end) && rest_wh <= 100000000000;
	requires 0 <= price_most * rest_wh == rest_nano <= 9000000000000000000;
	assigns *position_wh, amount_nano[first .. end - 1];
	ensures first <= \result <= end;
	ensures \result > first ==> nth{Pre}(interval_end_at, first) <= nth{Pre}(interval_end_at, \result - 1);
	ensures \old(*position_wh) <= *position_wh <= limit_wh;
	ensures *position_wh - \old(*position_wh) <= rest_wh;
	ensures \result == first ==> *position_wh == \old(*position_wh);
	ensures wh_rest{Pre}(interval_wh, \result, end) == rest_wh - (*position_wh - \old(*position_wh));
*/
static inline int64_t
rate_row(const int64_t *interval_end_at, const int64_t *interval_wh, int64_t first, int64_t end, int64_t row_end_at,
	 int64_t limit_wh, int64_t price, int64_t *position_wh, int64_t *amount_nano)
	/*@ ghost (int64_t price_most, int64_t rest_wh, int64_t rest_nano) */
{
	int64_t after_wh = *position_wh;
	int64_t i = first;
	/*@
		loop invariant first <= i <= end;
		loop invariant \forall integer k; first <= k < end ==> interval_wh[k] == \at(interval_wh[k], Pre);
		loop invariant \forall integer k; first <= k < end ==>
			interval_end_at[k] == \at(interval_end_at[k], Pre);
		loop invariant \forall integer k; first <= k < i ==>
			nth{Pre}(interval_end_at, first) <= nth{Pre}(interval_end_at, k);
		loop invariant *position_wh == \at(*position_wh, Pre);
		loop invariant \forall integer k; first <= k <= i ==> 0 <= wh_rest{Pre}(interval_wh, k, end) <= rest_wh;
		loop invariant after_wh == \at(*position_wh, Pre) + rest_wh - wh_rest{Pre}(interval_wh, i, end);
		loop assigns i, after_wh, amount_nano[first .. end - 1];
		loop variant end - i;
	*/
	while (i < end && interval_end_at[i] <= row_end_at) {
		int64_t wh = interval_wh[i];
		/*@ assert wh == nth{Pre}(interval_wh, i); */
		/*@ assert wh_rest{Pre}(interval_wh, i, end) == wh + wh_rest{Pre}(interval_wh, i + 1, end); */
		/*@ assert 0 <= wh_rest{Pre}(interval_wh, i + 1, end); */
		/*@ assert 0 <= wh <= rest_wh; */
		/*@ ghost int64_t part_nano = split(price_most, wh, rest_wh, rest_nano); */
		after_wh += wh;
		amount_nano[i] = multiply(wh, price) /*@ ghost (price_most, part_nano) */;
		i++;
	}
	/*@
		loop invariant first <= i <= end;
		loop invariant \forall integer k; first <= k < i ==>
			nth{Pre}(interval_end_at, first) <= nth{Pre}(interval_end_at, k);
		loop invariant \forall integer k; first <= k <= i ==> 0 <= wh_rest{Pre}(interval_wh, k, end) <= rest_wh;
		loop invariant after_wh == \at(*position_wh, Pre) + rest_wh - wh_rest{Pre}(interval_wh, i, end);
		loop assigns i, after_wh;
		loop variant i;
	*/
	while (after_wh > limit_wh) {
		/*@ assert i > first; */
		i--;
		/*@ assert interval_wh[i] == nth{Pre}(interval_wh, i); */
		/*@ assert wh_rest{Pre}(interval_wh, i, end)
			== nth{Pre}(interval_wh, i) + wh_rest{Pre}(interval_wh, i + 1, end); */
		after_wh -= interval_wh[i];
	}
	*position_wh = after_wh;
	return i;
}

/* Rates the intervals of an account, the first of which starts in 'segment': in rows, and one by one between them. */
/*@
	requires readable(t) && counts_good(t) && accounts_readable(a);
	requires 0 <= account < a->account_count < 2147483647;
	requires a->first_interval[a->account_count] < 2147483647;
	requires 0 <= a->first_interval[account] < a->first_interval[account + 1]
		<= a->first_interval[a->account_count];
	requires tariff_good(t, a->tariff[account]) && in_span(t, a->tariff[account], segment);
	requires intervals_good(t, a, a->tariff[account], a->first_interval[account], a->first_interval[account + 1]);
	requires starts_in(t, a, segment, a->first_interval[account]);
	requires 0 <= wh_rest(a->interval_energy_wh, a->first_interval[account], a->first_interval[account + 1])
		<= t->tariff_energy_wh_max[a->tariff[account]];
	requires within(energy_wh, t->tariff_position_count[a->tariff[account]],
		t->tariff_energy_wh_max[a->tariff[account]]
		- wh_rest(a->interval_energy_wh, a->first_interval[account], a->first_interval[account + 1]));
	requires \valid(energy_wh + (0 .. t->tariff_position_count[a->tariff[account]] - 1));
	requires clear(t, energy_wh, t->tariff_position_count[a->tariff[account]]);
	requires accounts_clear(a, energy_wh, t->tariff_position_count[a->tariff[account]]);
	requires \valid(amount_nano + (0 .. a->first_interval[a->account_count] - 1));
	requires clear(t, amount_nano, a->first_interval[a->account_count]);
	requires accounts_clear(a, amount_nano, a->first_interval[a->account_count]);
	requires \separated(energy_wh + (0 .. t->tariff_position_count[a->tariff[account]] - 1),
			    amount_nano + (0 .. a->first_interval[a->account_count] - 1));
	assigns energy_wh[0 .. t->tariff_position_count[a->tariff[account]] - 1],
		amount_nano[0 .. a->first_interval[a->account_count] - 1];
	ensures within(energy_wh, \old(t->tariff_position_count[a->tariff[account]]),
		       \old(t->tariff_energy_wh_max[a->tariff[account]]));
	ensures -9000000000000000000 <= \result <= 9000000000000000000;
*/
NOT_INLINE static int64_t
rate_plain(const struct tariff_tables *t, const struct tariff_accounts *a, int64_t account, int64_t segment,
	   int64_t *energy_wh, int64_t *amount_nano)
{
	int64_t tariff = a->tariff[account];
	/*@ assert 0 <= tariff < 9223372036854775807; */
	/*@ assert (int64_t)(tariff + 1) == tariff + 1; */
	/*@ assert (int64_t)(account + 1) == account + 1; */
	/*@ assert \valid_read(a->first_interval + (account + 1)) && \valid_read(a->first_interval + account); */
	/*@ assert segments_good(t, t->tariff_first_segment[tariff], t->tariff_first_segment[tariff + 1],
				 t->tariff_first_period[tariff], t->tariff_first_period[tariff + 1]); */
	/*@ assert periods_good(t, t->tariff_first_period[tariff], t->tariff_first_period[tariff + 1],
				t->tariff_position_count[tariff], t->tariff_energy_wh_max[tariff]); */
	/*@ assert span_good(t, tariff); */
	/*@ ghost
		int64_t last = t->tariff_first_segment[tariff + 1] - 1;
		int64_t most_wh = t->tariff_energy_wh_max[tariff];
		int64_t positions = t->tariff_position_count[tariff];
		int64_t count = a->first_interval[a->account_count];
		int64_t first = a->first_interval[account];
		int64_t rest_wh = sum_of(a->interval_energy_wh, first, a->first_interval[account + 1]);
		int64_t price_most = price_bound(most_wh, rest_wh);
		int64_t spent_nano = 0;
		int64_t rest_nano = price_most * rest_wh;
	*/
	/*@ assert run_good(a->interval_end_at, a->interval_energy_wh, first, a->first_interval[account + 1]); */
	int64_t cycle_start_at = a->cycle_start_at[account];
	int64_t end = a->first_interval[account + 1];
	int64_t total_nano = 0;
	int64_t i = a->first_interval[account];
	/*@
		loop invariant first <= i <= end;
		loop invariant only{Pre, Here}(energy_wh, positions, amount_nano, count);
		loop invariant in_span{Pre}(t, tariff, segment);
		loop invariant i == first ==> segment == \at(segment, Pre);
		loop invariant i > first ==> start_of{Pre}(t, segment) < end_of{Pre}(a, i - 1);
		loop invariant rest_wh == wh_rest{Pre}(\at(a->interval_energy_wh, Pre), i, end);
		loop invariant 0 <= rest_wh <= most_wh;
		loop invariant within(energy_wh, positions, most_wh - rest_wh);
		loop invariant rest_nano == price_most * rest_wh && 0 <= rest_nano && 0 <= spent_nano;
		loop invariant spent_nano + rest_nano <= 9000000000000000000;
		loop invariant -spent_nano <= total_nano <= spent_nano;
		loop assigns i, segment, cycle_start_at, total_nano, rest_wh, spent_nano, rest_nano,
			energy_wh[0 .. positions - 1], amount_nano[0 .. count - 1];
		loop variant end - i;
	*/
	while (i < end) {
		/*@ assert tables_same{Pre, Here}(t) && accounts_same{Pre, Here}(a); */
		/*@ assert tariff_good(t, tariff); */
		/*@ assert interval_good{Pre}(t, a, tariff, i); */
		/*@ assert span_start{Pre}(t, tariff) == span_start(t, tariff); */
		/*@ assert span_end{Pre}(t, tariff) == span_end(t, tariff); */
		/*@ assert most_wh == t->tariff_energy_wh_max[tariff]; */
		/*@ assert interval_good(t, a, tariff, i); */
		/*@ assert i > first ==> follows{Pre}(a, i); */
		/*@ assert starts_in(t, a, segment, i); */
		/*@ assert segments_good(t, t->tariff_first_segment[tariff], t->tariff_first_segment[tariff + 1],
					 t->tariff_first_period[tariff], t->tariff_first_period[tariff + 1]); */
		segment = skip_into(t, a, segment, i) /*@ ghost (last) */;
		/*@ assert start_of{Pre}(t, segment) == start_of(t, segment); */
		/*@ assert start_of{Pre}(t, segment) < end_of{Pre}(a, i); */
		cycle_start_at = enter_cycle(t, tariff, segment, cycle_start_at, energy_wh)
			/*@ ghost (most_wh - rest_wh) */;
		/*@ assert only{LoopCurrent, Here}(energy_wh, positions, amount_nano, count); */
		/*@ assert only{Pre, Here}(energy_wh, positions, amount_nano, count); */
		/*@ assert tables_same{Pre, Here}(t) && accounts_same{Pre, Here}(a); */
		/*@ assert tariff_good(t, tariff); */
		int64_t period = t->segment_period[segment];
		/*@ assert segment_good(t, segment, t->tariff_first_period[tariff],
					t->tariff_first_period[tariff + 1]); */
		/*@ assert period_good(t, period, t->tariff_first_period[tariff],
				       t->tariff_first_period[tariff + 1], positions, most_wh); */
		/*@ assert cells_good(t, t->period_first_cell[period], t->period_first_cell[period + 1], most_wh); */
		int64_t position = t->period_position[period];
		/*@ assert 0 <= position < positions && 0 <= energy_wh[position] <= most_wh - rest_wh; */
		int64_t before_wh = energy_wh[position];
		int64_t cell = find_cell(t->cell_limit_wh, t->period_first_cell[period], before_wh)
			/*@ ghost (t->period_first_cell[period + 1]) */;
		int64_t price = t->cell_price_micro_per_kwh[cell];
		/*@ assert -price_most <= price <= price_most; */
		/*@ assert before_wh <= t->cell_limit_wh[cell] <= 100000000000; */
		/*@ assert run_good{Pre}(\at(a->interval_end_at, Pre), \at(a->interval_energy_wh, Pre), i, end); */
		/*@ assert run_good(a->interval_end_at, a->interval_energy_wh, i, end); */
		/*@ assert rest_wh == wh_rest(a->interval_energy_wh, i, end); */
		int64_t next = rate_row(a->interval_end_at, a->interval_energy_wh, i, end,
					t->segment_start_at[segment + 1], t->cell_limit_wh[cell], price,
					&energy_wh[position], amount_nano)
			/*@ ghost (price_most, rest_wh, rest_nano) */;
		/*@ assert only{LoopCurrent, Here}(energy_wh, positions, amount_nano, count); */
		/*@ assert only{Pre, Here}(energy_wh, positions, amount_nano, count); */
		int64_t used_wh = energy_wh[position] - before_wh;
		/*@ assert within(energy_wh, positions, most_wh - rest_wh + used_wh); */
		int64_t cost_nano;
		if (next > i) {
			/*@ ghost int64_t part_nano = split(price_most, used_wh, rest_wh, rest_nano); */
			cost_nano = multiply(used_wh, price) /*@ ghost (price_most, part_nano) */;
			/*@ ghost
				spent_nano += part_nano;
				rest_nano -= part_nano;
				rest_wh -= used_wh;
			*/
		} else {
			/*@ assert tables_same{Pre, Here}(t) && accounts_same{Pre, Here}(a); */
			/*@ assert tariff_good(t, tariff); */
			/*@ assert interval_good(t, a, tariff, i); */
			/*@ ghost
				int64_t interval_wh = a->interval_energy_wh[i];
				int64_t part_nano = split(price_most, interval_wh, rest_wh, rest_nano);
			*/
			cost_nano = rate_single(t, a, tariff, i, segment, cycle_start_at, energy_wh)
				/*@ ghost (most_wh - rest_wh + interval_wh) */;
			/*@ ghost
				spent_nano += part_nano;
				rest_nano -= part_nano;
				rest_wh -= interval_wh;
			*/
			/*@ assert only{LoopCurrent, Here}(energy_wh, positions, amount_nano, count); */
			/*@ assert only{Pre, Here}(energy_wh, positions, amount_nano, count); */
			/*@ assert tables_same{Pre, Here}(t) && accounts_same{Pre, Here}(a); */
			/*@ assert interval_good(t, a, tariff, i); */
			segment = skip_to(t, segment, a->interval_end_at[i] - 1) /*@ ghost (last) */;
			/*@ assert start_of{Pre}(t, segment) == start_of(t, segment); */
			/*@ assert start_of{Pre}(t, segment) < end_of{Pre}(a, i); */
			cycle_start_at = later(cycle_start_at, t->segment_cycle_start_at[segment]);
			amount_nano[i] = cost_nano;
			next = i + 1;
		}
		/*@ assert only{Pre, Here}(energy_wh, positions, amount_nano, count); */
		/*@ assert within(energy_wh, positions, most_wh - rest_wh); */
		total_nano += cost_nano;
		i = next;
	}
	return total_nano;
}

/* Rates one account. */
static void
rate_account(const struct tariff_tables *t, const struct tariff_accounts *a, int64_t account,
	     const struct tariff_bills *bills, const struct tariff_details *details)
{
	int64_t first = a->first_interval[account];
	int64_t end = a->first_interval[account + 1];
	int64_t tariff = a->tariff[account];
	int64_t cycle_start_at = a->cycle_start_at[account];
	int64_t amount_nano = 0;
	int64_t *energy_wh = &bills->account_energy_wh[account * a->position_stride];
	copy_positions(energy_wh, &a->energy_wh[account * a->position_stride], t->tariff_position_count[tariff],
		       a->position_stride);
	if (first < end) {
		int64_t at = first_second(a->interval_start_at[first], a->interval_end_at[first]);
		int64_t segment = find_segment(t, tariff, at);
		if (details != NULL)
			amount_nano = rate_explained(t, a, account, segment, energy_wh, bills->amount_nano, details);
		else
			amount_nano = rate_plain(t, a, account, segment, energy_wh, bills->amount_nano);
		int64_t last = find_segment(t, tariff, a->interval_end_at[end - 1] - 1);
		cycle_start_at = later(cycle_start_at, t->segment_cycle_start_at[last]);
	}
	bills->account_amount_nano[account] = amount_nano;
	bills->account_cycle_start_at[account] = cycle_start_at;
}

static void
rate_accounts(const struct tariff_tables *t, const struct tariff_accounts *a, const struct tariff_bills *bills,
	      const struct tariff_details *details)
{
	for (int64_t i = 0; i < a->account_count; i++)
		rate_account(t, a, i, bills, details);
}

/* Refused means that not one number of the program's memory has changed. */
/*@
	requires readable(t) && tables_good(t) && accounts_readable(a);
	requires details == \null || \valid_read(details);
	ensures \result != TARIFF_OK ==> \forall int64_t *p; *p == \old(*p);
*/
enum tariff_result
tariff_rate(const struct tariff_tables *t, const struct tariff_accounts *a, const struct tariff_bills *bills,
	    const struct tariff_details *details)
{
	enum tariff_result result = check_accounts(t, a, details);
	if (result == TARIFF_OK)
		rate_accounts(t, a, bills, details);
	return result;
}
