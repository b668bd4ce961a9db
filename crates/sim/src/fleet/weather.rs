//! Weather as smooth fields over the map and time. A moving field of cloud brings fronts; rain, snow, wind and humidity
//! follow it, temperature follows season, hour, latitude and cloud.
//!
//! All of it is value noise: hashed numbers at the corners of a lattice, smoothly joined. Any place and time costs the
//! same.

use crate::fleet::draw::{For, Key};
use crate::fleet::geometry::Point;
use crate::fleet::world::{EAST, NORTH, SOUTH, WEST};

const HOUR_US: f64 = 3_600_000_000.0;
const KM_PER_DEGREE: f64 = 111.32;

/// The air at one place and time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Air {
    /// Degrees Celsius.
    pub temperature: f32,
    /// 0 clear to 1 overcast.
    pub cloud: f32,
    /// Rain or melted snow, mm in an hour.
    pub precipitation: f32,
    /// Wind towards east and towards north, km/h.
    pub wind_east: f32,
    pub wind_north: f32,
    /// Relative, %.
    pub humidity: f32,
}

struct Moment {
    hours: f64,
    /// km/h.
    flow_east: f64,
    flow_north: f64,
    unsettled: f64,
    /// -1 in January, 1 in July.
    season: f64,
    /// -1 before dawn, 1 in the afternoon.
    daily: f64,
}

/// The fields of one seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather(Key);

impl Weather {
    pub(crate) fn new(seed: Key) -> Self {
        Self(seed.of(For::Weather))
    }

    /// The air at a point, exactly.
    pub(crate) fn at(&self, point: Point, time_us: i64) -> Air {
        self.at_moment(&self.moment(time_us), point)
    }

    /// What the whole map has in common at a time.
    fn moment(&self, time_us: i64) -> Moment {
        let hours = time_us as f64 / HOUR_US;
        let slow = |salt, pace: f64| noise(self.0.with(salt), [0.0, 0.0, hours / pace]);
        Moment {
            hours,
            // The stream that carries the fronts: mostly from the south-west, turning over days.
            flow_east: 28.0 + 12.0 * slow(1, 60.0),
            flow_north: 9.0 + 14.0 * slow(2, 60.0),
            unsettled: 0.35 * slow(5, 40.0),
            // 1970-01-01 is day 0 of a year; the coldest day is around 20 January, the coldest hour around 5.
            season: -libm::cos((hours / 24.0 - 20.0) / 365.2425 * std::f64::consts::TAU),
            daily: -libm::cos((hours.rem_euclid(24.0) - 4.5) / 24.0 * std::f64::consts::TAU),
        }
    }

    fn at_moment(&self, moment: &Moment, point: Point) -> Air {
        let Moment {
            hours,
            flow_east,
            flow_north,
            season,
            daily,
            ..
        } = *moment;
        let north = (point.latitude - 52.0) * KM_PER_DEGREE;
        let east = (point.longitude + 1.2) * KM_PER_DEGREE * 0.617;
        let field = |salt, east: f64, north: f64, size_km: f64, hours: f64| {
            noise(self.0.with(salt), [east / size_km, north / size_km, hours])
        };

        // Carried along at the mean flow; were the flow's own changes integrated, any time would cost all times before.
        let (carried_east, carried_north) = (east - 28.0 * hours, north - 9.0 * hours);
        let front = 0.72 * field(3, carried_east, carried_north, 170.0, hours / 14.0)
            + 0.28 * field(4, carried_east, carried_north, 45.0, hours / 4.0)
            + moment.unsettled;
        let cloud = (0.5 + 0.75 * front).clamp(0.0, 1.0);
        let wet = (front - 0.6).max(0.0);
        let precipitation = (wet * (1.0 + 2.0 * wet) * 2.6).min(40.0);

        let wind_gain = 1.0 + 0.9 * front.max(0.0) + 0.35 * field(6, east, north, 120.0, hours / 6.0);
        let (wind_east, wind_north) = (flow_east * 0.5 * wind_gain, flow_north * 0.6 * wind_gain);

        let swing = (2.2 + 1.6 * (season + 1.0) * 0.5) * (1.25 - cloud);
        let temperature = 10.6 + 6.6 * season + swing * daily - 0.55 * (point.latitude - 52.0)
            + 4.2 * field(7, carried_east, carried_north, 260.0, hours / 50.0)
            - 0.25 * precipitation.min(6.0);
        let humidity = (74.0 - 14.0 * daily * (1.2 - cloud) + 16.0 * (cloud - 0.5) + 40.0 * wet.min(0.4)
            - 0.35 * (temperature - 10.0))
            .clamp(28.0, 100.0);
        Air {
            temperature: temperature as f32,
            cloud: cloud as f32,
            precipitation: precipitation as f32,
            wind_east: wind_east as f32,
            wind_north: wind_north as f32,
            humidity: humidity as f32,
        }
    }
}

