//! The data files of the world, read and checked.

use std::collections::HashMap;

use serde::Deserialize;

use crate::fleet::geometry::Point;

const JUNCTIONS: &str = include_str!("../../../data/junctions.csv");
const ROADS: &str = include_str!("../../../data/roads.toml");
const CITIES: &str = include_str!("../../../data/cities.toml");

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoadClass {
    /// No signals, no turns; only on these and on trunk roads is 70 mph allowed.
    Motorway,
    /// Dual carriageway.
    Trunk,
    /// Single carriageway between towns, and the roads that lead into them.
    Primary,
    /// A main street inside a town.
    Arterial,
    /// A side street.
    Street,
}

impl RoadClass {
    pub const ALL: [RoadClass; 5] = [
        RoadClass::Motorway,
        RoadClass::Trunk,
        RoadClass::Primary,
        RoadClass::Arterial,
        RoadClass::Street,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            RoadClass::Motorway => "motorway",
            RoadClass::Trunk => "trunk",
            RoadClass::Primary => "primary",
            RoadClass::Arterial => "arterial",
            RoadClass::Street => "street",
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Road {
    pub(super) name: String,
    pub(super) class: RoadClass,
    pub(super) limit_mph: f64,
    pub(super) lanes: u8,
    /// Thousand vehicles a day, both directions.
    pub(super) traffic: f64,
    pub(super) path: Vec<String>,
    #[serde(default)]
    pub(super) tunnels: Vec<(String, String)>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct City {
    pub(super) name: String,
    pub(super) latitude: f64,
    pub(super) longitude: f64,
    pub(super) radius_km: f64,
    pub(super) spacing_m: f64,
    pub(super) angle_deg: f64,
    /// Thousands.
    pub(super) population: f64,
    pub(super) gateways: Vec<String>,
}

pub(super) struct Data {
    /// In the file's order, so that nothing depends on a hash map's.
    pub(super) junctions: Vec<(&'static str, Point)>,
    pub(super) roads: Vec<Road>,
    pub(super) cities: Vec<City>,
}

impl Data {
    /// # Panics
    /// When a file is wrong; a test reads them all.
    pub(super) fn read() -> Self {
        #[derive(Deserialize)]
        struct Roads {
            road: Vec<Road>,
        }
        #[derive(Deserialize)]
        struct Cities {
            city: Vec<City>,
        }
        let roads: Roads = toml::from_str(ROADS).expect("roads.toml");
        let cities: Cities = toml::from_str(CITIES).expect("cities.toml");
        let junctions = JUNCTIONS
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                let mut cells = line.split(',');
                let name = cells.next().expect("a name");
                let mut degrees = || cells.next().and_then(|cell| cell.parse().ok()).expect(line);
                (name, Point::new(degrees(), degrees()))
            })
            .collect();
        Self {
            junctions,
            roads: roads.road,
            cities: cities.city,
        }
    }

    /// Junctions by name, as indices.
    pub(super) fn index(&self) -> HashMap<&'static str, usize> {
        let index: HashMap<_, _> = self
            .junctions
            .iter()
            .enumerate()
            .map(|(index, (name, _))| (*name, index))
            .collect();
        assert_eq!(index.len(), self.junctions.len(), "two junctions share a name");
        index
    }
}
