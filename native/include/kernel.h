/*
 * The tariff kernel: what energy costs, for many accounts in one call, in exact 64-bit integers.
 *
 * Energy in Wh, prices in micro-currency per kWh, amounts in nano-currency: Wh times micro per kWh
 * is nano, exactly, so nothing here rounds. "at" is Unix seconds, spans are half-open. The rules
 * are those of edge/core/rating.py, which is the authority: this must agree with it to the bit.
 *
 * No allocation, no globals, no floating point, no 128-bit integers (32-bit ARM has none).
 * Functions write only through the pointers of their result, and only on TARIFF_OK.
 */
#ifndef TARIFF_KERNEL_H
#define TARIFF_KERNEL_H

#include <assert.h>
#include <stdint.h>

/* Energy of an account in one call, its block position included. A tariff may state less. */
#define TARIFF_ENERGY_WH_MAX INT64_C(100000000000)

/* Length of an interval: 1041 days. */
#define TARIFF_INTERVAL_S_MAX INT64_C(90000000)

/*
 * Energy shared out by seconds multiplies energy by a duration that is not above the interval's:
 * 10^11 Wh * 9*10^7 s = 9.0*10^18 < 2^63 - 1 = 9.22*10^18.
 */
static_assert(TARIFF_ENERGY_WH_MAX <= INT64_MAX / TARIFF_INTERVAL_S_MAX, "energy x seconds leaves 64 bits");

/*
 * Remainders of that sharing are below the interval's length, and no interval has more parts than
 * seconds: their sum is below (9*10^7)^2 = 8.1*10^15.
 */
static_assert(TARIFF_INTERVAL_S_MAX <= INT64_MAX / TARIFF_INTERVAL_S_MAX, "sum of remainders leaves 64 bits");

/*
 * The energies of an account in one call add up to at most energy_wh_max of its tariff, and no
 * price of the tariff is above TARIFF_AMOUNT_NANO_MAX / energy_wh_max in size. So the sum of any
 * amounts of the account is within +-9*10^18.
 */
#define TARIFF_AMOUNT_NANO_MAX INT64_C(9000000000000000000)
static_assert(TARIFF_AMOUNT_NANO_MAX < INT64_MAX, "an amount leaves 64 bits");

/* Instants of the tables, so that the difference of two fits: to the year 5138. */
#define TARIFF_AT_MAX INT64_C(100000000000)

/* Array lengths, so that the product of a count and a stride fits. */
#define TARIFF_COUNT_MAX INT64_C(2147483647)
#define TARIFF_STRIDE_MAX INT64_C(1048576)
static_assert(TARIFF_COUNT_MAX <= INT64_MAX / TARIFF_STRIDE_MAX, "count x stride leaves 64 bits");

/* cycle_start_at of a position that belongs to no cycle yet: it takes that of its first interval. */
#define TARIFF_NO_CYCLE INT64_MIN

/* [cffi */

enum tariff_result {
	TARIFF_OK = 0,
	TARIFF_BAD_TABLES = 1,    /* the tables break a rule of struct tariff_tables */
	TARIFF_BAD_ACCOUNT = 2,   /* tariff unknown, strides or counts wrong, position or cycle out of bounds */
	TARIFF_BAD_INTERVAL = 3,  /* ends out of order, too long, or starts before the one before ends */
	TARIFF_OUTSIDE_SPAN = 4,  /* not within the compiled calendar */
	TARIFF_BAD_ENERGY = 5     /* below 0, or more than energy_wh_max with what was before */
};

/*
 * Several tariffs as flat tables. A tariff owns a run of segments and a run of periods, a period
 * owns a run of cells (one per block); runs follow each other without gaps, from 0.
 */
struct tariff_tables {
	int64_t tariff_count;
	int64_t segment_count;
	int64_t period_count;
	int64_t cell_count;
	/* tariff_count + 1 entries: where the runs start; the last entry is the count */
	const int64_t *tariff_first_segment;
	const int64_t *tariff_first_period;
	/* tariff_count entries */
	const int64_t *tariff_position_count; /* block positions of an account: 1, or one per period */
	const int64_t *tariff_energy_wh_max;
	/* segment_count entries; the last segment of a tariff only marks the end of its span */
	const int64_t *segment_start_at;       /* rising */
	const int64_t *segment_period;         /* number of the period in force */
	const int64_t *segment_cycle_start_at; /* when the cycle of the segment began; never falling */
	/* period_count + 1 entries */
	const int64_t *period_first_cell;
	/* period_count entries */
	const int64_t *period_position; /* which block position it moves */
	/* cell_count entries */
	const int64_t *cell_limit_wh; /* inclusive; rising within a period, the last not below energy_wh_max */
	const int64_t *cell_price_micro_per_kwh;
};

/*
 * Accounts with the intervals to rate. Those of account a are first_interval[a] up to, not with,
 * first_interval[a + 1]; an account may have none. They carry its block position on.
 */
struct tariff_accounts {
	int64_t account_count;
	int64_t position_stride; /* entries of energy_wh for each account, at least its position_count */
	const int64_t *tariff;
	const int64_t *first_interval; /* account_count + 1 entries, from 0 */
	const int64_t *energy_wh;      /* block positions before the first interval */
	const int64_t *cycle_start_at; /* the cycle they were counted in, or TARIFF_NO_CYCLE */
	const int64_t *interval_start_at;
	const int64_t *interval_end_at; /* not before its start, which is not before the end of the one before */
	const int64_t *interval_energy_wh;
};

/* What it costs, and the positions after it. Must not overlap anything that is read. */
struct tariff_bills {
	int64_t *amount_nano;            /* one for each interval */
	int64_t *account_amount_nano;    /* their sum for each account */
	int64_t *account_energy_wh;      /* as in struct tariff_accounts */
	int64_t *account_cycle_start_at;
};

/* The same for every interval, for explanations: which cell (period and block) took how much. */
struct tariff_details {
	int64_t cell_stride;     /* entries of cell_energy_wh for each interval, at least the tariff's cells */
	int64_t *energy_wh;      /* position_stride entries for each interval: block positions after it */
	int64_t *cycle_start_at; /* the cycle they belong to */
	int64_t *estimated;      /* 1: its energy was shared out over several segments by seconds, else 0 */
	int64_t *cell_energy_wh; /* entry 0 is the tariff's first cell */
};

/* TARIFF_OK if the tables keep every rule above. To be asked once, before tariff_rate() gets them. */
enum tariff_result
tariff_check_tables(const struct tariff_tables *tables);

/*
 * Rates every interval of every account. The tables must have passed tariff_check_tables();
 * everything else is checked here, before the first write. 'details' may be NULL.
 */
enum tariff_result
tariff_rate(const struct tariff_tables *tables, const struct tariff_accounts *accounts,
	    const struct tariff_bills *bills, const struct tariff_details *details);

/* cffi] */

#endif