impl Air {
    /// km/h.
    pub fn wind_kmh(&self) -> f32 {
        (self.wind_east * self.wind_east + self.wind_north * self.wind_north).sqrt()
    }

    pub(crate) fn is_snow(&self) -> bool {
        self.temperature < 0.8
    }

    /// What wet or white roads leave of the speed that a driver would choose.
    pub(crate) fn speed_factor(&self) -> f32 {
        let strength = (self.precipitation / 4.0).min(1.0);
        match self.precipitation > 0.05 {
            false => 1.0,
            true if self.is_snow() => 0.8 - 0.25 * strength,
            true => 0.96 - 0.12 * strength,
        }
    }

    /// The word of the `weather_condition` field.
    #[inline]
    pub fn condition(&self, daylight: bool) -> &'static str {
        if self.precipitation > 0.05 {
            return if self.is_snow() { "Snowy" } else { "Rainy" };
        }
        match self.cloud {
            cloud if cloud > 0.55 => "Cloudy",
            _ if daylight => "Sunny",
            _ => "Clear",
        }
    }

    fn mixed(corners: [&Air; 4], weights: [f32; 4]) -> Air {
        let blend = |get: fn(&Air) -> f32| {
            get(corners[0]) * weights[0]
                + get(corners[1]) * weights[1]
                + get(corners[2]) * weights[2]
                + get(corners[3]) * weights[3]
        };
        Air {
            temperature: blend(|air| air.temperature),
            cloud: blend(|air| air.cloud),
            precipitation: blend(|air| air.precipitation),
            wind_east: blend(|air| air.wind_east),
            wind_north: blend(|air| air.wind_north),
            humidity: blend(|air| air.humidity),
        }
    }
}

/// In -1 to 1, with a standard deviation near 0.45; smooth in all three coordinates, 1 being the lattice's width.
fn noise(key: Key, at: [f64; 3]) -> f64 {
    let base = at.map(f64::floor);
    let part = [0, 1, 2].map(|axis| {
        let x = at[axis] - base[axis];
        x * x * (3.0 - 2.0 * x)
    });
    let corner = |dx: i64, dy: i64, dz: i64| {
        key.with((base[0] as i64 + dx) as u64)
            .with((base[1] as i64 + dy) as u64)
            .with((base[2] as i64 + dz) as u64)
            .between(-1.0, 1.0)
    };
    let line = |dy, dz| corner(0, dy, dz) * (1.0 - part[0]) + corner(1, dy, dz) * part[0];
    let plane = |dz| line(0, dz) * (1.0 - part[1]) + line(1, dz) * part[1];
    // Joining corners takes a part of the spread; this gives some of it back.
    (plane(0) * (1.0 - part[2]) + plane(1) * part[2]) * 1.35
}

/// The weather of one moment on a raster of some 10 km, read between its points by straight lines.
#[derive(Debug, Clone)]
pub(crate) struct Raster {
    air: Vec<Air>,
}

impl Raster {
    const STEP_LATITUDE: f64 = 0.1;
    const STEP_LONGITUDE: f64 = 0.15;
    pub(crate) const ROWS: usize = ((NORTH - SOUTH) / Self::STEP_LATITUDE) as usize + 2;
    pub(crate) const COLUMNS: usize = ((EAST - WEST) / Self::STEP_LONGITUDE) as usize + 2;

    pub(crate) fn new(weather: &Weather, time_us: i64) -> Self {
        let moment = weather.moment(time_us);
        let points = (0..Self::ROWS * Self::COLUMNS).map(Self::point);
        Self {
            air: points.map(|point| weather.at_moment(&moment, point)).collect(),
        }
    }

    /// The place of a raster point.
    fn point(index: usize) -> Point {
        Point::new(
            SOUTH + (index / Self::COLUMNS) as f64 * Self::STEP_LATITUDE,
            WEST + (index % Self::COLUMNS) as f64 * Self::STEP_LONGITUDE,
        )
    }

