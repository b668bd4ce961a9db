//! Kinds of vehicle and their models, from `data/vehicles.toml`.

use serde::Deserialize;

use crate::fleet::world::RoadClass;

const VEHICLES: &str = include_str!("../../data/vehicles.toml");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kind {
    pub(crate) name: String,
    pub(crate) r#use: String,
    /// Percent of the fleet.
    pub(crate) share: f64,
    limit_motorway: f64,
    limit_trunk: f64,
    limit_primary: f64,
    /// m/s².
    pub(crate) acceleration: f64,
    pub(crate) braking: f64,
    /// Share of trips that stay in the town.
    pub(crate) local: f64,
    pub(crate) busy_day: f64,
    pub(crate) busy_night: f64,
    pub(crate) dwell_min: f64,
    trip_min: f64,
    pub(crate) models: Vec<Model>,
}

/// Make, model, fuel, first and last model year.
#[derive(Debug, Deserialize)]
pub(crate) struct Model(
    pub(crate) String,
    pub(crate) String,
    pub(crate) String,
    pub(crate) u16,
    pub(crate) u16,
);

pub(crate) const CAR: u8 = 0;
pub(crate) const LORRY: u8 = 2;
pub(crate) const BUS: u8 = 3;
pub(crate) const AMBULANCE: u8 = 5;

impl Kind {
    /// # Panics
    /// When the file is wrong; a test reads it.
    pub(crate) fn read_all() -> Vec<Kind> {
        #[derive(Deserialize)]
        struct File {
            kind: Vec<Kind>,
        }
        let file: File = toml::from_str(VEHICLES).expect("vehicles.toml");
        for (kind, name) in [(CAR, "car"), (LORRY, "lorry"), (BUS, "bus"), (AMBULANCE, "ambulance")] {
            assert_eq!(file.kind[usize::from(kind)].name, name, "the order of kinds");
        }
        file.kind
    }

    /// What a trip takes on average, minutes: what turns a wanted share under way into a rate of departures.
    pub(crate) fn trip_min(&self) -> f64 {
        self.trip_min
    }

    /// What the law and its own limiter allow it on a kind of road, km/h.
    pub(crate) fn limit_kmh(&self, class: RoadClass) -> f64 {
        match class {
            RoadClass::Motorway => self.limit_motorway,
            RoadClass::Trunk => self.limit_trunk,
            RoadClass::Primary | RoadClass::Arterial | RoadClass::Street => self.limit_primary,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        let kinds = Kind::read_all();
        assert_eq!(kinds.iter().map(|kind| kind.share).sum::<f64>(), 100.0);
        for kind in &kinds {
            assert!(kind.busy_night <= kind.busy_day && kind.busy_day < 1.0, "{}", kind.name);
            assert!(kind.models.iter().all(|model| model.3 <= model.4));
        }
    }
}
