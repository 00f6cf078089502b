"""Pure rules: functions of (spec, state, event, now, roll). No I/O, no clock, no chance."""