    /// The index of the raster point at the lower left of a place, and how far the place is from it.
    #[inline]
    fn cell(point: Point) -> (usize, f32, f32) {
        let row = ((point.latitude - SOUTH) * (1.0 / Self::STEP_LATITUDE)).clamp(0.0, (Self::ROWS - 2) as f64 + 0.999);
        let column =
            ((point.longitude - WEST) * (1.0 / Self::STEP_LONGITUDE)).clamp(0.0, (Self::COLUMNS - 2) as f64 + 0.999);
        let (low_row, low_column) = (row as usize, column as usize);
        (
            low_row * Self::COLUMNS + low_column,
            (row - low_row as f64) as f32,
            (column - low_column as f64) as f32,
        )
    }

    #[inline]
    pub(crate) fn at(&self, point: Point) -> Air {
        let (index, up, right) = Self::cell(point);
        let (low, high) = (&self.air[index..index + 2], &self.air[index + Self::COLUMNS..][..2]);
        Air::mixed(
            [&low[0], &low[1], &high[0], &high[1]],
            [
                (1.0 - up) * (1.0 - right),
                (1.0 - up) * right,
                up * (1.0 - right),
                up * right,
            ],
        )
    }

    /// The factor of [`Air::speed_factor`] at each raster point, as 255ths.
    pub(crate) fn speed_factors(&self) -> Box<[u8]> {
        self.air.iter().map(|air| (air.speed_factor() * 255.0) as u8).collect()
    }

    /// Reads what [`Self::speed_factors`] gave.
    #[inline]
    pub(crate) fn speed_factor(factors: &[u8], point: Point) -> f32 {
        f32::from(factors[Self::cell(point).0]) / 255.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_US: i64 = 86_400_000_000;

    #[test]
    fn the_raster_agrees_with_the_field_at_its_points() {
        let weather = Weather::new(Key::new(3));
        let time_us = 20_458 * DAY_US;
        let raster = Raster::new(&weather, time_us);
        for index in [0, 1, 400, 777] {
            let point = Raster::point(index);
            let (found, exact) = (raster.at(point), weather.at(point, time_us));
            assert!(
                (found.temperature - exact.temperature).abs() < 0.01,
                "{found:?} {exact:?}"
            );
        }
        // Outside the map the edge counts.
        raster.at(Point::new(0.0, 0.0));
        raster.at(Point::new(90.0, 179.0));
    }

    #[test]
    fn a_year_has_seasons_and_some_rain() {
        let weather = Weather::new(Key::new(7));
        let oxford = Point::new(51.75, -1.26);
        let mean = |month_day: i64| {
            let hours = (0..30 * 24).map(|hour| weather.at(oxford, (20_454 + month_day) * DAY_US + hour * DAY_US / 24));
            hours.map(|air| f64::from(air.temperature)).sum::<f64>() / 720.0
        };
        let (january, july) = (mean(0), mean(181));
        assert!(
            (1.0..8.0).contains(&january) && (14.0..20.5).contains(&july),
            "{january} {july}"
        );

        let hours: Vec<Air> = (0..365 * 24)
            .map(|hour| weather.at(oxford, 20_454 * DAY_US + hour * DAY_US / 24))
            .collect();
        let wet = hours.iter().filter(|air| air.precipitation > 0.05).count() as f64 / hours.len() as f64;
        let year_mm: f64 = hours.iter().map(|air| f64::from(air.precipitation)).sum();
        let wind = hours.iter().map(|air| f64::from(air.wind_kmh())).sum::<f64>() / hours.len() as f64;
        let humidity = hours.iter().map(|air| f64::from(air.humidity)).sum::<f64>() / hours.len() as f64;
        eprintln!(
            "january {january:.1} july {july:.1} wet {wet:.3} {year_mm:.0} mm/year wind {wind:.1} humidity {humidity:.0}"
        );
        assert!((0.05..0.16).contains(&wet), "wet {wet}");
        assert!((400.0..1100.0).contains(&year_mm), "{year_mm} mm");
        assert!((10.0..25.0).contains(&wind), "{wind} km/h");
        assert!((65.0..90.0).contains(&humidity), "{humidity} %");
        assert!(hours.iter().any(|air| air.condition(true) == "Snowy"));
    }
}
