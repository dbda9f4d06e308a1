"""The weather of "Acme Weather": made up, but the same for everybody who asks about the same city and day."""

from __future__ import annotations

import hashlib
from datetime import date, timedelta
from typing import Literal

from pydantic import BaseModel, Field

City = Literal["Amsterdam", "Berlin", "Cairo", "Lima", "Mumbai", "Oslo", "Sydney", "Tokyo"]
Region = Literal["Africa", "Americas", "Asia", "Europe", "Oceania"]
Unit = Literal["celsius", "fahrenheit"]
Measure = Literal["high", "low", "rain_chance"]

# city → region, mean temperature of the year in °C, swing between the seasons in °C, chance of rain in percent;
# a negative swing is the southern half of the world.
_CLIMATE: dict[City, tuple[Region, float, float, int]] = {
    "Amsterdam": ("Europe", 11, 8, 45),
    "Berlin": ("Europe", 10, 11, 35),
    "Cairo": ("Africa", 22, 8, 3),
    "Lima": ("Americas", 19, -4, 5),
    "Mumbai": ("Asia", 27, 3, 40),
    "Oslo": ("Europe", 6, 12, 40),
    "Sydney": ("Oceania", 18, -6, 30),
    "Tokyo": ("Asia", 16, 11, 35),
}
CITIES = tuple(_CLIMATE)
_SKIES = ((15, "Sunny"), (35, "Partly cloudy"), (60, "Cloudy"), (80, "Light rain"), (101, "Rain"))


class CityInfo(BaseModel):
    """A city with made-up weather."""

    name: str
    region: str


class CityList(BaseModel):
    """The cities there is weather for."""

    cities: list[CityInfo]


class Day(BaseModel):
    """The weather of one day."""

    day: date
    sky: str
    high: float = Field(description="Warmest, in the unit asked for")
    low: float = Field(description="Coldest, in the unit asked for")
    rain_chance: int = Field(ge=0, le=100, description="Percent")
    wind_kmh: int | None = Field(default=None, ge=0, description="Only if asked for")


class Forecast(BaseModel):
    """The days to come in one city."""

    city: str
    unit: Unit
    days: list[Day]


class RankedCity(BaseModel):
    """A city's place in a comparison."""

    rank: int = Field(ge=1)
    city: str
    value: float


class Comparison(BaseModel):
    """Cities by tomorrow's weather, highest first."""

    measure: Measure
    unit: str
    ranking: list[RankedCity]


def select_cities(region: Region | None) -> CityList:
    """Return the cities of a region, or all."""
    known = [CityInfo(name=name, region=climate[0]) for name, climate in _CLIMATE.items()]
    return CityList(cities=[city for city in known if region is None or city.region == region])


def find_city(name: str) -> City | None:
    """Return the city of that name in any case, or None."""
    return next((city for city in _CLIMATE if city.casefold() == name.strip().casefold()), None)


def make_forecast(city: City, *, start: date, days: int, unit: Unit, include_wind: bool = False) -> Forecast:
    """Return the weather of `days` days from `start`; the same arguments always give the same weather."""
    dates = [start + timedelta(days=offset) for offset in range(days)]
    return Forecast(city=city, unit=unit, days=[_make_day(city, day, unit, include_wind) for day in dates])


def measure_city(city: City, day: date, measure: Measure) -> float:
    """Return one number of one day in °C or percent."""
    return float(getattr(_make_day(city, day, "celsius", False), measure))


def describe_forecast(forecast: Forecast) -> str:
    """Return the forecast as lines a person can read."""
    sign = "°C" if forecast.unit == "celsius" else "°F"
    lines = [
        f"{day.day:%a %d %b}: {day.sky}, {day.low:g} to {day.high:g} {sign}, {day.rain_chance} % chance of rain"
        + (f", wind {day.wind_kmh} km/h" if day.wind_kmh is not None else "")
        for day in forecast.days
    ]
    return "\n".join([f"Forecast for {forecast.city}", *lines])


def _make_day(city: City, day: date, unit: Unit, include_wind: bool) -> Day:
    _, mean, swing, rain = _CLIMATE[city]
    noise = hashlib.sha256(f"{city}|{day.isoformat()}".encode()).digest()
    # 1 in mid-July, -1 in mid-January, a straight line between.
    season = 1 - abs(day.timetuple().tm_yday - 196) / 91.5
    middle = mean + swing * season + noise[0] / 255 * 6 - 3
    spread = 3 + noise[1] / 255 * 4
    chance = max(0, min(100, rain + noise[2] % 61 - 30))
    return Day(
        day=day,
        sky=next(words for limit, words in _SKIES if chance < limit),
        high=_in_unit(middle + spread, unit),
        low=_in_unit(middle - spread, unit),
        rain_chance=chance,
        wind_kmh=4 + noise[3] % 36 if include_wind else None,
    )


def _in_unit(celsius: float, unit: Unit) -> float:
    return round(celsius if unit == "celsius" else celsius * 9 / 5 + 32, 1)
