//! Degrees and metres. The country is small enough for a flat earth around each point; errors stay far below those of
//! the data.

/// Metres in a degree of latitude, and in one of longitude at the equator.
pub(crate) const DEGREE_M: f64 = 111_320.0;

/// Latitude and longitude in degrees, WGS 84.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub latitude: f64,
    pub longitude: f64,
}

/// Metres east and north.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Offset {
    pub(crate) east: f64,
    pub(crate) north: f64,
}

impl Point {
    pub(crate) const fn new(latitude: f64, longitude: f64) -> Self {
        Self { latitude, longitude }
    }

    /// Where one gets from here, as the crow flies.
    pub(crate) fn plus(self, offset: Offset) -> Point {
        Point {
            latitude: self.latitude + offset.north / DEGREE_M,
            longitude: self.longitude + offset.east / (DEGREE_M * longitude_scale(self.latitude)),
        }
    }

    /// The way from here to there.
    pub(crate) fn to(self, other: Point) -> Offset {
        let scale = longitude_scale(f64::midpoint(self.latitude, other.latitude));
        Offset {
            east: (other.longitude - self.longitude) * DEGREE_M * scale,
            north: (other.latitude - self.latitude) * DEGREE_M,
        }
    }

    pub(crate) fn distance_m(self, other: Point) -> f64 {
        self.to(other).length()
    }

    /// Good to 3 % on this map: the longitude scale of its mean latitude, without a cosine.
    #[inline]
    pub(crate) fn rough_distance_m(self, other: Point) -> f64 {
        let east = (other.longitude - self.longitude) * (DEGREE_M * 0.617);
        let north = (other.latitude - self.latitude) * DEGREE_M;
        (east * east + north * north).sqrt()
    }
}

impl Offset {
    pub(crate) fn length(self) -> f64 {
        (self.east * self.east + self.north * self.north).sqrt()
    }

    /// Degrees clockwise from north, in [0, 360).
    pub(crate) fn heading_deg(self) -> f64 {
        let degrees = libm::atan2(self.east, self.north).to_degrees();
        if degrees < 0.0 { degrees + 360.0 } else { degrees }
    }

    pub(crate) fn scaled(self, by: f64) -> Offset {
        Offset {
            east: self.east * by,
            north: self.north * by,
        }
    }

    /// Turned clockwise.
    pub(crate) fn turned_deg(self, degrees: f64) -> Offset {
        let (sine, cosine) = (libm::sin(degrees.to_radians()), libm::cos(degrees.to_radians()));
        Offset {
            east: self.east * cosine + self.north * sine,
            north: self.north * cosine - self.east * sine,
        }
    }
}

/// The length of a degree of longitude as a part of one at the equator: the cosine of the latitude.
pub(crate) fn longitude_scale(latitude: f64) -> f64 {
    libm::cos(latitude.to_radians())
}

/// The turn from one heading to another, in degrees, 0 to 180.
pub(crate) fn turn_deg(from: f32, to: f32) -> f32 {
    let turn = (to - from).abs();
    if turn > 180.0 { 360.0 - turn } else { turn }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let london = Point::new(51.5074, -0.1278);
        let birmingham = Point::new(52.4862, -1.8904);
        let way = london.to(birmingham);
        assert!((way.length() / 1000.0 - 162.0).abs() < 2.0, "{}", way.length());
        assert!((way.heading_deg() - 312.0).abs() < 3.0, "{}", way.heading_deg());
        assert!((london.rough_distance_m(birmingham) / way.length() - 1.0).abs() < 0.02);
        assert!((longitude_scale(51.9) - 0.617).abs() < 0.001);
        let east = Offset { east: 0.0, north: 5.0 }.turned_deg(90.0);
        assert!((east.heading_deg() - 90.0).abs() < 1e-9);
        assert_eq!(turn_deg(350.0, 20.0), 30.0);
    }
}
