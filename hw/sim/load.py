"""What a customer draws: integer watts, constant over each quarter of an hour of local time.

Energy is watt-seconds, so watts times whole seconds is exact and nothing is ever rounded away. The hourly tables are
shapes, not measurements (*default*: no source gives one); the daily energy stands beside each. A seed moves every
quarter by up to 15 % either way, always in the same way for the same seed, day and quarter.
"""

from functools import lru_cache

from edge.core.units import SECONDS_PER_DAY

QUARTER_S = 900
QUARTERS_PER_DAY = SECONDS_PER_DAY // QUARTER_S
JITTER_PERCENT = 15
SATURDAY = 5

# Watts for each hour of a local day.
HOUSEHOLD = (180, 150, 140, 140, 140, 180, 420, 900, 700, 350, 300, 520,
             640, 380, 300, 300, 380, 700, 1300, 1600, 1500, 1100, 600, 300)  # 13.2 kWh  # fmt: skip
SHOP = (220, 220, 220, 220, 220, 220, 260, 500, 1300, 1800, 1900, 2000,
        2000, 1900, 1900, 1900, 1900, 2100, 2300, 2300, 2000, 1100, 320, 220)  # 31.0 kWh  # fmt: skip
SCHOOL = (260, 260, 260, 260, 260, 300, 900, 2600, 4200, 4400, 4400, 4000,
          2600, 3800, 4200, 4000, 2800, 1200, 900, 700, 500, 300, 260, 260)  # 43.6 kWh  # fmt: skip
SCHOOL_CLOSED = (260,) * 24  # 6.2 kWh
NIGHT_STORAGE = (3200, 3200, 3200, 3200, 3000, 2600, 900, 420, 240, 180, 160, 200,
                 220, 180, 160, 160, 200, 320, 520, 640, 620, 520, 2400, 3200)  # 29.4 kWh  # fmt: skip

# Working days and weekends of each profile.
PROFILES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "household": (HOUSEHOLD, HOUSEHOLD),
    "shop": (SHOP, SHOP),
    "school": (SCHOOL, SCHOOL_CLOSED),
    "night_storage": (NIGHT_STORAGE, NIGHT_STORAGE),
}


class Load:
    """One customer's appliances. `scale_percent` may be changed at any time: it counts from the next second on."""

    def __init__(self, profile: str, seed: int, utc_offset_s: int, scale_percent: int = 100) -> None:
        assert profile in PROFILES
        assert utc_offset_s % QUARTER_S == 0
        self.scale_percent = scale_percent
        self._profile, self._seed, self._utc_offset_s = profile, seed, utc_offset_s

    def watts(self, at: int) -> int:
        """Power drawn in the second that begins at `at`."""
        day, second = divmod(at + self._utc_offset_s, SECONDS_PER_DAY)
        return quarters(self._profile, self._seed, day)[second // QUARTER_S] * self.scale_percent // 100

    def energy_ws(self, start_at: int, end_at: int) -> int:
        """Watt-seconds drawn from `start_at` until `end_at`. Splitting the interval gives the same sum."""
        energy_ws = 0
        while start_at < end_at:
            quarter_end_at = start_at + QUARTER_S - (start_at + self._utc_offset_s) % QUARTER_S
            stop_at = min(quarter_end_at, end_at)
            energy_ws += self.watts(start_at) * (stop_at - start_at)
            start_at = stop_at
        return energy_ws


@lru_cache(maxsize=256)
def quarters(profile: str, seed: int, day: int) -> tuple[int, ...]:
    """The 96 powers of a local day in watts. `day` counts local days since 1970-01-01, which was a Thursday."""
    hours = PROFILES[profile][(day + 3) % 7 >= SATURDAY]
    watts = []
    for quarter in range(QUARTERS_PER_DAY):
        jitter = mix(seed, day, quarter) % (2 * JITTER_PERCENT + 1) - JITTER_PERCENT
        watts.append(hours[quarter // 4] * (100 + jitter) // 100)
    return tuple(watts)


def peak_watts(profile: str, scale_percent: int = 100) -> int:
    """The most a profile ever draws: for plausibility limits and breaker sizes."""
    return max(max(hours) for hours in PROFILES[profile]) * (100 + JITTER_PERCENT) // 100 * scale_percent // 100


def mix(*parts: int) -> int:
    """A number that looks random and is the same everywhere (the finaliser of SplitMix64)."""
    value = 0
    for part in parts:
        value = (value + part + 0x9E3779B97F4A7C15) & 0xFFFF_FFFF_FFFF_FFFF
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFF_FFFF_FFFF_FFFF
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & 0xFFFF_FFFF_FFFF_FFFF
        value ^= value >> 31
    return value
