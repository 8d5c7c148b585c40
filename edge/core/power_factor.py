"""The power-factor adjustment: a month's mean power factor, and what it adds to the bill or takes off.

Energy in Wh and varh, power factors and standards in hundredths (0.85 is 85), adjustments in
parts per million, above 0: the customer pays more. Source: the 1983 notice on adjusting the
electricity fee by power factor (standards 0.90, 0.85, 0.80), RULES.md 3. The widely copied code
gives -1.00 % for standard 0.85 at 0.94 and above; the table says -1.10 %.
"""

STANDARDS_X100 = (90, 85, 80)

# What each hundredth above the standard adds, from 1 on, until the table ends; better than that gains no more.
_REWARD_STEPS_PPM = {
    90: (1500, 1500, 1500, 1500, 1500),
    85: (1000, 1000, 1000, 1000, 1000, 1500, 1500, 1500, 1500),
    80: (1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1500, 1500),
}
# (hundredths below the standard up to which it holds, ppm for each): dearer the further below.
_PENALTY_STEPS_PPM = ((20, 5_000), (25, 10_000), (100, 20_000))


def reactive_used(import_varh: int, export_varh: int) -> int:
    """Reactive energy that counts: both directions as absolute values, so that over-compensation is not hidden."""
    return abs(import_varh) + abs(export_varh)


def mean_power_factor(active_wh: int, reactive_varh: int) -> int | None:
    """The mean power factor in hundredths, half up. None when there was no energy at all.

    active / sqrt(active^2 + reactive^2) >= (2k - 1) / 200 is compared as squares: exact, no root.
    """
    assert active_wh >= 0
    if active_wh == 0 and reactive_varh == 0:
        return None
    apparent_squared = active_wh * active_wh + reactive_varh * reactive_varh
    for hundredths in range(100, 0, -1):
        if (200 * active_wh) ** 2 >= (2 * hundredths - 1) ** 2 * apparent_squared:
            return hundredths
    return 0


def adjustment_ppm(standard_x100: int, power_factor_x100: int) -> int:
    """The table's adjustment for a power factor. ValueError for a standard the table does not have."""
    if standard_x100 not in _REWARD_STEPS_PPM:
        raise ValueError(f"the table has the standards 90, 85 and 80, not {standard_x100}")
    assert 0 <= power_factor_x100 <= 100
    above = power_factor_x100 - standard_x100
    if above >= 0:
        return -sum(_REWARD_STEPS_PPM[standard_x100][:above])
    total, counted = 0, 0
    for up_to, step_ppm in _PENALTY_STEPS_PPM:
        steps = max(0, min(-above, up_to) - counted)
        total, counted = total + steps * step_ppm, counted + steps
    return total
