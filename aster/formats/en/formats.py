"""English dates with the day first and a clock of 24 hours. `e` is the time zone."""

DATE_FORMAT = SHORT_DATE_FORMAT = "d M Y"
TIME_FORMAT = "H:i"
DATETIME_FORMAT = SHORT_DATETIME_FORMAT = "d M Y, H:i e"
