/*
 * The plain loop that `python3 build.py bench tariff` measures the kernel against: what one would
 * write for a single tariff with one block position, with no checks, carry or refusals.
 */
#include <stdint.h>

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
