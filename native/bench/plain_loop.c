/*
 * The plain loops that `python3 build.py bench tariff` measures the kernel against: what one would
 * write for a single tariff with one block position, with no checks, carry or refusals.
 */
#include <stdint.h>

/* A year of one account: an amount for each hour. */
void
plain_loop(int64_t count, int64_t blocks, const int64_t *period, const int64_t *energy_wh, const int64_t *limit_wh,
	   const int64_t *price, const int64_t *cycle, int64_t *amount_nano)
{
	int64_t position_wh = 0;
	int64_t last_cycle = cycle[0];
	for (int64_t i = 0; i < count; i++) {
		if (cycle[i] != last_cycle) {
			position_wh = 0;
			last_cycle = cycle[i];
		}
		const int64_t *prices = &price[period[i] * blocks];
		int64_t left_wh = energy_wh[i];
		int64_t amount = 0;
		int64_t block = 0;
		while (position_wh + left_wh > limit_wh[block]) {
			int64_t taken_wh = limit_wh[block] - position_wh;
			if (taken_wh > 0) {
				amount += taken_wh * prices[block];
				position_wh += taken_wh;
				left_wh -= taken_wh;
			}
			block++;
		}
		amount_nano[i] = amount + left_wh * prices[block];
		position_wh += left_wh;
	}
}

/*
 * The same from instants and a calendar, as the kernel gets them: 'segment_start_at' has one more
 * entry than there are segments. Still without checks, and for intervals within one segment only.
 */
void
plain_calendar(int64_t count, int64_t blocks, const int64_t *start_at, const int64_t *energy_wh,
	       const int64_t *segment_start_at, const int64_t *segment_period, const int64_t *segment_cycle,
	       const int64_t *limit_wh, const int64_t *price, int64_t *amount_nano)
{
	int64_t segment = 0;
	int64_t position_wh = 0;
	int64_t last_cycle = segment_cycle[0];
	for (int64_t i = 0; i < count; i++) {
		while (segment_start_at[segment + 1] <= start_at[i])
			segment++;
		if (segment_cycle[segment] != last_cycle) {
			position_wh = 0;
			last_cycle = segment_cycle[segment];
		}
		const int64_t *prices = &price[segment_period[segment] * blocks];
		int64_t left_wh = energy_wh[i];
		int64_t amount = 0;
		int64_t block = 0;
		while (position_wh + left_wh > limit_wh[block]) {
			int64_t taken_wh = limit_wh[block] - position_wh;
			if (taken_wh > 0) {
				amount += taken_wh * prices[block];
				position_wh += taken_wh;
				left_wh -= taken_wh;
			}
			block++;
		}
		amount_nano[i] = amount + left_wh * prices[block];
		position_wh += left_wh;
	}
}

/* The same year of many accounts, each with its own energies and amounts. */
void
plain_fleet(int64_t accounts, int64_t count, int64_t blocks, const int64_t *period, const int64_t *energy_wh,
	    const int64_t *limit_wh, const int64_t *price, const int64_t *cycle, int64_t *amount_nano)
{
	for (int64_t a = 0; a < accounts; a++)
		plain_loop(count, blocks, period, &energy_wh[a * count], limit_wh, price, cycle,
			   &amount_nano[a * count]);
}

/* One hour of many accounts that have used nothing yet in their cycle. */
void
plain_round(int64_t accounts, int64_t blocks, int64_t period, const int64_t *energy_wh, const int64_t *limit_wh,
	    const int64_t *price, int64_t *amount_nano)
{
	int64_t cycle = 0;
	for (int64_t a = 0; a < accounts; a++)
		plain_loop(1, blocks, &period, &energy_wh[a], limit_wh, price, &cycle, &amount_nano[a]);
}
